"""What a database source can do. ``engine.mysql`` and ``engine.postgres`` each offer one of these."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.journal import Journal
from engine.manifest import LogPosition, Manifest, Server
from engine.progress import Progress


class Sink(Protocol):
    """Where a capture writes plain bytes; ``engine.codec.Encoder`` is one."""

    def write(self, data: bytes) -> None: ...


class Parts(Protocol):
    """Where a capture puts its data and companion files; ``engine.vault.BackupWriter`` is one."""

    def data(self) -> Sink: ...

    def companion(self, role: str, ext: str = "sql") -> Sink: ...


@dataclass(frozen=True)
class Preflight:
    """What was found before a capture: the server, an estimate of plain bytes, things to tell a person."""

    server: Server
    estimated_bytes: int
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Facts:
    """What a capture learnt; goes into the manifest as it is."""

    server: Server
    dump_format: str = "sql"
    log: LogPosition = field(default_factory=LogPosition)
    rows: dict[str, int] = field(default_factory=dict)
    uncounted: list[str] = field(default_factory=list)
    schema_sha256: str = ""
    contents: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Selection:
    """Which part of a backup to restore. Empty means all. Names may use ``*``; tables are ``table`` for
    MySQL and ``schema.table`` for PostgreSQL."""

    tables: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        return not self.tables and not self.schemas

    def wants(self, table: str, schema: str | None = None) -> bool:
        """Is this table part of it? ``table`` is ``schema.table`` where there are schemas."""
        if self.everything:
            return True
        if schema is not None and any(fnmatch.fnmatchcase(schema, each) for each in self.schemas):
            return True
        return any(fnmatch.fnmatchcase(table, each) for each in self.tables)


@dataclass(frozen=True)
class Comparison:
    """A restored copy held against its manifest."""

    expected: dict[str, int]
    found: dict[str, int]
    schema_equal: bool | None
    problems: list[str]
    notes: list[str] = field(default_factory=list)
    unchecked: str = ""
    """What could not be compared though it differs, and why; told in the first line of whatever tells the result."""

    @property
    def equal(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class DatabaseState:
    """A living database, as shown before it is replaced."""

    exists: bool
    tables: int = 0
    bytes: int = 0
    rows: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SwapReport:
    """What a swap did: where the previous data is kept, how long writers waited (seconds)."""

    kept_as: str
    paused_seconds: float
    notes: list[str] = field(default_factory=list)


OpenPart = Callable[[str], Iterator[bytes]]
"""Plain bytes of a backup's part by role (``data``, ``accounts``...), verified before they are given."""


class DatabaseSource(Protocol):
    """One database server, as the flows and the command line use it. Not thread safe: one per task."""

    kind: str
    """``mysql`` or ``postgres``."""
    name: str
    """Its name in the site."""

    def server(self) -> Server:
        """Connect and ask who is there. Raises Unreachable, CredentialsRefused."""
        ...

    def databases(self) -> list[str]:
        """The configured databases, or all that are not the system's. Raises UnknownName if one is gone."""
        ...

    def extension(self) -> str:
        """``sql``, or ``dump`` for the custom format."""
        ...

    def preflight(self, database: str) -> Preflight:
        """Reachable, tools there and of the right kind, grants enough, engines safe.

        Raises:
            UnknownName, ToolMissing, WrongTool, MissingGrant, Unreachable, CredentialsRefused.
        """
        ...

    def capture(self, database: str, parts: Parts, progress: Progress) -> Facts:
        """Dump one database through ``parts``: data, and companions (accounts; globals and properties).

        Returns only when every process exited 0, the end marker was seen, and the rows in the stream
        equal the server's own counts at the dump's snapshot.
        """
        ...

    def inspect(self, manifest: Manifest, chunks: Iterable[bytes]) -> dict[str, int] | None:
        """Read a dump's plain bytes to the end: end marker seen, tables and rows as in the manifest.

        Returns the rows by table, or None where the format does not show them cheaply.

        Raises:
            IntegrityError: naming the table or the missing end.
        """
        ...

    def state(self, database: str, *, count: bool = False) -> DatabaseState:
        """What stands there now; rows counted only when asked."""
        ...

    def load_beside(
        self, manifest: Manifest, part: OpenPart, into: str, selection: Selection, journal: Journal, progress: Progress
    ) -> list[str]:
        """Load a backup into a new side database; production cannot notice it. Returns notes for a person.

        The journal is told what is being made before it is made, so that ``recover`` can remove it.

        Raises:
            RestoreRefused: ``into`` exists, or the selection matches nothing.
        """
        ...

    def finish_side(
        self, manifest: Manifest, part: OpenPart, into: str, selection: Selection, journal: Journal, progress: Progress
    ) -> list[str]:
        """Complete a side copy that stays one: what ``load_beside`` left out so that nothing could fire
        (triggers, routines, views; events disabled). Not called before a swap, which installs them itself.
        Returns notes; does nothing where the load is already complete."""
        ...

    def caveat(self, manifest: Manifest) -> str:
        """What a comparison of this backup cannot tell on this server, for whoever approves; empty: it tells all."""
        ...

    def compare(self, manifest: Manifest, into: str, selection: Selection) -> Comparison:
        """Count every restored table and fingerprint its schema, against the manifest."""
        ...

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
        """Put a checked side database in production's place; the previous data stays as ``keep_as``.

        Production is whole old or whole new, or blocked with a journal that ``recover`` ends.
        With a selection, only those tables or schemas are exchanged.
        """
        ...

    def drop_side(self, side: str, journal: Journal) -> None:
        """Remove a side database that this journal made."""
        ...

    def recover(self, journal: Journal) -> list[str]:
        """Finish or undo what a dead run left, by its journal; close it; say what was done.

        Also ends what that run left in the server: its queries, locks and exec'd processes.
        """
        ...

    def lock(self, database: str) -> Any:
        """Context manager: the server's advisory lock for this database. Raises LockHeld, naming the holder."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...
