"""The exchange on MariaDB, where RENAME is refused under LOCK TABLES: sessions queue behind each other.

* A, one a table with old triggers: locks it, drops the triggers, then waits on a user lock that we hold.
  When we die, that lock falls and A makes the triggers again, still under its table lock.
* The gate: two tables that sort after all others. G holds the second, and B's RENAME names both. Table
  locks are taken in the order of names, so once a reader must wait for the first one, B holds all the rest.
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
_GROUPS = 12
"""Most sessions of one role; tables beyond that share one."""
_METADATA_WAIT = "Waiting for table metadata lock"
_USER_LOCK_WAIT = "User lock"
_PATIENCE = 30.0


def make_gate(session: Connection, gate: str) -> None:
    tables = [f"CREATE TABLE IF NOT EXISTS {quoted(gate)}.{quoted(name)} (i INT)" for name in (GATE_FIRST, GATE_SECOND)]
    run(session, f"CREATE DATABASE IF NOT EXISTS {quoted(gate)}".encode(), *(each.encode() for each in tables))


def drop_gate(session: Connection, gate: str) -> None:
    run(session, f"DROP DATABASE IF EXISTS {quoted(gate)}".encode())


class QueuedExchange:
    """One try. Opens its sessions beforehand, so that no writer waits for that."""

    def __init__(self, source: MySQLSource, sessions: Sessions, renamer: Connection, plan: SwapPlan,
                 code: list[bytes]) -> None:
        self._source = source
        self._sessions = sessions
        self._renamer = renamer
        self._plan = plan
        self._code = code
        self._switch = sessions.user_lock("switch")
        self._old = _grouped(plan.old.triggers)
        self._new = _grouped(plan.new.triggers)
        opened = [sessions.open(plan.database) for _ in range(3 + len(self._old) + len(self._new))]
        self._watch, self._gate, self._holder, *rest = opened
        self._opened = opened
        self._keepers = rest[: len(self._old)]
        self._makers = rest[len(self._old) :]
        self._pool = ThreadPoolExecutor(max_workers=len(rest) + 1)
        self._keeping: list[Future[None]] = []
        self._making: list[Future[None]] = []
        self._renaming: Future[None] | None = None

    def run(self) -> float:
        """Seconds that writers waited at most. Raises LockHeld: somebody else holds the tables."""
        begun = time.monotonic()
        try:
            self._keep_old_tables()
            self._queue_rename()
            self._release_old_tables()
            self._wait_until_all_is_locked()
            self._queue_makers()
            return self._open_gate() - begun
        except BaseException:
            self._back_out()
            raise
        finally:
            self._pool.shutdown(wait=True)
            for each in self._opened:
                self._sessions.close(each)

    def _keep_old_tables(self) -> None:
        query(self._holder, f"SELECT GET_LOCK('{self._switch}', 10)")
        for keeper, group in zip(self._keepers, self._old, strict=True):
            drops = [drop(each) for each in group]
            packet = [
                _wait_at_most(self._source.config.lock_try_seconds),
                _lock(self._plan.database, _tables(group)),
                *drops,
                f"DO GET_LOCK('{self._switch}', 3600)".encode(),
                f"DO RELEASE_LOCK('{self._switch}')".encode(),
                *(statement for each in group for statement in create(each)),
                b"UNLOCK TABLES",
            ]
            keeping = self._pool.submit(run_packet, keeper, packet)
            self._keeping.append(keeping)
            try:
                self._until(keeper, _USER_LOCK_WAIT, keeping)
            except ToolFailed as error:
                if not any(number in error.message for number in CANNOT_LOCK):
                    raise
                # A trigger names something that is gone: every write that fires it fails already.
                run(keeper, *drops)

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
        self._renaming = self._pool.submit(run_packet, self._renamer, packet)
        self._until(self._renamer, _METADATA_WAIT, self._renaming)

    def _release_old_tables(self) -> None:
        """In the order of names, as B takes them: each is handed from A to B."""
        for keeper, keeping in zip(self._keepers, self._keeping, strict=True):
            if keeping.done():
                continue  # it could not be locked
            query(self._watch, f"KILL QUERY {number_of(keeper)}")
            with contextlib.suppress(BackupError):
                keeping.result(_PATIENCE)
            run(keeper, b"UNLOCK TABLES")
            time.sleep(0.003)

    def _wait_until_all_is_locked(self) -> None:
        assert self._renaming is not None
        run(self._watch, b"SET SESSION lock_wait_timeout = 0")
        while True:
            try:
                query(self._watch, f"SELECT 1 FROM {quoted(self._plan.gate)}.{quoted(GATE_FIRST)} LIMIT 0")
            except LockHeld:
                return
            if self._renaming.done():
                self._renaming.result()
                raise LockHeld("The rename did not wait at its gate.")
            time.sleep(0.002)

    def _queue_makers(self) -> None:
        for maker, group in zip(self._makers, self._new, strict=True):
            locks = _lock(self._plan.database, _tables(group))
            passed = f", {quoted(self._plan.gate)}.{quoted(GATE_PASSED)} READ".encode()
            packet = [
                _wait_at_most(60),
                locks + passed,
                *(statement for each in group for statement in create(each)),
                b"UNLOCK TABLES",
            ]
            making = self._pool.submit(run_packet, maker, packet)
            self._making.append(making)
            self._until(maker, _METADATA_WAIT, making)

    def _open_gate(self) -> float:
        """The moment at which the last writer could go on. What failed after the rename is done by ``finish``."""
        assert self._renaming is not None
        run(self._gate, b"UNLOCK TABLES")
        for making in self._making:
            with contextlib.suppress(BackupError):
                making.result()
        moment = time.monotonic()
        try:
            self._renaming.result()
        except BackupError:
            if not exchanged(self._watch, self._plan):
                raise
        return moment if self._making else time.monotonic()

    def _back_out(self) -> None:
        """Nothing was renamed (or all was): end what waits, bring the old triggers back."""
        for connection, future in [
            (self._renamer, self._renaming), *zip(self._makers, self._making, strict=False)
        ]:  # fmt: skip
            if future is not None and not future.done():
                with contextlib.suppress(BackupError):
                    query(self._watch, f"KILL QUERY {number_of(connection)}")
        with contextlib.suppress(BackupError):
            query(self._holder, f"SELECT RELEASE_LOCK('{self._switch}')")
        with contextlib.suppress(BackupError):
            run(self._gate, b"UNLOCK TABLES")
        for future in [self._renaming, *self._keeping, *self._making]:
            if future is not None:
                with contextlib.suppress(BackupError, TimeoutError):
                    future.result(_PATIENCE)
        with contextlib.suppress(BackupError):
            run(self._watch, b"SET SESSION lock_wait_timeout = 60")
            if not exchanged(self._watch, self._plan):
                for each in self._plan.old.triggers:
                    with contextlib.suppress(BackupError):  # it is there
                        run(self._watch, *create(each))

    def _until(self, connection: Connection, state: str, work: Future[None]) -> None:
        """Wait until a session waits in that state. Raises what its work raised when it ended instead."""
        asked = f"SELECT state FROM information_schema.processlist WHERE id = {number_of(connection)}"
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


def _tables(group: list[Definition]) -> list[str]:
    return list(dict.fromkeys(each.table for each in group))


def _lock(database: str, tables: list[str]) -> bytes:
    return ("LOCK TABLES " + ", ".join(f"{quoted(database)}.{quoted(table)} WRITE" for table in tables)).encode()


def _wait_at_most(seconds: int) -> bytes:
    return f"SET SESSION lock_wait_timeout = {seconds}".encode()
