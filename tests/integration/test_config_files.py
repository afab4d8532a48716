"""A site with databases and config files: one run, one recovery point; files put back with approval."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.installation import Installation, Site, until
from tests.integration.test_crashes import _dump_that_waits, _dumping

SECRET = "FAKE-secret-that-no-log-may-show-1"


@pytest.fixture(scope="module")
def machine(prefect: Installation) -> tuple[Site, Path]:
    """A site whose config files are an .env and a vhost."""
    site = prefect.site("files")
    root = site.file.parent / "machine"
    (root / "nginx").mkdir(parents=True)
    (root / "nginx/app.conf").write_text("listen 80;\n")
    (root / ".env").write_text(f"PASSWORD={SECRET}\n")
    (root / ".env").chmod(0o600)
    site.document["config"] = {"paths": [str(root / ".env"), str(root / "nginx")]}
    site.write()
    done = prefect.apply(site)
    assert done.returncode == 0, done.stdout + done.stderr
    return site, root


def test_a_daily_full_backs_up_databases_and_files_in_one_recovery_point(
    prefect: Installation, machine: tuple[Site, Path]
) -> None:
    site, _ = machine
    run = prefect.run(f"daily-full/{site.name}")
    assert run.state == "COMPLETED", run.message
    assert "2 databases and 1 archive backed up and verified: 4,400 rows, 2 files" in run.first_line
    rows = prefect.table(run, f"{site.name}-backups")
    assert [row["database"] for row in rows] == [f"mysql/{site.shop}", f"postgres/{site.platform}", "config/config"]
    assert rows[2]["holds"] == "2 files, 1 directory, 0 links" and rows[2]["stored where"] == "local, s3"
    assert "every file against the listing" in rows[2]["verified how"]
    manifests = [json.loads(file.read_text()) for file in site.files(".json")]
    points = {manifest["recovery_point"] for manifest in manifests}
    assert len(manifests) == 3 and len(points) == 1 and all(points)
    assert points.pop() in prefect.markdown(run.id, f"{site.name}-last-backup")


def test_a_missing_path_fails_the_run_by_name_and_costs_nothing_else(
    prefect: Installation, machine: tuple[Site, Path]
) -> None:
    site, root = machine
    (root / "nginx").rename(root / "away")
    before = len(site.files(".json"))
    try:
        run = prefect.run(f"daily-full/{site.name}")
    finally:
        (root / "away").rename(root / "nginx")
    assert run.state == "FAILED"
    assert run.first_line == f"config/config is incomplete: {root}/nginx is not there."
    rows = prefect.table(run, f"{site.name}-backups")
    assert [row["verified how"].split(":")[0] for row in rows] == ["local", "local", "INCOMPLETE"]
    assert all(row["stored where"] == "local, s3" for row in rows)
    assert len(site.files(".json")) == before + 3


def test_files_are_put_back_after_an_approval_that_shows_what_changes_and_no_content(
    prefect: Installation, machine: tuple[Site, Path]
) -> None:
    site, root = machine
    (root / ".env").write_text("PASSWORD=FAKE-other-secret-2\n")
    (root / ".env").chmod(0o644)
    (root / "nginx/app.conf").unlink()
    run_id = prefect.api.start(f"restore-config/{site.name}", into="/")
    assert prefect.api.wait(run_id, until=frozenset({"PAUSED"})).state == "PAUSED"
    text = prefect.markdown(run_id, f"{site.name}-restore-config-approval")
    assert f"| changed | `{root}/.env` | content, mode 0644 to 0600, time |" in text
    assert f"| added | `{root}/nginx/app.conf` | file |" in text and "is newer, but incomplete" in text
    assert "FAKE-other-secret-2" in (root / ".env").read_text(), "nothing happens before the approval"
    assert prefect.api.approve(run_id, confirm="config")["status"] == "ACCEPT"
    run = prefect.api.wait(run_id)
    assert run.state == "COMPLETED", run.message
    assert (root / ".env").read_text() == f"PASSWORD={SECRET}\n"
    assert (root / ".env").stat().st_mode & 0o777 == 0o600
    assert (root / "nginx/app.conf").read_text() == "listen 80;\n"
    shown = "\n".join([*prefect.log(run), json.dumps(prefect.api.artifacts(run_id))])
    assert "safety backup: `config_" in prefect.markdown(run_id, f"{site.name}-restore-config")
    assert SECRET not in shown and "FAKE-other-secret-2" not in shown


def test_a_cancelled_run_stops_every_source_that_is_at_work(prefect: Installation, machine: tuple[Site, Path]) -> None:
    site, _ = machine
    with _dump_that_waits(prefect, site):
        run_id = prefect.api.start(f"daily-full/{site.name}")
        until(lambda: _dumping(prefect, site), "a dump that waits")
        prefect.api.call("POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})
        assert prefect.api.wait(run_id).state == "CANCELLED"
        assert until(lambda: not _dumping(prefect, site), "the dump to end")
    # By itself, before the runner lost its patience and killed it.
    assert any("was stopped with the run that started it" in line for line in prefect.api.logs(run_id))
    assert site.staged() == []
