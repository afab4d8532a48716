"""Hold a restored copy against its manifest: every row counted, every definition fingerprinted."""

from __future__ import annotations

import contextlib
import fnmatch
from typing import TYPE_CHECKING

from engine.manifest import Manifest
from engine.mysql import definers
from engine.mysql.connection import Connection
from engine.mysql.schema import (
    SEQUENCE,
    count_rows,
    differences,
    digests_of,
    fingerprint_of,
    list_tables,
    schema_parts,
)
from engine.source import Comparison, Selection

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource

_NAMED = 10


def compare(source: MySQLSource, manifest: Manifest, into: str, selection: Selection) -> Comparison:
    """See ``engine.source.DatabaseSource.compare``."""
    with contextlib.closing(source.connect()) as session:  # its own: counting may take longer than a question
        found, expected, problems, notes = _rows(session, manifest, into, selection)
        equal = None
        if selection.everything and manifest.schema_sha256:
            equal, differing, said = _schema(source, session, manifest, into)
            problems += differing
            notes += said
        notes += definers.note(_gone(source, session, manifest, into, selection))
    if selection.everything:
        notes += _broken_views(manifest)
    return Comparison(expected, found, equal, problems, notes)


def _rows(
    session: Connection, manifest: Manifest, into: str, selection: Selection
) -> tuple[dict[str, int], dict[str, int], list[str], list[str]]:
    """What is there and what should be, by table; problems; notes. Tables whose rows live elsewhere (MERGE,
    FEDERATED...) have none of their own, neither in the dump nor here."""
    tables = [table for table in list_tables(session, into) if table.kind != SEQUENCE]
    linked = {table.name for table in tables if not table.has_data}
    found = {table.name: count_rows(session, into, table.name) for table in tables if table.has_data}
    expected = {table: rows for table, rows in manifest.rows.items() if selection.wants(table) and table not in linked}
    uncounted = [table for table in found if table not in expected and _left_out(table, manifest.uncounted)]
    problems = [
        f"{table}: {found[table]} rows, the manifest says {rows}" if table in found else f"{table}: missing"
        for table, rows in sorted(expected.items())
        if found.get(table) != rows
    ]
    notes = [f"not counted at the backup, {found[table]} rows now: {table}" for table in uncounted]
    if manifest.rows or manifest.schema_sha256:
        extra = sorted(set(found) - set(expected) - set(uncounted))
        problems += [f"{table}: not in the manifest" for table in extra]
    else:
        notes.append("the manifest holds no row counts (adopted from another tool): counted, not compared")
    return found, expected, problems, notes


def _schema(
    source: MySQLSource, session: Connection, manifest: Manifest, into: str
) -> tuple[bool | None, list[str], list[str]]:
    """Equal definitions, with each event as it was in the dump: here they are all disabled.

    Returns:
        Equal, or None where it cannot be told; what differs, by name; notes.
    """
    parts = schema_parts(session, into)
    for name, status in source.side_events.get(into, {}).items():
        key = f"event {name}"
        if key in parts and status != "DISABLE":
            parts[key] = parts[key].replace(" PRESERVE DISABLE", f" PRESERVE {status}", 1)
    waiting = source.side_views.get(into, [])
    for view in waiting:
        text = view.moved(manifest.database, None).text
        parts.setdefault(f"view {view.name}", text.decode("utf-8", "replace"))
    over = {f"event {name}" for name in source.events_over.get(into, ())}
    if not over and fingerprint_of(parts) == manifest.schema_sha256:
        return True, [], []
    recorded: dict[str, str] = manifest.contents.get("definitions", {})
    if over and not recorded:
        return None, [], ["the definitions were not compared: events are over, and the manifest has one digest for all"]
    digests = digests_of(parts)
    differing = differences({name: each for name, each in recorded.items() if name not in over}, digests)
    if over and not differing:
        return True, [], []
    excused = _of_the_missing(session, into) | {f"view {view.name}" for view in waiting}
    if recorded and differing and (excused := {name for name in excused if f"{name} differs" in differing}):
        differing = [each for each in differing if each not in {f"{name} differs" for name in excused}]
        said = [f"{name} reads otherwise than at the backup: its definer has no rights or is not known here"
                for name in sorted(excused)]  # fmt: skip
        if not differing:
            return True, [], said
    if not recorded or not differing:
        return False, ["the definitions (tables, views, triggers, routines, events) differ from the backup's"], []
    more = [f"and {len(differing) - _NAMED} more definitions differ"] if len(differing) > _NAMED else []
    return False, [*differing[:_NAMED], *more], []


def _gone(source: MySQLSource, session: Connection, manifest: Manifest, into: str, selection: Selection) -> set[str]:
    """Definers of what was restored that this server does not have."""
    named = set(definers.owned(session, into)) | {view.definer for view in source.side_views.get(into, [])}
    if selection.everything:
        named |= set(manifest.contents.get("definers", ()))
    return definers.missing(session, named)


def _of_the_missing(session: Connection, into: str) -> set[str]:
    """Names, as in ``schema_parts``, of what belongs to accounts that this server does not have."""
    owned = definers.owned(session, into)
    return {name for account in definers.missing(session, owned) for name in owned[account]}


def _broken_views(manifest: Manifest) -> list[str]:
    broken = sorted(manifest.contents.get("broken_views", ()))
    if not broken:
        return []
    return [
        f"views that were broken at the backup are not in it: {', '.join(broken)}; "
        "their definitions are in its manifest (contents.broken_views)"
    ]


def _left_out(table: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(table, pattern) for pattern in patterns)
