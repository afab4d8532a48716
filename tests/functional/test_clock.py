"""A clock that was wrong for a while: what it dated looks neither young nor lets anything go."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.cli.main import run as backups
from engine import endpoints
from engine.keyring import births
from engine.prune import prune, record
from engine.site import Site
from engine.status import status
from engine.watch import remember
from tests.functional.test_archives import made
from tests.functional.test_keys import OLD, config

NOW = datetime.now(UTC).replace(microsecond=0)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.mark.parametrize("at", ["2026-11-20T02:00:00", "yesterday", 7, None])
def test_a_note_whose_time_has_no_zone_or_is_none_counts_as_not_written(tmp_path: Path, at: object) -> None:
    with Site(config(tmp_path / "v", current="main")) as site:
        made(site.vault, NOW - HOUR)
        vault = site.vault
        births.note(vault.state, vault.keys)
        known = json.loads((vault.state / births.FILE).read_text())
        known["main"]["since"] = at
        (vault.state / births.FILE).write_text(json.dumps(known))
        (vault.state / record.FILE).write_text(json.dumps({"local": {"at": at, "left": {}}}))
        (vault.state / endpoints.FILE).write_text(json.dumps({"copy": {"at": at, "classes": {}}}))
        path = vault.state / remember.FILE
        path.write_text(json.dumps({"raised": {}, "disk": [[at, 1, 2]], "looked_at": None, "untold": {}}))
        assert births.born(vault.state, vault.keys) is None
        assert (record.last_runs(vault.state), endpoints.remembered(vault.state)) == ({}, {})
        assert remember.recall(vault.state) == remember.Memory()
        births.note(vault.state, vault.keys, NOW)
        assert births.born(vault.state, vault.keys) == NOW
    assert backups(["status", "-f", site_file(tmp_path)]) == 0
    assert backups(["prune", "-f", site_file(tmp_path)]) == 0


def site_file(root: Path) -> str:
    path = root / "shop.yaml"
    path.write_text(f"site: shop\nvault: {{root: {root / 'v'}, keys: {{main: {OLD}}}}}\nmysql: {{databases: [app]}}\n")
    return str(path)


def test_a_jump_ahead_removes_nothing_though_backups_go_on_and_a_real_outage_needs_one_word(tmp_path: Path) -> None:
    with Site(config(tmp_path)) as site:
        nights = [made(site.vault, NOW - age * DAY) for age in range(30, 0, -1)]
        assert not prune(site, now=NOW)[0].brake
        for jump in (14, 15, 16):
            made(site.vault, NOW + jump * DAY)
            (plan,) = prune(site, now=NOW + jump * DAY + 2 * HOUR)
            assert "nothing came here for 15 days until" in plan.brake and not plan.count("remove")
        kept = {each.file for each in site.vault.catalog().entries()}
        assert kept >= {each.file for each in nights}
        # the clock is set right again
        made(site.vault, NOW + HOUR)
        (plan,) = prune(site, now=NOW + 2 * HOUR)
        assert "a clock is wrong" in plan.brake
        prune(site, now=NOW + 3 * HOUR, confirmed=True)
        made(site.vault, NOW + DAY)
        assert not prune(site, now=NOW + DAY + HOUR)[0].brake, "said once, it goes on"
        assert {each.file for each in site.vault.catalog().entries()} >= {each.file for each in nights[2:]}


def test_a_backup_that_is_dated_ahead_is_a_problem_and_the_newest_of_the_others_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Site(config(tmp_path / "v")) as site:
        ahead = made(site.vault, NOW + 365 * DAY)
        (row,) = [each for each in status(site).rows if each.target.database == "app"]
        assert row.newest is not None and row.newest.file == ahead.file and row.age_seconds < 0
    file = site_file(tmp_path)
    assert backups(["status", "-f", file, "--max-age", "26h", "--json"]) == 1
    capsys.readouterr()
    with Site(config(tmp_path / "v")) as site:
        old = made(site.vault, NOW - 35 * DAY)
    for limit in ([], ["--max-age", "26h"]):
        assert backups(["status", "-f", file, "--json", *limit]) == 1
        told = json.loads(capsys.readouterr().out)
        (row_,) = told["databases"]
        assert row_["newest"]["file"] == old.file and row_["dated_ahead"] == [ahead.file]
        assert row_["newest"]["age_seconds"] > 34 * 86_400
        assert len(told["problems"]) == (2 if limit else 1) and "dated ahead of now" in told["problems"][0]
    assert backups(["status", "-f", file, "--check", "--json"]) == 2
