"""A restore puts another database in production's place: no log is replayed across that, nor is it forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from engine import restore
from engine.backup import capture
from engine.binlog import swaps
from engine.binlog.ship import ship
from engine.errors import BackupError, OutsideWindow
from engine.logs import ShipReport
from engine.names import RECOVERED
from engine.point_in_time import plan_past
from engine.recoverable import recoverable
from engine.restore import RestoreRequest
from engine.site import Target
from tests.functional.test_point_in_time import Shop, quiet_moment
from tests.servers.databases import DatabaseServer


@pytest.fixture
def shop(mariadb: DatabaseServer, tmp_path: Path) -> Iterator[Shop]:
    tmp_path.chmod(0o755)
    made = Shop("mysql", mariadb, tmp_path)
    yield made
    for (name,) in mariadb.sql("SHOW DATABASES"):
        if str(name).startswith(made.database):
            mariadb.sql(f"DROP DATABASE `{name}`")


def configure(shop: Shop, **source: object) -> None:
    site = yaml.safe_load(shop.file.read_text())
    site["mysql"].update(source)
    shop.file.write_text(yaml.safe_dump(site))


def shipped(shop: Shop) -> ShipReport:
    with shop.site() as site:
        return ship(site, "mysql")


def test_a_restore_without_a_new_full_fails_and_no_window_goes_across_it_until_there_is_one(shop: Shop) -> None:
    shop.add(1, 2)
    shop.backups("backup")
    shop.add(3)
    shipped(shop)
    shop.add(4)
    moment = quiet_moment()
    shop.add(5)
    configure(shop, floor_bytes=10**9)  # as where what was restored is smaller than any backup may be
    into = ["--into", shop.database, "--confirm", shop.database, "--no-safety-backup"]
    told = shop.backups("restore", "--database", shop.database, *into, code=3)
    assert told["rows"] == 2 and shop.numbers() == [1, 2], "the restore stands"
    (error,) = told["errors"]
    assert "no good new full" in error["message"] and "below the floor" in error["message"]
    assert f"backups backup --source mysql --database {shop.database}" in error["remedy"]
    shop.add(6)
    after = quiet_moment()
    for _ in range(2):
        (warning,) = shipped(shop).warnings
        with shop.site() as site:  # as a recovery to a moment leaves behind: no log can be replayed on it
            capture(site, Target("mysql", shop.database), tier=RECOVERED)
        assert f"mysql/{shop.database} was replaced by a restore" in warning and "Make a new full" in warning
    with shop.site() as site:
        (window,) = recoverable(site, "mysql", shop.database).windows
        assert window.left and f"a restore replaced {shop.database}" in window.ends
        assert moment <= window.latest < after
        with pytest.raises(OutsideWindow, match="a restore replaced"):
            plan_past(site, shop.request, after.isoformat())
    configure(shop, floor_bytes=0)
    side = f"{shop.database}_then"
    shop.backups("restore", "--database", shop.database, "--to", moment.isoformat(), "--into", side)
    assert shop.numbers(side) == [1, 2, 3, 4], "up to the replacement every moment can be had"
    shop.backups("backup")
    shop.add(7)
    assert shipped(shop).warnings == []
    with shop.site() as site:
        newest = plan_past(site, shop.request, "latest")
        assert newest.plan.anchor.earliest > after and newest.plan.logs


def test_a_replacement_that_was_undone_is_none(shop: Shop) -> None:
    shop.add(1, 2)
    shop.backups("backup")
    configure(shop, lock_wait_seconds=1)
    blocker = shop.server.connect(shop.database)
    try:
        blocker.cursor().execute("LOCK TABLES numbers READ")
        with shop.site() as site:
            request = RestoreRequest(shop.database, into=shop.database, safety_backup=False)
            with pytest.raises(BackupError):
                restore.run(site, restore.make_plan(site, request), approved=True)
            assert swaps.known(site.vault, "mysql") == []
    finally:
        blocker.close()
    assert shop.numbers() == [1, 2]
