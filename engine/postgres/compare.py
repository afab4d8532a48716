"""A restored copy held against its manifest: rows, definitions, sequence values, large objects."""

from __future__ import annotations

from engine.manifest import Manifest
from engine.postgres import columns, rows, schema
from engine.postgres.connection import Connection, Connector, translated
from engine.postgres.load import session_options
from engine.postgres.quoting import label, qualified, split_label
from engine.postgres.selection import Chosen
from engine.postgres.tools import Tools
from engine.source import Comparison, Selection

_SHOWN = 10
_COMES_AND_GOES = (
    "ACL ", "DEFAULT ", "COMMENT ", "SECURITY LABEL ", "TABLE ATTACH ", "INDEX ATTACH ", "SEQUENCE OWNED BY ",
    "ROW SECURITY ", "SCHEMA public",
)  # fmt: skip
"""Parts that another major version of pg_dump may write with, or apart from, what they belong to."""


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
        relations = columns.read(inside, manifest.contents.get("schemas", ()))
    equal, unchecked = _schema(connector, tools, manifest, into, chosen, options, relations, problems, notes)
    return Comparison(expected, found, equal, problems, notes, unchecked)


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
    relations: dict[str, str],
    problems: list[str],
    notes: list[str],
) -> tuple[bool | None, str]:
    """Equal or not; None where it cannot be told, with a note that says why, and where texts differ what was not
    compared."""
    if not manifest.schema_sha256:
        notes.append("The schema was not compared: this backup came without its fingerprint.")
        return None, ""
    parts: dict[str, str] = manifest.contents.get("schema_parts", {})
    if not chosen.everything and (not chosen.selection.schemas or not parts):
        notes.append("The schema was not compared: only a part was restored.")
        return None, ""
    found = schema.of_database(connector, tools, into, manifest.contents.get("schemas", ()), options=options)
    if chosen.everything:
        equal = schema.digest(found) == manifest.schema_sha256
        lines = schema.differences(parts, found) if parts else ["it is not that of the backup"]
    else:  # foreign keys to other schemas were left out on purpose
        parts, found = _of_schemas(parts, chosen), _of_schemas(found, chosen)
        equal, lines = parts == found, schema.differences(parts, found)
    if equal:
        return True, ""
    there = other_versions(connector, tools, manifest)
    if not there:
        problems.append(f"the schema differs: {_shown(lines)}")
        return False, ""
    wrong, known = _names(manifest, parts, found, relations, chosen, other_major=_majors_differ(tools, manifest))
    if wrong:
        problems.append(f"the schema differs: {_shown(wrong)}")
        return False, ""
    notes.append(f"Written differently here, by another version or because they changed: {_shown(lines)}")
    return None, f"the text of definitions was not compared ({there}); {known}"


def _names(
    manifest: Manifest, parts: dict[str, str], found: dict[str, str], relations: dict[str, str], chosen: Chosen,
    *, other_major: bool,
) -> tuple[list[str], str]:  # fmt: skip
    """What differs whatever version wrote it: objects that are missing or new, columns. And what was looked at."""
    if other_major:  # rights, and what is written as a part of something else, come and go between major versions
        parts = {key: value for key, value in parts.items() if not key.startswith(_COMES_AND_GOES)}
        found = {key: value for key, value in found.items() if not key.startswith(_COMES_AND_GOES)}
    looked_at = []
    wrong: list[str] = []
    names: str = manifest.contents.get("schema_names_sha256", "")
    if parts:
        wrong += schema.missing_or_new(parts, found)
        looked_at.append("names and kinds")
    elif names and not other_major:
        wrong += [] if schema.digest_of_names(found) == names else ["other objects are there than in the backup"]
        looked_at.append("names and kinds")
    expected: dict[str, str] = manifest.contents.get("columns", {})
    if expected and (chosen.everything or columns.ALL not in expected):
        wanted = expected
        if not chosen.everything:
            wanted = {name: value for name, value in expected.items() if chosen.schema(split_label(name)[0])}
        wrong += columns.differences(wanted, relations)
        looked_at.append("columns")
    lacking = [each for each in ("names and kinds", "columns") if each not in looked_at]
    said = f"{' and '.join(looked_at)} are those of the backup" if looked_at else ""
    more = f"{' and '.join(lacking)} neither, since the backup does not tell them" if lacking else ""
    return wrong, "; ".join(each for each in (said, more) if each)


def _shown(lines: list[str]) -> str:
    return "; ".join(lines[:_SHOWN]) + (f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else "")


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


def other_versions(connector: Connector, tools: Tools, manifest: Manifest) -> str:
    """Server or pg_dump is not of the very version that made the backup, in words; empty where both are."""
    with connector.open() as connection:
        version = str(connection.info.parameter_status("server_version"))
    tool, made = tools.get("pg_dump").version, manifest.server
    if made is not None and (made.version, made.tool_version) == (version, tool):
        return ""
    was = f"server {made.version}, pg_dump {made.tool_version or 'unknown'}" if made is not None else "unknown versions"
    return f"the backup is of {was}; here are server {version}, pg_dump {tool}"


def _majors_differ(tools: Tools, manifest: Manifest) -> bool:
    """Was the dump written by a pg_dump of another major version than looks now?"""
    made = manifest.server
    return made is None or made.tool_version.partition(".")[0] != tools.get("pg_dump").version.partition(".")[0]
