"""What a recovered cluster is asked once it lets us in."""

from __future__ import annotations

import psycopg


def texts(connection: psycopg.Connection[object], query: str) -> list[str]:
    """The first column of what a query gives."""
    return [str(row[0]) for row in connection.execute(query.encode()).fetchall() if isinstance(row, tuple)]


def superuser(connection: psycopg.Connection[object]) -> str:
    """A role that may do everything and may log in; the session's own where there is none."""
    found = texts(connection, "SELECT rolname FROM pg_roles WHERE rolsuper AND rolcanlogin ORDER BY oid LIMIT 1")
    return found[0] if found else str(connection.info.user)


def notes(connection: psycopg.Connection[object]) -> list[str]:
    """What a person should know of a cluster that was cut off in the middle of its life."""
    found = []
    prepared = texts(connection, "SELECT database || ': ' || gid FROM pg_prepared_xacts ORDER BY prepared LIMIT 20")
    if prepared:
        found.append(f"Prepared transactions stand open at that moment: {', '.join(prepared)}.")
    subscriptions = texts(connection, "SELECT subname FROM pg_subscription ORDER BY 1")
    if subscriptions:
        found.append(f"Subscriptions, which do nothing here: {', '.join(subscriptions)}.")
    return found
