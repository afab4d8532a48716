"""Locks: the short one under which a snapshot is taken, the one against DDL, and one run at a time.

The short lock stops commits for the few hundredths of a second in which the dump and the counting session
begin. On MariaDB it is a backup stage, which waits for no query that only reads. On MySQL it is FLUSH
TABLES WITH READ LOCK, which waits for every running query while new ones queue behind it; so a try lasts at
most ``lock_try_seconds``, a try is not made while a query is seen that it would wait for (but now and then,
for what is seen may be harmless), and after a failed one the app gets a rest.

The lock against DDL is taken under the short lock and never before it: a schema change that waits for it
already holds what FLUSH TABLES WITH READ LOCK needs, so each would wait for the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable

import pymysql

from engine.errors import BackupError, LockHeld, MissingGrant
from engine.mysql.connection import Connection, Row, code, meaning, query, session_id, value

_WAITED = 1205
_PAUSE = 0.05
_REST = 1.0
_ANYWAY = 3.0
_STAGES = (10, 4, 1)
_FOR_BACKUP = "Waiting for backup lock"
_FOR_ANOTHER = (_FOR_BACKUP, "Waiting for global read lock")
"""States of a session that is in the way only because it waits for somebody's backup itself."""


class ShortLock:
    """Stops commits on the whole server while held.

    Args:
        connection: A session of its own; closing it lets go.
        flavour, version: The server's.
        try_seconds: Longest that one try may keep the app's writes waiting.
    """

    def __init__(self, connection: Connection, flavour: str, version: tuple[int, ...], try_seconds: int) -> None:
        self.connection = connection
        self._by_stage = flavour == "mariadb" and version >= _STAGES
        self._release_statement = "BACKUP STAGE END" if self._by_stage else "UNLOCK TABLES"
        self._try_seconds = try_seconds

    def acquire(self, wait_seconds: float, *, clock: Callable[[], float] = time.monotonic) -> float:
        """Try until it is held; the moment (of ``clock``) at which the successful try began.

        Raises:
            LockHeld: Not within ``wait_seconds``; names the query in the way.
            MissingGrant: RELOAD is missing.
        """
        query(self.connection, f"SET SESSION lock_wait_timeout = {self._try_seconds}")
        start = clock()
        while True:
            self._wait_for_readers(min(_ANYWAY, start + wait_seconds - clock()), clock)
            began = clock()
            if self._try():
                return began
            if clock() - start > wait_seconds:
                found, remedy = self._in_the_way()
                raise LockHeld(
                    f"No moment for a consistent snapshot within {wait_seconds:g} s: {found}.",
                    kept="the lock was let go again after every try", remedy=remedy,
                )  # fmt: skip
            time.sleep(_PAUSE if self._by_stage else max(_REST, clock() - began))

    def release(self) -> None:
        """Let commits go on. Safe when it is not held."""
        query(self.connection, self._release_statement)

    def _try(self) -> bool:
        statements = (
            ("BACKUP STAGE START", "BACKUP STAGE BLOCK_COMMIT") if self._by_stage else ("FLUSH TABLES WITH READ LOCK",)
        )
        try:
            with self.connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        except pymysql.err.MySQLError as error:
            if code(error) != _WAITED:
                raise self._refusal(error, statement) from None
            self._undo()
            return False
        return True

    def _undo(self) -> None:
        """Let go of what a failed try still holds: a stage reached before the wait ended, or the global
        read lock itself, which MySQL keeps when FLUSH TABLES WITH READ LOCK times out waiting for a table."""
        with contextlib.suppress(pymysql.err.MySQLError), self.connection.cursor() as cursor:
            cursor.execute(self._release_statement)

    def _refusal(self, error: pymysql.err.MySQLError, statement: str) -> BackupError:
        found = meaning(error, statement)
        if isinstance(found, MissingGrant):
            return MissingGrant(found.message, remedy=f"GRANT RELOAD ON *.* TO {account(self.connection)};")
        return found

    def _wait_for_readers(self, seconds: float, clock: Callable[[], float]) -> None:
        end = clock() + seconds
        while not self._by_stage and clock() < end and self._long_queries():
            time.sleep(_PAUSE)

    def _long_queries(self) -> list[Row]:
        """(id, seconds, user, statement, state) of what has run for a second or more, longest first."""
        rows = query(self.connection, "SHOW FULL PROCESSLIST")
        own = session_id(self.connection)
        return sorted(
            ((row[0], int(row[5] or 0), row[1], row[7], str(row[6])) for row in rows
             if row[0] != own and row[4] in ("Query", "Execute") and int(row[5] or 0) >= 1 and row[7]),
            key=lambda row: -row[1],
        )  # fmt: skip

    def _in_the_way(self) -> tuple[str, str]:
        """What is in the way, and what to do. Who only waits for a backup is not to be ended for it."""
        found = self._long_queries()
        guilty = [row for row in found if row[4] not in _FOR_ANOTHER]
        if not guilty:
            waiting = any(row[4] == _FOR_BACKUP for row in found)
            words = ("schema changes wait for LOCK INSTANCE FOR BACKUP of another session (another backup?)" if waiting
                     else "other sessions hold what it needs (a backup or a schema change?)")  # fmt: skip
            return words, "run the backup when the other one has ended, or raise lock_wait_seconds"
        number, seconds, user, statement, _ = guilty[0]
        text = " ".join(str(statement).split())
        shown = text if len(text) <= 200 else text[:200] + "…"
        return (f"connection {number} of user {user} has been running for {seconds} s: {shown}",
                "run the backup when that query has ended, end it with KILL, or raise lock_wait_seconds")  # fmt: skip


def account(connection: Connection) -> str:
    """The account we are, as a GRANT names it: ``'backup'@'%'``."""
    user, _, host = str(value(connection, "SELECT CURRENT_USER()")).rpartition("@")
    return "'{}'@'{}'".format(user.replace("'", "''"), host.replace("'", "''"))


class DdlLock:
    """On MySQL keeps schema changes out while held. Where it is not to be had, the schema is compared only.

    Args:
        connection: A session of its own; closing it lets go.
        flavour: The server's; MariaDB has no such lock.
    """

    def __init__(self, connection: Connection, flavour: str) -> None:
        self.held = False
        self._connection = connection
        self._wanted = flavour == "mysql"

    def acquire(self) -> None:
        """Take it, if it comes at once. Only under the short lock: nothing that holds it waits for that one.

        After a failure it is not tried again: writes are waiting meanwhile.
        """
        if not self._wanted:
            return
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("SET SESSION lock_wait_timeout = 1")  # seconds; the least there is
                cursor.execute("LOCK INSTANCE FOR BACKUP")
        except pymysql.err.MySQLError as error:
            self._wanted = False
            if code(error) not in (1044, 1064, 1227, _WAITED):  # no BACKUP_ADMIN, too old, or in use
                raise meaning(error, "LOCK INSTANCE FOR BACKUP") from None
        else:
            self.held = True

    def release(self) -> None:
        """Let schema changes go on. Never raises."""
        if self.held:
            self.held = False
            with contextlib.suppress(pymysql.err.MySQLError), self._connection.cursor() as cursor:
                cursor.execute("UNLOCK INSTANCE")


def advisory_name(database: str) -> str:
    """Name of the advisory lock of a database: at most 64 characters, whatever the database is called."""
    return f"backup-flows:{hashlib.sha256(database.encode()).hexdigest()[:24]}"


def advisory_lock(connection: Connection, database: str) -> None:
    """Take the server's advisory lock for a database; it lives as long as the session.

    Raises:
        LockHeld: Another session has it; the message names who and since when.
    """
    name = advisory_name(database)
    if value(connection, "SELECT GET_LOCK(%s, 0)", (name,)) == 1:
        return
    holder = value(connection, "SELECT IS_USED_LOCK(%s)", (name,))
    rows = [row for row in query(connection, "SHOW FULL PROCESSLIST") if row[0] == holder]
    who = f"connection {holder}" + (f" of user {rows[0][1]} from {rows[0][2]}, for {rows[0][5]} s" if rows else "")
    raise LockHeld(
        f"Another run works on database {database!r} of this server: {who}.",
        remedy="wait for it to end; a dead one's lock goes with its connection",
    )
