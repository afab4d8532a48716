"""What a database is made of: its tables, and every definition in a form that two faithful copies share.

``schema_parts`` names each object (``table orders``, ``view totals``, ``trigger t``...) with its definition
as SHOW CREATE gives it, without what changes by itself or with the database's name: the counter of
AUTO_INCREMENT, the order of keys, and the schema that MariaDB puts before a sequence in a default.
Definers stay. ``schema_fingerprint`` is one SHA-256 over all of it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine.mysql.connection import Connection, query, quoted, translated, value
from engine.mysql.statements import literal
from engine.mysql.view_text import without_own_name
from engine.mysql.views import create_view

SEQUENCE = "SEQUENCE"
NO_DATA_ENGINES = frozenset({"MRG_MYISAM", "MRG_ISAM", "FEDERATED", "BLACKHOLE", "OQGRAPH", "CONNECT"})
TRANSACTIONAL = frozenset({"INNODB", "ROCKSDB", "TOKUDB", "NDB", "NDBCLUSTER"})
_COUNTER = re.compile(r"^(\) ENGINE=.*?) AUTO_INCREMENT=\d+", re.MULTILINE)
_KEY = re.compile(r"  (?:PRIMARY KEY|UNIQUE KEY|FULLTEXT KEY|SPATIAL KEY|KEY|CONSTRAINT|VECTOR KEY|FOREIGN KEY) ?")
_ROUTINES = {"PROCEDURE": "procedure", "FUNCTION": "function", "PACKAGE": "package", "PACKAGE BODY": "package body"}


@dataclass(frozen=True)
class Table:
    """A base table (or a MariaDB sequence). ``bytes`` is the server's estimate of data and indexes."""

    name: str
    engine: str
    kind: str
    bytes: int

    @property
    def transactional(self) -> bool:
        return self.engine.upper() in TRANSACTIONAL

    @property
    def has_data(self) -> bool:
        """Do dump programs write its rows?"""
        return self.kind != SEQUENCE and self.engine.upper() not in NO_DATA_ENGINES


def list_tables(connection: Connection, database: str) -> list[Table]:
    """Base tables and sequences, by name; no views."""
    rows = query(
        connection,
        "SELECT table_name, COALESCE(engine, ''), table_type, COALESCE(data_length, 0) + COALESCE(index_length, 0) "
        "FROM information_schema.tables WHERE table_schema = %s AND table_type NOT LIKE '%%VIEW' ORDER BY table_name",
        (database,),
    )
    return [Table(str(name), str(engine), str(kind), int(size)) for name, engine, kind, size in rows]


def base_tables(connection: Connection, database: str) -> list[str]:
    """Names of the tables that hold rows: no views, no sequences."""
    return [table.name for table in list_tables(connection, database) if table.kind != SEQUENCE]


def count_rows(connection: Connection, database: str, table: str) -> int:
    """Exact rows of a table, as this session's snapshot sees it."""
    return int(value(connection, f"SELECT COUNT(*) FROM {quoted(database)}.{quoted(table)}"))


def schema_fingerprint(connection: Connection, database: str) -> str:
    """SHA-256 over every definition; the same for a faithful copy under another name."""
    return fingerprint_of(schema_parts(connection, database))


def fingerprint_of(parts: dict[str, str]) -> str:
    """SHA-256 over definitions by name."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        digest.update(f"{name}\0{parts[name]}\0".encode())
    return digest.hexdigest()


def digests_of(parts: dict[str, str]) -> dict[str, str]:
    """A short digest of each definition, so that a manifest can tell which one differs."""
    return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in parts.items()}


def schema_parts(connection: Connection, database: str) -> dict[str, str]:
    """Every object's definition by kind and name. The session's default database becomes this one."""
    query(connection, f"USE {quoted(database)}")  # SHOW CREATE VIEW leaves out the present schema's name
    parts: dict[str, str] = {}
    for name, kind in _named(connection, "table_name, table_type", "tables", database):
        if "VIEW" in kind:
            text = create_view(partial(_view, connection, name), partial(query, connection), literal(database), name)
            parts[f"view {name}"] = without_own_name(str(text), database)
        else:
            shown = SEQUENCE if kind == SEQUENCE else "TABLE"
            text = str(_show(connection, shown, name)["Create Table"])
            parts[f"{shown.lower()} {name}"] = _table_text(text, database)
    parts.update(_triggers(connection, database))
    for name, kind in _named(connection, "routine_name, routine_type", "routines", database):
        parts[f"{_ROUTINES.get(kind, kind.lower())} {name}"] = _code(_show(connection, kind, name))
    for (name,) in _named(connection, "event_name", "events", database):
        parts[f"event {name}"] = _code(_show(connection, "EVENT", name))
    return parts


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What is in one and not the same in the other, in words, by name."""
    words = [f"{name} is missing" for name in before if name not in after]
    words += [f"{name} is new" for name in after if name not in before]
    words += [f"{name} differs" for name in before if name in after and before[name] != after[name]]
    return sorted(words)


def database_facts(connection: Connection, database: str, tables: list[Table]) -> dict[str, Any]:
    """What the manifest keeps beside the rows: character set, engines, how many of what, definers."""
    charset, collation = query(
        connection,
        "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata "
        "WHERE schema_name = %s",
        (database,),
    )[0]
    counts = {
        kind: int(value(connection, f"SELECT COUNT(*) FROM information_schema.{kind} WHERE {column} = %s", (database,)))
        for kind, column in (("views", "table_schema"), ("triggers", "trigger_schema"),
                             ("routines", "routine_schema"), ("events", "event_schema"))
    }  # fmt: skip
    definers = query(
        connection,
        "SELECT definer FROM information_schema.views WHERE table_schema = %s "
        "UNION SELECT definer FROM information_schema.triggers WHERE trigger_schema = %s "
        "UNION SELECT definer FROM information_schema.routines WHERE routine_schema = %s "
        "UNION SELECT definer FROM information_schema.events WHERE event_schema = %s",
        (database,) * 4,
    )
    return {
        "character_set": str(charset),
        "collation": str(collation),
        "create_database": str(query(connection, f"SHOW CREATE DATABASE {quoted(database)}")[0][1]),
        "engines": {table.name: table.engine for table in tables if table.kind != SEQUENCE},
        "sequences": [table.name for table in tables if table.kind == SEQUENCE],
        "definers": sorted(str(definer) for (definer,) in definers),
        **counts,
    }


def _named(connection: Connection, columns: str, source: str, database: str) -> list[tuple[str, ...]]:
    column = columns.split(",")[0].replace("_name", "_schema")
    rows = query(connection, f"SELECT {columns} FROM information_schema.{source} WHERE {column} = %s", (database,))
    return [tuple(str(each) for each in row) for row in rows]


def _show(connection: Connection, kind: str, name: str) -> dict[str, Any]:
    statement = f"SHOW CREATE {kind} {quoted(name)}"
    with translated(statement), connection.cursor() as cursor:
        cursor.execute(statement)
        names = [column[0] for column in cursor.description or ()]
        return dict(zip(names, cursor.fetchone() or (), strict=False))


def _view(connection: Connection, name: str) -> str:
    return str(_show(connection, "VIEW", name)["Create View"])


def _code(shown: dict[str, Any]) -> str:
    """A routine's or event's definition with the session settings that it is bound to."""
    kept = {name: text for name, text in shown.items() if name not in _NAMES}
    return "\n".join(f"{name}: {kept[name]}" for name in sorted(kept))


_NAMES = {"Procedure", "Function", "Event", "Package", "Package body", "Trigger", "Created"}


def _table_text(text: str, database: str) -> str:
    text = _COUNTER.sub(r"\1", text)
    text = re.sub(rf"\b(nextval|lastval|setval)\({re.escape(quoted(database))}\.", r"\1(", text)
    lines = text.split("\n")
    keys = sorted(line.rstrip(",") for line in lines if _KEY.match(line))
    rest = [line.rstrip(",") for line in lines if not _KEY.match(line)]
    return "\n".join([*rest, *keys])


def _triggers(connection: Connection, database: str) -> dict[str, str]:
    columns = ("event_object_table", "action_timing", "event_manipulation", "action_order", "definer", "sql_mode",
               "character_set_client", "collation_connection", "database_collation", "action_statement")  # fmt: skip
    rows = query(
        connection,
        f"SELECT trigger_name, {', '.join(columns)} FROM information_schema.triggers WHERE trigger_schema = %s",
        (database,),
    )
    return {
        f"trigger {row[0]}": "\n".join(f"{column}: {text}" for column, text in zip(columns, row[1:], strict=True))
        for row in rows
    }
