"""A machine with everything at once is lost; bucket and key alone bring all of it back."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.full_machine import ORDERS, FullMachine
from tests.functional.whole_machine import ROWS
from tests.integration.installation import Site, installation
from tests.servers.databases import DatabaseServer
from tests.servers.docker import DockerEngine, private_engine
from tests.servers.s3 import S3Server

STEPS = [
    "images/images", "config/config", "volumes/notebooks", "volumes/uploads", "images: containers",
    "mysql: accounts", "postgres: accounts", "mysql/shop", "postgres/app", "mysql: grants", "postgres: grants",
    "buckets/media", "n8n/n8n", "images: start", "health",
]  # fmt: skip


@pytest.fixture
def lost(
    servers_directory: Path, rclone_s3: S3Server, mariadb: DatabaseServer, postgres15: DatabaseServer, tmp_path: Path
) -> Iterator[tuple[FullMachine, DockerEngine]]:
    """The machine after a ``daily_full`` by Prefect and the loss of it all, Prefect's own database too, and a fresh
    engine."""
    machine = FullMachine(tmp_path, servers_directory / "full", rclone_s3)
    machine.truth |= {"bucket": rclone_s3.new_bucket(), "objects of": "media"}
    with private_engine(machine.home) as engine:
        machine.build(engine)
        with installation(tmp_path / "orchestrator", mariadb, postgres15, rclone_s3) as prefect:
            site = Site("bench", machine.file, tmp_path / "vault", "", "", "", machine.environment(lost=False))
            done = prefect.apply(site)
            assert done.returncode == 0, done.stdout + done.stderr
            run = prefect.run("daily-full/bench", timeout=1800)
            assert run.state == "COMPLETED", run.message
        (machine.truth["point"],) = _points(site)
        machine.truth |= machine.look(engine)
    shutil.rmtree(tmp_path / "orchestrator")
    machine.lose()
    with private_engine(machine.home) as fresh:
        yield machine, fresh


def _points(site: Site) -> set[str]:
    manifests = [json.loads(file.read_text()) for file in site.files(".json")]
    return {each["recovery_point"] for each in manifests if each["tier"] != "image"}


@pytest.mark.timeout(3600)
@pytest.mark.soak(sample=False)
def test_a_machine_with_everything_comes_back_from_the_bucket_and_the_key_alone(
    lost: tuple[FullMachine, DockerEngine], figure: Callable[[str, float, str], None]
) -> None:
    machine, engine = lost
    plan = machine.backups("restore-site", "--dry-run")["plan"]
    assert [each["key"] for each in plan["steps"]] == STEPS and plan["in_use"] == []
    begun = time.monotonic()
    done = machine.backups("restore-site", "--confirm", "bench")
    figure("a machine with everything brought back", time.monotonic() - begun, "s")
    assert done["finished"] and done["recovery_point"] == machine.truth["point"]
    found = machine.look(engine)
    for what, value in found.items():
        assert value == machine.truth[what], what
    _says_what_came_back(done)
    assert found["webhook"] == {"said": "from the sub-workflow"}
    assert [each["active"] for each in found["workflows"]] == [True, False, True], "caller, idle, sub"


def _says_what_came_back(done: dict[str, Any]) -> None:
    counts = {each["key"]: each["counts"] for each in done["steps"]}
    assert counts["postgres/app"]["rows"] == ROWS and counts["mysql/shop"]["rows"] == ORDERS
    assert counts["n8n/n8n"] == {"workflows": 3, "credentials": 2}
    assert counts["images: containers"]["containers"] == 6 and counts["buckets/media"]["objects"] == 12
    left = "\n".join(done["left"])
    assert "does not know the API key of n8n" in left and "Its next backup needs one" in left
