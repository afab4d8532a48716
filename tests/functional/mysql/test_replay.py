"""Binary logs are replayed on a scratch server: exactly up to a position, one database alone, production untouched."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from engine import names
from engine.backup import verify
from engine.errors import IntegrityError, OutsideWindow, RestoreRefused, ToolFailed
from engine.mysql.pitr import Recovered, export, recover
from engine.mysql.replay import ReplayFile
from engine.scratch.mysql import Scratch, open_scratch
from engine.site import Site
from tests.functional.mysql.rolling import SMALL, Load, load, logs_from, numbers, open_site, rows_of, take_full
from tests.servers.databases import DatabaseServer

pytestmark = pytest.mark.sampled

SEED = 20261122


@pytest.fixture(scope="module", params=["mariadb", "mysql9_container"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def site(server: DatabaseServer, tmp_path: Path) -> Iterator[Site]:
    with open_site(server, tmp_path / "vault") as opened:
        yield opened


@pytest.fixture
def loaded(server: DatabaseServer) -> Iterator[Load]:
    with load(server) as found:
        yield found


class Rolled:
    """A full backup taken now; later, a scratch server rolled forward from it."""

    def __init__(self, site: Site, loaded: Load) -> None:
        self.site = site
        self.load = loaded
        self.entry, self.manifest = take_full(site, loaded.name)
        log = self.manifest.log
        self.start = (log.binlog_file, log.binlog_position)

    def to(self, scratch: Scratch, stop: tuple[str, int]) -> Recovered:
        logs = logs_from(self.load.server, self.start[0])
        return recover(self.site, scratch, self.entry, self.manifest, logs, self.start, stop)

    def scratch(self) -> AbstractContextManager[Scratch]:
        assert self.manifest.server is not None
        return open_scratch(self.site, "mysql", self.manifest.server, SMALL)


def test_a_replay_to_any_position_gives_exactly_the_rows_committed_by_then(site: Site, loaded: Load) -> None:
    loaded.insert(7)
    rolled = Rolled(site, loaded)
    for _ in range(6):
        loaded.insert(9)
        loaded.rotate()
    chosen = random.Random(SEED).sample(range(8, loaded.number), 2)
    at_a_rotation = 7 + 9 * 3
    for last in [*chosen, at_a_rotation, loaded.number]:
        with rolled.scratch() as scratch:
            recovered = rolled.to(scratch, loaded.marks[last - 1])
            assert numbers(scratch, loaded.name) == list(range(1, last + 1))
            assert recovered.rows == {"numbered": last}
            assert recovered.replay.transactions is not None and recovered.replay.transactions >= last - 7
            assert recovered.replay.changes >= last - 7


def test_stopping_at_the_beginning_of_a_log_is_stopping_at_the_end_of_the_one_before(site: Site, loaded: Load) -> None:
    rolled = Rolled(site, loaded)
    loaded.insert(5)
    loaded.rotate()
    second = loaded.position()
    loaded.insert(5)
    loaded.rotate()
    for stop in ((second[0], 4), second):
        with rolled.scratch() as scratch:
            rolled.to(scratch, stop)
            assert numbers(scratch, loaded.name) == [1, 2, 3, 4, 5]


def test_nothing_is_replayed_where_the_stop_is_the_start(site: Site, loaded: Load) -> None:
    loaded.insert(3)
    rolled = Rolled(site, loaded)
    loaded.insert(3)
    loaded.rotate()
    with rolled.scratch() as scratch:
        recovered = rolled.to(scratch, rolled.start)
        assert numbers(scratch, loaded.name) == [1, 2, 3]
        assert recovered.replay.transactions == 0
    with rolled.scratch() as scratch, pytest.raises(OutsideWindow, match="before the full backup"):
        rolled.to(scratch, loaded.marks[0])


@pytest.mark.parametrize("form", ["STATEMENT", "MIXED", "ROW"])
def test_every_binlog_format_with_temporary_tables_across_logs_and_clocks_that_clients_set(
    site: Site, loaded: Load, form: str
) -> None:
    name = loaded.name
    rolled = Rolled(site, loaded)
    loaded.do(
        f"SET SESSION binlog_format = {form}",
        f"CREATE TABLE {name}.fired (id INT AUTO_INCREMENT PRIMARY KEY, of_row INT)",
        f"CREATE TRIGGER {name}.fire AFTER INSERT ON {name}.numbered FOR EACH ROW "
        f"INSERT INTO {name}.fired (of_row) VALUES (NEW.id)",
    )
    loaded.insert(5)
    loaded.do(f"CREATE TEMPORARY TABLE {name}.passing (id INT)", f"INSERT INTO {name}.passing VALUES (1001), (1002)")
    loaded.rotate()
    loaded.insert(2)
    loaded.rotate()
    loaded.do(
        "SET SESSION time_zone = '+05:00', timestamp = 1925000000",
        f"INSERT INTO {name}.numbered SELECT id, CONCAT('from passing ', @@session.timestamp), NOW() "
        f"FROM {name}.passing ORDER BY id",
        "SET SESSION timestamp = DEFAULT",
        f"DROP TEMPORARY TABLE {name}.passing",
    )
    loaded.insert(3)
    stop = loaded.position()
    wanted = f"SELECT id, what, UNIX_TIMESTAMP(at) FROM {name}.numbered ORDER BY id"
    fired = f"SELECT id, of_row FROM {name}.fired ORDER BY id"
    truth = [[tuple(map(str, row)) for row in _asked(loaded, each)] for each in (wanted, fired)]
    loaded.insert(3)
    loaded.rotate()
    with rolled.scratch() as scratch:
        rolled.to(scratch, stop)
        found = [[tuple(map(str, row)) for row in rows_of(scratch, each)] for each in (wanted, fired)]
    assert found == truth
    assert any("1001" in row for row in found[0])


def test_dropping_production_by_its_qualified_name_in_the_range_touches_the_scratch_server_alone(
    server: DatabaseServer, site: Site, loaded: Load
) -> None:
    name = loaded.name
    rolled = Rolled(site, loaded)
    loaded.insert(5)
    before_drop = loaded.position()
    loaded.do("USE mysql", f"DROP TABLE {name}.numbered")
    after_drop = loaded.position()
    loaded.do(f"DROP DATABASE {name}")
    after_all = loaded.position()
    loaded.rotate()
    # Production comes back meanwhile by other hands, and must not notice anything.
    server.sql(f"CREATE DATABASE {name}; CREATE TABLE {name}.numbered (id INT PRIMARY KEY); "
               f"INSERT INTO {name}.numbered VALUES (4711)")  # fmt: skip
    with rolled.scratch() as scratch:
        rolled.to(scratch, before_drop)
        assert numbers(scratch, name) == [1, 2, 3, 4, 5]
    with rolled.scratch() as scratch:
        assert rolled.to(scratch, after_drop).rows == {}
    with rolled.scratch() as scratch, pytest.raises(RestoreRefused, match="had been dropped"):
        rolled.to(scratch, after_all)
    assert server.sql(f"SELECT id FROM {name}.numbered") == [("4711",)]


def test_account_statements_and_other_databases_in_the_range_do_not_hold_it_up(
    server: DatabaseServer, site: Site, loaded: Load
) -> None:
    name, user = loaded.name, f"{loaded.name}_u"
    server.sql(f"CREATE USER {user}@'%' IDENTIFIED BY 'fake-one'; GRANT SELECT ON {name}.* TO {user}@'%'")
    rolled = Rolled(site, loaded)
    with server.database("other") as other:
        loaded.do(
            f"ALTER USER {user}@'%' IDENTIFIED BY 'fake-two'",
            "CREATE USER gone_again@'%' IDENTIFIED BY 'fake-three'",
            "DROP USER gone_again@'%'",
            f"REVOKE SELECT ON {name}.* FROM {user}@'%'",
            f"CREATE TABLE {other}.theirs (id INT PRIMARY KEY)",
            f"INSERT INTO {other}.theirs VALUES (1)",
            f"USE {other}",
            "CREATE PROCEDURE speak() SELECT 1",
            f"CREATE FUNCTION {other}.one() RETURNS INT DETERMINISTIC RETURN 1",
            f"GRANT EXECUTE ON PROCEDURE {other}.speak TO {user}@'%'",
            f"DROP PROCEDURE {other}.speak",
        )
        loaded.insert(4)
        loaded.rotate()
    with rolled.scratch() as scratch:
        recovered = rolled.to(scratch, loaded.marks[-1])
        assert numbers(scratch, name) == [1, 2, 3, 4]
        assert rows_of(scratch, f"SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '{other}'") == [
            (0,)
        ]
        assert recovered.tables == 1
        shown = ";".join(str(row[0]) for row in rows_of(scratch, f"SHOW GRANTS FOR {user}@'%'"))
        assert f"`{name}`" not in shown, "the REVOKE was replayed too"
        assert rows_of(scratch, "SELECT COUNT(*) FROM mysql.user WHERE User = 'gone_again'") == [(0,)]
    server.sql(f"DROP USER {user}@'%'")


def test_statements_about_accounts_and_routines_that_the_scratch_server_never_had_are_passed_over_and_told(
    server: DatabaseServer, site: Site, loaded: Load
) -> None:
    user = f"{loaded.name}_v"
    with server.database("other") as other:
        server.sql(f"CREATE PROCEDURE {other}.old() SELECT 1")
        rolled = Rolled(site, loaded)
        # Made without a word in the log, so the replay meets statements about what it does not know.
        loaded.do("SET SESSION sql_log_bin = 0", f"CREATE USER {user}@'%' IDENTIFIED BY 'fake-four'",
                  "SET SESSION sql_log_bin = 1", f"ALTER USER {user}@'%' IDENTIFIED BY 'fake-five'",
                  f"USE {other}", "DROP PROCEDURE old", f"DROP USER {user}@'%'")  # fmt: skip
        loaded.insert(2)
        loaded.rotate()
    with rolled.scratch() as scratch:
        recovered = rolled.to(scratch, loaded.marks[-1])
        assert numbers(scratch, loaded.name) == [1, 2]
    told = "\n".join(recovered.replay.notes)
    assert "ALTER USER" in told and "DROP USER" in told and "DROP PROCEDURE" in told
    assert "fake-five" not in told


def test_a_statement_that_fails_is_told_with_log_position_and_kind_and_without_its_text(
    site: Site, loaded: Load
) -> None:
    loaded.insert(2)
    rolled = Rolled(site, loaded)
    loaded.do("SET SESSION binlog_format = STATEMENT, sql_log_bin = 0",
              f"INSERT INTO {loaded.name}.numbered VALUES (77, 'x', NULL)", "SET SESSION sql_log_bin = 1")  # fmt: skip
    where = loaded.position()
    loaded.do(f"DELETE FROM {loaded.name}.numbered WHERE id = 2", f"ALTER TABLE {loaded.name}.numbered ADD extra INT",
              "SET SESSION binlog_format = ROW", "SET SESSION sql_log_bin = 0",
              f"CREATE TABLE {loaded.name}.unknown (id INT)", "SET SESSION sql_log_bin = 1",
              "SET SESSION binlog_format = STATEMENT",
              f"INSERT INTO {loaded.name}.unknown VALUES (424242)")  # fmt: skip
    stop = loaded.position()
    loaded.rotate()
    with rolled.scratch() as scratch, pytest.raises(ToolFailed) as caught:
        rolled.to(scratch, stop)
    assert where[0] in caught.value.message and "INSERT INTO" in caught.value.message
    assert "unknown" in caught.value.message and "424242" not in str(caught.value)


def test_a_stop_inside_a_transaction_or_beyond_a_log_is_refused_and_says_where(site: Site, loaded: Load) -> None:
    rolled = Rolled(site, loaded)
    loaded.insert(3)
    stop = loaded.marks[-1]
    loaded.rotate()
    with rolled.scratch() as scratch, pytest.raises(IntegrityError, match="between two transactions"):
        rolled.to(scratch, (stop[0], stop[1] - 10))
    with rolled.scratch() as scratch, pytest.raises(IntegrityError, match="is cut off"):
        rolled.to(scratch, (stop[0], stop[1] + 100_000))


def test_a_log_whose_bytes_are_damaged_stops_the_replay(site: Site, loaded: Load) -> None:
    rolled = Rolled(site, loaded)
    loaded.insert(20)
    loaded.rotate()
    log = logs_from(loaded.server, rolled.start[0])[0]
    data = bytearray(b"".join(log.open()))
    data[loaded.marks[10][1] + 40] ^= 1
    damaged = [ReplayFile(log.name, lambda: iter((bytes(data),)))]
    with rolled.scratch() as scratch, pytest.raises((ToolFailed, IntegrityError)) as caught:
        recover(site, scratch, rolled.entry, rolled.manifest, damaged, rolled.start, loaded.marks[-1])
    assert log.name in caught.value.message


def test_a_prepared_transaction_that_had_not_committed_by_then_is_not_there_and_holds_nothing_up(
    site: Site, loaded: Load
) -> None:
    rolled = Rolled(site, loaded)
    loaded.insert(1)
    loaded.do("XA START 'half'", f"INSERT INTO {loaded.name}.numbered VALUES (500, 'prepared', NULL)", "XA END 'half'",
              "XA PREPARE 'half'")  # fmt: skip
    stop = loaded.position()
    loaded.do("XA COMMIT 'half'")
    after = loaded.position()
    loaded.rotate()
    for where, expected in ((stop, [1]), (after, [1, 500])):
        with rolled.scratch() as scratch:
            recovered = rolled.to(scratch, where)
            assert numbers(scratch, loaded.name) == expected
            assert rows_of(scratch, "XA RECOVER") == []
            assert any("XA" in note for note in recovered.notes) == (where == stop)
            export(site, scratch, recovered, source="mysql", label="")


def test_the_hour_that_comes_twice_in_a_named_zone_and_an_event_that_is_over_are_replayed_as_they_were(
    server: DatabaseServer, site: Site, loaded: Load
) -> None:
    load_zones(server)
    name = loaded.name
    loaded.do(f"CREATE EVENT {name}.once ON SCHEDULE AT CURRENT_TIMESTAMP + INTERVAL 3 SECOND DO SELECT 1")
    rolled = Rolled(site, loaded)
    loaded.do("SET SESSION binlog_format = STATEMENT", "SET SESSION time_zone = 'Europe/Berlin'")
    for number, moment in enumerate((1761438600, 1761442200), 1):  # 02:30 twice, on 26 October 2025
        loaded.do(f"SET SESSION timestamp = {moment}", f"INSERT INTO {name}.numbered VALUES ({number}, NOW(), NOW())")
    loaded.do("SET SESSION timestamp = DEFAULT", f"DROP EVENT IF EXISTS {name}.once")
    loaded.number = 10
    loaded.insert(1)
    asked = f"SELECT id, what, UNIX_TIMESTAMP(at) FROM {name}.numbered WHERE what LIKE '2025%' ORDER BY id"
    truth = [tuple(map(str, row)) for row in _asked(loaded, asked)]
    loaded.rotate()
    with rolled.scratch() as scratch:
        rolled.to(scratch, loaded.marks[-1])
        assert [tuple(map(str, row)) for row in rows_of(scratch, asked)] == truth
    assert [row[1] for row in truth] == ["2025-10-26 02:30:00"] * 2


def load_zones(server: DatabaseServer) -> None:
    """Named time zones on the source, from the zone files of its own place."""
    if server.sql("SELECT COUNT(*) FROM mysql.time_zone_name") != [("0",)]:
        return
    inside = ["docker", "--host", server.docker_host, "exec", server.container] if server.container else []
    program = "mysql_tzinfo_to_sql" if server.flavour == "mysql" else "mariadb-tzinfo-to-sql"
    zones = subprocess.run([*inside, program, "/usr/share/zoneinfo/Europe/Berlin", "Europe/Berlin"],
                           check=True, capture_output=True).stdout  # fmt: skip
    server.sql(zones.decode(), "mysql")


def test_what_was_recovered_becomes_a_signed_backup_of_the_original_source_with_its_code(
    site: Site, loaded: Load
) -> None:
    name = loaded.name
    loaded.do(
        f"CREATE VIEW {name}.all_rows AS SELECT id FROM {name}.numbered",
        f"CREATE EVENT {name}.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO {name}.numbered VALUES (1 + "
        f"(SELECT COALESCE(MAX(id), 0) FROM {name}.all_rows), 'event', NULL)",
        f"CREATE EVENT {name}.rest ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1",
        f"CREATE FUNCTION {name}.twice(x INT) RETURNS INT DETERMINISTIC RETURN x * 2",
    )
    rolled = Rolled(site, loaded)
    loaded.insert(4)
    loaded.do(f"CREATE EVENT {name}.newer ON SCHEDULE EVERY 1 SECOND DO SELECT 1")
    stop = loaded.position()
    loaded.insert(4)
    loaded.rotate()
    with rolled.scratch() as scratch:
        recovered = rolled.to(scratch, stop)
        entry, manifest = export(site, scratch, recovered, source="mysql", label="as of 2026-11-22T10:00:00Z")
    assert (manifest.source, manifest.tier, manifest.database) == ("mysql", names.RECOVERED, name)
    assert manifest.label == "as of 2026-11-22T10:00:00Z"
    assert manifest.rows == {"numbered": 4}
    verify(site, entry)
    dump = b"".join(site.vault.read_part(entry, manifest)).decode()
    assert "twice" in dump and "all_rows" in dump
    status = {each: dump.partition(f"EVENT `{each}` ON SCHEDULE")[2].partition(" DO ")[0] for each in
              ("tick", "rest", "newer")}  # fmt: skip
    assert " ENABLE" in status["tick"] and " DISABLE" in status["rest"] and " DISABLE" in status["newer"]
    assert any("newer" in note and "ENABLE" in note for note in manifest.warnings)
    accounts = b"".join(site.vault.read_part(entry, manifest, "accounts")).decode()
    assert "scratch" not in accounts and "root" in accounts


def _asked(loaded: Load, statement: str) -> list[tuple[object, ...]]:
    with loaded.connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())
