"""The transactions of a log, in the order in which they were committed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from engine.binlog import bodies, kinds
from engine.binlog.events import Event, Reader
from engine.binlog.statements import Change, changes
from engine.errors import IntegrityError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000
_SHOWN = 300
_CHANGES_ALONE = frozenset({*kinds.ROWS, kinds.MARIADB_ANNOTATE_ROWS})
"""Where a transaction begins and ends shows without these."""
_BEGINS = (b"BEGIN", b"START TRANSACTION", b"XA START")
_END = re.compile(rb"(?i)(COMMIT|ROLLBACK)(?!\s+TO\b)\b")
_ACCOUNTS = re.compile(
    rb"(?is)(?:\s|/\*M?!\d*|/\*.*?\*/)*"
    rb"(?:SET\s+STATEMENT\s.*?\sFOR\s+)?(GRANT|REVOKE|SET\s+PASSWORD|(CREATE|ALTER)\s+(OR\s+REPLACE\s+)?(USER|SERVER)|CHANGE)\b"
)


@dataclass(slots=True)
class Transaction:
    """One committed transaction (or one statement that commits by itself).

    Attributes:
        start: Position right before it; ``end`` right after.
        micros: When it was committed, microseconds since 1970. MySQL: by the server's clock. MariaDB: whole
            seconds, when its last statement began, as its session saw the time.
        exact: The time is the server's own, which no client can set.
        gtid: As SQL writes it; empty where it has none.
        changes: Tables changed, and how. Empty when the log was read for positions alone.
        text: The beginning of its first statement that tells something.
    """

    start: int
    end: int
    micros: int
    exact: bool
    gtid: str
    server_id: int
    changes: tuple[Change, ...] = ()
    text: str = ""

    @property
    def stamp(self) -> datetime:
        """``micros`` as a time, UTC."""
        return moment(self.micros)


def moment(micros: int) -> datetime:
    """Microseconds since 1970 as a time, UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def micros(at: datetime) -> int:
    """A time as microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def transactions(reader: Reader, changed: bool = True) -> Iterator[Transaction]:
    """Every whole transaction of a log. What a MariaDB server was writing when it died, and has rolled back, is
    left out.

    Args:
        changed: Find out what each changes; without it a log is read about twice as fast.

    Raises:
        IntegrityError: The log is damaged, or ends inside a transaction: names log and position.
    """
    group: _Group | None = None
    if not changed:
        reader.unwanted = _CHANGES_ALONE
    for event in reader:
        if event.kind in kinds.BEGINS:
            _refuse_open(reader, group)
            group = _begun(reader, event, changed)
        elif group is not None:
            try:
                done = group.take(event.kind, event.body)
            except ValueError as error:
                reader.damaged(event.start, f"an event of kind {event.kind} cannot be read: {error}")
            if done:
                yield group.finished(event.end)
                group = None
        if reader.closed:
            _refuse_open(reader, group)
    if group is not None and reader.format is not None and reader.format.flavour == "mysql":
        _refuse_open(reader, group)


def _begun(reader: Reader, event: Event, changed: bool) -> _Group:
    try:
        return _Group(event, bodies.begin(event.kind, event.body, event.server_id), changed)
    except ValueError as error:
        reader.damaged(event.start, f"its GTID cannot be read: {error}")


def _refuse_open(reader: Reader, group: _Group | None) -> None:
    if group is not None:
        raise IntegrityError(
            f"{reader.name} ends, or goes on with another, inside the transaction that begins at position "
            f"{group.start}: events are missing before position {reader.end}.",
            kept=f"everything before position {group.start} is whole",
        )


class _Group:
    """A transaction whose events are coming in."""

    def __init__(self, event: Event, begin: bodies.Begin, changed: bool) -> None:
        self.start = event.start
        self._event = event
        self._begin = begin
        self._changed = changed
        self._inside = False
        self._tables: dict[int, tuple[str, str]] = {}
        self._changes: dict[Change, None] = {}
        self._text = b""

    def take(self, kind: int, body: bytes) -> bool:
        """Take in one event; True when it was the last."""
        if kind in (kinds.QUERY, kinds.MARIADB_QUERY_COMPRESSED, kinds.EXECUTE_LOAD_QUERY):
            return self._statement(kind, body)
        if kind in (kinds.XID, kinds.XA_PREPARE):
            return True
        if kind == kinds.TRANSACTION_PAYLOAD:
            return self._payload(body)
        if kind == kinds.INCIDENT:
            self._changes[Change("INCIDENT", "", "")] = None
            return True
        if self._changed:
            self._rows(kind, body)
        # MariaDB begins no transaction in words where rows follow
        self._inside = self._inside or kind in kinds.ROWS or kind == kinds.TABLE_MAP
        return False

    def finished(self, end: int) -> Transaction:
        exact = self._begin.committed > 0
        return Transaction(
            self.start, end, self._begin.committed if exact else self._event.at * _SECOND, exact, self._begin.gtid,
            self._event.server_id, tuple(self._changes), self._text.decode("utf-8", "replace"),
        )  # fmt: skip

    def _statement(self, kind: int, body: bytes) -> bool:
        found = bodies.query(kind, body)
        text = found.text.strip()
        if text[:32].upper().startswith(_BEGINS):
            self._inside = True
            return False
        if _END.match(text):
            return True
        if self._changed:
            self._text = self._text or _shown(text)
            for change in changes(text, found.database):
                self._changes[change] = None
        return self._begin.standalone or (not self._inside and not self._mariadb)

    @property
    def _mariadb(self) -> bool:
        return self._event.kind == kinds.MARIADB_GTID

    def _payload(self, body: bytes) -> bool:
        if self._changed:
            for kind, _, _, inside in bodies.payload(body):
                self.take(kind, inside)
        return True

    def _rows(self, kind: int, body: bytes) -> None:
        if kind == kinds.TABLE_MAP:
            number, database, table = bodies.table_map(body)
            self._tables[number] = database, table
        elif kind in kinds.ROWS:
            named = self._tables.get(bodies.rows_table(body))
            if named is not None:
                self._changes[Change(kinds.ROWS[kind], *named)] = None
        elif kind == kinds.MARIADB_ANNOTATE_ROWS and not self._text:
            self._text = _shown(body.strip())


def _shown(text: bytes) -> bytes:
    """What of a statement may be shown: of those about accounts, which hold passwords, the first words."""
    found = _ACCOUNTS.match(text)
    if found or b"IDENTIFIED" in text[:_SHOWN].upper():
        return (found[1] if found else text[:6]) + b" ..."
    return text[:_SHOWN]
