"""What a restore would do, before it does anything: the request, the chosen copies, the plan in words."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from engine import names
from engine.catalog import Entry
from engine.cold.thaw import is_cold, note_of
from engine.drill.told import Told, of_drills
from engine.durations import roughly
from engine.errors import (
    BackupError,
    ConfigError,
    ConfirmationNeeded,
    IntegrityError,
    RestoreRefused,
    UnknownName,
    Unreachable,
    nearest,
)
from engine.manifest import Manifest
from engine.restore_names import check_parts, check_request
from engine.site import Site, Target
from engine.source import DatabaseSource, DatabaseState, Selection
from engine.verdicts import found_broken

_NAME_LIMIT = 63


@dataclass(frozen=True)
class RestoreRequest:
    """What a person asked for.

    Attributes:
        source: Name of the source in the site; may be empty where the site has one such database.
        database: Whose backup.
        backup: ``latest``, a file name, or ``before 2025-01-16T02:00:00Z``.
        location: ``auto`` (local first, then the replicas in the site's order), ``local`` or a replica.
        into: Empty for a new side database; the database's own name (or ``replace``) to replace it;
            any other name for a new database of that name.
        tables, schemas: Only this part.
        safety_backup: Before a replacement, back up what stands there.
    """

    database: str
    source: str = ""
    backup: str = "latest"
    location: str = "auto"
    into: str = ""
    tables: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    safety_backup: bool = True

    @property
    def selection(self) -> Selection:
        return Selection(self.tables, self.schemas)

    @property
    def replaces(self) -> bool:
        """Is the database itself to be replaced?"""
        return self.into in (self.database, "replace")


@dataclass(frozen=True)
class RestorePlan:
    """What will be done, before anything is."""

    request: RestoreRequest
    target: Target
    copies: list[tuple[Entry, Manifest]]
    side: str
    replaces: bool
    keep_as: str
    before: DatabaseState
    made_at: Any = field(default_factory=names.now)
    notes: list[str] = field(default_factory=list)
    drilled: Told = field(default_factory=Told)

    @property
    def entry(self) -> Entry:
        return self.copies[0][0]

    @property
    def manifest(self) -> Manifest:
        return self.copies[0][1]

    def lines(self) -> list[str]:
        """The plan in sentences, for a terminal or an approval."""
        m = self.manifest
        age = roughly((self.made_at - m.taken_at).total_seconds())
        part = [*self.request.schemas, *self.request.tables]
        lines = [
            f"Backup {m.file} of {self.target}, taken {names.both_zones(m.taken_at)}, {age} ago,",
            f"  {m.data.plain_size:,} bytes unpacked ({m.stored_bytes:,} stored), "
            f"{len(m.rows)} tables, {m.total_rows:,} rows, from {self.entry.location}"
            + (f" (then {', '.join(e.location for e, _ in self.copies[1:])})" if len(self.copies) > 1 else "")
            + ".",
            *self.proof_lines(),
        ]
        if part:
            lines.append(f"Only: {', '.join(part)}.")
        lines.append(
            f"It is loaded beside production into a new database {self.side!r} and compared with its manifest."
        )
        if self.replaces:
            lines += self._replace_lines()
        else:
            lines.append("Nothing else changes.")
        return lines + [f"Note: {note}" for note in self.notes]

    def proof_lines(self) -> list[str]:
        """What drills say of it; nothing of what a recovery has just brought about."""
        return [] if self.manifest.tier == names.RECOVERED else self.drilled.lines()

    def _replace_lines(self) -> list[str]:
        name, was = self.target.database, self.before
        if not was.exists:
            return [f"There is no database {name!r} now; the copy takes that name."]
        safety = "First a safety backup of it is taken. " if self.request.safety_backup else ""
        what, holds = self.replaced
        return [f"{safety}Then it REPLACES {what}, which now holds {holds}.", self.previous]

    @property
    def replaced(self) -> tuple[str, str]:
        """What a replacement takes the place of, and what that holds now, in words."""
        name, was = self.target.database, self.before
        if self.request.selection.everything:
            return repr(name), f"{was.tables} tables, {sum(was.rows.values()):,} rows, {was.bytes:,} bytes"
        wants = self.request.selection.wants
        chosen = {table: rows for table, rows in was.rows.items() if wants(table, table.split(".")[0])}
        kind = "schemas" if self.request.schemas else "tables"
        part = ", ".join([*self.request.schemas, *self.request.tables])
        return f"only the {kind} {part} of {name!r}", f"{len(chosen)} tables, {sum(chosen.values()):,} rows in them"

    @property
    def previous(self) -> str:
        """Where the previous data is afterwards, in words."""
        if self.request.schemas:
            stamp = self.keep_as[self.keep_as.rindex("_before_") :]
            kept = ", ".join(f"{schema}{stamp}" for schema in self.request.schemas)
            return f"The previous schemas stay in {self.target.database!r} as {kept} until you drop them."
        if self.request.tables:
            return f"The previous tables stay in a database {self.keep_as!r} until you drop it."
        return f"The previous data stays as {self.keep_as!r} until you drop it."

    def as_dict(self) -> dict[str, Any]:
        """The plan for scripts."""
        m = self.manifest
        return {
            "source": self.target.source,
            "database": self.target.database,
            "backup": m.file,
            "tier": m.tier,
            "taken_at": names.iso(m.taken_at),
            "location": self.entry.location,
            "locations": [entry.location for entry, _ in self.copies],
            "bytes": m.data.plain_size,
            "stored_bytes": m.stored_bytes,
            "rows": m.rows,
            "into": self.side,
            "replaces": self.replaces,
            "keep_as": self.keep_as if self.replaces and self.before.exists else None,
            "tables": list(self.request.tables),
            "schemas": list(self.request.schemas),
            "now": {
                "exists": self.before.exists,
                "tables": self.before.tables,
                "bytes": self.before.bytes,
                "rows": self.before.rows,
            },
            "notes": self.notes,
            **self.drilled.as_dict(),
        }


def make_plan(site: Site, request: RestoreRequest) -> RestorePlan:
    """Find the backup and say what restoring it means. Changes nothing.

    Raises:
        UnknownName: No such source, database, backup or location, or the backup lacks a table or schema asked
            for. ConfigError: a time without zone, or a database that cannot be made.
        IntegrityError, WrongKey: The chosen backup's manifest does not hold, in every asked location.
    """
    target = find_target(site, request)
    source = site.source(target.source)
    check_request(source.kind, request.into, request.selection)
    notes: list[str] = []
    copies = find_copies(site, target, request.backup, request.location, notes)
    manifest = copies[0][1]
    check_parts(manifest, request.selection)
    replaces = request.replaces
    _refuse_tables_of_postgres(source, request)
    side, keep_as = _free_names(source, target.database)
    side = side if replaces or not request.into else request.into
    before = source.state(target.database, count=replaces)
    notes += _differences(manifest, before, request) if replaces and before.exists else []
    notes += [caveat] if (caveat := source.caveat(manifest)) else []
    if not replaces:
        _refuse_existing(source, side, target.database)
    return RestorePlan(
        request,
        target,
        copies,
        side,
        replaces,
        keep_as,
        before,
        notes=[*notes, *manifest.warnings],
        drilled=of_drills(site, target, copies),
    )


def check_confirmation(plan: RestorePlan, confirm: str) -> bool:
    """True when ``confirm`` approves the plan, False when it is empty.

    Raises:
        ConfirmationNeeded: It names something else.
    """
    return is_confirmed(plan.target.database, confirm)


def is_confirmed(database: str, confirm: str) -> bool:
    """True when ``confirm`` is the database's name, False when it is empty. Raises ConfirmationNeeded."""
    if not confirm:
        return False
    if confirm != database:
        raise ConfirmationNeeded(
            f"The confirmation {confirm!r} is not the name of the database to be replaced, {database!r}.",
            kept="nothing was changed",
        )
    return True


def check_ahead(site: Site, request: RestoreRequest, confirm: str) -> None:
    """Refuse, before hours of recovery, what the restore after it would refuse. A server that is down now may be up
    again by then: what only it can tell is asked later.

    Raises:
        ConfirmationNeeded, RestoreRefused, ConfigError.
    """
    target = find_target(site, request)
    is_confirmed(target.database, confirm)
    source = site.source(target.source)
    _refuse_tables_of_postgres(source, request)
    if request.into and not request.replaces:
        with contextlib.suppress(Unreachable):
            _refuse_existing(source, request.into, target.database)


def _refuse_tables_of_postgres(source: DatabaseSource, request: RestoreRequest) -> None:
    if request.replaces and request.tables and source.kind == "postgres":
        raise RestoreRefused(
            "Single tables of PostgreSQL are not put in place of production's: keys, views and sequences hang on them.",
            kept="nothing was changed",
            remedy="restore them beside (without --into) and copy the rows, or replace their schema (--schemas)",
        )


def _refuse_existing(source: DatabaseSource, side: str, database: str) -> None:
    if source.state(side).exists:
        raise ConfigError(
            f"The database {side!r} exists already; a restore never loads into an existing one.",
            kept="nothing was changed",
            remedy=f"choose another name, or replace {database!r} with --into {database}",
        )


def find_target(site: Site, request: RestoreRequest) -> Target:
    """The database that is meant. Raises UnknownName; ConfigError where several sources have one of that name."""
    if request.source:
        site.config.server(request.source)
        return Target(request.source, request.database)
    found = [
        source.name for source in site.config.servers() if not source.databases or request.database in source.databases
    ]
    exact = [source.name for source in site.config.servers() if request.database in source.databases] or found
    if len(exact) == 1:
        return Target(exact[0], request.database)
    if not exact:
        known = sorted({name for source in site.config.servers() for name in source.databases})
        raise UnknownName(
            f"Site {site.name} has no database {request.database!r}.", remedy=nearest(request.database, known)
        )
    raise ConfigError(
        f"Several sources have a database {request.database!r}: {', '.join(exact)}.", remedy="say which with --source"
    )


def find_copies(
    site: Site, target: Target, backup: str, location: str, notes: list[str]
) -> list[tuple[Entry, Manifest]]:
    """The chosen backup wherever it is, best place first; what was passed over is noted.

    Raises:
        UnknownName: No such backup or location. ConfigError: a time without zone. And what reading manifests raises.
    """
    locations = site.vault.locations() if location == "auto" else [location]
    found: list[tuple[Entry, Manifest]] = []
    first_error: BackupError | None = None
    for location in locations:
        try:
            entry, manifest = _best(site, location, target, backup, notes)
        except BackupError as error:
            if first_error is None or isinstance(first_error, UnknownName):
                first_error = error
            continue
        if not found or manifest.file == found[0][1].file:
            found.append((entry, manifest))
        elif manifest.taken_at > found[0][1].taken_at:
            found = [(entry, manifest)]  # a replica can hold a newer one than a local root that was lost
    if not found:
        assert first_error is not None
        raise first_error
    return _warm_first(site, found, notes)


def _warm_first(site: Site, found: list[tuple[Entry, Manifest]], notes: list[str]) -> list[tuple[Entry, Manifest]]:
    """What can be read at once before what is in cold storage; noted where nothing can."""
    how = {entry.location: is_cold(site.vault.store(entry.location), entry) for entry, _ in found}
    first, _ = min(found, key=lambda each: how[each[0].location] is not None)
    frozen = how[first.location]
    if frozen is not None:
        notes.append(note_of(first, frozen))
    return sorted(found, key=lambda each: how[each[0].location] is not None)


def _best(site: Site, location: str, target: Target, which: str, notes: list[str]) -> tuple[Entry, Manifest]:
    """The backup that ``which`` means in one place. One that was found broken is passed over, with a note; one that
    is incomplete too, where there is a complete one."""
    catalog = site.vault.catalog(location)
    incomplete: list[tuple[Entry, Manifest]] = []
    for entry, manifest in catalog.candidates(target.source, target.database, which.strip()):
        if found_broken(site, entry, notes):
            notes.append(f"{manifest.file} in {location} was found broken earlier and is not used")
        elif manifest.incomplete:
            incomplete.append((entry, manifest))
        else:
            notes += [f"{each.file} in {location} is newer, but incomplete" for _, each in incomplete[:1]]
            return entry, manifest
    if incomplete:
        notes.append(f"{incomplete[0][1].file} is incomplete: {'; '.join(incomplete[0][1].incomplete[:5])}")
        return incomplete[0]
    entry, manifest = catalog.find(target.source, target.database, which)
    if catalog.is_named(entry, which):
        return entry, manifest  # a person wants this very one
    raise IntegrityError(
        f"Every backup of {target} in {location} that is {which.strip()!r} was found broken.",
        kept="nothing was changed",
        remedy=f"look at what was said of them (backups list), or name one to take it all the same: {entry.file}",
    )


def _differences(manifest: Manifest, before: DatabaseState, request: RestoreRequest) -> list[str]:
    """What a replacement takes away, in words."""
    wants = request.selection.wants
    gone = sorted(
        name
        for name in before.rows
        if name not in manifest.rows and name not in manifest.uncounted and wants(name, name.split(".")[0])
    )
    notes = [f"not in the backup, so only in the previous data afterwards: {', '.join(gone[:10])}"] if gone else []
    fewer = sum(before.rows.values()) - manifest.total_rows
    if request.selection.everything and fewer > 0:
        notes.append(f"the database now holds {fewer:,} rows more than the backup")
    return notes


def _free_names(source: DatabaseSource, database: str) -> tuple[str, str]:
    """Of the copy and of the previous data: by the time now, or the next second at which nothing has them."""
    moment = names.now()
    while True:
        pair = tuple(_beside(database, word, f"{moment:{names.STAMP}}") for word in ("restore", "before"))
        if not any(source.state(name).exists for name in pair):
            return pair[0], pair[1]
        moment += timedelta(seconds=1)


def _beside(database: str, word: str, stamp: str) -> str:
    tail = f"_{word}_{stamp}"
    return database.encode()[: _NAME_LIMIT - len(tail)].decode("utf-8", "ignore") + tail
