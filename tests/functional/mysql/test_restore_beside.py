"""Loading a backup beside production: complete, proven, and without production noticing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import IntegrityError, RestoreRefused
from engine.journal import Journal
from engine.mysql.server import MySQLSource
from engine.progress import silent
from engine.source import Selection
from tests.functional.mysql.restoring import (
    EVERYTHING,
    Backup,
    begin,
    databases,
    fingerprint,
    shop,
    source_of,
    take,
    ticking,
)
from tests.servers.databases import DatabaseServer

pytestmark = pytest.mark.one_server
PROD = "bprod"
SIDE = "bprod_restore"


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


def load(source: MySQLSource, backup: Backup, journal: Journal, selection: Selection = EVERYTHING) -> list[str]:
    return source.load_beside(backup.manifest, backup.part, SIDE, selection, journal, silent)


def test_a_side_copy_is_complete_and_equals_its_manifest(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    backup = take(source, prod)
    assert load(source, backup, journal) == []
    result = source.compare(backup.manifest, SIDE, EVERYTHING)
    assert (result.problems, result.schema_equal) == ([], True)
    assert result.found == backup.manifest.rows
    assert result.found["kids"] == 3


def test_production_is_the_same_before_and_after_a_load_beside_it(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    backup = take(source, prod)
    ticking(server, on=True)
    # production's own event is put to sleep for the test, so that any new row is the copy's doing
    server.sql(f"ALTER EVENT {prod}.ticking DISABLE")
    before = fingerprint(server, prod)
    load(source, backup, journal)
    time.sleep(2.5)
    ticking(server, on=False)
    assert fingerprint(server, prod) == before
    states = dict(server.sql(f"SELECT event_name, status FROM information_schema.events WHERE event_schema = '{SIDE}'"))
    assert states == {"ticking": "DISABLED", "asleep": "DISABLED"}
    assert server.sql(f"SELECT default_character_set_name FROM information_schema.schemata WHERE schema_name = '{SIDE}'"
                      ) == [("latin1",)]  # fmt: skip


def test_only_the_chosen_tables_are_loaded_with_their_triggers(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    backup = take(source, prod)
    load(source, backup, journal, Selection(tables=("zeb*", "quiet")))
    assert [name for (name,) in server.sql(f"SHOW TABLES FROM {SIDE}")] == ["quiet", "zebra"]
    assert [row[0] for row in server.sql(f"SHOW TRIGGERS FROM {SIDE}")] == ["zebra new"]
    assert source.compare(backup.manifest, SIDE, Selection(tables=("zeb*", "quiet"))).equal


def test_a_choice_that_matches_nothing_is_refused_and_leaves_nothing(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    backup = take(source, prod)
    with pytest.raises(RestoreRefused, match="No table of the backup matches zebr ") as caught:
        load(source, backup, journal, Selection(tables=("zebr ",)))
    assert "zebra" in caught.value.remedy
    assert databases(server, PROD) == [PROD]


def test_an_existing_database_is_never_loaded_into_nor_dropped(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    backup = take(source, prod)
    server.sql(f"CREATE DATABASE {SIDE}; CREATE TABLE {SIDE}.mine (i INT)")
    with pytest.raises(RestoreRefused, match="exists already"):
        load(source, backup, journal)
    source.recover(journal)
    assert server.sql(f"SHOW TABLES FROM {SIDE}") == [("mine",)]


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9])
def test_a_dump_that_is_cut_short_leaves_no_side_database(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal, cut: float
) -> None:
    backup = take(source, prod)
    data = backup.parts["data"]
    backup.parts["data"] = data[: int(len(data) * cut)]
    with pytest.raises(IntegrityError):
        load(source, backup, journal)
    assert databases(server, PROD) == [PROD]


def test_a_row_or_table_that_is_missing_from_the_dump_is_found_by_comparing(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    backup = take(source, prod)
    load(source, backup, journal)
    server.sql(f"DELETE FROM {SIDE}.kids LIMIT 1; DROP TABLE {SIDE}.quiet; CREATE TABLE {SIDE}.more (i INT)")
    problems = source.compare(backup.manifest, SIDE, EVERYTHING).problems
    assert problems[:3] == ["kids: 2 rows, the manifest says 3", "quiet: missing", "more: not in the manifest"]
    assert "table more is new" in problems[3]


def test_a_side_database_can_be_dropped_only_by_the_journal_that_made_it(
    server: DatabaseServer, source: MySQLSource, prod: str, journal: Journal
) -> None:
    backup = take(source, prod)
    load(source, backup, journal)
    with pytest.raises(RestoreRefused, match="not made by this restore"):
        source.drop_side(PROD, journal)
    source.drop_side(SIDE, journal)
    assert databases(server, PROD) == [PROD]
