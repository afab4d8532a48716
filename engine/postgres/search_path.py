"""Functions that find what they use only by the session's search_path, which is empty while a dump loads.

pg_dump sets an empty search_path. A function that a generated column, a CHECK, an index or a materialized
view calls runs during the load; where it names things without their schema, and sets no search_path of its
own, the load ends with ``function s() does not exist``. Such are looked for before a dump, by what the
bodies say (so one that builds its SQL from pieces is not seen), and explained where a load met one.
"""

from __future__ import annotations

import re

from engine.errors import BackupError, RestoreRefused, ToolFailed
from engine.postgres.connection import Connection

_KEPT = "production was not touched, and the backup is as it was; the copy that was begun is removed"
_SHOWN = 10

# pg_depend knows who calls a function directly; in versions before 15 a generated column depends on it as
# a column of its table, later by its default.
_CALLED = """
SELECT DISTINCT p.oid::bigint, p.oid::regprocedure::text, p.prosrc
FROM pg_depend d
JOIN pg_proc p ON p.oid = d.refobjid AND d.refclassid = 'pg_proc'::regclass
JOIN pg_language l ON l.oid = p.prolang AND l.lanname IN ('sql', 'plpgsql')
JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
LEFT JOIN pg_attribute a ON a.attrelid = coalesce(f.adrelid, d.objid)
    AND a.attnum = coalesce(f.adnum, d.objsubid) AND (f.oid IS NOT NULL OR d.classid = 'pg_class'::regclass)
LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
LEFT JOIN pg_class c ON c.oid = CASE WHEN d.classid = 'pg_class'::regclass THEN d.objid ELSE w.ev_class END
WHERE (a.attgenerated <> '' OR k.contype = 'c' OR c.relkind IN ('i', 'I', 'm'))
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) setting WHERE setting LIKE 'search_path=%%')
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid
                  AND e.deptype = 'e')
ORDER BY 2
"""
# Names of the database's own things (and of its extensions) that a body may use. Not of the built-in ones:
# those are found whatever the search_path.
_NAMES = """
SELECT o.name FROM (
    SELECT proname AS name, pronamespace AS schema FROM pg_proc
    UNION SELECT relname, relnamespace FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION SELECT typname, typnamespace FROM pg_type WHERE typtype <> 'p'
) o JOIN pg_namespace n ON n.oid = o.schema
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
# A word, quoted or not, with no dot before or after it.
_WORD = re.compile(r'(?<![\w$".])(?:"((?:[^"]|"")+)"|([^\W\d][\w$]*))(?![\w$"])(?!\s*\.)')
_MISSING = re.compile(r"(?:function|relation|type|operator) .{0,200}?does not exist")
_CHECK = re.compile(r'violates check constraint "')
_WITHIN = re.compile(r'(?:SQL function "((?:[^"])+)"|PL/pgSQL function (\S+?\([^)]*\)))')


def warnings(connection: Connection) -> list[str]:
    """Functions that a load would call and that name things without a schema; one sentence for all of them."""
    called = connection.execute(_CALLED).fetchall()
    if not called:
        return []
    names = {row[0] for row in connection.execute(_NAMES)}
    found = [name for _, name, body in called if _unqualified(body) & names]
    if not found:
        return []
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return [
        f"A restore may fail at functions that name things without their schema and set no search_path, as "
        f"generated columns, checks, indexes or materialized views call them: {', '.join(found[:_SHOWN])}{more}. "
        f"For each: ALTER FUNCTION {found[0]} SET search_path = public; (with the schemas that it uses)."
    ]


def explained(error: BackupError) -> BackupError:
    """A failed load's error, with what was kept; with the way out where a function or a check is the reason.

    Such an error is permanent, so a RestoreRefused is given for it in place of the ToolFailed.
    """
    if isinstance(error, ToolFailed) and _MISSING.search(error.message):
        within = _WITHIN.search(error.message)
        name = (within[1] or within[2]) if within else ""
        return RestoreRefused(
            error.message.rstrip()
            + (f"\nThe function {name}" if name else "\nMost likely a function")
            + " names something without its schema, and a dump loads with an empty search_path.",
            kept=_KEPT,
            remedy=f"on production: ALTER FUNCTION {name or 'NAME(ARGUMENTS)'} SET search_path = public; (with the "
            "schemas that it uses), then make a new backup. To load this backup by hand (docs/restore-by-hand.md), "
            "put this between gunzip and psql: "
            "sed \"s/^SELECT pg_catalog.set_config('search_path', '', false);/SET search_path = public;/\"",
        )
    if isinstance(error, ToolFailed) and _CHECK.search(error.message):
        return RestoreRefused(
            error.message.rstrip()
            + "\nMost likely that check looks at rows of another table, which the dump loads later.",
            kept=_KEPT,
            remedy="on production: drop that constraint and add it again as NOT VALID (a dump then adds it after the "
            "rows), then make a new backup. To load this backup by hand, see docs/restore-by-hand.md: load the "
            "definitions without the constraint first",
        )
    error.kept = error.kept or _KEPT
    return error


def _unqualified(body: str) -> set[str]:
    """The words of a function's body that stand without a schema, as the catalog would spell them."""
    return {quoted.replace('""', '"') if quoted else plain.lower() for quoted, plain in _WORD.findall(body)}
