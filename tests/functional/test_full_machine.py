"""A machine with everything at once is lost; bucket and key alone bring all of it back."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.bucket_machine import OBJECTS
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
        machine.truth["drill"] = _drilled(machine, engine)
        assert all(machine.truth[what] == now for what, now in machine.look(engine).items()), "a drill changes nothing"
    shutil.rmtree(tmp_path / "orchestrator")
    machine.lose()
    with private_engine(machine.home) as fresh:
        yield machine, fresh


def _drilled(machine: FullMachine, engine: DockerEngine) -> dict[str, Any]:
    """A drill of all of it, which leaves nothing on the engine, in the vault's state or in the bucket."""
    client = engine.client()

    def there() -> list[str]:
        named = [*client.containers.list(all=True), *client.volumes.list(), *client.networks.list()]
        state = machine.root / "vault/.backup-flows/bench"
        left = [*(state / "scratch").glob("*"), *(state / "journals").glob("*")]
        return sorted([*(str(each.name) for each in named), *map(str, left)])

    before = there()
    told = machine.backups("drill", "-f", str(machine.file), "--thorough", lost=False)
    assert there() == before
    drill: dict[str, Any] = told["drill"]
    return drill


def _points(site: Site) -> set[str]:
    manifests = [json.loads(file.read_text()) for file in site.files(".json")]
    return {each["recovery_point"] for each in manifests if each["tier"] != "image"}


@pytest.mark.timeout(3600)
@pytest.mark.soak(sample=False)
def test_a_machine_with_everything_comes_back_from_the_bucket_and_the_key_alone(
    lost: tuple[FullMachine, DockerEngine], figure: Callable[[str, float, str], None]
) -> None:
    machine, engine = lost
    _proves_all_of_it(machine.truth["drill"])
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


def _proves_all_of_it(drill: dict[str, Any]) -> None:
    """Every count and digest that there is, by source."""
    found = {piece["source"]: piece for source in drill["sources"] for piece in source["databases"]}
    said = {(source, each["what"]): each["said"] for source, piece in found.items() for each in piece["checks"]}
    assert drill["verdict"] == "proven", said
    assert found.keys() == {"mysql", "postgres", "volumes", "config", "images", "buckets", "n8n"}
    for source, rows in (("mysql", ORDERS), ("postgres", ROWS)):
        assert f"{rows:,} rows in 1 table, each as many as the server counted" in said[source, "row counts"]
        assert f"{rows:,} rows of all tables are the same" in said[source, "row by row"]
    assert "digests, modes, owners, times" in said["volumes", "every file's digest"]
    assert said["buckets", "every object and no other"] == f"{len(OBJECTS)} keys, each once"
    assert said["buckets", "every object's digest"].endswith("read back: bytes, content type, metadata, tags")
    assert said["buckets", "settings"].endswith("versioning, policy, cors")
    assert said["n8n", "workflows"] == "exported again, each as it was, with its tags"
    assert said["n8n", "credentials"].startswith("2 credentials opened by n8n itself")
    assert said["n8n", "nothing active"] == "every workflow came in inactive"
    places = {source["source"]: source["place"] for source in drill["sources"]}
    for source in ("mysql", "postgres", "buckets", "n8n"):
        assert "container" in places[source], places


def _says_what_came_back(done: dict[str, Any]) -> None:
    counts = {each["key"]: each["counts"] for each in done["steps"]}
    assert counts["postgres/app"]["rows"] == ROWS and counts["mysql/shop"]["rows"] == ORDERS
    assert counts["n8n/n8n"] == {"workflows": 3, "credentials": 2}
    assert counts["images: containers"]["containers"] == 6 and counts["buckets/media"]["objects"] == 12
    left = "\n".join(done["left"])
    assert "does not know the API key of n8n" in left and "Its next backup needs one" in left
