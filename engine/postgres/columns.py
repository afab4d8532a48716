"""Which columns each relation has, by names and types alone: alike whatever version of the server or tools looks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from engine.postgres.connection import Connection, translated
from engine.postgres.quoting import label

MAX_RELATIONS = 5000
ALL = ""
"""Instead of more relations than that, one digest over all of them."""
_DIGEST = 12

# Tables, views and composite types that are not an extension's. An heir's columns may change their order in a dump.
_COLUMNS = """
SELECT n.nspname, c.relname,
       string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), E'\\n' ORDER BY a.attname COLLATE "C")
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                  AND d.objsubid = 0 AND d.deptype = 'e')
  AND (%(all)s OR n.nspname = ANY(%(schemas)s))
GROUP BY 1, 2
ORDER BY 1, 2
"""


def read(connection: Connection, schemas: Sequence[str] = ()) -> dict[str, str]:
    """A short digest of each relation's columns, by label; of these schemas only, when given."""
    with translated("listing columns"):
        found = connection.execute(_COLUMNS, {"all": not schemas, "schemas": list(schemas)}).fetchall()
    return {label(schema, name): _digest(columns or "") for schema, name, columns in found}


def recorded(columns: Mapping[str, str]) -> dict[str, str]:
    """As a manifest keeps them."""
    if len(columns) <= MAX_RELATIONS:
        return dict(columns)
    return {ALL: _digest("\n".join(f"{name} {value}" for name, value in sorted(columns.items())))}


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What differs, in words."""
    if ALL in expected:
        found = {ALL: _digest("\n".join(f"{name} {value}" for name, value in sorted(found.items())))}
        return [] if found == expected else ["some table has other columns than in the backup"]
    return [
        f"{name} has other columns (by name or type) than in the backup"
        for name in sorted(expected.keys() & found.keys())
        if expected[name] != found[name]
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
