"""Positions in shipped logs, against what a load recorded of itself and what the servers show of their logs."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine import names
from engine.binlog.search import OpenLog, Place, find_events, position_for
from engine.binlog.ship import ship
from engine.errors import ConfigError, OutsideWindow
from engine.logs import ledger, load_log
from engine.site import Site
from tests.functional.binlog import kit
from tests.servers import DatabaseServer
from tests.servers.fixtures import Factory

pytestmark = pytest.mark.sampled

FIXTURES = {"mariadb": "own_mariadb", "mysql": "mysql9_container"}
_LONG = 500
_AHEAD = 600


@dataclass
class Truth:
    """What a load did, by the server's clock: when each numbered statement was about to start and was done."""

    started: dict[int, datetime] = field(default_factory=dict)
    done: dict[int, datetime] = field(default_factory=dict)


@pytest.fixture(scope="module")
def own_mariadb(mariadb_factory: Factory) -> DatabaseServer:
    return mariadb_factory("--innodb-buffer-pool-size=16M")


@pytest.fixture(scope="module", params=["mariadb", "mysql"])
def loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[DatabaseServer, Truth, list[OpenLog]]]:
    """A server with logs of a load that has everything that misleads, all shipped."""
    server: DatabaseServer = request.getfixturevalue(
        {"mariadb": "own_mariadb", "mysql": "mysql9_container"}[request.param]
    )
    kit.reset(server)
    server.sql("DROP DATABASE IF EXISTS times; CREATE DATABASE times; CREATE TABLE times.t (a INT PRIMARY KEY)")
    config = kit.site_config(server, tmp_path_factory.mktemp("search") / "vault", databases=["times"])
    with Site(config) as site:
        truth = _run(server, site)
        ship(site, "mysql")
        opened = []
        for entry in ledger(site.vault, "mysql", names.BINLOGS):
            manifest, log = load_log(site.vault, entry)
            opened.append(OpenLog(log, partial(site.vault.read_part, entry, manifest)))
        yield server, truth, opened
    server.sql("DROP DATABASE IF EXISTS times")


def _run(server: DatabaseServer, site: Site) -> Truth:
    truth = Truth()
    with closing(server.connect("times")) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION binlog_format = STATEMENT")
        cursor.execute("SET SESSION time_zone = '+05:30'")
        for number in range(1, 46):
            if number == 12:
                slow = threading.Thread(target=_long, args=(server, truth))
                slow.start()
            if number == 30:
                cursor.execute("SET timestamp = UNIX_TIMESTAMP('2031-01-01')")
                _do(cursor, truth, _AHEAD)
                cursor.execute("SET timestamp = 86400")
                _do(cursor, truth, _AHEAD + 1)
                cursor.execute("SET timestamp = DEFAULT")
            if number in (8, 25, 40):
                server.sql("FLUSH BINARY LOGS")
            if number == 20:
                ship(site, "mysql")
            _do(cursor, truth, number)
            cursor.execute("DO SLEEP(0.13)")
        slow.join()
    return truth


def _clock(cursor: Any) -> datetime:
    cursor.execute("SELECT CONVERT_TZ(SYSDATE(6), @@session.time_zone, '+00:00')")
    return cursor.fetchone()[0].replace(tzinfo=UTC)  # type: ignore[no-any-return]


def _do(cursor: Any, truth: Truth, number: int) -> None:
    truth.started[number] = _clock(cursor)
    cursor.execute(f"INSERT INTO times.t VALUES ({number})")
    truth.done[number] = _clock(cursor)


def _long(server: DatabaseServer, truth: Truth) -> None:
    with closing(server.connect("times")) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION binlog_format = STATEMENT")
        cursor.execute("SET SESSION time_zone = '+00:00'")
        truth.started[_LONG] = _clock(cursor)
        cursor.execute(f"INSERT INTO times.t VALUES ({_LONG} + SLEEP(2.6))")
        truth.done[_LONG] = _clock(cursor)


def shown_before(server: DatabaseServer, place: Place) -> set[int]:
    """The numbers whose statements stand before a place, as the server shows its logs."""
    found: set[int] = set()
    for name, _ in kit.logs(server):
        for row in server.sql(f"SHOW BINLOG EVENTS IN '{name}'"):
            text = re.search(r"INSERT INTO times\.t VALUES \((\d+)", row[5] or "")
            if text and (name, int(row[1] or 0)) < (place.log, place.position):
                found.add(int(text[1]))
    return found


def test_a_moment_gives_what_was_committed_by_then(loaded: tuple[DatabaseServer, Truth, list[OpenLog]]) -> None:
    server, truth, logs = loaded
    exact = server.flavour == "mysql"
    for number in range(1, 46, 2):
        moment = truth.done[number]
        if not exact:  # whole seconds: the last moment of one
            moment = moment.replace(microsecond=999_999)
        found = shown_before(server, position_for(moment, logs))
        must = {each for each, at in truth.done.items() if at <= moment}
        may = {each for each, at in truth.started.items() if at <= moment}
        assert must <= found <= may, (number, moment, found ^ must)
        if exact:
            assert found == must
        elif any(moment < truth.started[each] and truth.done[each] < truth.done[_LONG] for each in range(12, 46)):
            assert _LONG not in found, "it was committed after another that is too late"


def test_times_that_clients_set_do_not_steer_and_are_told(loaded: tuple[DatabaseServer, Truth, list[OpenLog]]) -> None:
    server, truth, logs = loaded
    moment = truth.done[31].replace(microsecond=999_999)
    place = position_for(moment, logs)
    assert {_AHEAD, _AHEAD + 1, 31} <= shown_before(server, place)
    assert bool(place.notes) == (server.flavour == "mariadb")
    assert all("clients have set" in each for each in place.notes)


def test_the_end_of_the_logs_and_a_moment_before_them(loaded: tuple[DatabaseServer, Truth, list[OpenLog]]) -> None:
    server, truth, logs = loaded
    end = position_for(max(truth.done.values()) + timedelta(hours=1), logs)
    assert (end.log, end.position) == (logs[-1].log.name, logs[-1].log.end)
    first = position_for(min(truth.started.values()) - timedelta(days=1), logs)
    assert first.log == logs[0].log.name and shown_before(server, first) == set()
    with pytest.raises(ConfigError, match="zone"):
        position_for(datetime(2026, 1, 1), logs)


def test_a_gtid_is_the_last_transaction_before_the_place(loaded: tuple[DatabaseServer, Truth, list[OpenLog]]) -> None:
    server, _, logs = loaded
    hits = list(find_events(logs, table="times.t", kinds=["INSERT"]))
    for hit in hits[::9]:
        place = position_for(hit.gtid.upper(), logs)
        assert (place.log, place.position) == (hit.log, hit.end)
        number = int((re.search(r"\d+", hit.text) or [""])[0])
        assert number in shown_before(server, place)
        assert number not in shown_before(server, Place(hit.log, hit.position))
    unknown = hits[0].gtid[:-1] + "99999"
    with pytest.raises(OutsideWindow, match="99999"):
        position_for(unknown, logs)
    with pytest.raises(ConfigError, match="no GTID"):
        position_for("yesterday", logs)


@pytest.mark.parametrize("logged", ["ROW", "STATEMENT"])
@pytest.mark.parametrize("flavour", ["mariadb", "mysql"])
def test_accidents_are_found_right_before_they_happen(
    request: pytest.FixtureRequest, tmp_path: Path, flavour: str, logged: str
) -> None:
    server: DatabaseServer = request.getfixturevalue(FIXTURES[flavour])
    kit.reset(server)
    compressed = "SET SESSION binlog_transaction_compression = ON;" if flavour == "mysql" else ""
    server.sql(
        f"SET SESSION binlog_format = {logged}; {compressed} CREATE DATABASE prod; USE prod;"
        "CREATE TABLE users (a INT PRIMARY KEY); CREATE TABLE orders (a INT); INSERT INTO users VALUES (1), (2);"
        "INSERT INTO orders VALUES (1); DELETE FROM users WHERE a = 1; FLUSH BINARY LOGS; UPDATE users SET a = 3;"
        "TRUNCATE orders; ALTER TABLE users ADD b INT; DROP TABLE prod.users; USE mysql; DROP DATABASE prod;"
    )
    with Site(kit.site_config(server, tmp_path / "vault", databases=[])) as site:
        ship(site, "mysql")
        logs = []
        for entry in ledger(site.vault, "mysql", names.BINLOGS):
            manifest, log = load_log(site.vault, entry)
            logs.append(OpenLog(log, partial(site.vault.read_part, entry, manifest)))

        def kinds(table: str, *kinds: str) -> list[str]:
            return [
                " ".join(sorted({change.kind for change in hit.changes}))
                for hit in find_events(logs, table=table, kinds=kinds)
            ]

        assert kinds("users") == ["CREATE", "INSERT", "DELETE", "UPDATE", "ALTER", "DROP", "DROP"]
        assert kinds("prod.users", "DROP", "DELETE")[:2] == ["DELETE", "DROP"]
        assert kinds("ORDERS", "TRUNCATE") == ["TRUNCATE"] and kinds("other.*", "DROP") == []
        assert kinds("prod.ord*", "INSERT", "TRUNCATE") == ["INSERT", "TRUNCATE"]
        (deleted,) = find_events(logs, table="users", kinds=["delete"])
        rows = server.sql(f"SHOW BINLOG EVENTS IN '{deleted.log}' FROM {deleted.position} LIMIT 6")
        assert rows[0][2] == "Gtid" and int(rows[0][1] or 0) == deleted.position
        if logged == "STATEMENT":
            assert any("DELETE FROM users" in (row[5] or "") for row in rows)
        assert list(find_events(logs, table="users", since=deleted.at + timedelta(days=1))) == []
        assert list(find_events(logs, table="users", until=deleted.at - timedelta(days=1))) == []
        assert deleted in list(find_events(logs, table="users", since=deleted.at, until=deleted.at))
        with pytest.raises(ConfigError, match="no kind"):
            find_events(logs, kinds=["VANISH"])
