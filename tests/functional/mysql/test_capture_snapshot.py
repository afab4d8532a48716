"""Counts, position and rows are of one moment, also while everybody writes; and nobody has to wait long for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from engine.errors import LockHeld
from engine.progress import silent
from tests.functional.mysql.capturing import (
    MemoryParts,
    Writers,
    shop,
    slow_query,
    source_for,
    stock_client,
    wait_until_alone,
)
from tests.servers import DatabaseServer
from tests.soak import trials

SLACK = 1.5
"""Seconds that a busy machine may add to a blocked statement; the slow queries here take several times as long."""


@pytest.fixture(params=["mariadb", "mysql9_container"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, DatabaseServer)
    return found


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_under_writers_that_never_stop_every_manifest_counts_the_rows_of_its_dump(
    server: DatabaseServer, counted_trials: Callable[[int], None]
) -> None:
    counted_trials(trials(5, 20))
    source = source_for(server)
    with shop(server) as name, Writers(server, name) as writers:
        before = writers.written
        for trial in range(trials(5, 20)):
            parts = MemoryParts()
            facts = source.capture(name, parts, silent)
            with server.database("back") as back:
                stock_client(server, back, bytes(parts.parts["data"]))
                found = {table: server.sql(f"SELECT COUNT(*) FROM `{table}`", back) for table in facts.rows}
                assert {table: [(str(rows),)] for table, rows in facts.rows.items()} == found, f"trial {trial}"
                orphans = server.sql(
                    "SELECT COUNT(*) FROM `lines` l LEFT JOIN orders o ON o.id = l.order_id "
                    "WHERE o.id IS NULL AND l.id > (SELECT MAX(id) FROM `lines`) - 5",
                    back,
                )
                assert orphans == [("0",)], f"half a transaction in trial {trial}"
            assert f"LOG_FILE='{facts.log.binlog_file}', " in parts.text()
            assert f"LOG_POS={facts.log.binlog_position};" in parts.text()
        assert writers.written > before + 20
        assert writers.longest < source.config.lock_try_seconds + SLACK
    source.close()


def test_behind_a_slow_query_writes_wait_no_longer_than_the_limit_and_the_backup_is_made(
    server: DatabaseServer,
) -> None:
    source = source_for(server, lock_try_seconds=1, lock_wait_seconds=60)
    with shop(server) as name, slow_query(server, name, 8), Writers(server, name, 1) as writers:
        facts = source.capture(name, MemoryParts(), silent)
        assert facts.rows["steady"] == 3
        assert facts.contents["lock_held_seconds"] < 1 + SLACK
    assert writers.longest < 1 + SLACK
    assert writers.written > 10
    source.close()


def test_a_lock_that_cannot_be_had_names_the_query_in_its_way(mysql9_container: DatabaseServer) -> None:
    source = source_for(mysql9_container, lock_try_seconds=1, lock_wait_seconds=2)
    with shop(mysql9_container) as name:
        with slow_query(mysql9_container, name, 12), Writers(mysql9_container, name, 1) as writers:
            with pytest.raises(LockHeld, match=r"SELECT id, SLEEP\(3.0\) FROM report"):
                source.capture(name, MemoryParts(), silent)
            wrote = writers.written
            time.sleep(1)
            assert writers.written > wrote
        assert writers.longest < 1 + SLACK
        wait_until_alone(mysql9_container, source)
    source.close()


def test_a_query_that_starts_while_the_lock_is_held_holds_nobody_up_for_longer_than_the_limit(
    mysql9_container: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mysqldump flushes tables once more by itself, and would wait for such a query with all writes waiting too."""
    from engine.mysql import snapshot

    server = mysql9_container
    source = source_for(server, lock_try_seconds=1, lock_wait_seconds=60)
    with shop(server) as name, Writers(server, name, 1) as writers:
        original, started = snapshot.log_position, []

        def late(*arguments: object) -> object:
            if not started:
                started.append(slow_query(server, name, 6))
                threading.Thread(target=_run, args=(source, server, name), daemon=True).start()
                time.sleep(0.3)
            return original(*arguments)  # type: ignore[arg-type]

        server.sql("CREATE TABLE report (id INT PRIMARY KEY); INSERT INTO report VALUES (1), (2), (3), (4)", name)
        monkeypatch.setattr(snapshot, "log_position", late)
        facts = source.capture(name, MemoryParts(), silent)
        assert started
        assert facts.rows["steady"] == 3
    assert writers.longest < 1 + SLACK
    source.close()


def _run(_: object, server: DatabaseServer, name: str) -> None:
    with closing(server.connect(name)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id, SLEEP(1.5) FROM report")


def test_a_server_without_binary_log_is_warned_about_and_backed_up(mariadb_factory: object) -> None:
    server = mariadb_factory("--skip-log-bin")  # type: ignore[operator]
    source = source_for(server)
    with shop(server) as name, Writers(server, name):
        assert any("no binary log" in warning for warning in source.preflight(name).warnings)
        for _ in range(3):
            parts = MemoryParts()
            facts = source.capture(name, parts, silent)
            assert facts.log.binlog_file == ""
            with server.database("back") as back:
                stock_client(server, back, bytes(parts.parts["data"]))
                assert server.sql("SELECT COUNT(*) FROM orders", back) == [(str(facts.rows["orders"]),)]
    source.close()


def test_one_run_at_a_time_and_the_other_is_told_who_has_it(server: DatabaseServer) -> None:
    source, other = source_for(server), source_for(server)
    with source.lock("a database"):
        with pytest.raises(LockHeld, match=r"'a database' of this server: connection \d+ of user root"):
            with other.lock("a database"):
                pass
        with other.lock("another"):
            pass
    with other.lock("a database"):
        pass
    source.close()
    other.close()
