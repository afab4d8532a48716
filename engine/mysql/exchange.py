"""The exchange itself: old tables out, new tables in, no write without its trigger, one short pause.

MySQL allows RENAME under LOCK TABLES: one session locks both sets of tables and then sends *one packet*
that drops the old triggers, renames and makes the new triggers. The server runs a packet to its end even
when its sender is killed, so production is whole old or whole new. MariaDB refuses that RENAME
(1192) and needs several sessions: ``engine.mysql.queued``.

A server that enforces GTID consistency takes LOCK TABLES of InnoDB and, say, MyISAM tables together for a write
to both in one transaction (1785), unless the session writes no binary log. LOCK TABLES is never in that log
anyway, so for this one statement the session's log is switched off.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from engine.errors import BackupError, LockHeld, MissingGrant, ToolFailed
from engine.mysql.connection import Connection, query, quoted, value
from engine.mysql.definitions import create, drop
from engine.mysql.locking import account
from engine.mysql.plan import SwapPlan, exchanged
from engine.mysql.queued import CANNOT_LOCK, QueuedExchange
from engine.mysql.sessions import Sessions, run, run_packet

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource


def exchange(source: MySQLSource, sessions: Sessions, plan: SwapPlan, code: list[bytes]) -> float:
    """Do it. ``code`` is what to run right after, in the same packet where it fits.

    Returns:
        Seconds that writers had to wait at most.

    Raises:
        LockHeld: The tables could not be had in time; nothing was changed, the message names who has them.
    """
    if not plan.rename():
        return 0.0
    session = sessions.open(plan.database)
    limit = int(value(session, "SELECT @@global.max_allowed_packet")) // 2
    if sum(map(len, code)) > limit:
        code = []
    if source.flavour == "mysql":
        return _patiently(source, lambda: _mysql(source, session, plan, code))
    return _patiently(source, lambda: QueuedExchange(source, sessions, session, plan, code).run())


def _patiently(source: MySQLSource, attempt: Callable[[], float]) -> float:
    """Try until it works or the configured time is over; each try holds writers up for a moment only."""
    deadline = time.monotonic() + source.config.lock_wait_seconds
    with blockers_named(source):
        while True:
            try:
                return attempt()
            except LockHeld:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


@contextlib.contextmanager
def blockers_named(source: MySQLSource) -> Iterator[None]:
    """Say who holds the tables where they could not be had."""
    try:
        yield
    except LockHeld as error:
        blockers = "; ".join(_long_runners(source.session)) or error.message
        raise LockHeld(
            f"The tables of the database could not be locked within {source.config.lock_wait_seconds:.0f} s.",
            kept="production is unchanged",
            remedy=f"wait for, or end: {blockers}",
        ) from None


def _long_runners(session: Connection) -> list[str]:
    """Transactions that hold tables, the oldest first, in words."""
    rows = query(
        session,
        "SELECT t.trx_mysql_thread_id, p.user, p.db, TIMESTAMPDIFF(SECOND, t.trx_started, NOW()), "
        "COALESCE(LEFT(p.info, 80), 'idle in a transaction') FROM information_schema.innodb_trx t "
        "JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id ORDER BY t.trx_started LIMIT 5",
    )
    return [f"session {number} of {user} in {database} since {seconds} s: {words}"
            for number, user, database, seconds, words in rows]  # fmt: skip


_MIXED_ENGINES = "(1785)"


def _lock(session: Connection, locks: bytes) -> None:
    """LOCK TABLES, whatever the tables' engines.

    Raises:
        MissingGrant: Engines are mixed under GTIDs, and this account may not switch its session's log off.
    """
    try:
        run(session, locks)
        return
    except ToolFailed as error:
        if _MIXED_ENGINES not in error.message:
            raise
    try:
        run(session, b"SET SESSION sql_log_bin = 0")
    except MissingGrant as error:
        raise MissingGrant(
            error.message, kept="production is unchanged",
            remedy=f"GRANT SESSION_VARIABLES_ADMIN ON *.* TO {account(session)}; tables of several engines cannot "
                   "be locked together on a server with GTIDs else",
        ) from None  # fmt: skip
    try:
        run(session, locks)
    finally:
        run(session, b"SET SESSION sql_log_bin = 1")


def _locks(pairs: list[tuple[str, str]]) -> bytes:
    return ("LOCK TABLES " + ", ".join(f"{quoted(db)}.{quoted(table)} WRITE" for db, table in pairs)).encode()


# -- MySQL -----------------------------------------------------------------------------------------


def _mysql(source: MySQLSource, session: Connection, plan: SwapPlan, code: list[bytes]) -> float:
    pairs = [(plan.database, table) for table in plan.old_tables] + [(plan.side, table) for table in plan.new_tables]
    begun = time.monotonic()
    try:
        _lock(session, _locks(pairs))
    except ToolFailed as error:
        if not any(number in error.message for number in CANNOT_LOCK):
            raise
        # A trigger names something that is gone, so every write that fires it fails already: nothing is
        # lost when it goes before the lock.
        run(session, *(drop(each) for each in plan.old.triggers))
        _lock(session, _locks(pairs))
    making = [statement for each in plan.new.triggers for statement in create(each)]
    try:
        run_packet(session, [*(drop(each) for each in plan.old.triggers), plan.rename(), *making])
        # MySQL takes the ';' that follows a CREATE TRIGGER in a packet into the trigger's text. All are made
        # once more, each as the last of its packet: were we to die meanwhile, every trigger is there.
        for each in plan.new.triggers:
            settings, text, *after = create(each)
            run_packet(session, [drop(each), settings, text])
            run(session, *after)
    except BackupError as error:
        _after_failure(session, plan, error)
        return time.monotonic() - begun
    run(session, b"UNLOCK TABLES")
    paused = time.monotonic() - begun
    if code:
        with contextlib.suppress(BackupError):  # what is left over is done by ``finish``
            run_packet(session, code)
    return paused


def _after_failure(session: Connection, plan: SwapPlan, error: BackupError) -> None:
    """The packet stopped: not yet renamed, all goes back under the same lock; else ``finish`` does the rest."""
    try:
        if exchanged(session, plan):
            return
        for each in plan.old.triggers:
            with contextlib.suppress(BackupError):  # it was not dropped yet
                run(session, *create(each))
    finally:
        run(session, b"UNLOCK TABLES")
    raise error
