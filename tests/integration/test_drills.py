"""A restore drill through its deployment: Completed only when everything was proven, with a table of every check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployments import site_file
from engine.backup import backup_one
from engine.site import Site as Opened
from engine.site import Target
from tests.functional.test_cold import slow_thaws
from tests.functional.vault_helpers import replica
from tests.integration.installation import Installation, Site, until
from tests.integration.test_keys_and_cold import _names
from tests.servers.s3 import S3Server

COMMON = True


def test_a_drill_run_is_completed_only_when_all_was_proven(prefect: Installation, site: Site) -> None:
    with Opened(site_file.load(site.file, {**site.env})) as opened:
        for target in (Target("mysql", site.shop), Target("postgres", site.platform)):
            backup_one(opened, target, tier="daily")
    bare = prefect.run(f"monthly-restore-drill/{site.name}", source="mysql")
    assert bare.state == "FAILED" and f"no logs of mysql/{site.shop} are kept" in bare.message
    run = prefect.run(f"monthly-restore-drill/{site.name}", point_in_time=False)
    assert run.state == "COMPLETED", run.message
    assert run.first_line.startswith(f"drill of {site.name} proven: 2 backups restored and checked, RTO ")
    rows = {row["what"]: row for row in prefect.table(run, f"{site.name}-drills")}
    assert set(rows) == {f"mysql/{site.shop}", f"postgres/{site.platform}", "mysql", "postgres"}
    assert {row["verdict"] for row in rows.values()} == {"proven"}
    assert "2,100 rows in 2 tables" in rows[f"mysql/{site.shop}"]["checks"]
    records = sorted((site.vault / site.name / "drills").glob("*.json"))
    assert [json.loads(each.read_text())["verdict"] for each in records] == ["could not verify", "proven"]
    assert [each.stem for each in records] == sorted(each.stem for each in records[0].parent.glob("*.xml"))
    wanted = {"filter": {"event": {"name": ["backup-flows.drill.proven"]}}, "limit": 10}

    def arrived() -> bool:
        return site.name in json.dumps(prefect.api.call("POST", "/events/filter", wanted)["events"])

    until(arrived, "the event of the drill", timeout=60)


@pytest.mark.soak(sample=False)
def test_a_drill_that_also_tries_cold_storage_waits_for_the_thaw_and_proves_both(
    prefect: Installation, moto_s3: S3Server, tmp_path: Path
) -> None:
    site = prefect.site("colddrill")
    for server in ("mysql", "postgres"):
        del site.document[server]
    (tmp_path / "app.conf").write_text("colour = blue\n")
    site.document["config"] = {"paths": [str(tmp_path / "app.conf")]}
    site.document["drill"] = {"also": ["cold"]}
    site.document["vault"]["replicas"] = [{**replica(moto_s3, "cold"), "cold_class": "GLACIER"}]
    site.write()
    done = prefect.apply(site)
    assert done.returncode == 0, done.stdout + done.stderr
    with Opened(site_file.load(site.file, {**site.env})) as opened:
        old = backup_one(opened, Target("config", "config"), tier="monthly").entry
        opened.vault.replicate(old, "cold")
        (cold,) = opened.vault.catalog("cold").entries()
        for part in opened.vault.catalog("cold").load(cold).files:
            assert opened.vault.store("cold").freeze(cold.beside(part.file), "GLACIER")
        new = backup_one(opened, Target("config", "config"), tier="daily").entry
        for part in opened.vault.catalog("cold").load(cold).files:
            for _ in range(6):  # moto counts the looks from an object's birth
                opened.vault.store("cold").stat(cold.beside(part.file))
    with slow_thaws(moto_s3, 6):
        run_id = prefect.api.start(f"monthly-restore-drill/{site.name}")
        until(lambda: _names(prefect, run_id).count("AwaitingThaw") >= 1, "the run to wait for its thaw")
        run = prefect.api.wait(run_id, timeout=480)
    assert run.state == "COMPLETED", run.message
    assert f"cold: drill of {site.name} proven: 1 backup" in run.message
    kept = [json.loads(each.read_text()) for each in sorted((site.vault / site.name / "drills").glob("*.json"))]
    assert [each["asked"]["backup"] for each in kept] == ["cold", "latest"], "the newest is proven last"
    pieces = [each["sources"][0]["databases"][0] for each in kept]
    assert [(each["file"], each["location"]) for each in pieces] == [(old.file, "cold"), (new.file, "local")]
