"""Begin a dump and a counting session at one and the same snapshot, with its log position.

While the short lock stops commits, the lock against schema changes is taken, the counting session takes its
snapshot, the position is read, and the dump (started before, waiting at a gate) begins its transaction. As
soon as its output shows that it has begun, commits go on. The position that the dump states in its own header
must be the one read here: that proves the snapshots equal. A watchdog in a session of its own ends a hold that
lasts too long.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pymysql

from engine.errors import BackupError, LockHeld, SnapshotMismatch
from engine.manifest import LogPosition
from engine.mysql.connection import Connection, query, session_id, value
from engine.mysql.locking import DdlLock, ShortLock
from engine.mysql.rows import RowCounter
from engine.processes import Command, Process, gathered

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource

_SHORTEST_HOLD = 0.2
_REST = 1.0


@dataclass
class Snapshot:
    """A dump that runs, and a session that sees exactly the rows it sees.

    Attributes:
        head: What was read of the dump so far; ``rest`` gives what follows. ``rows`` has followed ``head``.
        session: Repeatable read, in its snapshot; the caller closes it.
        log: The position of the snapshot; empty where the server writes no binary log.
        at: When it was taken, by the server's clock (UTC): commits stopped then.
        held_seconds: How long commits waited at most.
        connections: Lowest and highest connection number that the dump's own session can have.
    """

    process: Process
    head: list[bytes]
    rest: Iterator[bytes]
    rows: RowCounter
    session: Connection
    log: LogPosition
    at: datetime
    held_seconds: float
    connections: tuple[int, int]

    def chunks(self) -> Iterator[bytes]:
        """The whole dump; ``rows`` follows it, and is up to date with every chunk given.

        The dump programs write 4 KiB at a time: that is gathered, for everybody's work costs by the piece.
        """
        head, self.head = self.head, []
        yield from head
        for block in gathered(self.rest):
            self.rows.feed(block)
            yield block


def take(source: MySQLSource, command: Command, ddl: DdlLock) -> Snapshot:
    """Start the dump and its counting session at one snapshot; from then on ``ddl`` is held, where it can be.

    Raises:
        LockHeld: No moment for it within ``lock_wait_seconds``; names what was in the way.
        SnapshotMismatch: The dump states another position.
    """
    end = time.monotonic() + source.config.lock_wait_seconds
    while True:
        snapshot = _attempt(source, command, ddl, end)
        if snapshot is not None:
            return snapshot
        if time.monotonic() > end:
            raise LockHeld(
                f"{command.name} did not begin within the {source.config.lock_try_seconds} s for which writes may "
                f"wait; tried for {source.config.lock_wait_seconds:g} s.",
                kept="writes went on after every try",
                remedy="raise lock_try_seconds, or run the backup when the server is less busy",
            )
        time.sleep(_REST)


def _attempt(source: MySQLSource, command: Command, ddl: DdlLock, end: float) -> Snapshot | None:
    """One try; None when the dump had not begun within the time that writes may wait."""
    with contextlib.ExitStack() as stack:
        locker = stack.enter_context(contextlib.closing(source.connect()))
        watchdog = _Watchdog(stack.enter_context(contextlib.closing(source.connect())), locker)
        session = source.connect(autocommit=False)
        failed = contextlib.ExitStack()
        stack.enter_context(failed)
        failed.callback(session.close)
        query(session, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        process = source.runner.start(command, timeout=source.config.timeout_seconds)
        failed.callback(end_dump, source, process, (session_id(locker), 0))
        lock = ShortLock(locker, source.flavour, source.version, source.config.lock_try_seconds)
        began = lock.acquire(max(0.0, end - time.monotonic()))
        rest, rows, head = process.chunks(), RowCounter(), list[bytes]()
        failed.callback(ddl.release)  # before a next try waits for the short lock
        with watchdog.limit(began + source.config.lock_try_seconds):
            ddl.acquire()
            query(session, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
            log = log_position(locker, source.flavour, source.version)
            at = value(locker, "SELECT UTC_TIMESTAMP(6)").replace(tzinfo=UTC)
            process.open_gate()
            _read_until_begun(rest, rows, head)
        if watchdog.ended:
            return None
        lock.release()
        held = time.monotonic() - began
        _same_position(log, rows.log, command, locker)
        highest = _highest_connection(source)
        failed.pop_all()
        return Snapshot(process, head, rest, rows, session, log, at, held, (session_id(locker), highest))


def log_position(connection: Connection, flavour: str, version: tuple[int, ...]) -> LogPosition:
    """Where the binary log stands; empty when it is off.

    Raises:
        MissingGrant: REPLICATION CLIENT (BINLOG MONITOR) is missing.
    """
    newer = flavour == "mysql" and version >= (8, 2)
    rows = query(connection, "SHOW BINARY LOG STATUS" if newer else "SHOW MASTER STATUS")
    if not rows:
        return LogPosition()
    gtid = str(value(connection, "SELECT @@gtid_binlog_pos")) if flavour == "mariadb" else str(rows[0][4])
    return LogPosition(binlog_file=str(rows[0][0]), binlog_position=int(rows[0][1]), gtid=gtid.replace("\n", ""))


def end_dump(source: MySQLSource, process: Process, connections: tuple[int, int]) -> None:
    """Kill a dump and its query in the server, which else goes on until it next writes. Never raises."""
    process.kill()
    lowest, highest = connections
    with contextlib.suppress(BackupError, pymysql.err.MySQLError), contextlib.closing(source.connect()) as control:
        top = highest or session_id(control)
        _kill(control, (row[0] for row in query(control, "SHOW FULL PROCESSLIST")
                        if lowest < row[0] <= top and row[1] == source.config.user and _is_dump(row[7])))  # fmt: skip


def end_session(source: MySQLSource, connection: Connection) -> None:
    """End a session and the query that runs in it, from outside. Never raises."""
    with contextlib.suppress(BackupError, pymysql.err.MySQLError), contextlib.closing(source.connect()) as control:
        _kill(control, [session_id(connection)])


def _kill(control: Connection, numbers: Iterable[int]) -> None:
    for number in numbers:
        with contextlib.suppress(pymysql.err.MySQLError), control.cursor() as cursor:
            cursor.execute(f"KILL {number}")


def _is_dump(statement: object) -> bool:
    text = str(statement or "")
    return "SQL_NO_CACHE" in text or _is_flush(text)


def _is_flush(statement: object) -> bool:
    return str(statement or "").startswith(("FLUSH TABLES", "FLUSH /*!40101 LOCAL */ TABLES"))


def _read_until_begun(rest: Iterator[bytes], rows: RowCounter, head: list[bytes]) -> None:
    for chunk in rest:
        rows.feed(chunk)
        head.append(chunk)
        if rows.begun:
            return


def _same_position(ours: LogPosition, stated: LogPosition, command: Command, connection: Connection) -> None:
    at, dumps = ((each.binlog_file, each.binlog_position) for each in (ours, stated))
    if not at[0] or not dumps[0] or at == dumps or _only_checkpoints(connection, ours, stated):
        return
    raise SnapshotMismatch(
        f"{command.name} began at {dumps[0]}:{dumps[1]}, the counting session at {at[0]}:{at[1]}: something was "
        "committed in between.",
        remedy="try again; does something write while FLUSH TABLES WITH READ LOCK is held?",
    )


def _only_checkpoints(connection: Connection, ours: LogPosition, stated: LogPosition) -> bool:
    """Did a MariaDB server only note, in between, that it needs its older logs no more? It does so by itself a
    moment after a log was begun, whatever is locked."""
    if ours.binlog_file != stated.binlog_file or ours.binlog_position > stated.binlog_position:
        return False
    listing = "SHOW BINLOG EVENTS IN %s FROM %s LIMIT 4"
    try:
        events = query(connection, listing, (ours.binlog_file, ours.binlog_position))
    except BackupError:
        return False
    for _, _, kind, _, end, *_ in events:
        if kind != "Binlog_checkpoint":
            return False
        if end == stated.binlog_position:
            return True
    return False


def _highest_connection(source: MySQLSource) -> int:
    return max(int(row[0]) for row in query(source.session, "SHOW PROCESSLIST"))


class _Watchdog:
    """Ends the session that holds the short lock, when its time is over."""

    def __init__(self, control: Connection, locker: Connection) -> None:
        self.ended = False
        self._control = control
        self._locker = locker
        self._guard = threading.Lock()
        self._over = False

    @contextlib.contextmanager
    def limit(self, moment: float) -> Iterator[None]:
        """Within the block the lock is held at most until ``moment``; errors of an ended hold are swallowed."""
        timer = threading.Timer(max(_SHORTEST_HOLD, moment - time.monotonic()), self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except BackupError:
            if not self.ended:
                raise
        finally:
            timer.cancel()
            with self._guard:
                self._over = True

    def _end(self) -> None:
        with self._guard:
            if self._over:
                return
            self.ended = True
            own = {session_id(self._control), session_id(self._locker)}
            numbers = [session_id(self._locker)]
            with contextlib.suppress(BackupError):
                listed = query(self._control, "SHOW FULL PROCESSLIST")
                numbers += [row[0] for row in listed
                            if row[0] not in own and row[0] > numbers[0] and _is_flush(row[7])]  # fmt: skip
            _kill(self._control, numbers)
