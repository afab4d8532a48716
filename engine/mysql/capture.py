"""One database as one dump, with everything a manifest says about it, or an error and nothing.

The dump program streams through us; while it does, a second session counts every table at the very same
snapshot, and what is in the stream is counted too. All three must agree: the server's counts, the
stream's, and the schema before and after. The end marker and every exit status are checked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from engine import names
from engine.errors import SnapshotMismatch
from engine.manifest import Server
from engine.mysql import foreign_keys, snapshot
from engine.mysql.accounts import write_accounts
from engine.mysql.connection import Connection, translated, value
from engine.mysql.counting import Counting
from engine.mysql.locking import DdlLock
from engine.mysql.rows import uncounted
from engine.mysql.schema import (
    SEQUENCE,
    Table,
    database_facts,
    differences,
    digests_of,
    fingerprint_of,
    list_tables,
    schema_parts,
)
from engine.mysql.surroundings import KEY, surroundings
from engine.mysql.views import broken_views
from engine.mysql.views import warnings as broken_view_warnings
from engine.progress import Progress
from engine.source import Facts, Parts, Sink

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource

_DUMP_OPTIONS = ["--single-transaction", "--quick", "--routines", "--triggers", "--events", "--hex-blob",
                 "--no-tablespaces", "--max-allowed-packet=1G"]  # fmt: skip
_MOST_DIGESTS = 50_000
"""A manifest is read whole: beyond that many objects it has the one fingerprint only."""


def capture(source: MySQLSource, database: str, parts: Parts, progress: Progress) -> Facts:
    """Dump one database and the server's accounts through ``parts``.

    Raises:
        SnapshotMismatch: Counts, schema or log position do not agree (retryable).
        LockHeld, Unreachable, ToolFailed, MissingGrant...: as they occurred. Locks are let go, the dump
            and its queries ended, whatever ends this.
    """
    with contextlib.closing(source.connect(database)) as session, _ddl_kept_out(source) as ddl:
        tables = list_tables(session, database)
        with translated(f"Reading the views of {database}"):
            broken = broken_views(session, database)
        definitions = schema_parts(session, database)
        before = {name: text for name, text in definitions.items() if name.removeprefix("view ") not in broken}
        left_out = [table.name for table in tables if table.has_data and uncounted(table.name, source.config.uncounted)]
        counted = [table for table in tables if table.has_data and table.name not in left_out]
        command = source.dump_command(dump_options(source, database, tables, broken), gated=True)
        taken = snapshot.take(source, command, ddl)
        with _ended_with(source, taken) as taken:
            if ddl.held:  # a change that came before the lock did is not found out only hours later
                _schema_unchanged(definitions, session, database)
            counting = Counting(taken.session, database, counted)
            try:
                _stream(taken, parts.data(), progress, f"dump {database}")
                rows, warnings = counting.check(taken.rows.finish(), left_out, f"The dump of {database!r}")
            except BaseException:
                counting.stop()
                raise
        _schema_unchanged(definitions, session, database)
        contents = {**database_facts(session, database, tables), "snapshot_at": names.iso(taken.at),
                    "lock_held_seconds": round(taken.held_seconds, 3),
                    "broken_views": {name: definitions[f"view {name}"] for name in broken},
                    "definitions": digests_of(before) if len(before) <= _MOST_DIGESTS else {},
                    "ddl_locked": ddl.held}  # fmt: skip
        contents[KEY], lacking = surroundings(session, database)
        warnings += lacking
        if source.config.point_in_time and taken.log.binlog_file:
            settings = contents[KEY]["settings"]
            warnings += foreign_keys.warnings(session, database, source.server(), settings)
    warnings += broken_view_warnings(broken)
    warnings += write_accounts(source, parts)
    return Facts(
        server=_server(source), dump_format="sql", log=taken.log, rows=rows, uncounted=left_out,
        schema_sha256=fingerprint_of(before), contents=contents, warnings=warnings,
    )  # fmt: skip


def dump_options(source: MySQLSource, database: str, tables: list[Table], left_out: Iterable[str] = ()) -> list[str]:
    """The dump program's options for this server, by what that very program knows."""
    known = source.dump_help
    options = list(_DUMP_OPTIONS)
    if value(source.session, "SELECT @@log_bin"):
        options.append("--source-data=2" if "--source-data" in known else "--master-data=2")
    if "--set-gtid-purged" in known:  # COMMENTED too would switch the binary log off on loading
        options.append("--set-gtid-purged=OFF")
    if "--init-command" in known and source.flavour == "mysql":  # its own FLUSH TABLES must not wait for long
        wait = source.config.lock_try_seconds
        options.append(f"--init-command=SET SESSION lock_wait_timeout={wait}, net_write_timeout=600")
    if any(table.kind == SEQUENCE for table in tables):
        # With LOCK TABLES around them, rows of a table whose default is a sequence do not load (error 1100).
        options.append("--skip-add-locks")
    options += [f"--ignore-table={database}.{name}" for name in left_out]
    return [*options, "--", database]


def _stream(taken: snapshot.Snapshot, sink: Sink, progress: Progress, step: str) -> None:
    done = 0
    for chunk in taken.chunks():
        sink.write(chunk)
        done += len(chunk)
        progress(step, done, None)
    taken.process.wait()


@contextlib.contextmanager
def _ended_with(source: MySQLSource, taken: snapshot.Snapshot) -> Iterator[snapshot.Snapshot]:
    """Whatever ends the block, nothing of the dump goes on, here or in the server."""
    try:
        with taken.process:
            yield taken
    except BaseException:
        snapshot.end_dump(source, taken.process, taken.connections)
        snapshot.end_session(source, taken.session)
        raise
    finally:
        with contextlib.suppress(Exception):
            taken.session.close()


@contextlib.contextmanager
def _ddl_kept_out(source: MySQLSource) -> Iterator[DdlLock]:
    """The lock against schema changes, not yet taken: ``snapshot.take`` does that. Let go at the end."""
    connection = source.connect()
    try:
        yield DdlLock(connection, source.flavour)
    finally:
        with contextlib.suppress(Exception):
            connection.close()


def _schema_unchanged(before: dict[str, str], session: Connection, database: str) -> None:
    changes = differences(before, schema_parts(session, database))
    if changes:
        raise SnapshotMismatch(
            f"The schema of {database!r} changed while it was dumped: {'; '.join(changes[:5])}"
            + (f" and {len(changes) - 5} more." if len(changes) > 5 else "."),
            remedy="try again when no migration runs",
        )


def _server(source: MySQLSource) -> Server:
    return source.server().model_copy(update={"tool": source.dump.name, "tool_version": source.dump.version})
