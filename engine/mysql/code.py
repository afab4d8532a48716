"""Make a dump's routines, views, triggers and events in a side database, so that none of them can act."""

from __future__ import annotations

from collections.abc import Iterable

from engine.errors import BackupError, MissingGrant, RestoreRefused
from engine.mysql.connection import Connection, query, quoted
from engine.mysql.definitions import Definition
from engine.mysql.dumpfile import Piece, Section
from engine.mysql.sessions import run
from engine.mysql.statements import (
    alter_database,
    bare_trigger,
    created_kind,
    event_with_status,
    is_session_only,
    names_another_schema,
)
from engine.mysql.view_text import as_shown, definer_of, for_lack_of_rights, lacks_rights, renamed, settings_of

_DEFINER_REMEDY = (
    "restore as a user that may name other definers: GRANT SET_ANY_DEFINER, ALLOW_NONEXISTENT_DEFINER ON *.* "
    "(MySQL 8.2+), GRANT SET_USER_ID ON *.* (MySQL 8.0), GRANT SET USER ON *.* (MariaDB), or as root"
)
_IS_OVER = 1588
"""Event execution time is in the past and ON COMPLETION NOT PRESERVE is set: the event was not created."""
_FUNCTION_REMEDY = "SET GLOBAL log_bin_trust_function_creators = 1, or restore as root"


class CodeInstaller:
    """Runs the code sections of one dump in one side database.

    Attributes:
        notes: What a person should know: statements left out, views that could not be made.
        event_status: What each event was in the dump; here all are DISABLED.
        events_over: Events that the server did not make, because their time has passed.
        postponed: Views that cannot be made here, as their definers have no rights here or do not exist; as
            they are in the dump.
        charset: The settings of the dump's last ALTER DATABASE, which restore the database's own.
    """

    def __init__(self, database: str, settings: list[bytes], dumped: str) -> None:
        self._database = database
        self._dumped = dumped
        self._settings = settings
        self.notes: list[str] = []
        self.event_status: dict[str, str] = {}
        self.events_over: list[str] = []
        self.postponed: list[Definition] = []
        self.charset: bytes | None = None

    def install(self, session: Connection, pieces: list[Piece]) -> None:
        """Routines first, as views may call them; events last.

        Raises:
            MissingGrant: Error 1227 or 1419; the remedy holds the grant.
            RestoreRefused: A statement that could reach outside the side database.
        """
        for section in (Section.ROUTINES, Section.VIEWS, Section.TRIGGERS, Section.EVENTS):
            # each begins as the dump does, whatever was set last; a note says which events are over
            run(session, *self._settings, b"SET SESSION sql_notes = 1")
            chosen = [piece for piece in pieces if piece.section is section]
            if section is Section.VIEWS:
                self._views(session, chosen)
            else:
                self._run(session, chosen)

    def _run(self, session: Connection, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            statement = self._for_side(piece)
            if statement is None:
                continue
            try:
                run(session, statement)
            except BackupError as error:
                raise _explained(error) from None
            if created_kind(statement) == "event":
                self._see_whether_over(session, next(reversed(self.event_status)))

    def _see_whether_over(self, session: Connection, event: str) -> None:
        if any(row[1] == _IS_OVER for row in query(session, "SHOW WARNINGS")):
            del self.event_status[event]
            self.events_over.append(event)
            self.notes.append(f"event {event} is over (its last time has passed) and was left out")

    def _views(self, session: Connection, pieces: list[Piece]) -> None:
        """A view may use one that comes later: what fails is tried again while others succeed."""
        waiting: dict[str, list[Piece]] = {}
        for piece in pieces:
            waiting.setdefault(piece.name, []).append(piece)
        while waiting:
            failed: dict[str, list[Piece]] = {}
            reasons: dict[str, str] = {}
            for name, group in waiting.items():
                try:
                    self._run(session, group)
                except BackupError as error:
                    if isinstance(error, MissingGrant) and not lacks_rights(error.message):
                        raise
                    failed[name], reasons[name] = group, error.message
                    run(session, b"SET NAMES utf8mb4")
            if len(failed) == len(waiting):
                self._give_up(failed, reasons)
                return
            waiting = failed

    def _give_up(self, failed: dict[str, list[Piece]], reasons: dict[str, str]) -> None:
        """No view is made for a definer whose rights end at production: it waits until it is made there."""
        texts = {name: b";\n".join(piece.data for piece in group) for name, group in failed.items()}
        later = for_lack_of_rights(texts, reasons)
        for name, group in failed.items():
            if name not in later:
                self.notes.append(f"view {name} could not be made: {reasons[name]}")
                continue
            text = next(as_shown(piece.data) for piece in group if created_kind(piece.data) == "view")
            self.postponed.append(Definition("view", name, text, *settings_of(texts[name]), definer=definer_of(text)))
            self.notes.append(
                f"view {name} is not in the side copy {self._database}: its definer, or that of something it uses, "
                f"has no rights there ({reasons[name]}); a replacement makes it in place"
            )

    def _for_side(self, piece: Piece) -> bytes | None:
        """The statement as it may run here, or None for one that is not needed."""
        text = piece.data
        altered = alter_database(text)
        if altered:
            self.charset = altered.settings
            return f"ALTER DATABASE {quoted(self._database)} ".encode() + altered.settings
        kind = created_kind(text)
        if kind is None:
            if not is_session_only(text):
                words = " ".join(text[:100].decode("utf-8", "replace").split())
                self.notes.append(f"left out a statement that makes nothing: {words}")
                return None
            return None if b"DROP " in text[:24].upper() else text
        if kind == "trigger":
            return bare_trigger(text)[2]
        if names_another_schema(text):
            words = " ".join(text[:160].decode("utf-8", "replace").split())
            raise RestoreRefused(
                f"A statement of the dump names a database itself: {words}",
                kept="production is untouched",
                remedy="restore this object by hand",
            )
        if kind == "view":
            return renamed(text, self._dumped, self._database)
        if kind == "event":
            name, status, text = event_with_status(text, b"DISABLE")
            self.event_status[name] = status
        return text


def _explained(error: BackupError) -> BackupError:
    if "(1227)" in error.message:
        return MissingGrant(error.message, kept="production is untouched", remedy=_DEFINER_REMEDY)
    if "(1419)" in error.message:
        return MissingGrant(error.message, kept="production is untouched", remedy=_FUNCTION_REMEDY)
    return error
