"""Clocks that are set, zones that nobody expects, an hour that comes twice: recovered exactly, or refused in words.

The servers run in containers under libfaketime, on the night on which daylight saving ended: the clock of this
machine is never touched. Server and worker live in different zones, neither of them UTC.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from engine import names, shipping
from engine.backup import backup_one
from engine.config import SiteConfig
from engine.errors import OutsideWindow
from engine.logs import ShipReport
from engine.mysql.server import MySQLSource
from engine.point_in_time import plan_past, recovered
from engine.restore_plan import RestoreRequest
from engine.site import Site, Target
from tests.functional.vault_helpers import PASSPHRASE
from tests.servers.databases import DatabaseServer
from tests.servers.docker import DockerEngine
from tests.servers.fixtures import PASSWORD, server_in

pytestmark = [pytest.mark.sampled, pytest.mark.timeout(600)]

NAME = "clocks"
BERLIN = ZoneInfo("Europe/Berlin")
TZ = "CET-1CEST,M3.5.0,M10.5.0/3"
"""Berlin, in a form that needs no zone files in the image."""
TWICE = datetime(2026, 10, 25, 2, 40, tzinfo=BERLIN)
"""Between two and three in the morning clocks show everything twice: first in summer time, then in winter time."""
COMMANDS = {
    "mariadb": ["/usr/sbin/mariadbd", "--log-bin=mysql-bin", "--server-id=1", "--innodb-buffer-pool-size=32M"],
    "mysql": ["/usr/sbin/mysqld", "--log-bin=binlog", "--server-id=1", "--gtid-mode=ON",
              "--enforce-gtid-consistency=ON", "--performance-schema=OFF", "--mysqlx=OFF",
              "--innodb-redo-log-capacity=8M", "--innodb-buffer-pool-size=32M", "--default-time-zone=+05:30"],
    "postgres17": ["/usr/lib/postgresql/17/bin/postgres", "-c", "shared_buffers=32MB", "-c", "fsync=off",
                   "-c", "timezone=America/St_Johns"],
}  # fmt: skip
"""The server's program, and its options."""
_WRAPPER = """#!/bin/sh
# Stands before the server's own program on the way that the image looks for it: only the server sees that clock.
export LD_PRELOAD=/faketime/libfaketime.so.1 FAKETIME_TIMESTAMP_FILE=/clock/offset FAKETIME_NO_CACHE=1
export FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_FORCE_MONOTONIC_FIX=0 NO_FAKE_STAT=1
case "$*" in *--initialize*) unset LD_PRELOAD ;; esac  # MySQL's own start does not end under it
exec {program} "$@"
"""


def library() -> Path:
    """libfaketime, as this machine's package manager has put it."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    assert found, "libfaketime is missing: apt-get install libfaketime"
    return found[0]


@dataclass
class Life:
    """A server whose clock is ours to set, and what was committed in it, by its own clock.

    Attributes:
        rows: Number, and the server's clock right before and right after its commit.
    """

    server: DatabaseServer
    site: Site
    offset: Path
    rows: dict[int, tuple[datetime, datetime]] = field(default_factory=dict)
    reports: list[ShipReport] = field(default_factory=list)

    @property
    def source(self) -> str:
        return "postgres" if self.server.flavour == "postgres" else "mysql"

    def set_clock(self, shown: datetime) -> None:
        """From now on the server's clock shows this."""
        ahead = (shown - datetime.now(UTC)).total_seconds()
        self.offset.write_text(f"{ahead:+.3f}\n")
        deadline = time.monotonic() + 10
        while abs((self.clock() - shown).total_seconds()) > 5:
            assert time.monotonic() < deadline, f"the server's clock shows {self.clock()}, not {shown}"
            time.sleep(0.1)

    def clock(self) -> datetime:
        with contextlib.closing(self.server.connect()) as connection:
            return self._clock(connection)

    def _clock(self, connection: Any) -> datetime:
        with connection.cursor() as cursor:
            if self.source == "mysql":
                cursor.execute("SELECT UTC_TIMESTAMP(6)")
                return cursor.fetchone()[0].replace(tzinfo=UTC)  # type: ignore[no-any-return]
            cursor.execute("SELECT clock_timestamp()")
            return cursor.fetchone()[0].astimezone(UTC)  # type: ignore[no-any-return]

    def commit(self, count: int = 5) -> list[int]:
        """Numbered rows, each in a second of its own."""
        numbers = [len(self.rows) + 1 + n for n in range(count)]
        with contextlib.closing(self.server.connect(NAME)) as connection, connection.cursor() as cursor:
            if self.source == "mysql":
                cursor.execute("SET SESSION binlog_format = STATEMENT")  # what it says depends on the zone
            for number in numbers:
                time.sleep(1.05)
                before = self._clock(connection)
                cursor.execute(f"INSERT INTO rows_of (n, wall) VALUES ({number}, NOW())")
                self.rows[number] = before, self._clock(connection)
        return numbers

    def ship(self) -> ShipReport:
        self.reports.append(shipping.ship(self.site, self.source))
        return self.reports[-1]

    def right_after(self, number: int) -> datetime:
        """By the server's clock. MariaDB: the end of that second."""
        done = self.rows[number][1]
        return done.replace(microsecond=999_999) if self.server.flavour == "mariadb" else done

    def place(self) -> str:
        """Where the log stands now, as ``--to`` takes it."""
        if self.source == "postgres":
            return f"lsn {self.server.sql('SELECT pg_current_wal_insert_lsn()')[0][0]}"
        new = self.server.flavour == "mysql"
        row = self.server.sql("SHOW BINARY LOG STATUS" if new else "SHOW MASTER STATUS")[0]
        return f"{row[0]}:{row[1]}"

    def at(self, when: str) -> list[tuple[Any, ...]]:
        """The rows as they were then."""
        with recovered(self.site, plan_past(self.site, RestoreRequest(NAME, source=self.source), when)) as past:
            return self._rows(past.config)

    def now(self) -> list[tuple[Any, ...]]:
        return [tuple(map(str, row)) for row in self.server.sql(_ROWS[self.source], NAME)]

    def first(self, count: int) -> list[tuple[Any, ...]]:
        """What production has of the first numbers."""
        return self.now()[:count]

    def _rows(self, config: Any) -> list[tuple[Any, ...]]:
        if self.source == "mysql":
            with contextlib.closing(MySQLSource(config, site="clocks")) as source:
                with contextlib.closing(source.connect(NAME)) as session, session.cursor() as cursor:
                    cursor.execute(_ROWS["mysql"])
                    return [tuple(map(str, row)) for row in cursor.fetchall()]
        with contextlib.closing(
            psycopg.connect(host=config.host, port=config.port, user=config.user, dbname=NAME)
        ) as c:
            return [tuple(map(str, row)) for row in c.execute(_ROWS["postgres"]).fetchall()]


_ROWS = {"mysql": "SELECT n, wall FROM rows_of ORDER BY n",
         "postgres": "SELECT n, to_char(wall, 'YYYY-MM-DD HH24:MI:SS') FROM rows_of ORDER BY n"}  # fmt: skip


@pytest.fixture(params=["mariadb", pytest.param("mysql", marks=pytest.mark.soak(sample=False)), "postgres17"])
def life(
    request: pytest.FixtureRequest, dockerd: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Life]:
    """On the night of the 25th of October 2026, a little before it gets twenty to three for the first time."""
    monkeypatch.setenv("TZ", "Australia/Adelaide")
    time.tzset()
    recipe = request.param
    offset = tmp_path / "clock" / "offset"
    offset.parent.mkdir()
    tmp_path.chmod(0o755)
    ahead = (TWICE.astimezone(UTC) - timedelta(minutes=5) - datetime.now(UTC)).total_seconds()
    offset.write_text(f"{ahead:+.3f}\n")
    secret = {"mariadb": "MARIADB_ROOT_PASSWORD", "mysql": "MYSQL_ROOT_PASSWORD", "postgres17": "POSTGRES_PASSWORD"}
    program = COMMANDS[recipe][0]
    wrapper = tmp_path / program.rpartition("/")[2]
    wrapper.write_text(_WRAPPER.format(program=program))
    wrapper.chmod(0o755)
    environment = {secret[recipe]: PASSWORD, "TZ": TZ}
    mounts = {
        str(library().parent): {"bind": "/faketime", "mode": "ro"},
        str(offset.parent): {"bind": "/clock", "mode": "ro"},
        str(wrapper): {"bind": f"/usr/local/sbin/{wrapper.name}", "mode": "ro"},
    }
    container = dockerd.service(
        NAME, recipe, recipe, environment=environment, command=COMMANDS[recipe][1:], volumes=mounts
    )
    try:
        flavour = "postgres" if recipe == "postgres17" else recipe
        server = server_in(flavour, dockerd, container, 5432 if flavour == "postgres" else 3306,
                               "postgres" if flavour == "postgres" else "root")  # fmt: skip
        with Site(_config(server, tmp_path / "vault")) as site:
            yield _begun(Life(server, site, offset))
    finally:
        container.remove(force=True, v=True)
        monkeypatch.undo()
        time.tzset()


def _config(server: DatabaseServer, root: Path) -> SiteConfig:
    source = {"user": server.user, "password": server.password, "service": server.service, "project": server.project,
              "docker_host": server.docker_host, "databases": [NAME]}  # fmt: skip
    vault = {"root": str(root), "keys": {"current": "main", "keys": {"main": PASSPHRASE}}}
    kind = "postgres" if server.flavour == "postgres" else "mysql"
    return SiteConfig.model_validate({"site": "clocks", "vault": vault, kind: source})


def _begun(life: Life) -> Life:
    life.server.sql(f"CREATE DATABASE {NAME}")
    kind = "TIMESTAMP" if life.source == "postgres" else "DATETIME"
    life.server.sql(f"CREATE TABLE rows_of (n INT PRIMARY KEY, wall {kind})", NAME)
    life.set_clock(TWICE.astimezone(UTC))
    if life.source == "mysql":
        backup_one(life.site, Target("mysql", NAME), tier="daily")
    else:
        shipping.base(life.site, "postgres")
    return life


def test_an_hour_that_comes_twice_and_a_clock_that_is_set_forward_and_back(life: Life) -> None:
    summer = life.commit()
    life.ship()
    life.set_clock(TWICE.replace(fold=1).astimezone(UTC))  # an hour later; walls show the same
    winter = life.commit()
    life.ship()
    everything = life.now()
    for number, zone in ((summer[2], "+02:00"), (winter[2], "+01:00")):
        target = life.right_after(number).astimezone(BERLIN)
        assert target.isoformat().endswith(zone) and target.hour == 2
        assert life.at(target.isoformat()) == everything[:number]
    between = life.right_after(summer[-1]) + timedelta(minutes=20)  # the server's clock never showed it
    assert life.at(names.iso(between)) == everything[: summer[-1]]
    assert not any("set back" in warning for report in life.reports for warning in report.warnings)

    life.set_clock(life.clock() - timedelta(minutes=10))
    again = life.commit()
    place = life.place()
    life.commit(2)
    assert any("set back" in warning for warning in life.ship().warnings)
    everything = life.now()
    for number in (winter[2], again[2]):
        with pytest.raises(OutsideWindow, match="twice") as told:
            life.at(names.iso(life.right_after(number)))
        assert "position" in told.value.remedy
    assert life.at(place) == everything[: again[-1]]
    assert life.at(names.iso(life.right_after(summer[3]))) == everything[: summer[3]]

    life.set_clock(life.clock() + timedelta(minutes=15))
    later = life.commit(3)
    assert not any("set back" in warning for warning in life.ship().warnings)
    assert life.at(names.iso(life.right_after(later[0]))) == life.first(later[0])
    assert life.server.sql("SELECT COUNT(*) FROM rows_of", NAME) == [(str(len(life.rows)),)]
