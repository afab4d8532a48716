"""The watch through its deployment: findings, failures and silence reach a webhook once, and once more when over."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from deployments import site_file
from engine.site import Site as Opened
from tests.integration.hooks import SECRET, Hooks
from tests.integration.installation import Installation, Site, until

COMMON = True


@pytest.fixture(scope="module")
def hook() -> Iterator[Hooks]:
    made = Hooks()
    yield made
    made.close()


@pytest.fixture(scope="module")
def watched(prefect: Installation, hook: Hooks) -> Site:
    """A site with two addresses, of which one hears of what is critical alone, and whose silence is told after 75 s."""
    site = prefect.site("watched")
    site.env |= {"ITEST_HOOK": hook.url("ops"), "ITEST_PING": f"{hook.base}/ping", "BACKUP_FLOWS_SILENT_SECONDS": "75"}
    for server in ("mysql", "postgres"):
        site.document[server]["point_in_time"] = False
    site.document["watch"] = {"ping": "${ITEST_PING}", "disk": 99}
    site.document["alerts"] = [{"name": "ops", "url": "${ITEST_HOOK}", "levels": ["critical"]}]
    site.write()
    done = prefect.apply(site)
    assert done.returncode == 0, done.stdout + done.stderr
    with Opened(site_file.load(site.file, {**site.env})) as opened:
        opened.vault.check()
    return site


def test_a_watch_leaves_a_table_and_a_state_that_says_how_it_stands(prefect: Installation, site: Site) -> None:
    run = prefect.run(f"watch-backups/{site.name}")
    rows = prefect.table(run, f"{site.name}-watch")
    assert run.state == "COMPLETED" and run.state_name.upper() == rows[0]["level"] == "CRITICAL", run.message
    assert {"recovery-point", "slot", "copies", "disk"} <= {row["condition"] for row in rows}
    assert rows[0]["what to do"] == f"docs/watch.md#{rows[0]['condition']}"
    windows = {row["what"]: row for row in prefect.table(run, f"{site.name}-recovery")}
    assert windows.keys() >= {f"mysql/{site.shop}", "postgres"}
    shipped = [windows[f"mysql/{site.shop}"], windows["postgres"]]  # of others there are their backups, and that is all
    assert all(row["why no more"] for row in shipped if row["can be had"] != "any second")


@pytest.mark.soak(sample=False)
def test_what_is_wrong_is_told_once_and_once_more_when_it_is_over(
    prefect: Installation, watched: Site, hook: Hooks
) -> None:
    sent = prefect.command("-m", "deployments.cli", "alert", "-f", str(watched.file), env=watched.env)
    assert sent.returncode == 0 and "took the message" in sent.stdout, sent.stdout + sent.stderr
    assert hook.subjects("ops") == [f"[test] {watched.name}: this is a test"]

    wrong = ("-m", "deployments.cli", "alert", "-f", str(watched.file), "--to", "opps")
    unknown = prefect.command(*wrong, env=watched.env)
    assert unknown.returncode != 0 and "has no alert 'opps'" in unknown.stderr and "'ops'" in unknown.stderr
    hook.down = True  # what cannot be told is told as soon as it can be
    run = prefect.run(f"watch-backups/{watched.name}")
    assert run.state == "COMPLETED" and "2 critical" in run.first_line, run.message
    assert "did not take the message" in run.first_line and hook.pings == []
    hook.down = False
    backup = prefect.run(f"manual-backup/{watched.name}", source="mysql")
    assert backup.state == "COMPLETED", backup.message
    run = prefect.run(f"watch-backups/{watched.name}")
    assert "1 critical" in run.first_line and len(hook.subjects("ops")) == 3
    assert (
        hook.subjects("ops")[1].startswith(f"[critical] {watched.name}: backup-age/")
        and "and 1 more" in hook.subjects("ops")[1]
    )
    assert hook.subjects("ops")[2] == f"[resolved] {watched.name}: backup-age/mysql/{watched.shop}"
    table = prefect.table(run, f"{watched.name}-watch")
    assert table[0]["level"] == "CRITICAL" and table[0]["what to do"] == "docs/watch.md#backup-age"
    shown = "\n".join([*prefect.log(run), json.dumps(prefect.api.artifacts(run.id)), sent.stdout, sent.stderr])
    assert SECRET not in shown

    # Nobody looks any more: the server itself tells it, once.
    until(lambda: len(hook.subjects("ops")) > 3, "the silence to be told")
    assert hook.subjects("ops")[3:] == [f"[critical] {watched.name}: nobody watches the backups"]

    before = len(hook.subjects("ops"))
    del watched.document["postgres"]
    watched.write()
    assert prefect.apply(watched).returncode == 0
    broken = prefect.run(f"manual-backup/{watched.name}", source="mysql", database="is_not_there")
    assert broken.state == "FAILED"
    run = prefect.run(f"watch-backups/{watched.name}")
    assert [each for each in hook.subjects("ops")[before:] if "run/manual-backup" in each] == hook.subjects("ops")[
        before:
    ]
    assert "is_not_there" in hook.text("ops").split("CRITICAL run/manual-backup")[-1]
    assert prefect.run(f"manual-backup/{watched.name}", source="mysql").state == "COMPLETED"
    run = prefect.run(f"watch-backups/{watched.name}")
    assert run.first_line.startswith("all is well") and hook.pings == ["/ping"] * 3, run.message
    assert hook.subjects("ops")[-1] == f"[resolved] {watched.name}: run/manual-backup"
    assert len(hook.subjects("ops")) == before + 2
