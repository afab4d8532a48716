"""A MySQL or MariaDB server as a source. Which of the two it is, the server says itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import cached_property

from engine.config import MySQLConfig
from engine.errors import UnknownName, nearest
from engine.journal import Journal
from engine.manifest import Manifest, Server
from engine.mysql import tools
from engine.mysql.connection import BRIEFLY, Address, Connection, address, open_connection, query, value
from engine.mysql.definitions import Definition
from engine.names import BESIDE
from engine.processes import Command, Runner, runner_for
from engine.progress import Progress
from engine.source import Comparison, DatabaseState, Facts, OpenPart, Parts, Preflight, Selection, SwapReport

SYSTEM = frozenset({"information_schema", "performance_schema", "mysql", "sys"})


class MySQLSource:
    """One server, by the contract of ``engine.source.DatabaseSource``. Nothing is opened before it is needed.

    Args:
        config: Where it is, who we are there.
        site: The site's name: its compose project, where the configuration names none.
    """

    kind = "mysql"

    def __init__(self, config: MySQLConfig, *, site: str) -> None:
        self.config = config
        self.site = site
        self.name = config.name
        self._connection: Connection | None = None
        self.patience = BRIEFLY
        """Seconds within which a short question is answered, or the server is Unreachable."""
        self.side_views: dict[str, list[Definition]] = {}
        """By side database loaded here: views that wait until they are made in production's place."""
        self.side_events: dict[str, dict[str, str]] = {}
        """By side database loaded here: what its events, now disabled, were in the dump."""
        self.events_over: dict[str, list[str]] = {}
        """By side database loaded here: events of the dump whose time has passed."""

    @cached_property
    def runner(self) -> Runner:
        """The place where client programs run. Raises UnknownName, Unreachable."""
        return runner_for(self.config, site=self.site)

    @cached_property
    def address(self) -> Address:
        """Where this process reaches the server."""
        return address(self.config, self.runner)

    def connect(
        self, database: str | None = None, autocommit: bool = True, patience: float | None = None
    ) -> Connection:
        """A new session in UTC and utf8mb4; the caller closes it. It waits for an answer as long as a dump may
        take (``timeout_seconds``), or ``patience`` seconds.

        Raises:
            CredentialsRefused, Unreachable, MissingGrant.
            UnknownName: No such database; the nearest name is suggested.
        """
        try:
            return open_connection(self.config, self.address, database=database, autocommit=autocommit,
                                   patience=patience)  # fmt: skip
        except UnknownName:
            raise self._unknown(str(database)) from None

    @property
    def session(self) -> Connection:
        """One session kept for short questions in between; reopened when it was lost. Not for counting rows."""
        if self._connection is None or not self._connection.open:
            self._connection = self.connect(patience=self.patience)
        return self._connection

    @cached_property
    def version_text(self) -> str:
        """As the server says it: ``10.11.14-MariaDB-0+deb12u2-log``."""
        return str(value(self.session, "SELECT VERSION()"))

    @cached_property
    def flavour(self) -> str:
        """``mariadb`` or ``mysql``."""
        words = self.version_text + str(value(self.session, "SELECT @@version_comment"))
        return "mariadb" if "mariadb" in words.lower() else "mysql"

    @cached_property
    def version(self) -> tuple[int, ...]:
        """(10, 11, 14)."""
        return tools.version_tuple(self.version_text)

    @cached_property
    def client(self) -> tools.Tool:
        """The interactive client of the server's flavour. Raises ToolMissing, WrongTool."""
        return tools.find_tool(self.runner, self.flavour, tools.CLIENT)

    @cached_property
    def dump(self) -> tools.Tool:
        """The dump program of the server's flavour. Raises ToolMissing, WrongTool."""
        return tools.find_tool(self.runner, self.flavour, tools.DUMP)

    @cached_property
    def dump_help(self) -> str:
        """The dump program's own list of options."""
        return self.runner.run(Command((self.dump.path, "--no-defaults", "--help"))).text

    def client_command(self, argv_tail: Iterable[str] = (), feeds: bool = True, database: str | None = None) -> Command:
        """A call of the flavour's own client, logged in, that reads SQL from us (``feeds``).

        Comments reach the server: MariaDB's client else strips them out of routine bodies.
        """
        tail = ["--comments", *argv_tail, *([f"--database={database}"] if database is not None else [])]
        return tools.command(self.config, self.runner, self.client, tail, feeds=feeds)

    def dump_command(self, argv_tail: Iterable[str], gated: bool = False) -> Command:
        """A call of the flavour's own dump program, logged in."""
        return tools.command(self.config, self.runner, self.dump, list(argv_tail), gated=gated)

    def server(self) -> Server:
        """Connect and ask who is there. Raises Unreachable, CredentialsRefused."""
        variable = "@@server_uuid" if self.flavour == "mysql" else "@@server_uid"
        known = query(self.session, "SHOW VARIABLES LIKE %s", (variable[2:],))
        return Server(flavour=self.flavour, version=self.version_text, uuid=str(known[0][1]) if known else "")

    def all_databases(self) -> list[str]:
        """Every database that is not the system's and that this user may see."""
        return [name for (name,) in query(self.session, "SHOW DATABASES") if name.lower() not in SYSTEM]

    def databases(self) -> list[str]:
        """The configured databases, or all that are neither the system's nor left beside by a restore.

        Raises:
            UnknownName: A configured one is gone.
        """
        present = self.all_databases()
        for name in self.config.databases:
            if name not in present:
                raise self._unknown(name)
        return list(self.config.databases) or [name for name in present if not BESIDE.search(name)]

    def extension(self) -> str:
        return "sql"

    def preflight(self, database: str) -> Preflight:
        """See ``engine.mysql.preflight``."""
        from engine.mysql.preflight import preflight

        return preflight(self, database)

    def capture(self, database: str, parts: Parts, progress: Progress) -> Facts:
        """See ``engine.mysql.capture``."""
        from engine.mysql.capture import capture

        return capture(self, database, parts, progress)

    def inspect(self, manifest: Manifest, chunks: Iterable[bytes]) -> dict[str, int]:
        """Rows by table in a dump's stream, held against its manifest. Raises IntegrityError."""
        from engine.mysql.rows import inspect

        return inspect(manifest, chunks)

    def state(self, database: str, *, count: bool = False) -> DatabaseState:
        """What stands there now; rows counted only when asked."""
        from engine.mysql.schema import base_tables, count_rows, list_tables

        if database not in self.all_databases():
            return DatabaseState(exists=False)
        size = value(self.session, "SELECT COALESCE(SUM(data_length + index_length), 0) FROM information_schema.tables "
                                   "WHERE table_schema = %s", (database,))  # fmt: skip
        tables = base_tables(self.session, database)
        rows: dict[str, int] = {}
        if count:
            with contextlib.closing(self.connect()) as session:
                own = [table.name for table in list_tables(session, database) if table.has_data]
                rows = {name: count_rows(session, database, name) for name in own}
        return DatabaseState(exists=True, tables=len(tables), bytes=int(size), rows=rows)

    def load_beside(
        self, manifest: Manifest, part: OpenPart, into: str, selection: Selection, journal: Journal, progress: Progress
    ) -> list[str]:
        """See ``engine.mysql.load``."""
        from engine.mysql.load import load_beside

        return load_beside(self, manifest, part, into, selection, journal, progress)

    def finish_side(
        self, manifest: Manifest, part: OpenPart, into: str, selection: Selection, journal: Journal, progress: Progress
    ) -> list[str]:
        """See ``engine.mysql.load``: the load is complete already."""
        from engine.mysql.load import finish_side

        return finish_side(self, into)

    def caveat(self, manifest: Manifest) -> str:
        """Definitions are compared as the server keeps them; what it keeps otherwise is told by name."""
        return ""

    def compare(self, manifest: Manifest, into: str, selection: Selection) -> Comparison:
        """See ``engine.mysql.compare``."""
        from engine.mysql.compare import compare

        return compare(self, manifest, into, selection)

    def swap(
        self,
        manifest: Manifest,
        part: OpenPart,
        side: str,
        database: str,
        keep_as: str,
        selection: Selection,
        journal: Journal,
        progress: Progress,
    ) -> SwapReport:
        """See ``engine.mysql.swap``."""
        from engine.mysql.swap import swap

        return swap(self, manifest, part, side, database, keep_as, selection, journal, progress)

    def drop_side(self, side: str, journal: Journal) -> None:
        """See ``engine.mysql.load``."""
        from engine.mysql.load import drop_side

        drop_side(self, side, journal)

    def recover(self, journal: Journal) -> list[str]:
        """See ``engine.mysql.recover``."""
        from engine.mysql.recover import recover

        return recover(self, journal)

    @contextlib.contextmanager
    def lock(self, database: str) -> Iterator[None]:
        """The server's advisory lock for this database, in a session of its own. Raises LockHeld."""
        from engine.mysql.locking import advisory_lock

        with contextlib.closing(self.connect()) as connection:
            advisory_lock(connection, database)
            yield

    def close(self) -> None:
        """Close the kept session."""
        if self._connection is not None and self._connection.open:
            self._connection.close()
        self._connection = None

    def _unknown(self, database: str) -> UnknownName:
        return UnknownName(
            f"There is no database {database!r} on {self.name} ({self.address}).",
            remedy=nearest(database, self.all_databases()),
        )
