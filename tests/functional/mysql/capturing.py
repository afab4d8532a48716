"""What the capture tests share: parts in memory, the hard database, and proofs that use stock tools only."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pymysql
from pydantic import SecretStr

from engine.config import MySQLConfig
from engine.mysql import MySQLSource
from engine.source import Sink
from tests.servers import DatabaseServer

DATA = Path(__file__).parents[2] / "data"
SERVERS = ["mariadb", "mysql9_container", "mariadb_container"]


class MemoryParts:
    """Parts of one capture, in memory. ``on_data`` hears every chunk of the dump first."""

    def __init__(self, on_data: Any = None) -> None:
        self.parts: dict[str, bytearray] = {}
        self._on_data = on_data

    def data(self) -> Sink:
        return _Memory(self.parts.setdefault("data", bytearray()), self._on_data)

    def companion(self, role: str, ext: str = "sql") -> Sink:
        return _Memory(self.parts.setdefault(role, bytearray()), None)

    def text(self, role: str = "data") -> str:
        return self.parts[role].decode("utf-8", "surrogateescape")


class _Memory:
    def __init__(self, buffer: bytearray, heard: Any) -> None:
        self._buffer = buffer
        self._heard = heard

    def write(self, data: bytes) -> None:
        if self._heard is not None:
            self._heard(data)
        self._buffer += data


def source_for(server: DatabaseServer, **changes: Any) -> MySQLSource:
    """A source as a site would configure it: a service's labels for a container, host and port else."""
    where: dict[str, Any] = {"host": server.host, "port": server.port}
    if server.container:
        where = {"service": server.service, "project": server.project, "docker_host": server.docker_host}
    options = {**where, "user": server.user, "password": SecretStr(server.password), **changes}
    return MySQLSource(MySQLConfig(**options), site="unit")


def stock_client(server: DatabaseServer, database: str, sql: bytes) -> None:
    """Load SQL with the server's stock client, comments kept."""
    done = subprocess.run(_stock_argv(server, database), input=sql, capture_output=True, env=_environment(server))
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def by_hand(server: DatabaseServer, database: str, stored: Path, key: str) -> None:
    """The documented procedure: openssl, gunzip, client."""
    line = (
        f"openssl enc -d -aes-256-cbc -pbkdf2 -pass env:BACKUP_KEY -in {shlex.quote(str(stored))} | gunzip | "
        + shlex.join(_stock_argv(server, database))
    )
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True,
                          env={**_environment(server), "BACKUP_KEY": key})  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def load_hard(server: DatabaseServer, database: str) -> None:
    """Everything that breaks dumps."""
    for name in ("mysql_hard.sql", f"mysql_hard_{server.flavour}.sql"):
        stock_client(server, database, (DATA / name).read_bytes())


def portrait(server: DatabaseServer, database: str) -> dict[str, Any]:
    """Everything a person could ask about a database: rows, definitions, counters. Shares no code with the engine."""
    with closing(server.connect(database)) as connection:
        return dict(_portrait(connection, database))


def _portrait(connection: Any, database: str) -> Iterator[tuple[str, Any]]:
    def ask(statement: str, *arguments: str) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return list(cursor.fetchall())

    def name(text: str) -> str:
        return "`" + text.replace("`", "``") + "`"

    for table, kind in ask("SHOW FULL TABLES"):
        yield f"rows of {table}", sorted(map(repr, ask(f"SELECT * FROM {name(table)}")))
        if kind != "SEQUENCE":
            yield f"definition of {table}", ask(f"SHOW CREATE TABLE {name(table)}")[0][1]
        if kind in ("BASE TABLE", "SYSTEM VERSIONED"):
            yield f"columns of {table}", ask(f"SHOW FULL COLUMNS FROM {name(table)}")
    for row in ask("SHOW TRIGGERS"):
        yield f"trigger {row[0]}", row[1:5] + row[6:]
    for kind in ("PROCEDURE", "FUNCTION"):
        for row in ask(f"SHOW {kind} STATUS WHERE Db = %s", database):
            yield f"{kind} {row[1]}", ask(f"SHOW CREATE {kind} {name(row[1])}")
    for row in ask("SHOW EVENTS"):
        yield f"event {row[1]}", ask(f"SHOW CREATE EVENT {name(row[1])}")


def sessions_of_ours(server: DatabaseServer, source: MySQLSource) -> list[str]:
    """What the process list holds of this user beside the source's kept session and our own."""
    kept = source.session.thread_id()
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW FULL PROCESSLIST")
        return [
            f"{row[4]}: {row[7]}" for row in cursor.fetchall()
            if row[0] not in (kept, connection.thread_id()) and row[1] == server.user
        ]  # fmt: skip


def wait_until_alone(server: DatabaseServer, source: MySQLSource, seconds: float = 20.0) -> None:
    """Nothing of a capture is left in the server."""
    deadline = time.monotonic() + seconds
    while left := sessions_of_ours(server, source):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


class Writers:
    """Apps that never stop: each transaction puts one row into ``orders`` and one into ``lines``, and now and then
    takes one pair away. ``longest`` is the longest that one of their statements took, in seconds."""

    def __init__(self, server: DatabaseServer, database: str, number: int = 2) -> None:
        self.longest = 0.0
        self.written = 0
        self._server = server
        self._database = database
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._threads = [threading.Thread(target=self._write, args=(each,), daemon=True) for each in range(number)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        deadline = time.monotonic() + 30
        while not self.written:
            assert time.monotonic() < deadline, self._error
            time.sleep(0.01)
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        if self._error is not None and exc[0] is None:
            raise self._error

    def _write(self, number: int) -> None:
        try:
            with closing(self._server.connect(self._database)) as connection, connection.cursor() as cursor:
                cursor.execute("SET autocommit = 0")
                turn = 0
                while not self._over.is_set():
                    turn += 1
                    self._timed(cursor, "INSERT INTO orders (who, what) VALUES (%s, REPEAT('),(', 20))", (number,))
                    self._timed(cursor, "INSERT INTO `lines` (order_id) VALUES (LAST_INSERT_ID())", ())
                    if turn % 7 == 0:
                        self._timed(cursor, "DELETE FROM orders WHERE who = %s ORDER BY id LIMIT 1", (number,))
                        self._timed(cursor, "DELETE FROM `lines` WHERE who IS NULL ORDER BY id LIMIT 1", ())
                    self._timed(cursor, "COMMIT", ())
                    self.written += 1
        except pymysql.err.MySQLError as error:
            if error.args and error.args[0] in (1205, 1213):  # a deadlock among the writers themselves
                return self._write(number)
            self._error = error

    def _timed(self, cursor: Any, statement: str, arguments: tuple[Any, ...]) -> None:
        start = time.monotonic()
        cursor.execute(statement, arguments)
        self.longest = max(self.longest, time.monotonic() - start)


SHOP = """
CREATE TABLE orders (id INT PRIMARY KEY AUTO_INCREMENT, who INT, what VARCHAR(200), KEY (who)) ENGINE=InnoDB;
CREATE TABLE `lines` (id INT PRIMARY KEY AUTO_INCREMENT, order_id INT, who INT) ENGINE=InnoDB;
CREATE TABLE steady (id INT PRIMARY KEY, x VARCHAR(50)) ENGINE=InnoDB;
INSERT INTO steady VALUES (1, 'a'), (2, '),('), (3, NULL);
"""


@contextmanager
def shop(server: DatabaseServer) -> Iterator[str]:
    """A database for the writers."""
    with server.database("shop") as name:
        server.sql(SHOP, name)
        yield name


@contextmanager
def slow_query(server: DatabaseServer, database: str, seconds: float) -> Iterator[None]:
    """A report that reads a table for that long, as someone always runs one."""
    server.sql("CREATE TABLE IF NOT EXISTS report (id INT PRIMARY KEY) ENGINE=InnoDB; "
               "REPLACE INTO report VALUES (1), (2), (3), (4)", database)  # fmt: skip
    connection = server.connect(database)
    thread = threading.Thread(target=_sleepy, args=(connection, seconds), daemon=True)
    thread.start()
    time.sleep(1.2)  # a second old, as the process list counts
    try:
        yield
    finally:
        thread.join(seconds + 30)
        connection.close()


def _sleepy(connection: Any, seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id, SLEEP({seconds / 4}) FROM report")


def _stock_argv(server: DatabaseServer, database: str) -> list[str]:
    argv = server.client_command(database)
    argv.insert(argv.index("--binary-mode"), "--comments")
    return argv


def _environment(server: DatabaseServer) -> dict[str, str]:
    return {**os.environ, "MYSQL_PWD": server.password, "PGPASSWORD": ""}
