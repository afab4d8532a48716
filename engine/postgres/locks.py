"""One run at a time for one database, by an advisory lock that goes when its session does."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

from engine.errors import LockHeld
from engine.postgres.connection import Connector, translated

_HOLDER = """
SELECT a.pid, a.application_name, coalesce(host(a.client_addr), 'this host'), a.backend_start
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND (l.classid::bigint << 32 | l.objid::bigint) = %s
"""


@contextlib.contextmanager
def lock(connector: Connector, database: str) -> Iterator[None]:
    """Hold the lock for this database.

    Raises:
        LockHeld: Another run has it; the message names that run's session.
    """
    key = lock_key(database)
    with connector.open(connector.maintenance_for(database)) as connection:
        with translated("taking the lock"):
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone()
            holder = None if row and row[0] else connection.execute(_HOLDER, [key]).fetchone()
        if not (row and row[0]):
            who = (
                f"session {holder[0]} ({holder[1]}, from {holder[2]}, since {holder[3]:%Y-%m-%d %H:%M:%S} UTC)"
                if holder
                else "a session that has ended since"
            )
            raise LockHeld(
                f"Another run works on database {database!r}: {who}.",
                remedy="wait for it, or end it with pg_terminate_backend if its run is dead",
            )
        yield


def lock_key(database: str) -> int:
    """The lock's number: 64 bits, signed, from the database's name."""
    return int.from_bytes(hashlib.sha256(f"backup-flows:{database}".encode()).digest()[:8], "big", signed=True)
