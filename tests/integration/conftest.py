"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.installation import Installation, Site, installation
from tests.servers.databases import DatabaseServer
from tests.servers.s3 import S3Server


@pytest.fixture(scope="session")
def prefect(
    tmp_path_factory: pytest.TempPathFactory, mariadb: DatabaseServer, postgres15: DatabaseServer, rclone_s3: S3Server
) -> Iterator[Installation]:
    """A Prefect server with a password and a worker, for the whole session."""
    with installation(tmp_path_factory.mktemp("installation"), mariadb, postgres15, rclone_s3) as made:
        yield made


@pytest.fixture(scope="module")
def site(prefect: Installation, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site of this module's own, set up on the server; its schedules make runs only if the module's
    ``SCHEDULED`` says so."""
    scheduled = getattr(request.module, "SCHEDULED", False)
    made = prefect.site(request.module.__name__.rsplit("_", 1)[-1][:12], scheduled=scheduled)
    done = prefect.apply(made)
    assert done.returncode == 0, done.stdout + done.stderr
    yield made
    if scheduled:
        prefect.hold(made)
