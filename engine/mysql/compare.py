"""Hold a restored copy against its manifest: every row counted, every definition fingerprinted."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from engine.manifest import Manifest
from engine.mysql.schema import base_tables, count_rows, fingerprint_of, schema_parts
from engine.source import Comparison, Selection

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource


def compare(source: MySQLSource, manifest: Manifest, into: str, selection: Selection) -> Comparison:
    """See ``engine.source.DatabaseSource.compare``."""
    session = source.session
    present = base_tables(session, into)
    found = {table: count_rows(session, into, table) for table in present}
    expected = {table: rows for table, rows in manifest.rows.items() if selection.wants(table)}
    uncounted = [table for table in present if table not in expected and _left_out(table, manifest.uncounted)]
    problems = [
        f"{table}: {found[table]} rows, the manifest says {rows}" if table in found else f"{table}: missing"
        for table, rows in sorted(expected.items())
        if found.get(table) != rows
    ]
    notes = [f"not counted at the backup, {found[table]} rows now: {table}" for table in uncounted]
    if manifest.rows:
        extra = sorted(set(found) - set(expected) - set(uncounted))
        problems += [f"{table}: not in the manifest" for table in extra]
    else:
        notes.append("the manifest holds no row counts (adopted from another tool): counted, not compared")
    equal = _schema(source, manifest, into) if selection.everything and manifest.schema_sha256 else None
    if equal is False:
        problems.append("the definitions (tables, views, triggers, routines, events) differ from the backup's")
    return Comparison(expected, found, equal, problems, notes)


def _schema(source: MySQLSource, manifest: Manifest, into: str) -> bool:
    """Equal definitions, with each event as it was in the dump: here they are all disabled."""
    parts = schema_parts(source.session, into)
    statuses = source.side_events.get(into, {})
    for name, status in statuses.items():
        key = f"event {name}"
        if key in parts and status != "DISABLE":
            parts[key] = parts[key].replace(" PRESERVE DISABLE", f" PRESERVE {status}", 1)
    return fingerprint_of(parts) == manifest.schema_sha256


def _left_out(table: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(table, pattern) for pattern in patterns)
