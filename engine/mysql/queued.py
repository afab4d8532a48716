"""The exchange on MariaDB, where RENAME is refused under LOCK TABLES: sessions queue behind each other.

* A locks every table with old triggers, and with them whatever those write to, and drops the triggers.
* X, one a table with old triggers, queued behind A: FLUSH TABLES WITH READ LOCK, the one lock that takes in
  no table but its own (LOCK TABLES takes those that foreign keys join). A and X then wait on a user lock that
  we hold: when we die, it falls, and they make the triggers again.
* B: the RENAME. It takes its locks in the order of names; each X lets go at the moment when B is seen to
  wait for just that table, so no writer comes between.
* The gate: two tables that sort after all others. G holds the second and B names both, so B comes to
  rest there with every other table locked.
* D, one a table with new triggers: its LOCK TABLES queues behind B and ahead of every writer. It also names
  a table that only B's rename makes, so it can never touch an old table. Then it makes the triggers.
* G lets go: B renames, each D is next, then the writers.

When we die before G lets go, the server notices within a second that B's sender is gone and cancels it.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from engine.errors import BackupError, LockHeld, ToolFailed
from engine.mysql.connection import Connection, query, quoted, value
from engine.mysql.definitions import Definition, create, drop
from engine.mysql.plan import SwapPlan, exchanged
from engine.mysql.sessions import Sessions, number_of, run, run_packet

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource

GATE_FIRST, GATE_SECOND, GATE_PASSED = "a", "b", "c"
CANNOT_LOCK = ("(1146)", "(1356)", "(1305)")
_GROUPS = 32
"""Most sessions of one role; tables beyond that share one, and only the first of them is free of gaps."""
_METADATA_WAIT = "Waiting for table metadata lock"
_USER_LOCK_WAIT = "User lock"
_PATIENCE = 30.0
_UNLOCK = b"UNLOCK TABLES"


def make_gate(session: Connection, gate: str) -> None:
    tables = [f"CREATE TABLE IF NOT EXISTS {quoted(gate)}.{quoted(name)} (i INT)" for name in (GATE_FIRST, GATE_SECOND)]
    run(session, f"CREATE DATABASE IF NOT EXISTS {quoted(gate)}".encode(), *(each.encode() for each in tables))


def drop_gate(session: Connection, gate: str) -> None:
    run(session, f"DROP DATABASE IF EXISTS {quoted(gate)}".encode())


class QueuedExchange:
    """One try. Opens its sessions beforehand, so that no writer waits for that."""

    def __init__(
        self, source: MySQLSource, sessions: Sessions, renamer: Connection, plan: SwapPlan, code: list[bytes]
    ) -> None:
        self._source = source
        self._sessions = sessions
        self._renamer = renamer
        self._plan = plan
        self._code = code
        self._switch = sessions.user_lock("switch")
        self._old = _grouped(plan.old.triggers)
        self._new = _grouped(plan.new.triggers)
        old, new = len(self._old), len(self._new)
        opened = [sessions.open(plan.database) for _ in range(4 + old + new)]
        self._watch, self._gate, self._holder, self._first, *rest = opened
        self._opened = opened
        self._keepers, self._makers = rest[:old], rest[old:]
        self._pool = ThreadPoolExecutor(max_workers=len(rest) + 1)
        self._work: dict[int, Future[None]] = {}

    def run(self) -> float:
        """Seconds that writers waited at most. Raises LockHeld: somebody else holds the tables."""
        begun = time.monotonic()
        try:
            self._drop_old_triggers()
            self._narrow_locks()
            self._queue_rename()
            self._hand_over()
            self._queue_makers()
            return self._open_gate() - begun
        except BaseException:
            self._back_out()
            raise
        finally:
            self._pool.shutdown(wait=True)
            for each in self._opened:
                self._sessions.close(each)

    def _start(self, session: Connection, packet: list[bytes]) -> None:
        self._work[id(session)] = self._pool.submit(run_packet, session, packet)

    def _drop_old_triggers(self) -> None:
        query(self._holder, f"SELECT GET_LOCK('{self._switch}', 10)")
        triggers = list(self._plan.old.triggers)
        drops = [drop(each) for each in triggers]
        if not triggers:
            return
        lock = [_lock(self._plan.database, _tables(triggers)), *drops]
        wait = self._source.config.lock_try_seconds
        self._start(self._first, [_wait_at_most(wait), *lock, *self._until_we_die(), *_makes(triggers), _UNLOCK])
        try:
            self._until(self._first, _USER_LOCK_WAIT)
        except ToolFailed as error:
            if not any(number in error.message for number in CANNOT_LOCK):
                raise
            # A trigger names something that is gone: every write that fires it fails already.
            run(self._first, *drops)
            self._old, self._keepers = [], []

    def _until_we_die(self) -> list[bytes]:
        """Wait for our user lock to fall; what follows in the packet runs only then, not when interrupted."""
        return [
            f"DO GET_LOCK('{self._switch}', 3600)".encode(),
            _stop_unless_held(self._switch),
            f"DO RELEASE_LOCK('{self._switch}')".encode(),
        ]

    def _let_go(self, session: Connection) -> None:
        query(self._watch, f"KILL QUERY {number_of(session)}")
        if not self._work[id(session)].exception(_PATIENCE):
            raise LockHeld("A session made its triggers again too early.")
        run(session, _UNLOCK)

    def _narrow_locks(self) -> None:
        """From A to X."""
        for keeper, group in zip(self._keepers, self._old, strict=True):
            tables = ", ".join(f"{quoted(self._plan.database)}.{quoted(table)}" for table in _tables(group))
            lock = f"FLUSH TABLES {tables} WITH READ LOCK".encode()
            packet = [_wait_at_most(int(_PATIENCE)), lock, *self._until_we_die(), _UNLOCK, *_makes(group)]
            self._start(keeper, packet)
            self._until(keeper, _METADATA_WAIT)
        if self._keepers:
            self._let_go(self._first)
        for keeper in self._keepers:
            self._until(keeper, _USER_LOCK_WAIT)

    def _queue_rename(self) -> None:
        gate = self._plan.gate
        run(self._gate, f"LOCK TABLES {quoted(gate)}.{quoted(GATE_SECOND)} WRITE".encode())
        legs = [(GATE_FIRST, GATE_PASSED), (GATE_SECOND, f"{GATE_PASSED}2")]
        through = ", ".join(f"{quoted(gate)}.{quoted(old)} TO {quoted(gate)}.{quoted(new)}" for old, new in legs)
        packet = [
            _wait_at_most(self._source.config.lock_try_seconds + 1),
            self._plan.rename() + b", " + through.encode(),
            _wait_at_most(60),
            *self._code,
        ]
        self._start(self._renamer, packet)
        self._until(self._renamer, _METADATA_WAIT)

    def _hand_over(self) -> None:
        """From each X to B, then B to the gate."""
        run(self._watch, b"SET SESSION lock_wait_timeout = 0")
        order = self._plan.lock_order()
        for keeper, group in zip(self._keepers, self._old, strict=True):
            place = order.index((self._plan.database, group[0].table))
            if place > 0:
                self._until_renamer_holds(*order[place - 1])
            self._until(self._renamer, _METADATA_WAIT)
            self._let_go(keeper)
        self._until_renamer_holds(self._plan.gate, GATE_FIRST)

    def _until_renamer_holds(self, database: str, table: str) -> None:
        """SHOW CREATE passes by a lock that is only asked for; it stops at one that B has been given."""
        while True:
            try:
                query(self._watch, f"SHOW CREATE TABLE {quoted(database)}.{quoted(table)}")
            except LockHeld:
                return
            except ToolFailed:  # a name that B will make: not there, and not yet locked
                pass
            renaming = self._work[id(self._renamer)]
            if renaming.done():
                renaming.result()
                raise LockHeld("The rename did not wait at its gate.")
            time.sleep(0.001)

    def _queue_makers(self) -> None:
        for maker, group in zip(self._makers, self._new, strict=True):
            locks = _lock(self._plan.database, _tables(group))
            passed = f", {quoted(self._plan.gate)}.{quoted(GATE_PASSED)} READ".encode()
            self._start(maker, [_wait_at_most(60), locks + passed, *_makes(group), _UNLOCK])
            self._until(maker, _METADATA_WAIT)

    def _open_gate(self) -> float:
        """The moment at which the last writer could go on. What failed after the rename is done by ``finish``."""
        run(self._gate, _UNLOCK)
        for maker in self._makers:
            with contextlib.suppress(BackupError):
                self._work[id(maker)].result()
        moment = time.monotonic()
        try:
            self._work[id(self._renamer)].result()
        except BackupError:
            if not exchanged(self._watch, self._plan):
                raise
        return moment if self._makers else time.monotonic()

    def _back_out(self) -> None:
        """Nothing was renamed (or all was): end what waits, bring the old triggers back."""
        for session in (self._renamer, *self._makers):
            if id(session) in self._work and not self._work[id(session)].done():
                with contextlib.suppress(BackupError):
                    query(self._watch, f"KILL QUERY {number_of(session)}")
        with contextlib.suppress(BackupError):
            query(self._holder, f"SELECT RELEASE_LOCK('{self._switch}')")
        with contextlib.suppress(BackupError):
            run(self._gate, _UNLOCK)
        for future in self._work.values():
            with contextlib.suppress(BackupError, TimeoutError):
                future.result(_PATIENCE)
        with contextlib.suppress(BackupError):
            run(self._watch, b"SET SESSION lock_wait_timeout = 60")
            if not exchanged(self._watch, self._plan):
                for each in self._plan.old.triggers:
                    with contextlib.suppress(BackupError):  # it is there
                        run(self._watch, *create(each))

    def _until(self, connection: Connection, state: str) -> None:
        """Wait until a session waits in that state. Raises what its work raised when it ended instead."""
        asked = f"SELECT state FROM information_schema.processlist WHERE id = {number_of(connection)}"
        work = self._work[id(connection)]
        deadline = time.monotonic() + _PATIENCE
        while value(self._watch, asked) != state:
            if work.done():
                work.result()
                raise LockHeld(f"A session ended instead of waiting ({state}).")
            if time.monotonic() > deadline:
                raise LockHeld(f"A session did not come to wait ({state}).")
            time.sleep(0.001)


def _grouped(triggers: Iterable[Definition]) -> list[list[Definition]]:
    """Triggers by table in the order of table locks; at most ``_GROUPS`` groups."""
    by_table: dict[str, list[Definition]] = defaultdict(list)
    for each in triggers:
        by_table[each.table].append(each)
    groups = [by_table[table] for table in sorted(by_table, key=str.encode)]
    if len(groups) > _GROUPS:
        groups[_GROUPS - 1 :] = [[each for group in groups[_GROUPS - 1 :] for each in group]]
    return groups


def _makes(group: list[Definition]) -> list[bytes]:
    return [statement for each in group for statement in create(each)]


def _tables(group: list[Definition]) -> list[str]:
    return list(dict.fromkeys(each.table for each in group))


def _lock(database: str, tables: list[str]) -> bytes:
    return ("LOCK TABLES " + ", ".join(f"{quoted(database)}.{quoted(table)} WRITE" for table in tables)).encode()


def _stop_unless_held(lock: str) -> bytes:
    """Ends the packet where the wait for the lock was interrupted: an interrupted GET_LOCK is no error."""
    return (
        f"BEGIN NOT ATOMIC IF COALESCE(IS_USED_LOCK('{lock}'), 0) <> CONNECTION_ID() THEN "
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'interrupted'; END IF; END"
    ).encode()


def _wait_at_most(seconds: int) -> bytes:
    return f"SET SESSION lock_wait_timeout = {seconds}".encode()
