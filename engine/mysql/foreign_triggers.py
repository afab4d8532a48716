"""Triggers of other databases that write into the one to be recovered, and tables that come in from others.

What such a trigger does is logged with the statement that fired it. Rows carry their own tables, but a
statement logged as text names the other database alone: a replay of one database passes over it, and what the
trigger wrote would be missing without a word. So logs are watched while they are put in place, and that is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from engine.binlog import bodies, kinds
from engine.binlog.statements import changes
from engine.errors import RestoreRefused
from engine.mysql.connection import Connection, query

_STATEMENTS = frozenset({kinds.QUERY, kinds.MARIADB_QUERY_COMPRESSED, kinds.EXECUTE_LOAD_QUERY})
_QUIET = (b"BEGIN", b"COMMIT", b"ROLLBACK", b"SAVEPOINT", b"XA ", b"START TRANSACTION")
_DATA = frozenset({"INSERT", "UPDATE", "DELETE"})
_HIDDEN = frozenset({"WITH", "SET", "SELECT", "CALL", "DO"})
"""First words of statements that can change rows of a table which is not looked for: taken for such."""
_NAME = r"(?:`((?:[^`]|``)+)`|([\w$\u0080-\uffff]+))"
_TRIGGER = re.compile(
    rf"(?is)\s*CREATE\b[^;]{{0,400}}?\bTRIGGER\s+(?:IF\s+NOT\s+EXISTS\s+)?{_NAME}(?:\s*\.\s*{_NAME})?"
)
_TABLE = rf"{_NAME}(?:\s*\.\s*{_NAME})?"
_RENAME = re.compile(rf"(?is){_TABLE}\s+TO\s+{_TABLE}")
_ALTER = re.compile(rf"(?is)ALTER\s[^`.]*?\bTABLE\s+(?:IF\s+EXISTS\s+)?{_TABLE}.*?"
                    rf"\bRENAME\s+(?:TO\s+|AS\s+|=\s*)?(?!(?:COLUMN|INDEX|KEY)\b){_NAME}\s*\.\s*{_NAME}")  # fmt: skip
_LONGEST = 1 << 16
_CHECKSUM = 4


def triggers_elsewhere(connection: Connection, database: str) -> list[str]:
    """Triggers of other databases whose bodies name this one: ``other.name``, those that we may see."""
    rows = query(
        connection,
        "SELECT trigger_schema, trigger_name, action_statement FROM information_schema.triggers "
        "WHERE trigger_schema NOT IN (%s, 'sys') AND LOCATE(%s, action_statement) > 0 ORDER BY 1, 2",
        (database, database),
    )  # fmt: skip
    return [f"{schema}.{name}" for schema, name, body in rows if _names(_text(body), database)]


class TriggerWatch:
    """Looks at the statements of logs as they go by, for one that such a trigger made more of than a replay will.

    Args:
        known: Such triggers, as the full backup names them.
        start: Position in the first log before which nothing matters.

    Attributes:
        kinds: Events that it wants to see whole.
    """

    def __init__(self, database: str, known: Iterable[str], start: int) -> None:
        self._database = database
        self._triggers = list(known)
        self._from = start
        self._log = ""
        self._begun = 0  # where the transaction begins that goes by: a place to recover to
        self._tail = 0
        self.kinds = {kinds.FORMAT_DESCRIPTION, *kinds.BEGINS, *_STATEMENTS}
        self._arm()

    def _arm(self) -> None:
        if self._triggers:
            self.kinds.add(kinds.TRANSACTION_PAYLOAD)

    def begin(self, log: str) -> None:
        """Another log begins."""
        self._from = self._from if not self._log else 0
        self._log, self._begun = log, 0

    def see(self, position: int, kind: int, body: bytes) -> None:
        """One event that begins at ``position``. Raises RestoreRefused."""
        if kind == kinds.FORMAT_DESCRIPTION:
            self._tail = _CHECKSUM if body[-_CHECKSUM - 1] == 1 else 0
            return
        if kind in kinds.BEGINS:
            self._begun = position
        if kind in kinds.BEGINS or position < self._from:
            return
        try:
            self._event(position, kind, body[: len(body) - self._tail])
        except ValueError:
            return  # damaged or unknown: the server that applies it will say so

    def _event(self, position: int, kind: int, body: bytes) -> None:
        if kind == kinds.TRANSACTION_PAYLOAD:
            for inner, _, _, inside in bodies.payload(body):
                if inner in _STATEMENTS:
                    self._statement(position, bodies.query(inner, inside))
        else:
            self._statement(position, bodies.query(kind, body))

    def _statement(self, position: int, found: bodies.Query) -> None:
        text = found.text.lstrip()
        if text[:20].upper().startswith(_QUIET):
            return
        if b"TRIGGER" in text[:500].upper() and (made := self._made(found)):
            self._triggers.append(made)
            self._arm()
        elif (moved := self._moved_in(text, found.database)) is not None:
            raise self._came_in(self._begun or position, moved)
        elif self._triggers and self._elsewhere(text, found.database):
            raise self._refusal(self._begun or position)

    def _made(self, found: bodies.Query) -> str:
        """A trigger of another database that names ours, if the statement makes one."""
        text = found.text.decode("utf-8", "replace")
        made = _TRIGGER.match(text)
        if made is None:
            return ""
        first, second = made[1] or made[2], made[3] or made[4]
        owner = first if second else found.database
        here = owner.lower() == self._database.lower()
        return f"{owner}.{second or first}" if not here and _names(text, self._database) else ""

    def _moved_in(self, text: bytes, default: str) -> str | None:
        """A table of another database that the statement makes one of ours."""
        verb = text[:6].upper()
        if verb not in (b"RENAME", b"ALTER ") or b"RENAME" not in text[:_LONGEST].upper():
            return None
        words = text[:_LONGEST].decode("utf-8", "replace")
        pattern, words = (_RENAME, words[6:]) if verb == b"RENAME" else (_ALTER, words)
        for found in pattern.finditer(words):
            parts = [found[number] or found[number + 1] for number in (1, 3, 5, 7)]
            old = parts[0] if parts[1] else default
            new = parts[2] if parts[3] else default
            if new.lower() == self._database.lower() != old.lower():
                return f"{old}.{parts[1] or parts[0]}"
        return None

    def _came_in(self, position: int, table: str) -> RestoreRefused:
        return RestoreRefused(
            f"At {self._log}, position {position}, the table {table} was renamed into {self._database!r}: it is in no "
            "backup of that database, nor are changes made to it elsewhere.",
            kept="production was not touched",
            remedy=f"recover to {self._log}:{position} or a moment before it, or from a full backup made after it",
        )

    def _elsewhere(self, text: bytes, default: str) -> bool:
        return any(
            change.kind in _HIDDEN or (change.kind in _DATA and change.database.lower() != self._database.lower())
            for change in changes(text, default)
        )

    def _refusal(self, position: int) -> RestoreRefused:
        named = ", ".join(self._triggers[:5])
        return RestoreRefused(
            f"Triggers of other databases write into {self._database!r} ({named}), and {self._log} holds, at position "
            f"{position}, a change of another database that was logged as a statement: what a trigger wrote then "
            "stands in no log.",
            kept="production was not touched",
            remedy=f"recover to {self._log}:{position} or a moment before it, or from a full backup made after it. "
            "With binlog_format=ROW on the source this does not happen",
        )


def _names(text: str, database: str) -> bool:
    return re.search(rf"(?<![\w$]){re.escape(database)}(?![\w$])", text, re.I) is not None


def _text(shown: object) -> str:
    return shown.decode("utf-8", "replace") if isinstance(shown, bytes) else str(shown)
