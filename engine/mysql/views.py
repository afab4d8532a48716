"""Views that no longer work: a table, column or definer they need is gone.

A dump program stops at the first of them, which is when a backup is wanted most: right after tables were
dropped by mistake. So they are left out of the dump by name, and their definitions go into the manifest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pymysql

from engine.errors import BackupError
from engine.mysql.connection import Connection, query, quoted
from engine.mysql.statements import literal

INVALID = {1356, 1449}
"""View references invalid tables, columns or rights; its definer does not exist."""


def broken_views(connection: Connection, database: str) -> dict[str, str]:
    """Every view that cannot be read, with the server's reason, by name."""
    names = query(connection, "SELECT table_name FROM information_schema.views WHERE table_schema = %s", (database,))
    found: dict[str, str] = {}
    for (name,) in names:
        try:
            with connection.cursor() as cursor:  # the very questions a dump program asks
                cursor.execute(f"SHOW FIELDS FROM {quoted(database)}.{quoted(name)}")
                cursor.execute(f"SHOW CREATE VIEW {quoted(database)}.{quoted(name)}")
        except pymysql.MySQLError as error:
            if error.args and error.args[0] in INVALID:
                found[str(name)] = str(error.args[1])
            else:
                raise
    return found


def create_view(show: Callable[[], Any], ask: Callable[[str], list[tuple[Any, ...]]], where: str, name: str) -> Any:
    """What SHOW CREATE VIEW says. MySQL says nothing of a view whose function belongs to somebody who is gone:
    then it is put together from information_schema.

    Args:
        show: Asks SHOW CREATE VIEW; text or bytes.
        ask: Asks anything else, with the same kind of answer.
        where: The database, as a literal.
    """
    try:
        return show()
    except BackupError as error:
        if not any(f"({number})" in error.message for number in INVALID):
            raise
    return ask(
        "SELECT CONCAT('CREATE DEFINER=`', SUBSTRING_INDEX(definer, '@', 1), '`@`', SUBSTRING_INDEX(definer, '@', -1), "
        f"'` SQL SECURITY ', security_type, ' VIEW ', {literal(quoted(name))}, ' AS ', view_definition) "
        f"FROM information_schema.views WHERE table_schema = {where} AND table_name = {literal(name)}"
    )[0][0]


def warnings(broken: dict[str, str]) -> list[str]:
    """What a person should know of them."""
    return [
        f"view {name!r} is broken and not in the dump ({why}); its definition is kept in the manifest"
        for name, why in broken.items()
    ]
