"""What a replay of one database leans on beside its logs: the source's clock and settings, and other databases."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from engine.errors import RestoreRefused
from engine.mysql.pitr import Recovered, recover
from engine.mysql.surroundings import KEY, fitted
from engine.scratch.mysql import Scratch, open_scratch
from engine.site import Site
from tests.functional.mysql.rolling import SMALL, logs_from, open_site, rows_of, take_full
from tests.servers.databases import DatabaseServer, Row
from tests.servers.fixtures import Factory

ZONE = "Europe/Berlin"
SETTINGS = ("--default-storage-engine=MyISAM", "--old-mode=", "--default-week-format=3")


@pytest.fixture(scope="module")
def far_away(mariadb_factory: Factory) -> DatabaseServer:
    """A server whose system lives in another zone, with settings of its own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TZ", ZONE)
        return mariadb_factory(*SETTINGS)


@pytest.fixture
def site(far_away: DatabaseServer, tmp_path: Path) -> Iterator[Site]:
    with open_site(far_away, tmp_path / "vault") as opened:
        yield opened


class Pair:
    """A database and another one beside it; statements call them OWN and OTHER."""

    def __init__(self, site: Site, server: DatabaseServer) -> None:
        self.site, self.server = site, server
        self.own, self.other = (f"{what}_{secrets.token_hex(4)}" for what in ("own", "other"))
        self.do("CREATE DATABASE OWN; CREATE DATABASE OTHER")

    def do(self, text: str) -> list[Row]:
        return self.server.sql(text.replace("OWN", self.own).replace("OTHER", self.other))

    def full(self) -> None:
        self.entry, self.manifest = take_full(self.site, self.own)

    def position(self) -> tuple[str, int]:
        row = self.server.sql("SHOW MASTER STATUS")[0]
        return str(row[0]), int(str(row[1]))

    def scratch(self) -> AbstractContextManager[Scratch]:
        assert self.manifest.server is not None
        settings, _, notes = fitted(self.site, "mysql", self.manifest, SMALL)
        assert not notes
        return open_scratch(self.site, "mysql", self.manifest.server, settings)

    def to(self, scratch: Scratch, stop: tuple[str, int]) -> Recovered:
        self.server.sql("FLUSH BINARY LOGS")
        log = self.manifest.log
        start = (log.binlog_file, log.binlog_position)
        return recover(self.site, scratch, self.entry, self.manifest, logs_from(self.server, start[0]), start, stop)

    def refused(self, stop: tuple[str, int]) -> str:
        with self.scratch() as scratch, pytest.raises(RestoreRefused) as caught:
            self.to(scratch, stop)
        return str(caught.value)


@pytest.fixture
def pair(site: Site, far_away: DatabaseServer) -> Pair:
    return Pair(site, far_away)


def test_local_times_and_unspoken_settings_are_those_of_the_source(pair: Pair) -> None:
    pair.do("CREATE TABLE OWN.t (id INT PRIMARY KEY, d DATETIME, w INT) ENGINE=InnoDB; "
            "CREATE TABLE OWN.turned (id INT PRIMARY KEY, ts TIMESTAMP NULL) ENGINE=InnoDB; "
            "SET time_zone = '+00:00'; INSERT INTO OWN.turned VALUES (1, '2026-07-01 10:00:00')")  # fmt: skip
    pair.full()
    assert pair.manifest.contents[KEY]["system_time_zone"] == "CET-1CEST,M3.5.0,M10.5.0/3"
    pair.do("SET SESSION binlog_format = STATEMENT; INSERT INTO OWN.t VALUES "
            "(1, FROM_UNIXTIME(1767225600), WEEK('2027-01-02')), (2, FROM_UNIXTIME(1782864000), 0); "
            "SET SESSION binlog_format = ROW; ALTER TABLE OWN.turned MODIFY ts DATETIME; "
            "CREATE TABLE OWN.made (a VARCHAR(9) CHARACTER SET utf8)")  # fmt: skip
    wanted = [(1, "2026-01-01 01:00:00", 53), (2, "2026-07-01 02:00:00", 0)]
    assert pair.do("SELECT id, d, w FROM OWN.t ORDER BY id") == [tuple(map(str, row)) for row in wanted]
    stop = pair.position()
    with pair.scratch() as scratch:
        pair.to(scratch, stop)
        assert rows_of(scratch, f"SELECT id, CAST(d AS CHAR), w FROM {pair.own}.t ORDER BY id") == wanted
        assert rows_of(scratch, f"SELECT CAST(ts AS CHAR) FROM {pair.own}.turned") == [("2026-07-01 12:00:00",)]
        shown = rows_of(scratch, f"SHOW CREATE TABLE {pair.own}.made")[0][1]
        assert "MyISAM" in shown and "utf8mb3" not in shown


def test_for_a_full_without_a_record_the_source_is_asked_and_one_that_is_gone_is_told_loudly(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", ZONE)  # the server is started again
    pair.full()
    older = pair.manifest.model_copy(update={"contents": {}})
    settings, known, notes = fitted(pair.site, "mysql", older, SMALL)
    assert (settings.time_zone, known["settings"]["default_week_format"]) == ("CET-1CEST,M3.5.0,M10.5.0/3", "3")
    assert len(notes) == 1 and "does not say" in notes[0]
    pair.server.stop()
    try:
        settings, known, notes = fitted(pair.site, "mysql", older, SMALL)
    finally:
        pair.server.start()
    assert settings == SMALL and known == {} and "WARNING" in notes[0]


def test_foreign_keys_into_other_databases_stand_aside_for_a_replay_and_are_there_afterwards(pair: Pair) -> None:
    pair.do("CREATE TABLE OTHER.parent (id INT PRIMARY KEY) ENGINE=InnoDB; INSERT INTO OTHER.parent VALUES (1); "
            "CREATE TABLE OWN.child (id INT PRIMARY KEY, p INT, "
            "CONSTRAINT kept FOREIGN KEY (p) REFERENCES OTHER.parent (id), "
            "CONSTRAINT gone FOREIGN KEY (p) REFERENCES OTHER.parent (id)) ENGINE=InnoDB")  # fmt: skip
    pair.full()
    pair.do("INSERT INTO OWN.child VALUES (1, 1); ALTER TABLE OWN.child DROP FOREIGN KEY gone; "
            "INSERT INTO OWN.child VALUES (2, 1)")  # fmt: skip
    truth = pair.do("SHOW CREATE TABLE OWN.child")[0][1]
    stop = pair.position()
    with pair.scratch() as scratch:
        done = pair.to(scratch, stop)
        assert done.rows == {"child": 2}
        assert rows_of(scratch, f"SHOW CREATE TABLE {pair.own}.child")[0][1] == str(truth).replace("\\n", "\n")
        assert any("kept of child" in note for note in done.notes)


def test_a_foreign_key_that_changes_rows_without_a_log_is_told_and_refused(pair: Pair) -> None:
    pair.do("CREATE TABLE OTHER.parent (id INT PRIMARY KEY) ENGINE=InnoDB; INSERT INTO OTHER.parent VALUES (1); "
            "CREATE TABLE OWN.child (id INT PRIMARY KEY, p INT, CONSTRAINT acts FOREIGN KEY (p) REFERENCES "
            "OTHER.parent (id) ON DELETE SET NULL) ENGINE=InnoDB; INSERT INTO OWN.child VALUES (1, 1)")  # fmt: skip
    pair.full()
    assert any("acts of child" in warning for warning in pair.manifest.warnings)
    pair.do("DELETE FROM OTHER.parent")
    assert "acts of child" in pair.refused(pair.position())


@pytest.mark.parametrize("made", ["before the full", "after it"])
def test_what_another_databases_trigger_wrote_and_no_log_holds_is_refused(pair: Pair, made: str) -> None:
    trigger = ("CREATE TRIGGER OTHER.fire AFTER INSERT ON OTHER.orders FOR EACH ROW "
               "INSERT INTO OWN.audit VALUES (NEW.id)")  # fmt: skip
    pair.do("CREATE TABLE OTHER.orders (id INT) ENGINE=InnoDB; CREATE TABLE OWN.audit (id INT) ENGINE=InnoDB")
    pair.do(trigger if made == "before the full" else "SELECT 1")
    pair.full()
    pair.do(trigger if made == "after it" else "SELECT 1")
    pair.do("INSERT INTO OTHER.orders VALUES (1)")
    as_rows = pair.position()
    pair.do("SET SESSION binlog_format = STATEMENT; INSERT INTO OTHER.orders VALUES (2)")
    words = pair.refused(pair.position())
    assert f"{pair.other}.fire" in words and f"position {as_rows[1]}" in words
    with pair.scratch() as scratch:
        pair.to(scratch, as_rows)
        assert rows_of(scratch, f"SELECT id FROM {pair.own}.audit") == [(1,)]


def test_a_table_that_is_renamed_in_from_another_database_is_refused(pair: Pair) -> None:
    pair.do("CREATE TABLE OWN.t (id INT) ENGINE=InnoDB")
    pair.full()
    pair.do("RENAME TABLE OWN.t TO OTHER.t; INSERT INTO OTHER.t VALUES (1)")
    away = pair.position()
    pair.do("RENAME TABLE OTHER.t TO OWN.t")
    assert f"position {away[1]}" in pair.refused(pair.position())
