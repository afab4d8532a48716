"""Pruning through its deployment: held back until a person's word, then marked, with a table of reasons."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deployments import site_file
from engine import names
from engine.manifest import Server
from engine.site import Site as Opened
from engine.source import Facts
from tests.integration.installation import Installation, Site


@pytest.mark.soak(sample=False)
def test_a_prune_says_what_goes_and_why_and_waits_for_a_word_when_it_is_too_much(
    prefect: Installation, site: Site
) -> None:
    config = site_file.load(site.file, {**site.env})
    with Opened(config) as opened:
        for days in (45, 40, 1):
            at = names.now() - timedelta(days=days)
            with opened.vault._begin("mysql", "mysql", "daily", site.shop, "sql.gz.enc", at, "", "") as writer:
                writer.data().write(b"-- a dump\n")
                entry, manifest = writer.publish(Facts(server=Server(flavour="mariadb", version="10.11")))
            opened.vault.mark(entry, "verified", sha256=manifest.data.sha256)
    run = prefect.run(f"prune-vault/{site.name}")
    assert run.state == "FAILED"
    assert "2 of 3 would go at once, more than 50%" in run.first_line
    assert f"confirm={site.name}" in run.message and len(site.files(".json")) == 3
    held = [row for row in prefect.table(run, f"{site.name}-prune") if row["what"] == "held"]
    assert len(held) == 2 and all("days old; daily backups are kept for 30d" in row["why"] for row in held)

    run = prefect.run(f"prune-vault/{site.name}", confirm=site.name)
    assert run.state == "COMPLETED", run.message
    assert "local: 0 backups removed, 2 marked as expired, 1 kept" in run.first_line
    again = prefect.run(f"prune-vault/{site.name}", dry_run=True)
    assert again.state == "COMPLETED" and "2 to go after their day" in again.first_line
    waiting = [row for row in prefect.table(again, f"{site.name}-prune") if row["what"] == "wait"]
    assert len(waiting) == 2 and all(row["until"] for row in waiting)
