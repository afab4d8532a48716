"""Accounts that own views, triggers, routines and events, and that this server does not have.

On a new machine the accounts are loaded after the data, if at all; on an old one somebody left and was
dropped. The data is not touched by that: what such an account defines only fails when it is used.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.errors import BackupError
from engine.mysql.connection import Connection, query

_OWNED = (
    ("view", "views", "table_schema", "table_name"),
    ("trigger", "triggers", "trigger_schema", "trigger_name"),
    ("", "routines", "routine_schema", "routine_name"),
    ("event", "events", "event_schema", "event_name"),
)


def owned(connection: Connection, database: str) -> dict[str, list[str]]:
    """What each definer owns in a database: ``view totals``, ``function tax``... by account (``app@%``)."""
    found: dict[str, list[str]] = {}
    for kind, table, schema, name in _OWNED:
        what = f"'{kind}'" if kind else "LOWER(routine_type)"
        statement = f"SELECT definer, {what}, {name} FROM information_schema.{table} WHERE {schema} = %s ORDER BY 2, 3"
        for definer, of, called in query(connection, statement, (database,)):
            found.setdefault(str(definer), []).append(f"{of} {called}")
    return found


def missing(connection: Connection, definers: Iterable[str]) -> set[str]:
    """Those that are no account (or role) of this server; none when this user may not see the accounts."""
    wanted = {each for each in definers if each}
    if not wanted:
        return set()
    try:
        living = {(str(user), str(host)) for user, host in query(connection, "SELECT user, host FROM mysql.user")}
    except BackupError:
        return set()
    return {each for each in wanted if _account(each) not in living}


def warnings(connection: Connection, database: str) -> list[str]:
    """For a backup: what does not work now, and will not after a restore, until its account is made."""
    things = owned(connection, database)
    return [
        f"the definer {account} does not exist on this server: {_few(things[account])}; "
        "what it defines fails when it is used, until the account is created or another definer is set"
        for account in sorted(missing(connection, things))
    ]


def note(accounts: Iterable[str]) -> list[str]:
    """For a restore: the accounts that should be loaded."""
    named = ", ".join(sorted(accounts))
    if not named:
        return []
    return [
        f"these definers do not exist on this server: {named}; the data is complete, but what they define fails "
        "when it is used. Load the accounts kept beside the backup (docs/restore-by-hand.md, «mysql accounts»)"
    ]


def _account(definer: str) -> tuple[str, str]:
    user, mark, host = definer.rpartition("@")
    return (user, host) if mark else (definer, "")


def _few(things: list[str]) -> str:
    return ", ".join(things[:5]) + (f" and {len(things) - 5} more" if len(things) > 5 else "")
