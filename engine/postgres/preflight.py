"""What must be so before a dump can work, checked with an exact remedy for each thing that is not."""

from __future__ import annotations

from typing import Any

from engine.errors import MissingGrant, UnknownName, nearest
from engine.postgres import rows, search_path
from engine.postgres.connection import Connection, translated
from engine.postgres.quoting import ident, qualified
from engine.postgres.tools import Tools

_READABLE = """
SELECT n.nspname, c.relname, has_schema_privilege(n.oid, 'USAGE'),
       CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
            ELSE has_table_privilege(c.oid, 'SELECT') END,
       c.relkind <> 'S' AND row_security_active(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S', 'm') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND (%(all)s OR n.nspname = ANY(%(schemas)s))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                  AND d.deptype = 'e')
ORDER BY 1, 2
"""
_UNREADABLE_OBJECTS = """
SELECT l.oid FROM pg_largeobject_metadata l WHERE NOT pg_has_role(l.lomowner, 'USAGE') AND NOT EXISTS (
    SELECT FROM aclexplode(l.lomacl) a
    WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))
ORDER BY 1 LIMIT 3
"""
_NOTES = """
SELECT 'unlogged', n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'u'
UNION ALL SELECT 'foreign', n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'f'
UNION ALL SELECT 'extension', e.extname FROM pg_extension e
WHERE e.extname IN ('pg_cron', 'dblink', 'postgres_fdw', 'timescaledb', 'pg_partman')
UNION ALL SELECT 'publication', p.pubname FROM pg_publication p
UNION ALL SELECT 'tablespace', t.spcname FROM pg_tablespace t WHERE t.spcname !~ '^pg_'
  AND EXISTS (SELECT FROM pg_class c WHERE c.reltablespace = t.oid)
"""
_SAYINGS = {
    "unlogged": "Unlogged tables are in the dump, though a crash of the server empties them: {}.",
    "foreign": "Foreign tables are in the dump as definitions only; their rows are elsewhere: {}.",
    "extension": "Extensions that act or reach out by themselves; look at them before a restored copy goes live: {}.",
    "publication": "Publications are in the dump; who subscribes must be set up again after a restore: {}.",
    "tablespace": "Objects lie in tablespaces that a restore elsewhere may lack: {}.",
}


def check(connection: Connection, tools: Tools, database: str, schemas: list[str]) -> tuple[int, list[str]]:
    """Rights, schemas and tools for a dump of the connected database.

    Returns:
        An estimate of the dump's plain bytes, and things to tell a person.

    Raises:
        ToolMissing, WrongTool, MissingGrant: with the exact remedy. UnknownName: a schema is not there.
    """
    for name in ("pg_dump", "pg_dumpall", "pg_restore", "psql"):
        tools.get(name)
    with translated(f"looking at {database}"):
        _schemas(connection, database, schemas)
        _rights(connection, database, schemas)
        warnings = [*_warnings(connection), *search_path.warnings(connection)]
        if (
            not schemas
            and (found := connection.execute(_UNREADABLE_OBJECTS).fetchall())
            and not _is_superuser(connection)
        ):
            user = connection.info.user
            raise MissingGrant(
                f"User {user!r} may not read large object {found[0][0]} of {database}, and pg_dump stops at that.",
                remedy=f"GRANT SELECT ON LARGE OBJECT {found[0][0]} TO {ident(user)}; (for each one), "
                f"or ALTER ROLE {ident(user)} SUPERUSER;",
            )
    estimate = rows.measured_bytes(connection, rows.tables(connection, schemas))
    return estimate, warnings


def _is_superuser(connection: Connection) -> bool:
    row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    return bool(row and row[0])


def _schemas(connection: Connection, database: str, schemas: list[str]) -> None:
    known = [
        row[0]
        for row in connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
        )
    ]
    for schema in schemas:
        if schema not in known:
            raise UnknownName(f"Database {database} has no schema {schema!r}.", remedy=nearest(schema, known))


def _rights(connection: Connection, database: str, schemas: list[str]) -> None:
    user = connection.info.user
    found: list[Any] = connection.execute(_READABLE, {"all": not schemas, "schemas": schemas}).fetchall()
    for schema, name, usage, select, hidden in found:
        if not usage or not select:
            what = f"read {schema}.{name}" if usage else f"use schema {schema}"
            raise MissingGrant(
                f"User {user!r} may not {what} in {database}, and a dump needs all of it.",
                remedy=_remedy(connection.info.server_version, schema, name, user),
            )
        if hidden:
            raise MissingGrant(
                f"Row security hides rows of {schema}.{name} in {database} from user {user!r}.",
                remedy=f"ALTER ROLE {ident(user)} BYPASSRLS;",
            )


def _remedy(version: int, schema: str, name: str, user: str) -> str:
    if version >= 140000:
        return f"GRANT pg_read_all_data TO {ident(user)};"
    return (
        f"GRANT USAGE ON SCHEMA {ident(schema)} TO {ident(user)}; "
        f"GRANT SELECT ON {qualified(schema, name)} TO {ident(user)};"
    )


def _warnings(connection: Connection) -> list[str]:
    kinds: dict[str, list[str]] = {}
    for kind, name in connection.execute(_NOTES):
        kinds.setdefault(kind, []).append(name)
    warnings = [_SAYINGS[kind].format(", ".join(sorted(names)[:10])) for kind, names in sorted(kinds.items())]
    if not _is_superuser(connection):
        warnings.append("Subscriptions are left out of the dump: only a superuser may read them.")
    return warnings
