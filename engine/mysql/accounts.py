"""Users, roles and grants of the whole server as SQL that a person can load by hand.

A database's dump holds none of them, and the dump programs' own ways differ and stop at the first account
that cannot be shown. So they are written here from SHOW CREATE USER and SHOW GRANTS: accounts first, then
roles' grants, then users', then default roles. Loading it changes no account that exists, only adds grants.
It holds password hashes: it is stored encrypted like the data.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine import names
from engine.errors import BackupError, Unreachable
from engine.mysql.connection import Connection, query
from engine.mysql.locking import account
from engine.source import Parts

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource

END_MARKER = "-- Dump completed"
_OWN = "backup-flows-scratch-"
"""How the administrators of our own throwaway servers are called."""
_SYSTEM = frozenset({"mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema"})
_ACCOUNT = r"`(?:[^`]|``)*`(?:@`(?:[^`]|``)*`)?"
_DEFAULT_ROLE = re.compile(rf" DEFAULT ROLE ({_ACCOUNT}(?:, ?{_ACCOUNT})*)")
_IDENTIFIED = re.compile(r" IDENTIFIED (?:BY PASSWORD|VIA|WITH) .*?(?= REQUIRE | WITH |$)")


def write_accounts(source: MySQLSource, parts: Parts) -> list[str]:
    """Write the companion ``accounts``; warnings for what could not be read. Without the right to read
    accounts there is no companion, and a warning says so.

    Raises:
        Unreachable: The server went away.
    """
    with contextlib.closing(source.connect()) as connection:
        try:
            listed = _accounts(connection, source.flavour)
        except Unreachable:
            raise
        except BackupError:
            grant = f"GRANT SELECT ON mysql.* TO {account(connection)};"
            return [f"Accounts and grants were not saved: they cannot be read. {grant}"]
        warnings: list[str] = []
        text = "\n".join(_statements(connection, source.flavour, listed, warnings))
    stamp = names.now().strftime("%Y-%m-%d %H:%M:%S")
    head = (
        f"-- Accounts and grants of {source.flavour} {source.version_text}\n"
        "-- Load with the server's own client as an administrator. Accounts that exist keep their passwords.\n\n"
        "SET NAMES utf8mb4;\nSET SESSION sql_mode = '';\n\n"
    )
    parts.companion("accounts").write(f"{head}{text}\n\n{END_MARKER} on {stamp}\n".encode())
    return warnings


def _accounts(connection: Connection, flavour: str) -> list[tuple[str, str, bool]]:
    """(user, host, is a role), roles first, without the system's own."""
    if flavour == "mariadb":
        rows = query(connection, "SELECT User, Host, is_role = 'Y' FROM mysql.user")
    else:
        rows = query(
            connection,
            "SELECT u.User, u.Host, EXISTS (SELECT 1 FROM mysql.role_edges e "
            "WHERE e.FROM_USER = u.User AND e.FROM_HOST = u.Host) FROM mysql.user u",
        )
    found = [(_text(user), _text(host), bool(role)) for user, host, role in rows]
    kept = (each for each in found if each[0] not in _SYSTEM and not each[0].startswith(_OWN))
    return sorted(kept, key=lambda each: (not each[2], each))


def _statements(
    connection: Connection, flavour: str, accounts: list[tuple[str, str, bool]], warnings: list[str]
) -> Iterator[str]:
    if flavour == "mysql":  # hashes hold bytes that no text file should
        query(connection, "SET SESSION print_identified_with_as_hex = ON")
    grants: list[str] = []
    defaults: list[str] = []
    for user, host, is_role in accounts:
        who = _quoted(user) if flavour == "mariadb" and is_role else f"{_quoted(user)}@{_quoted(host)}"
        try:
            if flavour == "mariadb" and is_role:
                created = f"CREATE ROLE {who}"
            else:
                created = _text(query(connection, f"SHOW CREATE USER {who}")[0][0])
            shown = [_text(row[0]) for row in query(connection, f"SHOW GRANTS FOR {who}")]
        except Unreachable:
            raise
        except BackupError as error:
            # MariaDB under skip_name_resolve cannot show accounts of a host name; they cannot log in either
            warnings.append(f"Account {who} could not be read and was not saved: {error.message}")
            continue
        if found := _DEFAULT_ROLE.search(created):
            defaults.append(f"SET DEFAULT ROLE {found[1]} TO {who}")
            created = created.replace(found[0], "", 1)
        yield re.sub(r"^CREATE (USER|ROLE) ", r"CREATE \1 IF NOT EXISTS ", created) + ";"
        for statement in shown:
            if statement.startswith("SET DEFAULT ROLE"):
                defaults.append(statement)
            else:
                grants.append(_IDENTIFIED.sub("", statement))
    yield ""
    yield from (f"{statement};" for statement in dict.fromkeys(grants))
    yield from (f"{statement};" for statement in defaults)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _text(shown: object) -> str:
    return shown.decode("utf-8", "replace") if isinstance(shown, bytes) else str(shown)
