"""A database that was being dropped at the moment to recover to.

DROP DATABASE removes the files first and commits then. A recovery that stops right before the commit has a
database without files. So it goes once more, and stops right before the files were removed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psycopg

from engine import names
from engine.errors import RestoreRefused, ToolFailed
from engine.postgres.connection import translated
from engine.scratch.postgres import Recovered
from engine.scratch.postgres_place import Place
from engine.scratch.postgres_settings import Goal

_REMOVED = re.compile(rb"lsn: ([0-9A-F]+/[0-9A-F]+),.* desc: DROP (.*)")
_WITHOUT_FILES = """
    SELECT d.oid::text, d.datname FROM pg_database d
    WHERE pg_stat_file(CASE WHEN d.dattablespace = 1663 THEN 'base/' || d.oid ELSE
        (SELECT 'pg_tblspc/' || d.dattablespace || '/' || inside || '/' || d.oid
         FROM pg_ls_dir('pg_tblspc/' || d.dattablespace) AS inside LIMIT 1) END, true) IS NULL"""
_BEING_DROPPED = -2
"""The limit of connections by which newer servers mark a database that is being dropped."""


@dataclass(frozen=True)
class Dropped:
    """A database without files, by oid and name."""

    oid: str
    name: str


def without_files(connection: psycopg.Connection[object]) -> list[Dropped]:
    """The databases of a recovered cluster whose files are gone."""
    with translated("looking at the recovered databases"):
        rows = connection.execute(_WITHOUT_FILES).fetchall()
    return [Dropped(str(row[0]), str(row[1])) for row in rows if isinstance(row, tuple)]


def right_before(place: Place, wal: Sequence[str], dropped: Sequence[Dropped], goal: Goal) -> Goal:
    """Where to stop instead: before the first removal of any of them.

    Args:
        wal: Names of the segments that lie ready in the place, without holes.

    Raises:
        RestoreRefused: The log does not tell it.
    """
    wanted = {each.oid for each in dropped}
    for line in _removals(place, wal):
        found = _REMOVED.search(line)
        if found and wanted & {each.rpartition("/")[2] for each in found[2].decode().split()}:
            return Goal(lsn=found[1].decode(), inclusive=False, timeline=goal.timeline)
    raise RestoreRefused(
        f"At {goal} {_named(dropped)} was being dropped: its files were gone already.",
        kept="production and the backups were not touched",
        remedy="recover to an earlier moment",
    )


def accept(first: Recovered, second: Recovered, dropped: Sequence[Dropped]) -> Recovered:
    """What came of both recoveries, as one.

    Raises:
        RestoreRefused: Others committed after the files were gone and before the moment.
    """
    if second.last_commit != first.last_commit:
        raise RestoreRefused(
            f"At {first.goal} {_named(dropped)} was being dropped: its files were gone already, and others have "
            "committed since.",
            kept="production and the backups were not touched",
            remedy=f"recover to the last commit before they were gone: {names.iso(second.last_commit)}"
            if second.last_commit
            else "recover to an earlier moment",
        )
    note = f"{_named(dropped)} was being dropped at that moment; it is as it was right before its files were removed."
    return replace(second, goal=first.goal, to_the_end=first.to_the_end, notes=[*second.notes, note])


def revive(connection: psycopg.Connection[object], dropped: Sequence[Dropped]) -> None:
    """Take the mark away by which nobody could enter."""
    with translated("taking away the mark of a database that was being dropped"):
        connection.execute(
            b"UPDATE pg_database SET datconnlimit = -1 WHERE datconnlimit = %s AND datname = ANY(%s)",
            (_BEING_DROPPED, [each.name for each in dropped]),
        )


def _removals(place: Place, wal: Sequence[str]) -> list[bytes]:
    found: list[bytes] = []
    command = place.command("pg_waldump", "-p", f"{place.work}/wal", "-r", "Database", min(wal), max(wal))
    with place.runner.start(command) as process:
        rest = b""
        for chunk in process.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            found += [line for line in lines if b"desc: DROP" in line]
        with contextlib.suppress(ToolFailed):  # the last record may go on in a segment that is not here
            process.wait()
    return found


def _named(dropped: Sequence[Dropped]) -> str:
    return ", ".join(f"database {each.name!r}" for each in dropped)
