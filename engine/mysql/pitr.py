"""Recovery of one database to a moment: a full backup and its logs on a scratch server, and out again.

    with open_scratch(site, "mysql", manifest.server) as scratch:
        recovered = recover(site, scratch, entry, manifest, logs, start, stop)
        entry, manifest = export(site, scratch, recovered, source="mysql", label="as of 2026-11-22T10:00:00Z")

No server that holds production data is ever spoken to here.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine import names
from engine.catalog import Entry
from engine.errors import BackupError, IntegrityError, RestoreRefused
from engine.journal import Journal
from engine.manifest import Manifest
from engine.mysql.accounts_replay import apply_accounts
from engine.mysql.connection import Connection, query, quoted
from engine.mysql.definitions import Definition, create, read_definitions, set_event_status
from engine.mysql.foreign_keys import refuse_unlogged
from engine.mysql.replay import ReplayFile, ReplayReport, replay
from engine.mysql.schema import count_rows, list_tables
from engine.mysql.sessions import run, using
from engine.mysql.surroundings import TRIGGERS, recorded, settings_of, take_over
from engine.progress import Progress, silent
from engine.scratch.mysql import Scratch
from engine.site import Site
from engine.source import OpenPart, Selection

_REPLICA_SIDE = ("SLAVESIDE_DISABLED", "REPLICA_SIDE_DISABLED")


@dataclass(frozen=True)
class Recovered:
    """A database as it was, on the scratch server.

    Attributes:
        full: File of the full backup it was rolled forward from.
        rows: By table, counted.
        replay: What was applied.
        notes: What a person should know.
    """

    database: str
    full: str
    rows: dict[str, int]
    replay: ReplayReport
    notes: list[str] = field(default_factory=list)

    @property
    def tables(self) -> int:
        return len(self.rows)


def recover(
    site: Site,
    scratch: Scratch,
    full_entry: Entry,
    full_manifest: Manifest,
    logs: Sequence[ReplayFile],
    start: tuple[str, int],
    stop: tuple[str, int],
    progress: Progress = silent,
    surroundings: Mapping[str, Any] | None = None,
) -> Recovered:
    """Load a full backup with its accounts, check it against its manifest, and replay the logs on it.

    Args:
        logs: All from ``start``'s on, without a hole. None where the full backup as it is is wanted.
        start, stop: Log and position; the same without logs.
        surroundings: Of the source, for the applier to work under; None takes those that the manifest says.

    Raises:
        IntegrityError: The full backup is not what its manifest says, or the logs do not lead to ``stop``.
        RestoreRefused: The database did not exist at that moment. And what ``replay`` raises.
    """
    database = full_manifest.database
    if logs[0].name != start[0] if logs else stop != start:
        raise IntegrityError(f"The replay was to begin in {start[0]}, which is not its first log.")
    notes = _load(site, scratch, full_entry, full_manifest, progress)
    known = surroundings if surroundings is not None else recorded(full_manifest)
    told = settings_of(known)
    notes += take_over(scratch, told)
    if stop != start:
        _refuse_unlogged(scratch, full_manifest, told, "in the full backup")
    report = ReplayReport(start, 0, "", 0, 0, 0.0)
    if logs:
        report = replay(scratch, logs, start[1], stop, database, progress, known.get(TRIGGERS, ()))
    notes += report.notes
    if stop != start:
        _refuse_unlogged(scratch, full_manifest, told, "at that moment")
    if not scratch.source.state(database).exists:
        raise RestoreRefused(
            f"At that moment there was no database {database!r}: it had been dropped.",
            kept="production was not touched",
            remedy=f"recover to the moment right before: some position before {stop[0]}, {stop[1]}",
        )
    with contextlib.closing(scratch.source.connect()) as session:
        notes += _wake_replicated_events(session, database)
        tables = [table for table in list_tables(session, database) if table.has_data]
        rows = {table.name: count_rows(session, database, table.name) for table in tables}
    return Recovered(database, full_manifest.file, rows, report, notes)


def export(
    site: Site,
    scratch: Scratch,
    recovered: Recovered,
    *,
    source: str,
    label: str,
    tier: str = names.RECOVERED,
    recovery_point: str = "",
    progress: Progress = silent,
) -> tuple[Entry, Manifest]:
    """An ordinary backup of what was recovered, in the vault under the original source's name.

    Raises:
        What a capture raises.
    """
    found = scratch.source.preflight(recovered.database)
    with site.vault.begin(
        source=source, kind=scratch.source.kind, tier=tier, database=recovered.database,
        ext=scratch.source.extension(), label=label, recovery_point=recovery_point,
        estimated_bytes=found.estimated_bytes,
    ) as writer:  # fmt: skip
        facts = scratch.source.capture(recovered.database, writer, progress)
        told = asdict(recovered.replay)
        contents = {**facts.contents, "recovered": {"full": recovered.full, "replay": told}}
        server = facts.server.model_copy(update={"uuid": ""})  # of a server that is gone in a moment
        warnings = [each for each in facts.warnings if each not in recovered.notes]
        return writer.publish(replace(facts, server=server, contents=contents, warnings=[*warnings, *recovered.notes]))


def _load(site: Site, scratch: Scratch, entry: Entry, manifest: Manifest, progress: Progress) -> list[str]:
    """The full backup under its real name, complete, as its manifest says."""
    source, database = scratch.source, manifest.database

    def part(role: str) -> Iterator[bytes]:
        chunks = site.vault.read_part(entry, manifest, role, progress)
        first = next(chunks, b"")  # the stored digest has been checked when this comes
        return itertools.chain([first] if first else [], chunks)

    journal = Journal.create(scratch.work, "mysql-restore", database=database)
    try:
        notes = load_complete(scratch, manifest, part, journal, progress)
        comparison = source.compare(manifest, database, Selection())
        if not comparison.equal:
            raise IntegrityError(
                f"The full backup {manifest.file}, loaded on a scratch server, is not what its manifest says: "
                f"{'; '.join(comparison.problems[:5])}.",
                kept="production was not touched",
                remedy="recover from an older full backup",
            )
        with contextlib.closing(source.connect(database)) as session:
            _wake(session, database, source.side_events.pop(database, {}))
    finally:
        journal.close()
    return [note for note in notes if "side copy" not in note]


def load_complete(
    scratch: Scratch, manifest: Manifest, part: OpenPart, journal: Journal, progress: Progress
) -> list[str]:
    """A backup on a scratch server under its real name, with its accounts and every view; its events asleep. Notes.

    Raises:
        What a load raises; nothing stays of the database then.
    """
    source, database = scratch.source, manifest.database
    accounts = b"".join(part("accounts")) if any(each.role == "accounts" for each in manifest.files) else b""
    apply_accounts(source, accounts)  # definers first; what is granted on is not there yet
    notes = source.load_beside(manifest, part, database, Selection(), journal, progress)
    refused = apply_accounts(source, accounts)
    notes += [f"grant not made: {each}" for each in refused if f"`{database}`" in each]
    with contextlib.closing(source.connect(database)) as session:
        notes += _late_views(session, source.side_views.pop(database, []), manifest.database)
    return notes


def _refuse_unlogged(scratch: Scratch, manifest: Manifest, settings: Mapping[str, str], when: str) -> None:
    server = manifest.server or scratch.source.server()
    with contextlib.closing(scratch.source.connect()) as session:
        refuse_unlogged(session, manifest.database, server, settings, when)


def _late_views(session: Connection, views: list[Definition], database: str) -> list[str]:
    """Views whose definers got their rights only with the grants on what was loaded."""
    notes = []
    for view in views:
        try:
            run(session, using(database), *create(view))
        except BackupError as error:
            notes.append(f"view {view.name} could not be made: {error.message}")
    return notes


def _wake(session: Connection, database: str, status: dict[str, str]) -> None:
    """Events as they were in the dump. None runs here: the scheduler of a scratch server is off."""
    for event in read_definitions(session, database).events:
        wanted = status.get(event.name, event.status)
        if wanted != event.status:
            run(session, using(database), *set_event_status(event, wanted))


def _wake_replicated_events(session: Connection, database: str) -> list[str]:
    """Events that replayed statements made or altered stand as a replica's would, which run nowhere."""
    listed = query(session, "SELECT event_name FROM information_schema.events WHERE event_schema = %s AND status IN "
                            "%s ORDER BY 1", (database, _REPLICA_SIDE))  # fmt: skip
    names = {str(name) for (name,) in listed}
    for event in read_definitions(session, database).events if names else ():
        if event.name in names:
            run(session, using(database), *set_event_status(event, "DISABLE"))
    return [
        f"event {name} was made or altered between the full backup and that moment and is disabled now; "
        f"to start it: ALTER EVENT {quoted(database)}.{quoted(name)} ENABLE"
        for name in sorted(names)
    ]
