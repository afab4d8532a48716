"""The life of ``any_second`` on PostgreSQL; the truth is what the server itself says of its commits."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime, timedelta
from typing import Any

import psycopg

from engine import shipping
from engine.site import Site
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
    moment,
    note,
    since_1970,
)
from tests.servers.databases import DatabaseServer

SETTINGS = ("track_commit_timestamp=on", "autovacuum=off")
"""The truth is to be had, and nobody but the story changes anything."""


class PostgresStory(Story):
    """Two databases and two schemas of one server."""

    source = "postgres"
    rotate_every = 0.7
    """Each makes a segment of 16 MB."""

    def __init__(self, server: DatabaseServer, site: Site) -> None:
        super().__init__(server, site)
        self.accidents: dict[str, datetime] = {}

    def prepare(self) -> None:
        self.server.sql(f"CREATE DATABASE {PROD}")
        self.server.sql(f"CREATE DATABASE {OTHER}")
        self.server.sql("CREATE ROLE any_app LOGIN")
        self.server.sql("CREATE TABLE audit (n int)", OTHER)
        self.server.sql(
            "CREATE SCHEMA second; CREATE TABLE second.audit (n int);"
            "CREATE TABLE ledger (n int PRIMARY KEY, note text); CREATE TABLE accidents (what text);"
            f"CREATE TABLE users AS SELECT n FROM generate_series(1, {USERS}) n;"
            f"CREATE TABLE orders AS SELECT n FROM generate_series(1, {ORDERS}) n",
            PROD,
        )

    def anchor(self) -> None:
        shipping.base(self.site, self.source)

    def rotate(self) -> None:
        self.server.sql("SELECT pg_switch_wal()")

    def hurry(self, connection: Any, number: int) -> None:
        insert = f"INSERT INTO ledger VALUES ({number}, '{note(number)}')"
        if number % 3:
            connection.execute(insert)
            return
        connection.execute("BEGIN")
        connection.execute(insert)
        connection.execute(f"INSERT INTO second.audit VALUES ({number})")
        connection.execute("COMMIT")

    def set_clients_time(self) -> None:
        """A client cannot; what it can is to speak in another zone."""
        with contextlib.closing(self.session(0)) as connection:
            connection.execute("SET timezone = 'Pacific/Apia'")
            for _ in range(4):
                number = self.recorded.number()
                with self.recorded.noted(number):
                    self.hurry(connection, number)
                time.sleep(0.1)

    def change_accounts(self) -> None:
        self.server.sql(
            "ALTER ROLE any_app PASSWORD 'fake-password-of-an-app'; CREATE ROLE any_gone; DROP ROLE any_gone"
        )
        self.server.sql("INSERT INTO audit VALUES (1); CREATE TABLE more (n int); DROP TABLE more", OTHER)

    def long_statement(self) -> None:
        number = self.recorded.number()
        with contextlib.closing(self.session(0)) as connection, self.recorded.noted(number):
            connection.execute(f"INSERT INTO ledger SELECT {number}, '{note(number)}' FROM pg_sleep({LONG_SECONDS})")

    def lose(self) -> None:
        self._accident("delete", "DELETE FROM public.users WHERE n % 2 = 0")
        with self.writers():
            self.busy(1)
        self._accident("drop table", "DROP TABLE public.orders")
        with self.writers():
            self.busy(1)
        self._learn()
        time.sleep(0.2)
        self.lost_at = micros()
        self.accidents["drop database"] = moment(self.lost_at)
        time.sleep(0.2)
        self.server.sql(f"DROP DATABASE {PROD}")
        self.server.sql(f"CREATE DATABASE {PROD}")
        self.server.sql("CREATE TABLE ledger AS SELECT 4711 AS n, 'by other hands' AS note", PROD)

    def _accident(self, name: str, statement: str) -> None:
        """In one transaction with a row that tells when it was committed."""
        self.server.sql(f"BEGIN; {statement}; INSERT INTO accidents VALUES ('{name}'); COMMIT", PROD)
        self.accidents[name] = self._stamps("SELECT what FROM accidents")[name]

    def _stamps(self, rows: str) -> dict[Any, datetime]:
        select = rows.replace(" FROM", ", pg_xact_commit_timestamp(xmin) FROM", 1)
        with contextlib.closing(self.server.connect(PROD)) as connection:
            connection.execute("SET timezone = 'UTC'")
            return dict(connection.execute(select).fetchall())

    def _learn(self) -> None:
        stamps = self._stamps("SELECT n FROM ledger")
        self.commits = sorted((Commit(since_1970(at), (n,)) for n, at in stamps.items()), key=lambda each: each.micros)
        self.check_stamps(self.commits, set(self.recorded.done))

    def fingerprint(self) -> str:
        databases = "SELECT datname FROM pg_database ORDER BY 1"
        content = "SELECT md5(string_agg(t::text, ',' ORDER BY t)) FROM "
        # a transaction that writes takes a number
        next_number = "SELECT pg_snapshot_xmax(pg_current_snapshot())"
        return repr([
            self.server.sql(databases),
            self.server.sql(f"{content} ledger t", PROD),
            self.server.sql(f"{content} audit t", OTHER),
            self.server.sql(next_number),
        ])  # fmt: skip

    def found(self, config: Any) -> There:
        where = {"host": config.host, "port": config.port, "user": config.user}
        with contextlib.closing(psycopg.connect(dbname=PROD, **where)) as connection:
            ledger = tuple(connection.execute("SELECT n, note FROM ledger ORDER BY n").fetchall())
            ((users,),) = connection.execute("SELECT count(*) FROM users").fetchall()
            ((there,),) = connection.execute("SELECT to_regclass('orders') IS NOT NULL").fetchall()
            orders = connection.execute("SELECT count(*) FROM orders").fetchall()[0][0] if there else None
            third = {n for (n,) in connection.execute("SELECT n FROM second.audit").fetchall()}
            spent = {n for n, _ in ledger if n % 3 == 0 and n in third}
            assert third == spent, "half a transaction"
        return There(ledger, users, orders)

    def expected(self, target: datetime) -> There:
        wanted = since_1970(target)
        numbers = {number for each in self.commits if each.micros <= wanted for number in each.numbers}
        self.check_bounds(target, numbers)
        users = USERS if target < self.accidents["delete"] else USERS // 2
        return There.of(numbers, users, ORDERS if target < self.accidents["drop table"] else None)

    def right_before(self, accident: str) -> datetime:
        """The last microsecond before it was committed."""
        return self.accidents[accident] - timedelta(microseconds=1)
