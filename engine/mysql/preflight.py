"""What would go wrong with a backup, found before it begins, each with the statement that puts it right."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.errors import MissingGrant, ToolFailed, UnknownName, nearest
from engine.mysql import definers
from engine.mysql.connection import Connection, query, quoted, value
from engine.mysql.locking import account
from engine.mysql.schema import Table, list_tables
from engine.mysql.tools import version_tuple
from engine.mysql.views import INVALID
from engine.source import Preflight

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource

_GRANT = re.compile(r"GRANT (.+?) ON (\S.*?) TO ", re.DOTALL)
_EVERYWHERE = "*.*"
_ROUTINE_DENIED = 1370
_PRIVILEGE = re.compile(r"[A-Z][A-Z_ ]*[A-Z](?: \([^)]*\))?")

_HERE = ("SELECT", "SHOW VIEW", "TRIGGER", "EVENT", "LOCK TABLES")
"""Needed on the database, or everywhere. What may not be seen is left out of a dump without a word."""
_EVERYWHERE_NEEDED = {
    "mysql": (("RELOAD", "FLUSH_TABLES"), ("PROCESS",), ("SHOW_ROUTINE", "SELECT")),
    "mariadb": (("RELOAD",), ("PROCESS",)),
}
"""Needed on everything; any one of each group will do, the first is proposed."""
_BODIES = ("SELECT", "SHOW CREATE ROUTINE")
_FOR_BINLOG = {
    "mysql": ("REPLICATION CLIENT", "SUPER"),
    "mariadb": ("BINLOG MONITOR", "REPLICATION CLIENT", "SUPER"),
}


def preflight(source: MySQLSource, database: str) -> Preflight:
    """Reachable, tools there and of the right kind, grants enough, engines safe.

    Raises:
        UnknownName, ToolMissing, WrongTool, MissingGrant, Unreachable, CredentialsRefused.
    """
    server = source.server()
    present = source.all_databases()
    if database not in present:
        raise UnknownName(
            f"There is no database {database!r} on {source.name} ({source.address}).", remedy=nearest(database, present)
        )
    tool, client = source.dump, source.client
    session = source.session
    binlog = bool(value(session, "SELECT @@log_bin"))
    check_grants(session, database, source.flavour, binlog)
    tables = list_tables(session, database)
    warnings = [*_engines(tables), *_views(session, database), *definers.warnings(session, database)]
    if not binlog:
        warnings.append("The server writes no binary log: this backup has no log position and cannot be rolled "
                        "forward. Set log_bin on the server to change that.")  # fmt: skip
    if version_tuple(tool.version)[:2] < source.version[:2]:
        warnings.append(f"{tool.name} is version {tool.version}, older than the server ({source.version_text}).")
    assert client.flavour == tool.flavour
    return Preflight(
        server=server.model_copy(update={"tool": tool.name, "tool_version": tool.version}),
        estimated_bytes=sum(table.bytes for table in tables), warnings=warnings,
    )  # fmt: skip


def check_grants(connection: Connection, database: str, flavour: str, binlog: bool) -> None:
    """Does this session's account have what a backup needs?

    Raises:
        MissingGrant: Names what is missing; the remedy holds the statements.
    """
    shown = shown_grants(connection, flavour)
    everywhere = granted(shown, None)
    here = everywhere | granted(shown, database)
    groups = [*_EVERYWHERE_NEEDED[flavour], *([_FOR_BINLOG[flavour]] if binlog else [])]
    lacking = {
        f"{quoted(database)}.*": [each for each in _HERE if not _any_of((each,), here)],
        "*.*": [group[0] for group in groups if not _any_of(group, everywhere)],
    }
    if flavour == "mariadb" and not _any_of(_BODIES, everywhere | granted(shown, "mysql")):
        lacking["`mysql`.*"] = ["SELECT"]  # bodies of other people's routines, and accounts
    _refuse(connection, database, {target: names for target, names in lacking.items() if names})


def _refuse(connection: Connection, database: str, lacking: dict[str, list[str]]) -> None:
    if not lacking:
        return
    who = account(connection)
    words = ", ".join(f"{name} on {target}" for target, names in lacking.items() for name in names)
    raise MissingGrant(
        f"{who} lacks {words}, which a backup of {database!r} needs.",
        kept="nothing was begun",
        remedy="run as an administrator: "
        + " ".join(f"GRANT {', '.join(names)} ON {target} TO {who};" for target, names in lacking.items()),
    )


def granted(shown: list[str], database: str | None) -> set[str]:
    """Privileges held on a database by grants on it, or on everything (None). ``ALL`` stands for all."""
    held: set[str] = set()
    for statement in shown:
        found = _GRANT.match(statement)
        if found is None:
            continue
        if found[2] == _EVERYWHERE if database is None else _covers(found[2], database):
            held |= {each.replace(" PRIVILEGES", "") for each in _PRIVILEGE.findall(found[1])}
    return held


def shown_grants(connection: Connection, flavour: str) -> list[str]:
    """SHOW GRANTS of ourselves, those of active roles included."""
    if flavour == "mariadb":
        return [str(row[0]) for row in query(connection, "SHOW GRANTS")]  # names active roles' grants by itself
    roles = str(value(connection, "SELECT CURRENT_ROLE()") or "NONE")
    using = f" FOR CURRENT_USER() USING {roles}" if roles != "NONE" else ""
    try:
        return [str(row[0]) for row in query(connection, f"SHOW GRANTS{using}")]
    except ToolFailed:
        return [str(row[0]) for row in query(connection, "SHOW GRANTS")]


def _covers(target: str, database: str) -> bool:
    """Does a grant on ``target`` (as SHOW GRANTS writes it) cover all of the database? Its name may hold wildcards."""
    if not target.endswith(".*"):
        return False
    pattern = target[:-2].strip("`").replace("``", "`")
    expression = ""
    escaped = False
    for letter in pattern:
        if not escaped and letter == "\\":
            escaped = True
            continue
        wild = {"%": ".*", "_": "."}.get(letter) if not escaped else None
        expression += wild or re.escape(letter)
        escaped = False
    return re.fullmatch(expression, database, re.DOTALL | re.IGNORECASE) is not None


def _any_of(group: tuple[str, ...], held: set[str]) -> bool:
    return "ALL" in held or any(each in held for each in group)


def _engines(tables: list[Table]) -> list[str]:
    unsafe = [table for table in tables if table.has_data and not table.transactional]
    warnings = []
    if unsafe:
        named = ", ".join(f"{table.name} ({table.engine})" for table in unsafe[:10])
        more = f" and {len(unsafe) - 10} more" if len(unsafe) > 10 else ""
        warnings.append(f"Not InnoDB, so not part of the dump's one moment: {named}{more}. "
                        "ALTER TABLE ... ENGINE=InnoDB makes them safe.")  # fmt: skip
    versioned = [table.name for table in tables if table.kind == "SYSTEM VERSIONED"]
    if versioned:
        named = ", ".join(versioned)
        warnings.append(f"Only present rows of system-versioned tables are dumped, not their history: {named}.")
    linked = [f"{table.name} ({table.engine})" for table in tables if not table.has_data and table.kind == "BASE TABLE"]
    if linked:
        warnings.append(f"Tables whose rows live elsewhere are dumped without rows: {', '.join(linked)}.")
    return warnings


def _views(connection: Connection, database: str) -> list[str]:
    """Views that cannot be read, and what that means for the dump."""
    broken = []
    names = query(connection, "SELECT table_name FROM information_schema.views WHERE table_schema = %s", (database,))
    for (name,) in names:
        try:
            query(connection, f"SHOW FIELDS FROM {quoted(database)}.{quoted(str(name))}")
        except MissingGrant as error:
            if f"({_ROUTINE_DENIED})" in error.message:
                _refuse(connection, database, {f"{quoted(database)}.*": ["EXECUTE"]})
            raise
        except ToolFailed as error:
            left_out = any(f"({number})" in error.message for number in INVALID)
            fate = "it will not be in the dump, the manifest keeps its definition" if left_out else (
                "the dump will fail at it")  # fmt: skip
            broken.append(f"View {str(name)!r} cannot be read, and {fate}: {error.message}")
    return broken
