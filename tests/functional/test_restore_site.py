"""A machine is lost with its engine, its files, its vault and its site file; bucket and key bring it back."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.cli.main import run
from tests.functional.whole_machine import OBJECTS, PASSWORD, ROWS, Machine, lost_machine
from tests.servers.docker import DockerEngine
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.functional
STEPS = [
    "images/images", "config/config", "volumes/notebooks", "volumes/uploads", "images: containers",
    "postgres: accounts", "postgres/app", "postgres: grants", "buckets", "images: start", "health",
]  # fmt: skip
"""The bucket's own name is drawn for each test: its step is called ``buckets`` here."""


def _keys(steps: list[dict[str, Any]]) -> list[str]:
    return ["buckets" if each["key"].startswith("buckets/") else str(each["key"]) for each in steps]


@pytest.fixture(scope="module")
def lost(
    servers_directory: Path, rclone_s3: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Machine, DockerEngine]]:
    root = tmp_path_factory.mktemp("whole")
    with lost_machine(root, servers_directory / "whole", rclone_s3) as made:
        yield made


@pytest.fixture(scope="module")
def restored(lost: tuple[Machine, DockerEngine]) -> dict[str, Any]:
    """The restore: looked at, refused without approval, killed in the middle, and run again."""
    machine, engine = lost
    told: dict[str, Any] = {"plan": machine.backups("restore-site", "--dry-run")}
    assert engine.client().containers.list(all=True) == [] and engine.client().volumes.list() == []
    assert not machine.tree.exists(), "a dry run changes nothing"
    told["unapproved"] = machine.backups("restore-site", code=4)
    process = machine.start("restore-site", "--confirm", "bench")
    _until(machine, "volumes/notebooks")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    told["killed"] = json.loads(machine.state.read_text())["steps"]
    volume = engine.client().volumes.get("bench_notebooks")
    told["made"] = volume.attrs["CreatedAt"]
    told["resumed"] = machine.backups("restore-site", "--dry-run")
    told["other"] = machine.backups("restore-site", "--at", "2020-01-01", code=2)
    told["another"] = machine.backups("restore-site", "--recovery-point", "20200101_000000-00000000", code=4)
    told["done"] = machine.backups("restore-site", "--confirm", "bench")
    return told


def _until(machine: Machine, key: str) -> None:
    """Wait until a step is done."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if machine.state.exists() and "done" in json.loads(machine.state.read_text())["steps"].get(key, {}):
            return
        time.sleep(0.005)
    raise AssertionError(f"{key} was never done")


def test_everything_is_back_as_it_was_by_stock_tools(
    lost: tuple[Machine, DockerEngine], restored: dict[str, Any]
) -> None:
    machine, engine = lost
    found = machine.look(engine)
    for what, value in found.items():
        assert value == machine.truth[what], what
    assert len(found["rows as the application reads them"]) == ROWS


def test_the_report_says_what_came_back_from_when_how_much_and_what_is_left(
    lost: tuple[Machine, DockerEngine], restored: dict[str, Any]
) -> None:
    machine, _ = lost
    done = restored["done"]
    assert done["finished"] and done["recovery_point"] == machine.truth["point"]
    assert _keys(done["steps"]) == STEPS and all(each["done"] for each in done["steps"])
    counts = {each["key"]: each["counts"] for each in done["steps"]}
    assert counts["postgres/app"] == {"tables": 1, "rows": ROWS}
    assert [each["objects"] for key, each in counts.items() if key.startswith("buckets/")] == [len(OBJECTS)]
    assert counts["images: containers"]["containers"] == 3 and counts["images/images"] == {"images": 2}
    left = "\n".join(done["left"])
    for word in ("DNS", "certificates are those of", "bench_data", "firewall", "backups apply"):
        assert word in left, word
    assert (machine.root / "person/bench.yaml").stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in json.dumps(restored), "secrets are in no plan and no report"


def test_a_plan_changes_nothing_and_nothing_is_done_without_approval(restored: dict[str, Any]) -> None:
    plan = restored["plan"]["plan"]
    assert _keys(plan["steps"]) == STEPS and plan["confirm"] == "bench" and plan["in_use"] == []
    sources = {"postgres/app", "volumes/notebooks", "volumes/uploads", "config/config", "images/images"}
    assert {each for each in plan["backups"] if not each.startswith("buckets/")} == sources
    error = restored["unapproved"]["error"]
    assert error["class"] == "ConfirmationNeeded" and "--confirm 'bench'" in error["remedy"]


def test_killed_in_the_middle_it_goes_on_where_it_stopped_and_does_nothing_twice(
    lost: tuple[Machine, DockerEngine], restored: dict[str, Any]
) -> None:
    machine, engine = lost
    before, after = restored["killed"], json.loads(Path(restored["done"]["state"]).read_text())["steps"]
    finished = [key for key, step in before.items() if "done" in step]
    assert "volumes/notebooks" in finished and "postgres/app" not in finished
    assert [each["key"] for each in restored["resumed"]["plan"]["steps"] if each["done"]] == finished
    assert all(after[key]["done_at"] == before[key]["done_at"] for key in finished)
    assert engine.client().volumes.get("bench_notebooks").attrs["CreatedAt"] == restored["made"]
    assert (
        not machine.state.exists()
        and [each.name for each in engine.client().volumes.list() if "before" in each.name] == []
    )
    assert "from then or before" in restored["other"]["error"]["message"]
    assert "is not finished; this asks for another one" in restored["another"]["error"]["message"]


def test_a_machine_in_use_is_not_restored_over_unless_that_is_said(
    lost: tuple[Machine, DockerEngine], restored: dict[str, Any]
) -> None:
    machine, engine = lost
    refused = machine.backups("restore-site", "--confirm", "bench", code=4)["error"]
    assert "This machine is in use: container bench-" in refused["message"]
    assert refused["remedy"] == "to approve it: --confirm 'replace bench'"
    page = machine.volume(engine, "uploads") / "page"
    page.write_text("spoilt")
    done = machine.backups("restore-site", "--only", "volumes/uploads", "--confirm", "replace bench")
    assert [each["key"] for each in done["steps"]] == [
        "volumes/uploads"
    ] and page.read_text() == "the application answers\n"
    (kept,) = [each for each in engine.client().volumes.list() if "_before_" in each.name]
    assert f"what volume bench_uploads held is in volume {kept.name}" in done["left"]
    assert (Path(kept.attrs["Mountpoint"]) / "page").read_text() == "spoilt"
    kept.remove()


def test_what_cannot_be_is_told_in_words(
    lost: tuple[Machine, DockerEngine], restored: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    machine, _ = lost
    monkeypatch.chdir(machine.root / "person")
    for name, value in (machine.environment(lost=True) | machine.environment(lost=False)).items():
        monkeypatch.setenv(name, value)

    def told(*arguments: str, code: int) -> dict[str, Any]:
        capsys.readouterr()
        assert run(["restore-site", "--dry-run", "--addressing", "path", *arguments, "--json"]) == code
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    with monkeypatch.context() as other_key:
        other_key.setenv("BACKUP_ENCRYPTION_KEY", "another-key-that-is-long-enough-for-a-test")
        assert "was written with another key" in told(code=5)["error"]["message"]
    assert "no site file of bench from then or before" in told("--at", "2020-01-01", code=2)["error"]["message"]
    file, other = machine.root / "person/bench.yaml", machine.root / "other.yaml"
    early = told("-f", str(file), "--at", "2020-01-01", code=2)["error"]["message"]
    assert "has no recovery point from 2020-01-01 23:59:59 UTC" in early
    assert "'yesterday' is not a time" in told("-f", str(file), "--at", "yesterday", code=2)["error"]["message"]
    # the recovery point lacks what the site has now; and there is no engine
    other.write_text(file.read_text().replace("[notebooks, uploads]", "[notebooks, uploads, models]"))
    lacking = told("-f", str(other), code=4)["error"]
    assert "volumes/models is not in it" in lacking["message"] and "--without" in lacking["remedy"]
    assert len(told("-f", str(other), "--without", "volumes/models", code=0)["plan"]["steps"]) == len(STEPS)
    other.write_text(file.read_text().replace("docker.sock", "no.sock"))
    assert "No Docker engine answers" in told("-f", str(other), code=1)["error"]["message"]


@pytest.mark.soak(sample=False)
def test_databases_come_back_as_of_any_second_and_all_else_from_the_backup_before(
    servers_directory: Path, rclone_s3: S3Server, tmp_path: Path
) -> None:
    moments: list[str] = []

    def life_goes_on(machine: Machine, engine: DockerEngine) -> None:
        """Rows that no full has, a moment, and a mistake after it; the logs of all that are shipped."""
        machine.sql(engine, "INSERT INTO users VALUES (9001, 'after the backup')")
        time.sleep(2)  # MariaDB's logs tell whole seconds
        moments.append(str(machine.sql(engine, "SELECT DATE_FORMAT(UTC_TIMESTAMP(), '%Y-%m-%dT%H:%i:%sZ')")[0][0]))
        time.sleep(2)
        machine.sql(engine, "DROP TABLE users")
        machine.backups("ship", "-f", str(machine.file), lost=False)
        machine.sql(engine, "CREATE TABLE later (id int)")  # an event after the moment ends its log
        machine.backups("ship", "-f", str(machine.file), lost=False)

    with lost_machine(
        tmp_path, servers_directory / "second", rclone_s3, "mysql", logs=True, before_loss=life_goes_on
    ) as (machine, engine):
        plan = machine.backups("restore-site", "--dry-run", "--to", moments[0])["plan"]
        assert plan["recovery_point"] == machine.truth["point"] and plan["notes"] == []
        done = machine.backups("restore-site", "--to", moments[0], "--confirm", "bench")
        assert done["finished"]
        found = machine.look(engine)
        rows = "rows as the application reads them"
        assert found[rows] == [*machine.truth[rows], (9001, "after the backup")]
        assert [each for each in found if each != rows and found[each] != machine.truth[each]] == []
