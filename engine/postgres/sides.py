"""Side databases: made under a journal, and removed by it."""

from __future__ import annotations

import contextlib
from typing import Any

import psycopg

from engine.errors import RestoreRefused
from engine.journal import Journal
from engine.postgres.connection import Connection, Connector, translated
from engine.postgres.properties import Properties, create_statement
from engine.postgres.quoting import ident


def token_of(journal: Journal) -> str:
    """The restore's own mark: part of every session's name, and of what it makes for a moment."""
    return journal.path.stem.rsplit("-", 1)[-1]


def oid_of(connection: Connection, database: str) -> int | None:
    """The database's oid, or None when there is none of that name."""
    with translated("looking for a database"):
        row = connection.execute("SELECT oid FROM pg_database WHERE datname = %s", [database]).fetchone()
    return int(row[0]) if row else None


def name_of(connection: Connection, oid: int) -> str | None:
    """The name that a database has now, or None when it is gone."""
    with translated("looking for a database"):
        row = connection.execute("SELECT datname FROM pg_database WHERE oid = %s", [oid]).fetchone()
    return str(row[0]) if row else None


def create(connection: Connection, journal: Journal, into: str, properties: Properties | None) -> None:
    """Make an empty side database that nobody but its maker may connect to.

    It is made under a name of the journal's own and renamed, so that what ``remove`` finds is ours.

    Raises:
        RestoreRefused: ``into`` exists, or the server lacks its locale.
    """
    if len(into.encode()) > 63:
        raise RestoreRefused(
            f"{into!r} is longer than the 63 bytes of a PostgreSQL name.", remedy="choose a shorter one"
        )
    if oid_of(connection, into) is not None:
        raise RestoreRefused(
            f"Database {into!r} exists already; a restore never writes into one that does.",
            kept="it was not touched",
            remedy="choose another name with into, or drop it yourself",
        )
    made = f"backup_flows_{token_of(journal)}"
    journal.record("load-create", database=into, made=made)
    statement = (
        create_statement(properties, made, connection.info.server_version // 10000)
        if properties
        else f"CREATE DATABASE {ident(made)} TEMPLATE template0"
    )
    try:
        with translated(f"creating {into}"):
            _execute(connection, statement)
    except Exception as error:
        if properties and "locale" in str(error):
            raise RestoreRefused(
                f"This server lacks the locale of the backup: {error}",
                kept="nothing was made",
                remedy="install that locale on the server's machine, then restore again",
            ) from None
        raise
    oid = oid_of(connection, made)
    journal.record("load-created", database=into, oid=oid)
    with translated(f"closing {into} to others"):
        _execute(connection, f"REVOKE ALL ON DATABASE {ident(made)} FROM PUBLIC")
        _execute(connection, f"COMMENT ON DATABASE {ident(made)} IS 'a restore by backup-flows'")
    try:
        with translated(f"naming {into}"):
            _execute(connection, f"ALTER DATABASE {ident(made)} RENAME TO {ident(into)}")
    except Exception:
        if oid_of(connection, into) is not None:
            raise RestoreRefused(f"Database {into!r} appeared in the meantime.", kept="it was not touched") from None
        raise


def remove(connector: Connector, connection: Connection, journal: Journal) -> list[str]:
    """Drop the side database that this journal made, and roles it made that nothing uses. Returns what went."""
    entry = journal.reached("load-create")
    if entry is None:
        return []
    created = journal.reached("load-created")
    name = name_of(connection, created["oid"]) if created else None
    found = {name} & {entry["database"], entry["made"]}  # never what has become production since
    if oid_of(connection, entry["made"]) is not None:
        found.add(entry["made"])
    gone = []
    for each in found:
        if each is not None:
            drop(connector, connection, each)
            gone.append(f"removed the side database {each}")
    for step in journal.steps:
        if step["step"] == "load-role":
            with contextlib.suppress(psycopg.Error):  # something else uses it by now
                connection.execute(f"DROP ROLE IF EXISTS {ident(step['role'])}")
                gone.append(f"removed the role {step['role']}")
    return gone


def drop(connector: Connector, connection: Connection, database: str) -> None:
    """Drop a database whoever is connected to it, its subscriptions (which would forbid it) first."""
    terminate(connection, database)
    with translated(f"opening {database}"):
        _execute(connection, f"ALTER DATABASE {ident(database)} WITH ALLOW_CONNECTIONS true")
        rows = connection.execute(
            "SELECT count(*) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = %s",
            [database],
        ).fetchone()
    if rows and rows[0]:
        with connector.open(database) as inside, translated(f"dropping the subscriptions of {database}"):
            for (name,) in inside.execute(
                "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
                "WHERE d.datname = current_database()"
            ).fetchall():
                for statement in (
                    f"ALTER SUBSCRIPTION {ident(name)} DISABLE",
                    f"ALTER SUBSCRIPTION {ident(name)} SET (slot_name = NONE)",
                    f"DROP SUBSCRIPTION {ident(name)}",
                ):
                    _execute(inside, statement)
    force = " WITH (FORCE)" if connection.info.server_version >= 130000 else ""
    with translated(f"dropping {database}"):
        _execute(connection, f"DROP DATABASE IF EXISTS {ident(database)}{force}")


def terminate(connection: Connection, *databases: str) -> int:
    """End every other session of these databases. Returns how many there were."""
    with translated("ending sessions"):
        rows: list[Any] = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = ANY(%s) AND pid <> pg_backend_pid()",
            [list(databases)],
        ).fetchall()
    return len(rows)


def terminate_run(connection: Connection, session_name: str) -> int:
    """End every other session of that application name: what a dead run left."""
    with translated("ending what a dead run left"):
        rows: list[Any] = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = %s AND pid <> pg_backend_pid()",
            [session_name],
        ).fetchall()
    return len(rows)


def _execute(connection: Connection, statement: str) -> None:
    connection.execute(statement)
