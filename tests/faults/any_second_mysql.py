"""The life of ``any_second`` on MySQL and MariaDB; the truth is read from the server's own files."""

from __future__ import annotations

import contextlib
import random
import re
import struct
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from engine.backup import backup_one
from engine.mysql.server import MySQLSource
from engine.site import Site, Target
from tests.faults.any_second import (
    LONG_SECONDS,
    ORDERS,
    OTHER,
    PROD,
    USERS,
    Commit,
    Story,
    There,
    micros,
    note,
    since_1970,
)
from tests.functional.binlog import kit
from tests.servers.databases import DatabaseServer
from tests.soak import SEED

_HEADER = struct.Struct("<IBIIIH")
_STATEMENTS = {2, 29, 160}
"""A statement; on MySQL the text beside changed rows; on MariaDB the same."""
_NUMBER = re.compile(rb"INTO ledger VALUES \((\d+)")
_TEXT = re.compile(rb"(?:INSERT|DELETE|DROP|ALTER|CREATE)[ -~]{0,80}")
_PASSWORD = "fake-password-of-an-app"


def transactions(log: str, data: bytes) -> Iterator[Commit]:
    """Every transaction of a log, by a reader that knows nothing but headers, GTIDs and texts."""
    at, begun, gtid, stamp = 4, 0, "", 0
    body = b""
    while at < len(data):
        seconds, kind, server, size, _, _ = _HEADER.unpack_from(data, at)
        if kind in (33, 162):
            if begun:
                yield _commit(stamp, body, gtid, log, begun, at)
            begun, body = at, b""
            if kind == 33:
                inside = data[at + 19 : at + size]
                gtid = f"{uuid.UUID(bytes=inside[1:17])}:{int.from_bytes(inside[17:25], 'little')}"
                stamp = int.from_bytes(inside[42:49], "little") & ((1 << 55) - 1)
            else:
                number, domain = struct.unpack_from("<QI", data, at + 19)
                gtid, stamp = f"{domain}-{server}-{number}", seconds * 1_000_000
        elif kind in _STATEMENTS:
            body += data[at + 19 : at + size]
        elif kind in (3, 4) and begun:  # the log's end
            yield _commit(stamp, body, gtid, log, begun, at)
            begun = 0
        at += size
    if begun:
        yield _commit(stamp, body, gtid, log, begun, at)


def _commit(stamp: int, body: bytes, gtid: str, log: str, begun: int, end: int) -> Commit:
    numbers = tuple(int(each) for each in _NUMBER.findall(body))
    texts = " ".join(each.decode() for each in _TEXT.findall(body))
    return Commit(stamp, numbers, texts, gtid, log, begun, end)


class MySQLStory(Story):
    """Rows and statements, small transactions and large, on either flavour."""

    source = "mysql"

    def __init__(self, server: DatabaseServer, site: Site) -> None:
        super().__init__(server, site)
        self.whole_seconds = server.flavour == "mariadb"

    def prepare(self) -> None:
        kit.reset(self.server)
        self.server.sql(
            f"DROP DATABASE IF EXISTS {PROD}; DROP DATABASE IF EXISTS {OTHER}; DROP USER IF EXISTS any_app@'%';"
            f"CREATE DATABASE {PROD}; CREATE DATABASE {OTHER}; CREATE TABLE {OTHER}.audit (n INT);"
            f"CREATE USER any_app@'%' IDENTIFIED BY '{_PASSWORD}'; GRANT ALL ON {PROD}.* TO any_app@'%';"
            f"USE {PROD}; CREATE TABLE ledger (n INT PRIMARY KEY, note VARCHAR(80));"
            "CREATE TABLE users (n INT PRIMARY KEY); CREATE TABLE orders (n INT PRIMARY KEY);"
            f"INSERT INTO users VALUES {', '.join(f'({n})' for n in range(USERS))};"
            f"INSERT INTO orders VALUES {', '.join(f'({n})' for n in range(ORDERS))};"
        )

    def anchor(self) -> None:
        backup_one(self.site, Target(self.source, PROD), tier="daily")

    def rotate(self) -> None:
        self.server.sql("FLUSH BINARY LOGS")

    def session(self, writer: int) -> Any:
        connection = self.server.connect(PROD)
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION binlog_format = {'STATEMENT' if writer == 2 else 'ROW'}")
            cursor.execute(f"SET SESSION time_zone = '{('+00:00', '+05:30', '-09:00')[writer % 3]}'")
            if self.server.flavour == "mysql":
                cursor.execute("SET SESSION binlog_rows_query_log_events = ON")
        return connection

    def hurry(self, connection: Any, number: int) -> None:
        insert = f"INSERT INTO ledger VALUES ({number}, '{note(number)}')"
        with connection.cursor() as cursor:
            if number % 3:
                cursor.execute(insert)
                return
            cursor.execute("BEGIN")
            cursor.execute(insert)
            cursor.execute(f"INSERT INTO {OTHER}.audit VALUES ({number})")
            cursor.execute("COMMIT")

    def set_clients_time(self) -> None:
        with contextlib.closing(self.session(0)) as connection, connection.cursor() as cursor:
            for its in ("UNIX_TIMESTAMP('2031-01-01')", "86400", "UNIX_TIMESTAMP() + 40", "UNIX_TIMESTAMP() - 3600"):
                cursor.execute(f"SET timestamp = {its}")
                number = self.recorded.number()
                self.recorded.odd.add(number)
                with self.recorded.noted(number):
                    self.hurry(connection, number)
                cursor.execute("SET timestamp = DEFAULT")
                time.sleep(0.1)

    def change_accounts(self) -> None:
        self.server.sql(
            f"ALTER USER any_app@'%' IDENTIFIED BY '{_PASSWORD}-2'; CREATE USER any_gone@'%'; DROP USER any_gone@'%';"
            f"CREATE TABLE {OTHER}.more (n INT); INSERT INTO {OTHER}.more VALUES (1); DROP TABLE {OTHER}.more;"
        )

    def long_statement(self) -> None:
        number = self.recorded.number()
        with contextlib.closing(self.session(0)) as connection, connection.cursor() as cursor:
            with self.recorded.noted(number):
                text = f"INSERT INTO ledger VALUES ({number} + SLEEP({LONG_SECONDS}), '{note(number)}')"
                cursor.execute(text)

    def lose(self) -> None:
        told = "SET SESSION binlog_rows_query_log_events = ON;" if self.server.flavour == "mysql" else ""
        self.server.sql(f"{told} USE mysql; DELETE FROM {PROD}.users WHERE n % 2 = 0")
        with self.writers():
            self.busy(1)
        self.server.sql(f"USE {OTHER}; DROP TABLE {PROD}.orders")
        with self.writers():
            self.busy(1)
        time.sleep(1.1)  # MariaDB's second, in which the last row was written, is over
        self.lost_at = micros()
        time.sleep(1.1)
        self.server.sql(f"USE mysql; DROP DATABASE {PROD}")
        self.commits = [each for name, _ in kit.logs(self.server)
                        for each in transactions(name, kit.own_bytes(self.server, name))]  # fmt: skip
        self.check_stamps([each for each in self.commits if each.numbers], set(self.recorded.done))
        self.server.sql(
            f"CREATE DATABASE {PROD}; CREATE TABLE {PROD}.ledger (n INT PRIMARY KEY, note VARCHAR(80));"
            f"INSERT INTO {PROD}.ledger VALUES (4711, 'by other hands')"
        )

    def fingerprint(self) -> str:
        last = "@@GLOBAL.gtid_binlog_pos" if self.server.flavour == "mariadb" else "@@GLOBAL.gtid_executed"
        return repr([
            self.server.sql(f"CHECKSUM TABLE {PROD}.ledger, {OTHER}.audit EXTENDED"),
            self.server.sql("SHOW DATABASES"),
            self.server.sql(f"SHOW TABLES FROM {PROD}"),
            self.server.sql(f"SELECT {last}"),  # whatever anybody changes moves it
        ])  # fmt: skip

    def found(self, config: Any) -> There:
        source = MySQLSource(config, site=self.site.name)
        with contextlib.closing(source), contextlib.closing(source.connect(PROD)) as session:
            with session.cursor() as cursor:
                cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", (PROD,))
                tables = {name for (name,) in cursor.fetchall()}
                cursor.execute("SELECT n, note FROM ledger ORDER BY n")
                ledger = tuple((int(n), str(text)) for n, text in cursor.fetchall())
                cursor.execute("SELECT COUNT(*) FROM users")
                ((users,),) = cursor.fetchall()
                orders = None
                if "orders" in tables:
                    cursor.execute("SELECT COUNT(*) FROM orders")
                    ((orders,),) = cursor.fetchall()
                cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", (OTHER,))
                assert not cursor.fetchall(), "another database than the wanted one was written to"
        return There(ledger, int(users), None if orders is None else int(orders))

    def expected(self, target: datetime) -> There:
        """All that stands before the first transaction committed later, by the server's stamp. Where a client
        has set it (MariaDB), the stamp says nothing."""
        wanted = since_1970(target)
        later = (
            number
            for number, each in enumerate(self.commits)
            if each.micros > wanted and not (self.whole_seconds and self.recorded.odd.intersection(each.numbers))
        )
        there = self.before(next(later, len(self.commits)))
        self.check_bounds(target, {number for number, _ in there.ledger})
        return there

    def before(self, index: int) -> There:
        """What there was before the transaction of that index."""
        users, orders, numbers = USERS, ORDERS, set[int]()
        left: int | None = orders
        for each in self.commits[:index]:
            numbers.update(each.numbers)
            if "DELETE FROM" in each.what and "users" in each.what:
                users = USERS // 2
            if "DROP TABLE" in each.what and "orders" in each.what:
                left = None
        return There.of(numbers, users, left)

    def places(self, count: int) -> list[int]:
        """Indexes of random transactions of the load, some time after the full."""
        late = self.full_at + 2_000_000
        known = [n for n, each in enumerate(self.commits) if each.numbers and each.micros > late]
        return random.Random(f"{SEED}/places/{self.server.flavour}").sample(known, count)

    def accident(self, kind: str, table: str) -> int:
        """Index of the last transaction that did this."""
        return max(n for n, each in enumerate(self.commits) if kind in each.what and table in each.what)
