"""Which tables a dump holds rows of, and how many rows each has in a given snapshot."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg

from engine.postgres.connection import Connection, translated
from engine.postgres.quoting import label, qualified


@dataclass(frozen=True)
class Table:
    """A table whose own rows pg_dump writes.

    Attributes:
        condition: For a configuration table of an extension, the ``WHERE`` clause of what is dumped.
        bytes: Size of its rows on disk, TOAST included, as of its last VACUUM or ANALYZE. (The functions
            that measure it now wait for a table that is locked.)
    """

    schema: str
    name: str
    condition: str
    bytes: int
    oid: int

    @property
    def label(self) -> str:
        return label(self.schema, self.name)


# Ordinary tables and partitions, no parents of partitions, views, foreign tables; no tables that belong
# to an extension unless the extension registered them as configuration.
_TABLES = """
SELECT n.nspname, c.relname, coalesce(config.condition, ''),
       (greatest(c.relpages, 0) + coalesce(t.relpages, 0)) * current_setting('block_size')::bigint AS size,
       c.oid::bigint
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
    AND d.deptype = 'e'
LEFT JOIN LATERAL (
    SELECT pair.condition FROM pg_extension e,
    LATERAL unnest(e.extconfig, e.extcondition) AS pair(relation, condition)
    WHERE e.oid = d.refobjid AND pair.relation = c.oid
) config ON true
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND (d.objid IS NULL OR config.condition IS NOT NULL)
  AND (%(all)s OR n.nspname = ANY(%(schemas)s))
ORDER BY size DESC, 1, 2
"""


def tables(connection: Connection, schemas: Sequence[str] = ()) -> list[Table]:
    """The tables whose rows a dump of these schemas (or of everything) holds, largest first."""
    with translated("listing tables"):
        found = connection.execute(_TABLES, {"all": not schemas, "schemas": list(schemas)}).fetchall()
    return [Table(*row) for row in found]


def measured_bytes(connection: Connection, wanted: Sequence[Table]) -> int:
    """Size of these tables on disk now, indexes left out; of the whole database where one of them is locked."""
    with translated("measuring tables"):
        connection.execute("SET lock_timeout = '2s'")
        try:
            sizes = "SELECT coalesce(sum(pg_table_size(oid)), 0)::bigint FROM unnest(%s::oid[]) oid"
            found = connection.execute(sizes, [[table.oid for table in wanted]]).fetchone()
        except psycopg.errors.LockNotAvailable:
            found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        connection.execute("SET lock_timeout = 0")
    return int(found[0]) if found else 0


def is_uncounted(table: Table, patterns: Iterable[str]) -> bool:
    """Has the site left this table out of counting? Patterns are ``table`` or ``schema.table``, with ``*``."""
    return any(fnmatch.fnmatchcase(table.label, each) or fnmatch.fnmatchcase(table.name, each) for each in patterns)


def count(connection: Connection, table: Table) -> int:
    """The table's own rows (not those of tables that inherit from it) that a dump would hold.

    Planning it may call the function of an index, which may need the search_path of the database's users.
    """
    statement = f"SELECT count(*) FROM ONLY {qualified(table.schema, table.name)} {table.condition}"
    with translated(f"counting {table.label}"):
        try:
            with connection.transaction():
                found = connection.execute(statement).fetchone()
        except (psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedTable, psycopg.errors.UndefinedObject):
            with connection.transaction():
                connection.execute("SET LOCAL search_path TO DEFAULT")
                found = connection.execute(statement).fetchone()
                connection.execute("SET LOCAL search_path TO pg_catalog")  # a savepoint's end would not undo it
    return int(found[0]) if found else 0


def count_all(connection: Connection, wanted: Iterable[Table]) -> dict[str, int]:
    """Rows by label."""
    return {table.label: count(connection, table) for table in wanted}
