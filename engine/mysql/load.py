"""Load a backup into a new side database that nothing else can notice.

Tables and rows go through the server's own client. Triggers, routines, views and events follow once the
rows are in, through a session of ours: no trigger fires on loaded rows, every event is made DISABLED
(what it was is written into the journal), and ``ALTER DATABASE`` reaches the side database alone. Bodies
may name production; they act only when somebody writes to the side database or calls them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from engine.errors import BackupError, MissingGrant, RestoreRefused, ToolFailed, nearest
from engine.journal import Journal
from engine.manifest import Manifest
from engine.mysql.code import CodeInstaller
from engine.mysql.connection import Connection, query, quoted
from engine.mysql.definitions import Definition, set_charset
from engine.mysql.dumpfile import DumpReader, Piece, Section
from engine.mysql.sequences import without_schema
from engine.mysql.sessions import Sessions, run
from engine.mysql.statements import is_session_only, literal
from engine.processes import Process
from engine.progress import Progress
from engine.source import OpenPart, Selection

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource

_CLIENT_OPTIONS = ("--binary-mode", "--max-allowed-packet=1G")
_WRITE_AT = 256 * 1024
_DATA = (Section.TABLE, Section.ROWS)
_CODE = (Section.TRIGGERS, Section.EVENTS, Section.ROUTINES, Section.VIEWS)


def load_beside(
    source: MySQLSource,
    manifest: Manifest,
    part: OpenPart,
    into: str,
    selection: Selection,
    journal: Journal,
    progress: Progress,
) -> list[str]:
    """See ``engine.source.DatabaseSource.load_beside``. The side database is complete afterwards."""
    _refuse_bad_request(source, manifest, into, selection)
    with Sessions(source, journal) as sessions:
        session = sessions.open()
        _make_database(session, into, _charset(session, manifest), journal)
        try:
            loader = _Loader(source, manifest, into, selection, sessions)
            events = loader.load(session, part("data"), progress)
        except BaseException:
            with contextlib.suppress(BackupError):
                drop_side(source, into, journal)
            raise
        views = [each.document() for each in loader.postponed]
        journal.record("loaded", side=into, events=events, views=views)
        source.side_events[into] = events
        source.side_views[into] = loader.postponed
    return loader.notes


def finish_side(source: MySQLSource, into: str) -> list[str]:
    """Nothing is left to do: ``load_beside`` makes a complete copy. Says what a person should know of it."""
    listed = "SELECT event_name FROM information_schema.events WHERE event_schema = %s ORDER BY 1"
    asleep = [str(name) for (name,) in query(source.session, listed, (into,))]
    if not asleep:
        return []
    return [
        f"events of the copy are disabled: {', '.join(asleep)}; "
        f"to start one: ALTER EVENT {quoted(into)}.{quoted(asleep[0])} ENABLE"
    ]


def drop_side(source: MySQLSource, side: str, journal: Journal) -> None:
    """Remove a side database that this journal made.

    Raises:
        RestoreRefused: This journal did not make it.
    """
    if side not in own_sides(journal):
        raise RestoreRefused(f"The database {side!r} was not made by this restore; it is left alone.")
    with contextlib.closing(source.connect()) as session:
        run(session, f"DROP DATABASE IF EXISTS {quoted(side)}".encode())
    journal.record("side-dropped", database=side)


def own_sides(journal: Journal) -> list[str]:
    """Side databases that a journal made and has not given up."""
    sides: list[str] = []
    for entry in journal.steps:
        if entry["step"] == "side":
            sides.append(entry["database"])
        elif entry["step"] == "side-dropped" and entry["database"] in sides:
            sides.remove(entry["database"])
    return sides


def exists(session: Connection, database: str) -> bool:
    return bool(query(session, f"SELECT 1 FROM information_schema.schemata WHERE schema_name = {literal(database)}"))


class _Loader:
    """One dump on its way into one side database."""

    def __init__(
        self, source: MySQLSource, manifest: Manifest, into: str, selection: Selection, sessions: Sessions
    ) -> None:
        self._source = source
        self._manifest = manifest
        self._into = into
        self._selection = selection
        self._sessions = sessions
        self._settings: list[bytes] = []
        self._code: list[Piece] = []
        self.notes: list[str] = []
        self.postponed: list[Definition] = []

    def load(self, session: Connection, chunks: Iterable[bytes], progress: Progress) -> dict[str, str]:
        """Tables and rows, then code. Returns the status each event had in the dump."""
        reader = DumpReader(_counted(chunks, progress, self._manifest.data.plain_size))
        command = self._source.client_command(
            [*_CLIENT_OPTIONS, f"--init-command={self._sessions.client_mark()}"], database=self._into
        )
        with self._source.runner.start(command, timeout=self._source.config.timeout_seconds) as client:
            self._feed(client, reader)
            client.close_input()
            client.wait()
        if not self._selection.everything and not any(map(self._selection.wants, reader.facts.tables)):
            raise RestoreRefused(
                f"No table of the backup matches {', '.join(self._selection.tables)}.",
                kept="nothing was changed",
                remedy=nearest(self._selection.tables[0], reader.facts.tables),
            )
        progress("triggers, routines, views", 0)
        installer = CodeInstaller(self._into, self._settings, self._manifest.database)
        installer.install(self._sessions.open(self._into), self._code)
        self.notes += installer.notes
        self.postponed = installer.postponed
        self._source.events_over[self._into] = installer.events_over
        self._final_charset(session, installer.charset)
        return installer.event_status

    def _feed(self, client: Process, reader: DumpReader) -> None:
        held: list[bytes] = []
        size = 0
        for piece in self._data(reader):
            held.append(piece)
            size += len(piece)
            if size >= _WRITE_AT:
                client.write(b"".join(held))
                held, size = [], 0
        client.write(b"".join(held))

    def _data(self, reader: DumpReader) -> Iterator[bytes]:
        """What the client gets; code is set aside. Raises IntegrityError, RestoreRefused."""
        sandbox_seen = False
        for piece in reader.pieces():
            if reader.facts.sandbox_line and not sandbox_seen:
                sandbox_seen = True
                yield from self._sandbox(reader.facts.sandbox_line)
            if piece.section in _DATA:
                if self._selection.wants(piece.name):
                    yield piece.data if piece.raw else self._definition(piece.data) + b";\n"
            elif piece.section in _CODE:
                if self._selection.everything or (
                    piece.section is Section.TRIGGERS and self._selection.wants(piece.name)
                ):
                    self._code.append(piece)
            elif piece.section in (Section.HEADER, Section.FOOTER):
                yield from self._setting(piece)

    def _definition(self, text: bytes) -> bytes:
        if self._source.flavour == "mariadb" and text.startswith(b"CREATE TABLE"):
            return without_schema(text, self._manifest.database, self._selection.wants)
        return text

    def _setting(self, piece: Piece) -> Iterator[bytes]:
        if not is_session_only(piece.data):
            if b"MYSQLDUMP_TEMP_LOG_BIN" not in piece.data:
                words = " ".join(piece.data[:100].decode("utf-8", "replace").split())
                self.notes.append(f"left out a statement of the dump that acts on the whole server or its log: {words}")
            return
        if piece.section is Section.HEADER:
            self._settings.append(piece.data)
        yield piece.data + b";\n"

    def _sandbox(self, line: bytes) -> Iterator[bytes]:
        """MariaDB's sandbox line, where this client takes it. The one proof is to try."""
        command = self._source.client_command(list(_CLIENT_OPTIONS))
        try:
            self._source.runner.run(command, input=line)
        except ToolFailed:
            self.notes.append("left out the dump's sandbox comment, which this client does not know")
            return
        yield line

    def _final_charset(self, session: Connection, last_in_dump: bytes | None) -> None:
        """Where only the dump itself tells the database's character set: its last ALTER DATABASE does."""
        if last_in_dump and not _from_manifest(self._manifest):
            run(session, f"ALTER DATABASE {quoted(self._into)} ".encode() + last_in_dump)
        elif charset := _from_manifest(self._manifest):
            run(session, set_charset(self._into, *charset))


def _refuse_bad_request(source: MySQLSource, manifest: Manifest, into: str, selection: Selection) -> None:
    if selection.schemas:
        raise RestoreRefused("MySQL backups hold one database; choose tables, not schemas.", kept="nothing was changed")
    if manifest.dump_format != "sql":
        raise RestoreRefused(f"This backup's format is {manifest.dump_format!r}, not a dump of MySQL or MariaDB.")
    if len(into) > 64:
        raise RestoreRefused(f"The name {into!r} is too long for a database (64 characters at most).")
    if exists(source.session, into):
        raise RestoreRefused(
            f"The database {into!r} exists already; a restore never loads into an existing one.",
            kept="nothing was changed",
            remedy="choose another name",
        )


def _make_database(session: Connection, into: str, charset: tuple[str, str] | None, journal: Journal) -> None:
    journal.record("side", database=into)
    settings = f" CHARACTER SET {charset[0]} COLLATE {charset[1]}" if charset else ""
    try:
        run(session, f"CREATE DATABASE {quoted(into)}{settings}".encode())
    except BackupError as error:
        if "(1007)" in error.message:  # somebody was faster: it is not ours
            journal.record("side-dropped", database=into)
        if "(1044)" in error.message:
            raise MissingGrant(
                error.message,
                kept="nothing was changed",
                remedy=f"GRANT ALL ON {quoted(into)}.* TO the restore's user, or restore as root",
            ) from None
        raise


def _from_manifest(manifest: Manifest) -> tuple[str, str] | None:
    charset, collation = manifest.contents.get("character_set"), manifest.contents.get("collation")
    return (str(charset), str(collation)) if charset and collation else None


def _charset(session: Connection, manifest: Manifest) -> tuple[str, str] | None:
    """The database's character set: from the manifest, else as the living database has it."""
    known = _from_manifest(manifest)
    if known:
        return known
    rows = query(session, "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata "
                          "WHERE schema_name = %s", (manifest.database,))  # fmt: skip
    return (str(rows[0][0]), str(rows[0][1])) if rows else None


def _counted(chunks: Iterable[bytes], progress: Progress, total: int) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        progress("load", done, total or None)
