"""A clock that was wrong for a while: what it dated looks neither young nor lets anything go."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.cli.main import run as backups
from engine.site import Site
from engine.status import status
from tests.functional.test_archives import made
from tests.functional.test_keys import OLD, config

NOW = datetime.now(UTC).replace(microsecond=0)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def site_file(root: Path) -> str:
    path = root / "shop.yaml"
    path.write_text(f"site: shop\nvault: {{root: {root / 'v'}, keys: {{main: {OLD}}}}}\nmysql: {{databases: [app]}}\n")
    return str(path)


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
