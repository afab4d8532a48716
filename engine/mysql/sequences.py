"""MariaDB sequences in column defaults: the server writes the database's name into them.

``DEFAULT nextval(`shop`.`ticket`)`` keeps pointing there when a table or the sequence is renamed, and such
a table cannot even be altered while the sequence it names is gone. So a default is pointed to another
database while both sequences exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from engine.mysql.connection import Connection, query, quoted
from engine.mysql.statements import literal, unquote

_USE = re.compile(rb"\b((?:nextval|lastval|setval)\()(`(?:[^`]|``)*`)\.(`(?:[^`]|``)*`)")


def without_schema(create_table: bytes, database: str, known: Callable[[str], bool]) -> bytes:
    """A CREATE TABLE whose defaults name no database for sequences that are restored with it."""

    def bare(found: re.Match[bytes]) -> bytes:
        if unquote(found[2]) == database and known(unquote(found[3])):
            return found[1] + found[3]
        return found[0]

    return _USE.sub(bare, create_table)


def used(session: Connection, database: str) -> list[tuple[str, str, bytes]]:
    """(table, column, default) of every column whose default takes from a sequence."""
    rows = query(
        session,
        "SELECT table_name, column_name, column_default FROM information_schema.columns "
        f"WHERE table_schema = {literal(database)} AND column_default LIKE '%val(`%'",
    )
    return [(str(table), str(column), str(default).encode()) for table, column, default in rows]


def names_in(defaults: list[tuple[str, str, bytes]], database: str) -> set[str]:
    """Sequences of that database that the defaults name."""
    found = (match for _, _, default in defaults for match in _USE.finditer(default))
    return {unquote(match[3]) for match in found if unquote(match[2]) == database}


def retarget(session: Connection, database: str, was: str, to: str) -> list[bytes]:
    """Statements that make the defaults in ``database`` take from ``to`` what they took from ``was``."""
    mark = quoted(to).encode()
    statements = []
    for table, column, default in used(session, database):
        changed = _USE.sub(
            lambda found: found[1] + mark + b"." + found[3] if unquote(found[2]) == was else found[0], default
        )
        if changed != default:
            place = f"ALTER TABLE {quoted(database)}.{quoted(table)} ALTER COLUMN {quoted(column)} SET DEFAULT "
            statements.append(place.encode() + b"(" + changed + b")")
    return statements
