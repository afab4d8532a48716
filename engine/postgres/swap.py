"""Putting a checked side database in production's place.

Both renames, and opening the new one, are one transaction: at no moment is there no production. Before
it, production is closed to new sessions and those it has are ended. A run that dies leaves it closed at
worst, with a journal from which ``recover`` opens whichever of the two is in place, told by oid.
"""

from __future__ import annotations

import time

from engine.errors import LockHeld, RestoreRefused
from engine.journal import Journal
from engine.manifest import Manifest
from engine.postgres import properties, sides
from engine.postgres.connection import Connection, Connector, translated
from engine.postgres.properties import Properties
from engine.postgres.quoting import ident
from engine.source import SwapReport

SESSIONS_END_SECONDS = 30.0


def swap(
    connector: Connector, manifest: Manifest, side: str, database: str, keep_as: str, journal: Journal
) -> SwapReport:
    """Exchange them; the previous data, if there is any, stays as ``keep_as``.

    Raises:
        RestoreRefused: ``keep_as`` exists, the side is gone, or a prepared transaction holds production.
        LockHeld: Sessions that cannot be ended. Production is open again and as it was.
    """
    with connector.open(
        connector.maintenance_for(side, database, keep_as), token=sides.token_of(journal)
    ) as connection:
        side_oid, old_oid = sides.oid_of(connection, side), sides.oid_of(connection, database)
        if side_oid is None:
            raise RestoreRefused(f"There is no side database {side!r}.", kept="production was not touched")
        _refuse(connection, database, keep_as, old_oid)
        live = properties.read(connection, database) if old_oid is not None else None
        wanted: Properties = manifest.contents.get("properties") or live or properties.read(connection, side)
        notes = _differences(live, wanted)
        allowed = _allowed(connection, old_oid)
        journal.record(
            "swap-begin",
            side=side,
            side_oid=side_oid,
            database=database,
            old_oid=old_oid,
            keep_as=keep_as,
            old_allowed=allowed,
        )
        with translated(f"giving {side} the properties of {database}"), connection.transaction():
            for statement in properties.statements(wanted, ident(side)):
                _execute(connection, statement)
        notes += _slots(connection, database)
        journal.record("swap-block")
        begun = time.monotonic()
        try:
            _exchange(connection, side, database, keep_as, old_oid, allowed, journal)
        except BaseException:
            reopen(connection, side_oid, old_oid, database, allowed)
            raise
        paused = time.monotonic() - begun
        journal.record("swap-done")
    return SwapReport(kept_as=keep_as if old_oid is not None else "", paused_seconds=paused, notes=notes)


def reopen(connection: Connection, side_oid: int, old_oid: int | None, database: str, allowed: bool) -> bool:
    """Open what a swap had closed. Returns True when the exchange had happened (the new one is in place)."""
    swapped = sides.name_of(connection, side_oid) == database
    opened = [(side_oid, True)] + ([(old_oid, allowed)] if old_oid is not None else [])
    with translated("opening what the swap had closed"):
        for oid, allow in opened:
            if (name := sides.name_of(connection, oid)) is not None:
                _execute(connection, f"ALTER DATABASE {ident(name)} WITH ALLOW_CONNECTIONS {str(allow).lower()}")
    return swapped


def _exchange(
    connection: Connection, side: str, database: str, keep_as: str, old_oid: int | None, allowed: bool, journal: Journal
) -> None:
    names = [side] + ([database] if old_oid is not None else [])
    with translated(f"closing {database} to new sessions"):
        for name in names:
            _execute(connection, f"ALTER DATABASE {ident(name)} WITH ALLOW_CONNECTIONS false")
    _end_sessions(connection, names)
    journal.record("swap-rename")
    with translated(f"exchanging {database}"), connection.transaction():
        if old_oid is not None:
            _execute(connection, f"ALTER DATABASE {ident(database)} RENAME TO {ident(keep_as)}")
            _execute(connection, f"ALTER DATABASE {ident(keep_as)} WITH ALLOW_CONNECTIONS {str(allowed).lower()}")
        _execute(connection, f"ALTER DATABASE {ident(side)} RENAME TO {ident(database)}")
        _execute(connection, f"ALTER DATABASE {ident(database)} WITH ALLOW_CONNECTIONS true")


def _end_sessions(connection: Connection, names: list[str]) -> None:
    deadline = time.monotonic() + SESSIONS_END_SECONDS
    while True:
        sides.terminate(connection, *names)
        with translated("looking for sessions"):
            left = connection.execute(
                "SELECT pid, coalesce(usename, backend_type), coalesce(query, '') FROM pg_stat_activity "
                "WHERE datname = ANY(%s) AND pid <> pg_backend_pid()",
                [names],
            ).fetchall()
        if not left:
            return
        if time.monotonic() > deadline:
            who = "; ".join(f"pid {pid} ({user}): {query[:80]}" for pid, user, query in left[:5])
            raise LockHeld(
                f"Sessions of {', '.join(names)} do not end within {SESSIONS_END_SECONDS:g} s: {who}.",
                kept="production is open again and as it was",
            )
        time.sleep(0.02)


def _refuse(connection: Connection, database: str, keep_as: str, old_oid: int | None) -> None:
    kept = "production was not touched"
    if old_oid is None:
        return
    if sides.oid_of(connection, keep_as) is not None:
        raise RestoreRefused(f"Database {keep_as!r} exists already; the previous data would go there.", kept=kept)
    if len(keep_as.encode()) > 63:
        raise RestoreRefused(f"{keep_as!r} is longer than the 63 bytes of a PostgreSQL name.", kept=kept)
    with translated("looking for prepared transactions"):
        prepared = [
            row[0] for row in connection.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", [database])
        ]
    if prepared:
        raise RestoreRefused(
            f"Prepared transactions hold {database}, so it cannot be renamed: {', '.join(prepared)}.",
            kept=kept,
            remedy=f"in {database}: ROLLBACK PREPARED '{prepared[0]}'; or COMMIT PREPARED",
        )


def _allowed(connection: Connection, oid: int | None) -> bool:
    with translated("looking at production"):
        row = connection.execute("SELECT datallowconn FROM pg_database WHERE oid = %s", [oid]).fetchone()
    return bool(row[0]) if row else True


def _differences(live: Properties | None, wanted: Properties) -> list[str]:
    """What production had set since the backup, and has no longer."""
    if live is None:
        return []
    names = [
        name for name in ("owner", "rights", "settings", "comment", "connection_limit") if live[name] != wanted[name]
    ]
    if not names:
        return []
    return [f"Since the backup, production's {' and '.join(names)} had been changed; they are the backup's again."]


def _slots(connection: Connection, database: str) -> list[str]:
    with translated("looking for replication slots"):
        slots = [
            row[0]
            for row in connection.execute("SELECT slot_name FROM pg_replication_slots WHERE database = %s", [database])
        ]
    return (
        [f"Logical replication slots stay with the previous data; make new ones: {', '.join(slots)}."] if slots else []
    )


def _execute(connection: Connection, statement: str) -> None:
    connection.execute(statement)
