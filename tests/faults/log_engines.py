"""One database whose logs are shipped, on either engine, and the truth about it by ways of its own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import backup, logs, names, shipping
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.logs import LogFile
from engine.site import Site, Target
from tests.functional.binlog import kit
from tests.functional.postgres.shipping import on_server
from tests.functional.vault_helpers import PASSPHRASE
from tests.servers.databases import DatabaseServer

DATABASE = "killed"


@dataclass
class Shipped:
    """A server of the test's own, a table of numbers in it, and a site for it.

    Attributes:
        document: The site with its secrets, as a process takes it on its input.
        numbers: The table holds all from 1 to this one.
    """

    server: DatabaseServer
    document: dict[str, Any]
    numbers: int = 0

    @classmethod
    def on(cls, server: DatabaseServer, root: Path) -> Shipped:
        """An empty table, logs that begin anew, and a vault that holds nothing."""
        kind = "postgres" if server.flavour == "postgres" else "mysql"
        where: dict[str, Any] = {"host": server.host, "port": server.port}
        if server.container:
            where = {"service": server.service, "project": server.project, "docker_host": server.docker_host}
        source = {"user": server.user, "password": server.password, "databases": [DATABASE], **where}
        vault = {"root": str(root), "keys": {"current": "main", "keys": {"main": PASSPHRASE}}}
        server.sql(f"DROP DATABASE IF EXISTS {DATABASE}")
        server.sql(f"CREATE DATABASE {DATABASE}")
        server.sql("CREATE TABLE numbers (n int PRIMARY KEY, filling text)", DATABASE)
        if kind == "mysql":
            kit.reset(server)
        else:  # what is compared in the end must still be there
            server.sql("ALTER SYSTEM SET wal_keep_size = '8GB'")
            server.sql("SELECT pg_reload_conf()")
        return cls(server, {"site": "killed", "vault": vault, kind: [source]})

    @property
    def source(self) -> str:
        return "postgres" if self.server.flavour == "postgres" else "mysql"

    @property
    def tier(self) -> str:
        return names.WAL if self.source == "postgres" else names.BINLOGS

    def site(self) -> Site:
        return Site(SiteConfig.model_validate(self.document))

    def orders(self, work: str) -> bytes:
        """For ``tests.faults.dying_logs``."""
        orders = {"site": self.document, "work": work, "source": self.source, "database": DATABASE}
        return json.dumps(orders).encode()

    def write(self, logs_closed: int, rows: int = 400) -> None:
        """So many logs, each with so many numbers of half a kilobyte."""
        for _ in range(logs_closed):
            first, self.numbers = self.numbers + 1, self.numbers + rows
            values = ", ".join(f"({n}, '{n % 10}{'x' * 500}')" for n in range(first, self.numbers + 1))
            self.server.sql(f"INSERT INTO numbers VALUES {values}", DATABASE)
            self.server.sql("SELECT pg_switch_wal()" if self.source == "postgres" else "FLUSH BINARY LOGS")

    def anchor(self) -> None:
        """What its logs are replayed on."""
        with self.site() as site:
            if self.source == "postgres":
                shipping.base(site, self.source)
            else:
                backup.capture(site, Target(self.source, DATABASE), tier="manual")

    def check_logs(self) -> int:
        """Every log in the vault once, in an unbroken row, to the byte as the server has it; how many there are."""
        with self.site() as site:
            ledger = logs.ledger(site.vault, self.source, self.tier)
            facts = [logs.load_log(site.vault, entry)[1] for entry in ledger]
            numbers = [log.number for log in facts]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers
            assert len({log.row for log in facts}) == 1
            for entry, log in zip(ledger, facts, strict=True):
                assert _digest(_stored(site, entry)) == _digest(self._own_bytes(log)), log.name
            if self.source == "mysql":
                assert [log.name for log in facts] == [name for name, _ in kit.logs(self.server)[:-1]]
            else:
                assert facts[-1].end == self._position_before_the_present_segment()
        return len(facts)

    def _own_bytes(self, log: LogFile) -> bytes:
        if self.source == "postgres":
            return on_server(self.server, log.name)
        return kit.own_bytes(self.server, log.name)

    def _position_before_the_present_segment(self) -> int:
        size = 16 * 1024 * 1024
        at = "pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"
        return int(self.server.sql(f"SELECT floor({at} / {size}) * {size}")[0][0] or 0)


def remains(site: Site) -> list[str]:
    """What is in a vault that is no part of a backup, and in its state that is no lock."""
    state, root, catalog = site.vault.state, site.vault.root, site.vault.catalog()
    found = [str(path.relative_to(state)) for path in state.rglob("*") if path.is_file() and path.suffix != ".lock"]
    parts = {part.file for entry in catalog.entries() for part in catalog.load(entry).files}
    return found + [path.name for path in root.rglob("*.enc") if state not in path.parents and path.name not in parts]


def _stored(site: Site, entry: Entry) -> bytes:
    return b"".join(site.vault.read_part(entry, site.vault.catalog().load(entry)))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
