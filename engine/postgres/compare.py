"""A restored copy held against its manifest: rows, definitions, sequence values, large objects."""

from __future__ import annotations

from engine.manifest import Manifest
from engine.postgres import rows, schema
from engine.postgres.connection import Connection, Connector, translated
from engine.postgres.load import session_options
from engine.postgres.quoting import label, qualified
from engine.postgres.selection import Chosen
from engine.postgres.tools import Tools
from engine.source import Comparison, Selection

_SHOWN = 10


def compare(connector: Connector, tools: Tools, manifest: Manifest, into: str, selection: Selection) -> Comparison:
    """Count every chosen table exactly and compare its schema, sequences and large objects."""
    chosen = Chosen.of(manifest, selection)
    expected = {table: count for table, count in manifest.rows.items() if chosen.table(table)}
    problems: list[str] = []
    notes: list[str] = []
    with connector.open(into) as inside:
        options = session_options(inside)
        tables = {table.label: table for table in rows.tables(inside)}
        found = {name: rows.count(inside, table) for name, table in tables.items() if name in expected}
        problems += _rows(expected, found)
        problems += [
            f"table {name} is missing" for name in manifest.uncounted if chosen.table(name) and name not in tables
        ]
        problems += _sequences(inside, manifest, chosen)
        if chosen.everything:
            problems += _large_objects(inside, manifest)
    equal = _schema(connector, tools, manifest, into, chosen, options, problems, notes)
    return Comparison(expected=expected, found=found, schema_equal=equal, problems=problems, notes=notes)


def _rows(expected: dict[str, int], found: dict[str, int]) -> list[str]:
    problems = [f"table {name} is missing" for name in sorted(expected.keys() - found.keys())]
    problems += [
        f"table {name} has {found[name]} rows, the backup {expected[name]}"
        for name in sorted(expected.keys() & found.keys())
        if found[name] != expected[name]
    ]
    return problems


def _sequences(inside: Connection, manifest: Manifest, chosen: Chosen) -> list[str]:
    expected: dict[str, list[object]] = manifest.contents.get("sequences", {})
    problems = []
    with translated("reading the sequences"):
        names = inside.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind = 'S' AND n.nspname !~ '^pg_'"
        ).fetchall()
        known = {label(*name): name for name in names}
        for name, (value, called) in sorted(expected.items()):
            if name not in known:
                problems.append(f"sequence {name} is missing")
                continue
            row = inside.execute(f"SELECT last_value, is_called FROM {qualified(*known[name])}").fetchone()
            if row is not None and (row[0], row[1]) != (value, called):
                problems.append(f"sequence {name} stands at {row[0]}, in the backup at {value}")
    return problems


def _large_objects(inside: Connection, manifest: Manifest) -> list[str]:
    expected = manifest.contents.get("large_objects")
    if expected is None:
        return []
    with translated("counting large objects"):
        row = inside.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone()
    found = int(row[0]) if row else 0
    return [] if found == expected else [f"there are {found} large objects, in the backup {expected}"]


def _schema(
    connector: Connector,
    tools: Tools,
    manifest: Manifest,
    into: str,
    chosen: Chosen,
    options: str,
    problems: list[str],
    notes: list[str],
) -> bool | None:
    """Equal or not; None where it cannot be told, with a note that says why."""
    if not manifest.schema_sha256:
        notes.append("The schema was not compared: this backup came without its fingerprint.")
        return None
    parts: dict[str, str] = manifest.contents.get("schema_parts", {})
    if not chosen.everything and (not chosen.selection.schemas or not parts):
        notes.append("The schema was not compared: only a part was restored.")
        return None
    found = schema.of_database(connector, tools, into, manifest.contents.get("schemas", ()), options=options)
    if chosen.everything:
        equal = schema.digest(found) == manifest.schema_sha256
        lines = schema.differences(parts, found) if parts else ["it is not that of the backup"]
    else:  # foreign keys to other schemas were left out on purpose
        parts, found = _of_schemas(parts, chosen), _of_schemas(found, chosen)
        equal, lines = parts == found, schema.differences(parts, found)
    if equal:
        return True
    shown = "; ".join(lines[:_SHOWN]) + (f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else "")
    if not _same_tool(connector, tools, manifest):
        notes.append(
            "The schema was not compared exactly: server or pg_dump is not of the version that made the "
            f"backup, and they write some things differently ({shown})."
        )
        return None
    problems.append(f"the schema differs: {shown}")
    return False


def _of_schemas(parts: dict[str, str], chosen: Chosen) -> dict[str, str]:
    return {
        key: value
        for key, value in parts.items()
        if not key.startswith("FK CONSTRAINT ") and chosen.schema(_schema_of(key))
    }


def _schema_of(key: str) -> str:
    """The schema in a part's key, ``TABLE public.t``. Types are in capitals and may hold spaces."""
    words = key.split(" ")
    while len(words) > 1 and words[0].isupper():
        words.pop(0)
    return " ".join(words).partition(".")[0]


def _same_tool(connector: Connector, tools: Tools, manifest: Manifest) -> bool:
    with connector.open() as connection:
        version = connection.info.parameter_status("server_version")
    made = manifest.server
    return made is not None and made.tool_version == tools.get("pg_dump").version and made.version == version
