"""Sessions of a restore, each under a mark that a later run can find and end.

A mark is a user lock of the server (``GET_LOCK``) whose name comes from the journal: whoever holds it
*is* that restore's session, so nothing can be confused with a session of somebody else that got the
same number after a restart.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import time
from typing import TYPE_CHECKING, Any

from pymysql.constants import COMMAND

from engine.errors import LockHeld, Unreachable
from engine.journal import Journal
from engine.mysql.connection import Connection, query, quoted, translated, value

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource

SLOTS = 110
"""Most sessions one restore may mark."""


def mark(journal: Journal, slot: int) -> str:
    """Name of a journal's user lock; at most 64 characters."""
    token = hashlib.sha256(journal.path.name.encode()).hexdigest()[:16]
    return f"backup-flows:restore:{token}:{slot}"


class Sessions:
    """The marked sessions of one journal's work; leaving closes them."""

    def __init__(self, source: MySQLSource, journal: Journal) -> None:
        self._source = source
        self._journal = journal
        self._open: list[Connection] = []

    def __enter__(self) -> Sessions:
        return self

    def __exit__(self, *exc: object) -> None:
        for connection in self._open:
            with contextlib.suppress(Exception):
                connection.close()

    def open(self, database: str | None = None) -> Connection:
        """A new session that takes several statements in one packet.

        It waits for a table no longer than ``lock_try_seconds``: writers queue behind whoever waits.
        """
        connection = self._source.connect(database)
        self._open.append(connection)
        taken = next((slot for slot in range(SLOTS) if self._take(connection, slot)), None)
        if taken is None:
            raise Unreachable("This restore has too many sessions open.")
        allow_packets(connection)
        run(connection, f"SET SESSION lock_wait_timeout = {self._source.config.lock_try_seconds}".encode())
        return connection

    def close(self, connection: Connection) -> None:
        """Close one of them before the rest; its slot is free again."""
        with contextlib.suppress(Exception):
            connection.close()
        if connection in self._open:
            self._open.remove(connection)

    def _take(self, connection: Connection, slot: int) -> bool:
        return bool(value(connection, "SELECT GET_LOCK(%s, 0)", (mark(self._journal, slot),)) == 1)

    def user_lock(self, word: str) -> str:
        """Name of another user lock of this work."""
        return f"{mark(self._journal, 0)}:{word}"[:64]

    def client_mark(self) -> str:
        """An init command that marks a client program's session."""
        return f"DO GET_LOCK('{mark(self._journal, SLOTS)}', 10)"


def allow_packets(connection: Connection) -> None:
    """Let a session take several statements in one packet: the server runs such a packet to its end even
    when its sender dies, so what must not stop half way goes into one."""
    raw: Any = connection
    with translated("Preparing a session"):
        raw._execute_command(COMMAND.COM_SET_OPTION, struct.pack("<H", 0))
        raw._read_packet()


def run(connection: Connection, *statements: bytes) -> None:
    """Run statements one after another."""
    for statement in statements:
        with translated(describe(statement)), connection.cursor() as cursor:
            _send(cursor, statement)
            while cursor.nextset():
                pass


def run_patiently(connection: Connection, *statements: bytes, patience: float = 60.0) -> None:
    """Run statements one after another; one that finds its tables in use is tried again, with rests.

    Raises:
        LockHeld: Still in use after ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    for statement in statements:
        while True:
            try:
                run(connection, statement)
                break
            except LockHeld:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def packet(statements: list[bytes]) -> bytes:
    """Several statements as one; the first that fails ends it and is raised."""
    return b";\n".join(statements)


def run_packet(connection: Connection, statements: list[bytes]) -> None:
    run(connection, packet(statements))


def _send(cursor: Any, statement: bytes) -> None:
    cursor.execute(statement)  # bytes go out as they are


def describe(statement: bytes) -> str:
    text = " ".join(statement[:160].decode("utf-8", "replace").split())
    return f"«{text[:120]}»"


def number_of(connection: Connection) -> int:
    """The session's number in the server, as the process list shows it."""
    raw: Any = connection
    return int(raw.thread_id())


def holders(connection: Connection, journal: Journal) -> list[int]:
    """Numbers of the sessions that a journal's work still has in the server."""
    asked = ", ".join(f"IS_USED_LOCK('{mark(journal, slot)}')" for slot in range(SLOTS + 1))
    own = number_of(connection)
    return sorted({int(each) for each in query(connection, f"SELECT {asked}")[0] if each is not None and each != own})


def end_sessions(connection: Connection, journal: Journal, patience: float = 60.0) -> int:
    """End every session of a dead run and wait until the server has let go of them.

    Returns:
        How many there were.

    Raises:
        Unreachable: Some would not end in ``patience`` seconds (a large rollback takes its time).
    """
    ended: set[int] = set()
    deadline = time.monotonic() + patience
    while left := holders(connection, journal):
        for number in left:
            with contextlib.suppress(Exception):  # it may just have ended by itself
                query(connection, f"KILL {number}")
        ended.update(left)
        if time.monotonic() > deadline:
            raise Unreachable(
                f"Sessions {left} of an earlier restore do not end.",
                kept="its journal stays; nothing was changed",
                remedy="wait until the server has rolled them back, then run again",
            )
        time.sleep(0.05)
    return len(ended)


def using(database: str) -> bytes:
    return f"USE {quoted(database)}".encode()
