"""Putting single schemas of a side database in the place of production's, in one transaction.

The schema of production is renamed and stays beside; pg_dump of the side streams into psql between BEGIN
and COMMIT, so production is whole old until the commit and whole new after it. The application goes on
meanwhile. Single tables are not exchanged: what hangs on a table (keys, views, sequences, rights) would
stay with the old one without a word; restore them beside and copy the rows over.
"""

from __future__ import annotations

import time

from engine.errors import RestoreRefused
from engine.journal import Journal
from engine.names import now
from engine.postgres import schema, sides
from engine.postgres.connection import Connection, Connector, translated
from engine.postgres.load import run_psql, session_options
from engine.postgres.quoting import ident
from engine.postgres.tools import Tools
from engine.processes import Process
from engine.progress import Progress
from engine.source import Selection, SwapReport

_MEANWHILE = "The application went on meanwhile; what it wrote to these schemas since the backup is in the kept ones."

# What outside of a schema leans on something inside of it, and would stay with the old one.
_INBOUND = """
WITH inside AS (
    SELECT d.classid, d.objid, d.objsubid FROM pg_depend d,
    LATERAL pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) r
    WHERE d.deptype IN ('n', 'a') AND d.refclassid IN ('pg_class'::regclass, 'pg_type'::regclass, 'pg_proc'::regclass,
      'pg_constraint'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass, 'pg_collation'::regclass)
      AND coalesce(r.schema, '') = %(schema)s)
SELECT DISTINCT pg_describe_object(i.classid, i.objid, i.objsubid)
FROM inside i
LEFT JOIN pg_rewrite w ON i.classid = 'pg_rewrite'::regclass AND w.oid = i.objid
LEFT JOIN pg_constraint k ON i.classid = 'pg_constraint'::regclass AND k.oid = i.objid
LEFT JOIN pg_trigger t ON i.classid = 'pg_trigger'::regclass AND t.oid = i.objid
LEFT JOIN pg_attrdef a ON i.classid = 'pg_attrdef'::regclass AND a.oid = i.objid
LEFT JOIN pg_policy p ON i.classid = 'pg_policy'::regclass AND p.oid = i.objid
LEFT JOIN pg_class c ON c.oid = CASE WHEN i.classid = 'pg_class'::regclass THEN i.objid
    ELSE coalesce(w.ev_class, nullif(k.conrelid, 0), t.tgrelid, a.adrelid, p.polrelid) END
LEFT JOIN pg_namespace n ON n.oid = coalesce(c.relnamespace, k.connamespace),
LATERAL pg_identify_object(i.classid, i.objid, i.objsubid) o
WHERE coalesce(n.nspname, o.schema, '') <> ALL(%(schemas)s) AND coalesce(n.nspname, o.schema, '') !~ '^pg_toast'
ORDER BY 1 LIMIT 20
"""


def exchange(
    connector: Connector,
    tools: Tools,
    side: str,
    database: str,
    keep_as: str,
    selection: Selection,
    journal: Journal,
    progress: Progress,
) -> SwapReport:
    """Exchange the selected schemas. The previous ones stay as ``<schema>_before_<time>``.

    Raises:
        RestoreRefused: Tables were selected, or something outside leans on what is inside.
    """
    if selection.tables:
        raise RestoreRefused(
            "Single tables are not put in place of production's: keys, views and sequences hang on them.",
            kept=f"production was not touched; the tables are in {side}",
            remedy=f"copy rows from {side}: pg_dump --data-only -t … | psql, or exchange its schema (--schemas)",
        )
    token = sides.token_of(journal)
    with connector.open(side, token=token) as inside:
        schemas = _chosen(inside, selection)
        extra = [line for each in schemas if each == "public" for line in _public(inside)]
    kept = {each: f"{each}{_suffix(database, keep_as)}" for each in schemas}
    with connector.open(database, token=token) as production:
        present = _check(production, database, kept)
        options = session_options(production).replace("synchronous_commit=off", "synchronous_commit=on")
    journal.record("exchange-begin", database=database, kept={name: kept[name] for name in present})
    begun = time.monotonic()
    renames = [f"ALTER SCHEMA {ident(name)} RENAME TO {ident(kept[name])};" for name in present]
    with run_psql(connector, tools, database, token, options) as psql:
        psql.write("\n".join(["BEGIN;", "SET LOCAL lock_timeout = '30s';", *renames, *extra, ""]).encode())
        _copy_schemas(connector, tools, side, schemas, token, psql, progress)
        journal.record("exchange-commit")
        psql.write(b"\nCOMMIT;\n")  # only now: the end of input alone commits nothing
        psql.close_input()
        psql.wait()
    journal.record("exchange-done")
    return SwapReport(
        kept_as=", ".join(kept[name] for name in present),
        paused_seconds=0.0,
        notes=[_MEANWHILE, f"The exchange took {time.monotonic() - begun:.1f} s."],
    )


def _copy_schemas(
    connector: Connector,
    tools: Tools,
    side: str,
    schemas: list[str],
    token: str,
    psql: Process,
    progress: Progress,
) -> None:
    """What the side has of these schemas, dumped into an open transaction of production."""
    options = ["--format=plain", "--encoding=UTF8", "--no-password", *schema.only(schemas)]
    dump = tools.command("pg_dump", *options, env=connector.tool_environment(side, token=token))
    with tools.runner.start(dump, timeout=connector.config.timeout_seconds) as source:
        done = 0
        for chunk in source.chunks():
            psql.write(chunk)
            done += len(chunk)
            progress("exchange", done, None)
        source.wait()


def _chosen(inside: Connection, selection: Selection) -> list[str]:
    with translated("listing schemas"):
        known = [
            row[0]
            for row in inside.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' "
                "AND nspname <> 'information_schema' ORDER BY 1"
            )
        ]
    found = [name for name in known if Selection(schemas=selection.schemas).wants("", name)]
    if not found:
        raise RestoreRefused(
            "The selection matches no schema of this backup.",
            kept="production was not touched",
            remedy=f"it holds: {', '.join(known)}",
        )
    return found


def _suffix(database: str, keep_as: str) -> str:
    return keep_as.removeprefix(database) if keep_as.startswith(f"{database}_") else f"_before_{now():%Y%m%d_%H%M%S}"


def _check(production: Connection, database: str, kept: dict[str, str]) -> list[str]:
    """The schemas that production has now; refuses what an exchange would break."""
    untouched = "production was not touched"
    with translated(f"looking at the schemas of {database}"):
        known = {row[0] for row in production.execute("SELECT nspname FROM pg_namespace")}
        for name in kept.values():
            if name in known or len(name.encode()) > 63:
                raise RestoreRefused(
                    f"The previous schema cannot be kept as {name!r}: the name is taken or too long.", kept=untouched
                )
        present = [name for name in kept if name in known]
        for name in present:
            extensions = [
                row[0]
                for row in production.execute(
                    "SELECT extname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
                    "WHERE n.nspname = %s",
                    [name],
                )
            ]
            if extensions:
                raise RestoreRefused(
                    f"Extensions live in schema {name} and would leave with it: {', '.join(extensions)}.",
                    kept=untouched,
                    remedy="restore the whole database, or move the extensions to a "
                    "schema of their own (ALTER EXTENSION … SET SCHEMA)",
                )
            leaning = [row[0] for row in production.execute(_INBOUND, {"schema": name, "schemas": list(kept)})]
            if leaning:
                raise RestoreRefused(
                    f"Things outside of schema {name} lean on it and would stay with the previous one: "
                    f"{'; '.join(leaning[:8])}.",
                    kept=untouched,
                    remedy="exchange those schemas together with it, or restore the whole database",
                )
    return present


def _public(inside: Connection) -> list[str]:
    """``public`` is in no dump by itself: make it anew with the owner and rights of the side's."""
    with translated("reading the rights on schema public"):
        row = inside.execute("SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public'").fetchone()
        rights = inside.execute(
            "SELECT coalesce(pg_get_userbyid(nullif(a.grantee, 0)), ''), a.privilege_type FROM pg_namespace n, "
            "aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a WHERE n.nspname = 'public'"
        ).fetchall()
    owner = row[0] if row else "postgres"
    grants = [f"GRANT {right} ON SCHEMA public TO {ident(role) if role else 'PUBLIC'};" for role, right in rights]
    return ["CREATE SCHEMA public;", f"ALTER SCHEMA public OWNER TO {ident(owner)};", *grants]
