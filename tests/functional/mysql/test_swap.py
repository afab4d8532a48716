"""Replacing production by a restored copy: all works as before the loss, and nothing of the old is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from engine.errors import LockHeld, RestoreRefused
from engine.journal import Journal
from engine.mysql.server import MySQLSource
from engine.progress import silent
from engine.source import Selection, SwapReport
from tests.functional.mysql.restoring import (
    EVERYTHING,
    Backup,
    HotWriter,
    begin,
    clear,
    databases,
    fingerprint,
    shop,
    source_of,
    take,
    ticking,
)
from tests.servers.databases import DatabaseServer

pytestmark = pytest.mark.one_server
PROD = "sprod"
SIDE = "sprod_restore"
KEPT = "sprod_before"


@pytest.fixture(scope="module", params=["mariadb", "mysql9_container"])
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    found: DatabaseServer = request.getfixturevalue(request.param)
    ticking(found, on=False)
    yield found
    ticking(found, on=False)


@pytest.fixture
def source(server: DatabaseServer) -> Iterator[MySQLSource]:
    found = source_of(server)
    yield found
    found.close()


@pytest.fixture
def prod(server: DatabaseServer) -> Iterator[str]:
    with shop(server, PROD) as name:
        yield name


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    found = begin(tmp_path, PROD)
    yield found
    found.close()


def load(source: MySQLSource, backup: Backup, journal: Journal, selection: Selection = EVERYTHING) -> None:
    source.load_beside(backup.manifest, backup.part, SIDE, selection, journal, silent)
    assert source.compare(backup.manifest, SIDE, selection).problems == []


def swap(source: MySQLSource, backup: Backup, journal: Journal, selection: Selection = EVERYTHING) -> SwapReport:
    return source.swap(backup.manifest, backup.part, SIDE, PROD, KEPT, selection, journal, silent)


def replace(source: MySQLSource, backup: Backup, journal: Journal, selection: Selection = EVERYTHING) -> SwapReport:
    load(source, backup, journal, selection)
    return swap(source, backup, journal, selection)


def works_as_before(server: DatabaseServer) -> None:
    """The grantee executes, the triggers write, the event fires, views answer."""
    before = int(server.sql(f"SELECT COUNT(*) FROM {PROD}.audit")[0][0] or 0)
    with pymysql.connect(host=server.host, port=server.port, user=f"{PROD}_exec", password="fake-grantee-pw",
                         autocommit=True) as grantee, grantee.cursor() as cursor:  # fmt: skip
        cursor.execute(f"CALL {PROD}.add_one(1)")
        cursor.execute(f"SELECT * FROM {PROD}.a_view ORDER BY id")
        assert cursor.fetchall() == ((1,), (2,))
    server.sql(f"INSERT INTO {PROD}.parents (name) VALUES ('new'); INSERT INTO {PROD}.zebra (what) VALUES ('new')")
    words = [str(what) for (what,) in server.sql(f"SELECT what FROM {PROD}.audit ORDER BY id")]
    assert len(words) == before + 3
    assert words[-3].startswith("procedure ")
    assert words[-2:] == ["parent 3/6", "zebra 2"]
    ticking(server, on=True)
    deadline = time.monotonic() + 20
    while not server.sql(f"SELECT 1 FROM {PROD}.audit WHERE what LIKE 'event %'") and time.monotonic() < deadline:
        time.sleep(0.2)
    ticking(server, on=False)
    assert server.sql(f"SELECT 1 FROM {PROD}.audit WHERE what LIKE 'event %' LIMIT 1") == [("1",)]


def test_after_a_swap_production_is_the_backup_to_the_last_definition_and_grant(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    before = fingerprint(server, prod)
    backup = take(source, prod)
    server.sql(
        f"DELETE FROM {prod}.kids; DROP TABLE {prod}.quiet; DROP TRIGGER {prod}.parent_new; CREATE TABLE {prod}.junk"
        f" (i INT); DROP VIEW {prod}.a_view; ALTER DATABASE {prod} CHARACTER SET utf8mb4;"
        f"DROP PROCEDURE {prod}.add_one;"
        f"CREATE PROCEDURE {prod}.later() SELECT 1; DROP EVENT {prod}.ticking; ALTER EVENT {prod}.asleep ENABLE;"
        f"CREATE OR REPLACE VIEW {prod}.z_view AS SELECT 1 AS id"
    )
    old = fingerprint(server, prod)
    report = replace(source, backup, journal)
    assert report.kept_as == KEPT
    assert report.notes == []
    assert fingerprint(server, prod) == before
    assert databases(server, PROD) == [PROD, KEPT]
    kept = fingerprint(server, KEPT)
    assert [name for name in old if name not in kept and not name.startswith("grants")] == []
    assert kept["rows kids"] == "[]"
    assert server.sql(f"SELECT event_name, status FROM information_schema.events WHERE event_schema = '{KEPT}'"
                      ) == [("asleep", "DISABLED")]  # fmt: skip
    works_as_before(server)


def test_a_dropped_database_comes_back_with_everything_that_went_with_it(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    before = fingerprint(server, prod)
    backup = take(source, prod)
    server.sql(f"DROP DATABASE {prod}")
    report = replace(source, backup, journal)
    assert report.kept_as == ""
    assert fingerprint(server, prod) == before
    assert databases(server, PROD) == [PROD]
    works_as_before(server)


def test_a_database_that_lost_its_tables_gets_them_back_although_its_triggers_name_lost_ones(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    before = fingerprint(server, prod)
    backup = take(source, prod)
    server.sql(f"DROP TABLE {prod}.audit, {prod}.kids")
    replace(source, backup, journal)
    assert fingerprint(server, prod) == before
    works_as_before(server)


def test_a_writer_that_never_stops_sees_no_error_and_no_row_misses_its_trigger(
    server: DatabaseServer, source: MySQLSource, journal: Journal
) -> None:
    # MySQL's ALTER DATABASE locks every table one by one and can make a writer's statement the victim of a
    # deadlock; it is only used where a trigger was made under another character set than the database's.
    with shop(server, PROD, altered=server.flavour == "mariadb") as prod:
        backup = take(source, prod)
        load(source, backup, journal)
        swap_under_writers(server, source, backup, journal)


def swap_under_writers(server: DatabaseServer, source: MySQLSource, backup: Backup, journal: Journal) -> None:
    prod = PROD
    with (
        HotWriter(server, prod, f"INSERT INTO {prod}.parents (name) VALUES ('hot')") as parents,
        HotWriter(server, prod, f"INSERT INTO {prod}.zebra (what) VALUES ('hot')") as zebras,
    ):
        report = swap(source, backup, journal)
        time.sleep(0.3)
    assert (parents.errors, zebras.errors) == ([], [])
    assert report.paused_seconds > 0
    for database in (PROD, KEPT):
        for table, word in (("parents", "parent"), ("zebra", "zebra")):
            hot = f"SELECT COUNT(*) FROM {database}.{table} WHERE {'name' if table == 'parents' else 'what'} = 'hot'"
            seen = f"SELECT COUNT(*) FROM {database}.audit WHERE what LIKE '{word} %'"
            rows = server.sql(hot)
            assert rows[0] > ("0",)
            assert rows == server.sql(seen), (database, table)


def test_only_the_chosen_tables_change_places(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    before = fingerprint(server, prod)
    backup = take(source, prod)
    server.sql(f"DELETE FROM {prod}.zebra; DROP TRIGGER {prod}.`zebra new`; INSERT INTO {prod}.quiet VALUES (7);"
               f"INSERT INTO {prod}.kids (parent) VALUES (2)")  # fmt: skip
    changed = fingerprint(server, prod)
    replace(source, backup, journal, Selection(tables=("zebra",)))
    after = fingerprint(server, prod)
    assert after["rows zebra"] == before["rows zebra"]
    assert after["TRIGGER zebra new"] == before["TRIGGER zebra new"]
    assert after["rows kids"] == changed["rows kids"] != before["rows kids"]
    assert after["EVENT ticking"] == before["EVENT ticking"]
    assert server.sql(f"SHOW TABLES FROM {KEPT}") == [("zebra",)]
    assert databases(server, PROD) == [PROD, KEPT]


@pytest.mark.parametrize(("chosen", "other"), [("parents", "kids"), ("kids", "parents")])
def test_tables_that_foreign_keys_join_are_not_parted(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal, chosen: str, other: str
) -> None:
    before = fingerprint(server, prod)
    backup = take(source, prod)
    load(source, backup, journal, Selection(tables=(chosen,)))
    with pytest.raises(RestoreRefused) as caught:
        swap(source, backup, journal, Selection(tables=(chosen,)))
    assert f"restore {other} too" in caught.value.remedy
    source.recover(journal)
    assert fingerprint(server, prod) == before
    assert databases(server, PROD) == [PROD]


def test_a_foreign_key_from_another_database_is_named_and_refused(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    backup = take(source, prod)
    server.sql(f"CREATE DATABASE {PROD}_other; CREATE TABLE {PROD}_other.c (p BIGINT, CONSTRAINT far FOREIGN KEY (p) "
               f"REFERENCES {prod}.parents (id))")  # fmt: skip
    load(source, backup, journal)
    with pytest.raises(RestoreRefused, match=f"far of {PROD}_other.c") as caught:
        swap(source, backup, journal)
    assert f"ALTER TABLE `{PROD}_other`.`c` DROP FOREIGN KEY `far`" in caught.value.remedy
    source.recover(journal)
    server.sql(f"DROP DATABASE {PROD}_other")


def test_a_transaction_that_holds_a_table_is_named_and_production_stays_as_it_was(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    before = fingerprint(server, prod)
    backup = take(source, prod)
    load(source, backup, journal)
    source.config.lock_wait_seconds = 3
    holder = server.connect(prod)
    holder.autocommit(False)
    with holder.cursor() as cursor:
        cursor.execute("SELECT * FROM kids")
    with HotWriter(server, prod, f"UPDATE {prod}.quiet SET id = id WHERE id = 0") as writer:
        with pytest.raises(LockHeld, match="could not be locked") as caught:
            swap(source, backup, journal)
    assert f"session {holder.thread_id()} of root" in caught.value.remedy
    holder.close()
    assert writer.errors == []
    source.recover(journal)
    assert fingerprint(server, prod) == before
    assert databases(server, PROD) == [PROD]


def test_a_second_swap_after_the_first_works_the_same(
    server: DatabaseServer, source: MySQLSource, prod: str, tmp_path: Path
) -> None:
    before = fingerprint(server, prod)
    backup = take(source, prod)
    for name in ("one", "two"):
        journal = begin(tmp_path, PROD)
        load(source, backup, journal)
        source.swap(backup.manifest, backup.part, SIDE, PROD, f"{KEPT}_{name}", EVERYTHING, journal, silent)
        journal.close()
        assert fingerprint(server, prod) == before
    clear(server, PROD)
