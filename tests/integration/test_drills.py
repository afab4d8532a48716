"""A restore drill through its deployment: Completed only when everything was proven, with a table of every check."""

from __future__ import annotations

import json

from deployments import site_file
from engine.backup import backup_one
from engine.site import Site as Opened
from engine.site import Target
from tests.integration.installation import Installation, Site, until

COMMON = True


def test_a_drill_run_is_completed_only_when_all_was_proven(prefect: Installation, site: Site) -> None:
    with Opened(site_file.load(site.file, {**site.env})) as opened:
        for target in (Target("mysql", site.shop), Target("postgres", site.platform)):
            backup_one(opened, target, tier="daily")
    run = prefect.run(f"monthly-restore-drill/{site.name}")
    assert run.state == "COMPLETED", run.message
    assert run.first_line.startswith(f"drill of {site.name} proven: 2 backups restored and checked, RTO ")
    rows = {row["what"]: row for row in prefect.table(run, f"{site.name}-drills")}
    assert set(rows) == {f"mysql/{site.shop}", f"postgres/{site.platform}", "mysql", "postgres"}
    assert {row["verdict"] for row in rows.values()} == {"proven"}
    assert "2,100 rows in 2 tables" in rows[f"mysql/{site.shop}"]["checks"]
    (record,) = (site.vault / site.name / "drills").glob("*.json")
    assert json.loads(record.read_text())["verdict"] == "proven"
    wanted = {"filter": {"event": {"name": ["backup-flows.drill.proven"]}}, "limit": 10}

    def arrived() -> bool:
        return site.name in json.dumps(prefect.api.call("POST", "/events/filter", wanted)["events"])

    until(arrived, "the event of the drill", timeout=60)
