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
    """A site that is set up on the server: of this module's own, or with ``COMMON = True`` the one that such modules
    share, for setting one up costs as much as many tests. Its schedules make runs only if the module's ``SCHEDULED``
    says so."""
    scheduled = getattr(request.module, "SCHEDULED", False)
    common = getattr(request.module, "COMMON", False)
    if common and prefect.common is not None:
        yield prefect.common
        return
    made = prefect.site("common" if common else request.module.__name__.rsplit("_", 1)[-1][:12], scheduled=scheduled)
    done = prefect.apply(made)
    assert done.returncode == 0, done.stdout + done.stderr
    prefect.common = made if common else prefect.common
    yield made
    if scheduled:
        prefect.hold(made)
