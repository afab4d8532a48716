"""One database as a dump: the stream, its own snapshot's row counts, and the proof that they agree."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import psycopg

from engine.errors import BackupError, IntegrityError, LockHeld, SnapshotMismatch, ToolFailed, Unreachable
from engine.manifest import LogPosition
from engine.postgres import rows, schema
from engine.postgres.connection import Connection, Connector, translated
from engine.postgres.converter import Converter
from engine.postgres.dump_text import DumpScanner
from engine.postgres.tools import Tools
from engine.processes import Command, gathered
from engine.progress import Progress
from engine.source import Sink


@dataclass(frozen=True)
class Snapshot:
    """A moment of the database that several sessions see alike.

    Attributes:
        lsn_before, lsn_after: The log's position just before and just after it was taken. All that the
            snapshot shows was committed at or before ``lsn_after``; a commit before ``lsn_before`` may be
            missing only while it was still becoming visible.
    """

    name: str
    lsn_before: str
    lsn_after: str
    timeline: int

    @property
    def log(self) -> LogPosition:
        return LogPosition(lsn=self.lsn_after, timeline=self.timeline)


@dataclass(frozen=True)
class Dumped:
    """What the stream and the snapshot told."""

    rows: dict[str, int]
    uncounted: list[str]
    parts: dict[str, str]
    sequences: dict[str, tuple[int, bool]]
    large_objects: int
    warnings: list[str]


@contextlib.contextmanager
def snapshot(connection: Connection) -> Iterator[Snapshot]:
    """Hold a snapshot open on this session; others may use it by its name."""
    lsn = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END"
    with translated("taking a snapshot"):
        before = connection.execute(f"SELECT {lsn}::text").fetchone()
        connection.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        found = connection.execute(
            f"SELECT pg_export_snapshot(), {lsn}::text, (SELECT timeline_id FROM pg_control_checkpoint())"
        ).fetchone()
    assert before is not None and found is not None
    try:
        yield Snapshot(found[0], before[0], found[1], found[2])
    finally:
        with contextlib.suppress(psycopg.Error):
            connection.execute("ROLLBACK")


@contextlib.contextmanager
def nothing_published(database: str) -> Iterator[None]:
    """What a failed dump leaves as it was, and what to do, said in every error that does not say so itself."""
    try:
        yield
    except BackupError as error:
        error.kept = error.kept or "earlier backups are untouched; nothing was published"
        if isinstance(error, (Unreachable, ToolFailed)):
            error.remedy = error.remedy or (
                f"look at the server's log for what ended the dump of {database}, then back up again"
            )
        raise


class Capture:
    """The dump of one database within one snapshot.

    Args:
        lock_wait_seconds: How long pg_dump waits for a table that something has locked exclusively. Its
            wait holds up no reader and no writer.
    """

    def __init__(self, connector: Connector, tools: Tools, database: str, lock_wait_seconds: float) -> None:
        self._connector = connector
        self._config = connector.config
        self._tools = tools
        self._database = database
        self._lock_wait = lock_wait_seconds

    def run(self, connection: Connection, moment: Snapshot, sink: Sink, progress: Progress) -> Dumped:
        """Stream the dump into ``sink``; count meanwhile; compare.

        Raises:
            SnapshotMismatch: naming the table and both counts. IntegrityError: no end marker.
            LockHeld: a table stayed locked, naming by whom.
        """
        tables = rows.tables(connection, self._config.schemas)
        counted = [table for table in tables if not rows.is_uncounted(table, self._config.uncounted)]
        locked = threading.Event()  # pg_dump's first byte: it holds its locks on all tables now
        with self._counting(moment, counted, locked) as counts:
            try:
                reader = self._stream(moment, sink, progress, locked, sum(table.bytes for table in tables))
            except ToolFailed as error:
                raise self._blocked(connection, error) from None
            found = counts.result()
        scanner = reader.scanner
        if not scanner.complete:
            raise IntegrityError(f"The dump of {self._database} ended without its end marker: it is not whole.")
        compare_rows({table.label: found.get(table.label) for table in tables}, scanner.rows, self._database)
        extra = sorted(scanner.rows.keys() - {table.label for table in tables})
        return Dumped(
            rows={**found, **{name: scanner.rows[name] for name in extra}},
            uncounted=sorted(table.label for table in tables if table not in counted),
            parts=reader.fingerprint.parts(),
            sequences=dict(scanner.sequences),
            large_objects=self._large_objects(connection),
            warnings=[
                f"{name} is in the dump, though the catalog does not list it as a table with rows." for name in extra
            ],
        )

    def _stream(
        self, moment: Snapshot, sink: Sink, progress: Progress, locked: threading.Event, estimate: int
    ) -> Reader:
        done = 0
        started = self._tools.runner.start(self._command(moment), timeout=self._config.timeout_seconds)
        with started as process, Reader(self._tools, self._config.format) as reader:
            for chunk in gathered(process.chunks()):
                locked.set()
                sink.write(chunk)
                reader.write(chunk)
                done += len(chunk)
                progress("dump", done, max(estimate, done))
            process.wait()
            reader.finish()
        return reader

    def _command(self, moment: Snapshot) -> Command:
        form = ["--format=custom", "--compress=0"] if self._config.format == "custom" else ["--format=plain"]
        return self._tools.command(
            "pg_dump",
            *form,
            "--encoding=UTF8",
            "--no-password",
            f"--snapshot={moment.name}",
            f"--lock-wait-timeout={int(self._lock_wait * 1000)}",
            *schema.only(self._config.schemas),
            env=self._connector.tool_environment(self._database),
        )

    @contextlib.contextmanager
    def _counting(
        self, moment: Snapshot, tables: Sequence[rows.Table], locked: threading.Event
    ) -> Iterator[Future[dict[str, int]]]:
        """Count in a session of its own within the snapshot, from when the dump holds its locks."""
        connection = self._connector.open(self._database)
        stop = threading.Event()

        def work() -> dict[str, int]:
            with translated("joining the snapshot"):
                connection.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                connection.execute(f"SET TRANSACTION SNAPSHOT '{moment.name}'")
            locked.wait()
            return {} if stop.is_set() else rows.count_all(connection, tables)

        with ThreadPoolExecutor(1, thread_name_prefix="count") as pool, connection:
            future = pool.submit(work)
            try:
                yield future
            finally:
                if not future.done():
                    stop.set()
                    locked.set()
                    with contextlib.suppress(psycopg.Error):
                        connection.cancel()
                    with contextlib.suppress(BackupError, psycopg.Error):
                        future.result()

    def _blocked(self, connection: Connection, error: ToolFailed) -> BackupError:
        """Where pg_dump gave up waiting for a lock: who holds it."""
        # pg_dump's --lock-wait-timeout is a statement timeout around its LOCK TABLE
        if "timeout" not in error.message or "LOCK TABLE" not in error.message:
            return error
        with translated("looking for who holds the lock"):
            found = connection.execute(_HOLDERS).fetchall()
        holders = "; ".join(
            f"{relation} by pid {pid} ({user}, {application or 'no name'}, since {since:%H:%M:%S} UTC): {query}"
            for relation, pid, user, application, since, query in found
        )
        return LockHeld(
            f"pg_dump waited {self._lock_wait:g} s for a table of {self._database} that is locked exclusively"
            + (f": {holders}." if holders else "; whoever held it has gone since."),
            remedy="let it finish, or end it: "
            + " ".join(f"SELECT pg_terminate_backend({row[1]});" for row in found[:3]),
        )

    def _large_objects(self, connection: Connection) -> int:
        if self._config.schemas:
            return 0  # a dump of single schemas holds none
        with translated("counting large objects"):
            found = connection.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone()
        return int(found[0]) if found else 0


_HOLDERS = """
SELECT DISTINCT l.relation::regclass::text, a.pid, a.usename, a.application_name, a.xact_start, left(a.query, 120)
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.granted AND l.mode = 'AccessExclusiveLock' AND l.locktype = 'relation'
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation IN (SELECT oid FROM pg_class WHERE relkind IN ('r', 'p', 'm', 'v', 'f', 'S'))
ORDER BY 1
"""


def compare_rows(expected: dict[str, int | None], found: dict[str, int], database: str) -> None:
    """Hold the rows of a stream against the server's counts; None means not counted, but must be there.

    Raises:
        SnapshotMismatch: naming each table that differs, or is missing.
    """
    problems = []
    for table, count in sorted(expected.items()):
        if table not in found:
            problems.append(f"table {table} is missing from the dump")
        elif count is not None and found[table] != count:
            problems.append(f"table {table} has {found[table]} rows in the dump, {count} in the server's own snapshot")
    if problems:
        more = f", and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise SnapshotMismatch(
            f"The dump of {database} is not what the server holds: {'; '.join(problems[:5])}{more}.",
            kept="earlier backups are untouched; this one was not published",
        )


class Reader:
    """Reads a dump as it passes: a plain one itself, a custom one through ``pg_restore`` as text."""

    def __init__(self, tools: Tools | None, form: str) -> None:
        self.scanner = DumpScanner()
        self.fingerprint = schema.Fingerprint()
        self._converter = Converter(tools, self._look) if form == "custom" and tools else None

    def write(self, data: bytes) -> None:
        """The next bytes of the dump."""
        if self._converter is None:
            self._look(data)
        else:
            self._converter.write(data)

    def finish(self) -> None:
        """No more follows; all of it has been looked at when this returns."""
        if self._converter is not None:
            self._converter.finish()
        for piece in self.scanner.finish():
            self.fingerprint.take(piece)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._converter is not None:
            self._converter.close()

    def _look(self, data: bytes) -> None:
        for piece in self.scanner.feed(data):
            if piece.kind == "sql":
                self.fingerprint.take(piece)
