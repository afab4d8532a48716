"""Counts, position and rows are of one moment, also while everybody writes; and nobody has to wait long for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from engine.errors import LockHeld, SnapshotMismatch
from engine.manifest import LogPosition
from engine.mysql.snapshot import _same_position
from engine.processes import Command
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

pytestmark = pytest.mark.one_server
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


class _Changes:
    """A job in another database that makes and drops a work table, again and again, and an event each second."""

    def __init__(self, server: DatabaseServer, database: str) -> None:
        self.longest = 0.0
        self.made = 0
        self._over = threading.Event()
        self._server, self._database = server, database
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._change, args=(each,), daemon=True) for each in range(2)]

    def __enter__(self) -> _Changes:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        assert exc[0] is not None or not self._errors, self._errors

    def _change(self, number: int) -> None:
        try:
            with closing(self._server.connect(self._database)) as connection, connection.cursor() as cursor:
                while not self._over.is_set():
                    for statement in (f"CREATE TABLE work{number} (a INT)", f"DROP TABLE work{number}"):
                        start = time.monotonic()
                        cursor.execute(statement)
                        self.longest = max(self.longest, time.monotonic() - start)
                        self.made += 1
        except BaseException as error:
            self._errors.append(error)


def test_schema_changes_elsewhere_and_a_backup_never_wait_for_each_other(mysql9_container: DatabaseServer) -> None:
    server = mysql9_container
    source = source_for(server, lock_wait_seconds=20)
    with shop(server) as name, server.database("other") as other:
        server.sql("".join(f"CREATE TABLE x{i} (a INT PRIMARY KEY); CREATE VIEW v{i} AS SELECT * FROM x{i};"
                           for i in range(40)), name)  # fmt: skip
        server.sql("CREATE TABLE ticks (a INT AUTO_INCREMENT PRIMARY KEY); CREATE EVENT tick ON SCHEDULE EVERY 1 "
                   "SECOND DO INSERT INTO ticks VALUES (NULL)", other)  # fmt: skip
        before = server.sql("SELECT @@global.event_scheduler")[0][0]
        server.sql("SET GLOBAL event_scheduler = ON")
        try:
            with _Changes(server, other) as changes:
                for _ in range(3):
                    made = changes.made
                    facts = source.capture(name, MemoryParts(), silent)
                    assert facts.contents["ddl_locked"] is True
                    assert facts.rows["steady"] == 3
                    while changes.made < made + 10:
                        time.sleep(0.05)
        finally:
            server.sql(f"SET GLOBAL event_scheduler = {before}")
        assert changes.longest < source.config.lock_try_seconds + SLACK
    wait_until_alone(server, source)
    source.close()


def test_schema_changes_that_wait_for_another_backup_are_not_proposed_for_a_kill(
    mysql9_container: DatabaseServer,
) -> None:
    server = mysql9_container
    source = source_for(server, lock_try_seconds=1, lock_wait_seconds=2)
    with shop(server) as name, server.database("other") as other:
        with closing(server.connect()) as elsewhere, elsewhere.cursor() as cursor:
            cursor.execute("LOCK INSTANCE FOR BACKUP")
            with _Changes(server, other):
                time.sleep(1.2)
                try:
                    with pytest.raises(LockHeld, match="schema changes wait for LOCK INSTANCE FOR BACKUP") as caught:
                        source.capture(name, MemoryParts(), silent)
                finally:
                    cursor.execute("UNLOCK INSTANCE")
        assert "KILL" not in caught.value.remedy
        assert "work" not in caught.value.message
    source.close()


def test_a_change_between_the_first_look_and_the_lock_is_found_out_at_once(
    mysql9_container: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.mysql import snapshot

    server = mysql9_container
    source = source_for(server)
    with shop(server) as name:
        original = snapshot.take

        def late(*arguments: object) -> object:
            server.sql("CREATE TABLE arrived (a INT)", name)
            return original(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(snapshot, "take", late)
        parts = MemoryParts()
        with pytest.raises(SnapshotMismatch, match="table arrived is new"):
            source.capture(name, parts, silent)
        assert not parts.parts.get("data")
        wait_until_alone(server, source)
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


def test_a_log_begun_a_moment_ago_goes_on_by_itself_and_the_snapshot_is_the_same(mariadb: DatabaseServer) -> None:
    mariadb.sql("FLUSH BINARY LOGS")
    mariadb.sql("CREATE DATABASE IF NOT EXISTS moved_on")
    file = str(mariadb.sql("SHOW MASTER STATUS")[0][0])
    events = mariadb.sql(f"SHOW BINLOG EVENTS IN '{file}'")
    last = next(n for n, row in reversed(list(enumerate(events))) if row[2] == "Binlog_checkpoint")
    before, noted, written = (
        LogPosition(binlog_file=file, binlog_position=int(events[n][column] or 0))
        for n, column in ((last, 1), (last, 4), (last + 1, 4))
    )
    dump = Command("mariadb-dump", ["mariadb-dump"])
    with closing(source_for(mariadb).connect()) as connection:
        _same_position(before, noted, dump, connection)
        for stated in (written, noted.model_copy(update={"binlog_position": noted.binlog_position + 1})):
            with pytest.raises(SnapshotMismatch, match="something was committed in between"):
                _same_position(before, stated, dump, connection)
