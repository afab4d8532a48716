"""What the tests of recovery share: a site on a temporary root, a full backup, a load that knows after each
commit where the log stands, and the server's own closed logs."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.backup import capture
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.manifest import Manifest
from engine.mysql.replay import ReplayFile
from engine.scratch.mysql import Scratch, Settings
from engine.site import Site, Target
from tests.servers.databases import DatabaseServer

SMALL = Settings(buffer_pool="32M")
PASSPHRASE = "fake-passphrase-for-tests-" + "x" * 20


@contextlib.contextmanager
def open_site(server: DatabaseServer, root: Path) -> Iterator[Site]:
    """A site with this server as its source ``mysql``."""
    place: dict[str, Any] = {"container": server.container, "docker_host": server.docker_host}
    if not server.container:
        place = {"host": server.host, "port": server.port}
    site = SiteConfig.model_validate(
        {
            "site": "test",
            "vault": {"root": str(root), "keys": {"keys": {"main": PASSPHRASE}}},
            "mysql": {"user": server.user, "password": server.password, **place},
        }
    )
    with Site(site) as opened:
        yield opened


@dataclass
class Load:
    """A database that is written to, and its truth: after each commit, where the log stands and what is there."""

    server: DatabaseServer
    name: str
    connection: Any
    marks: list[tuple[str, int]] = field(default_factory=list)
    number: int = 0

    def do(self, *statements: str) -> None:
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def insert(self, count: int = 1) -> None:
        """Numbered rows, each its own commit."""
        for _ in range(count):
            self.number += 1
            self.do(f"INSERT INTO {self.name}.numbered (id, what) VALUES ({self.number}, 'row {self.number}')")
            self.marks.append(self.position())

    def rotate(self) -> None:
        self.do("FLUSH BINARY LOGS")

    def position(self) -> tuple[str, int]:
        """Where the log stands now."""
        new = self.server.flavour == "mysql"
        with self.connection.cursor() as cursor:
            cursor.execute("SHOW BINARY LOG STATUS" if new else "SHOW MASTER STATUS")
            row = cursor.fetchone()
        return str(row[0]), int(row[1])


@contextlib.contextmanager
def load(server: DatabaseServer) -> Iterator[Load]:
    """An empty numbered table in a database of its own; its name holds what filters must escape."""
    with server.database("r_l") as name, contextlib.closing(server.connect()) as connection:
        found = Load(server, name, connection)
        found.do(
            f"CREATE TABLE {name}.numbered (id INT PRIMARY KEY, what VARCHAR(50), at TIMESTAMP(6) NULL) ENGINE=InnoDB"
        )
        yield found


def take_full(site: Site, database: str) -> tuple[Entry, Manifest]:
    return capture(site, Target("mysql", database), tier="manual")


def logs_from(server: DatabaseServer, first: str, last: str | None = None) -> list[ReplayFile]:
    """The server's closed logs, as they lie in its data directory."""
    names = [str(row[0]) for row in server.sql("SHOW BINARY LOGS")][:-1]
    chosen = [name for name in names if name >= first and (last is None or name <= last)]
    assert chosen, "no closed log yet: rotate first"
    return [ReplayFile(name, lambda name=name: _read(server, name)) for name in chosen]  # type: ignore[misc]


def _read(server: DatabaseServer, name: str) -> Iterator[bytes]:
    if server.data_directory is not None:
        with (server.data_directory / name).open("rb") as file:
            while data := file.read(65536):
                yield data
        return
    argv = ["docker", "--host", server.docker_host, "exec", server.container, "cat", f"/var/lib/mysql/{name}"]
    yield subprocess.run(argv, check=True, capture_output=True).stdout


def rows_of(scratch: Scratch, statement: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(scratch.source.connect()) as session, session.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def numbers(scratch: Scratch, database: str) -> list[int]:
    return [int(row[0]) for row in rows_of(scratch, f"SELECT id FROM {database}.numbered ORDER BY id")]
