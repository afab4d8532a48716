"""Verifying the vault through its deployment: damage is healed or fails the run by name, and an event tells of it."""

from __future__ import annotations

import json

from deployments import site_file
from engine.backup import backup_one
from engine.site import Site as Opened
from engine.site import Target
from tests.integration.installation import Installation, Site, until

COMMON = True


def test_a_run_heals_what_stands_whole_elsewhere_and_fails_by_name_where_nothing_does(
    prefect: Installation, site: Site
) -> None:
    with Opened(site_file.load(site.file, {**site.env})) as opened:
        made = backup_one(opened, Target("mysql", site.shop), tier="daily").entry
        (replica,) = opened.vault.locations()[1:]
        opened.vault.replicate(made, replica)
    path = site.vault / made.key
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:-1] + b"?")
    run = prefect.run(f"verify-vault/{site.name}", share=1)
    assert run.state == "COMPLETED", run.message
    assert "1 damaged and healed" in run.first_line and path.read_bytes() == whole
    (row,) = [row for row in prefect.table(run, f"{site.name}-vault") if row["what"] == "damaged"]
    assert row["file"] == made.key and row["then"] == f"healed: from {replica}"

    path.unlink()
    path.write_bytes(b"nothing like it")
    run = prefect.run(f"verify-vault/{site.name}", share=1, heal=False, location="local")
    assert run.state == "FAILED"
    assert run.first_line.startswith(f"1 damaged file could not be healed: {made.file} in local")
    for event in ("healed", "damaged"):
        wanted = {"filter": {"event": {"name": [f"backup-flows.vault.{event}"]}}, "limit": 10}

        def arrived(wanted: dict[str, object] = wanted) -> bool:
            return made.key in json.dumps(prefect.api.call("POST", "/events/filter", wanted)["events"])

        until(arrived, f"the event of {event}", timeout=60)
    path.unlink()
    path.write_bytes(whole)
