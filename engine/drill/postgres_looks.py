"""What a PostgreSQL drill looks at: a dump's rows as they stream by, and a server that holds the copy."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

import psycopg

from engine.config import PostgresConfig
from engine.drill.base import with_remedy
from engine.drill.rows import CopyRows, RowSets
from engine.drill.verdict import FAILED, PROVEN, UNVERIFIED, Check, Rung
from engine.errors import ToolFailed, ToolMissing, WrongTool
from engine.postgres.connection import Connector, translated
from engine.postgres.dump_text import DumpScanner
from engine.postgres.dump_text import Piece as Text
from engine.postgres.tools import Tools
from engine.processes import Runner, runner_for

_AS_DUMPED = (
    "SET extra_float_digits = 3; SET intervalstyle = postgres; SET bytea_output = hex; SET client_encoding = 'UTF8'"
)
"""Settings under which pg_dump writes values; date style and time zone are those of every session here."""
_AMCHECK_SINCE = 14
"""The first PostgreSQL with pg_amcheck."""
_FROM = b" FROM stdin;\n"


class Stream:
    """Takes the text of a dump.

    Attributes:
        sets: Digests of the sampled tables.
        statements: Of each of them, what COPY names: ``public.t (a, b)``.
    """

    def __init__(self, sample: Container[str]) -> None:
        self.scanner = DumpScanner()
        self.sets = RowSets()
        self.statements: dict[str, str] = {}
        self._sample = sample
        self._rows: CopyRows | None = None

    def take(self, data: bytes) -> None:
        """The next bytes."""
        for piece in self.scanner.feed(data):
            self._look(piece)

    def finish(self) -> None:
        """No more comes."""
        for piece in self.scanner.finish():
            self._look(piece)

    def _look(self, piece: Text) -> None:
        if piece.kind == "copy":
            self._rows = None
            if piece.table in self._sample:
                self._rows = CopyRows(self.sets.of(piece.table))
                named = piece.data[len(b"COPY ") : -len(_FROM)]
                self.statements[piece.table] = named.decode("utf-8", "surrogateescape")
        elif piece.kind == "rows" and self._rows is not None:
            self._rows.feed(piece.data)


class There:
    """A scratch server that holds a copy.

    Args:
        config: With which it is reached.
        major: Version of PostgreSQL.
    """

    def __init__(self, config: PostgresConfig, site: str, major: int) -> None:
        runner: Runner = runner_for(config, site=site)
        self.connector = Connector(config, site, lambda: runner)
        self.tools = Tools(runner, config.tools_path, major)
        self._major, self._timeout = major, config.timeout_seconds

    def dump_again(self, database: str, statements: dict[str, str]) -> RowSets:
        """The rows of these tables as the copy's server writes them now."""
        sets = RowSets()
        with self.connector.open(database) as inside, translated("reading the copy's rows"):
            inside.execute(_AS_DUMPED)
            for table, named in statements.items():
                rows = CopyRows(sets.of(table))
                with inside.cursor().copy(f"COPY {named} TO STDOUT".encode("utf-8", "surrogateescape")) as copy:
                    for data in copy:
                        rows.feed(bytes(data))
        return sets

    def ask(self, database: str, text: str, seconds: float) -> list[tuple[Any, ...]]:
        """The rows of one query, in a transaction that only reads, with the search path of the database's users.
        Stopped by the server after so many seconds."""
        with self.connector.open(database) as inside, translated("a drill query"):
            inside.execute("SET search_path TO DEFAULT")
            inside.execute(f"SET statement_timeout TO {max(1, round(seconds * 1000))}".encode())
            inside.execute("BEGIN READ ONLY")
            # in binary the server takes one statement at a time and no more
            found: psycopg.Cursor[Any] = inside.execute(text.encode(), binary=True)
            names = [f"column{number}" for number, _ in enumerate(found.description or ())]
            return [tuple(row) for row in found.fetchall()] if names else []

    def amcheck(self, database: str, notes: list[str], rung: Rung = "content") -> Iterator[Check]:
        """``pg_amcheck`` on every table and B-tree. Where it is not installed nobody knows; before PostgreSQL 14 there
        was none, which is a note."""
        try:
            environment = self.connector.tool_environment(database)
            command = self.tools.command("pg_amcheck", "--install-missing", "--no-password", env=environment)
        except (ToolMissing, WrongTool) as error:
            if self._major < _AMCHECK_SINCE:
                notes.append(f"pg_amcheck was not run: PostgreSQL {self._major} has none yet")
                return
            said = f"{database}: it was not run: {error.message}"
            yield Check(rung, "pg_amcheck", UNVERIFIED, with_remedy(said, error))
            return
        try:
            self.tools.runner.run(command, timeout=self._timeout)
        except ToolFailed as error:
            if any(each in error.message for each in ("could not open extension", "is not available")):
                said = f"{database}: it was not run: its extension amcheck is not there"
                remedy = f"install postgresql-contrib of version {self._major} where the scratch server runs"
                yield Check(rung, "pg_amcheck", UNVERIFIED, f"{said} (next: {remedy})")
                return
            yield Check(rung, "pg_amcheck", FAILED, f"{database}: {error.message}")
            return
        yield Check(rung, "pg_amcheck", PROVEN, f"tables and indexes of {database} are sound")
