"""The steps of a restore: plan, load beside, compare, safety backup, swap.

    request = RestoreRequest(source="mysql", database="workset")
    plan = make_plan(site, request)
    with RestoreWork(site, plan) as work:
        work.load()
        work.compare()
        if plan.replaces:
            work.safety_backup()
            work.swap()

Nothing of production is touched before ``swap``. Leaving ``RestoreWork`` on an error undoes what is
half done; dying leaves a journal that the next run's sweep ends.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from engine import names
from engine.backup import capture, locks, verify
from engine.catalog import Entry
from engine.errors import BackupError, ConfigError, ConfirmationNeeded, IntegrityError, NotFound, UnknownName, nearest
from engine.journal import Journal
from engine.manifest import Manifest
from engine.progress import Progress, silent
from engine.site import Site, Target
from engine.source import Comparison, DatabaseState, Selection, SwapReport

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

    @property
    def entry(self) -> Entry:
        return self.copies[0][0]

    @property
    def manifest(self) -> Manifest:
        return self.copies[0][1]

    def lines(self) -> list[str]:
        """The plan in sentences, for a terminal or an approval."""
        m = self.manifest
        age = self.made_at - m.taken_at
        part = [*self.request.schemas, *self.request.tables]
        lines = [
            f"Backup {m.file} of {self.target}, taken {names.both_zones(m.taken_at)}, {_age(age.total_seconds())} ago,",
            f"  {m.data.plain_size:,} bytes unpacked ({m.stored_bytes:,} stored), "
            f"{len(m.rows)} tables, {m.total_rows:,} rows, from {self.entry.location}"
            + (f" (then {', '.join(e.location for e, _ in self.copies[1:])})" if len(self.copies) > 1 else "")
            + ".",
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

    def _replace_lines(self) -> list[str]:
        name, was = self.target.database, self.before
        if not was.exists:
            return [f"There is no database {name!r} now; the copy takes that name."]
        safety = "First a safety backup of it is taken. " if self.request.safety_backup else ""
        return [
            f"{safety}Then it REPLACES {name!r}, which now holds {was.tables} tables, "
            f"{sum(was.rows.values()):,} rows, {was.bytes:,} bytes.",
            f"The previous data stays as {self.keep_as!r} until you drop it.",
        ]

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
        }


@dataclass(frozen=True)
class RestoreResult:
    """What a restore did."""

    into: str
    entry: Entry
    comparison: Comparison
    swap: SwapReport | None
    safety: Entry | None
    notes: list[str]
    seconds: float

    @property
    def rows(self) -> int:
        return sum(self.comparison.found.values())


def make_plan(site: Site, request: RestoreRequest) -> RestorePlan:
    """Find the backup and say what restoring it means. Changes nothing.

    Raises:
        UnknownName: No such source, database, backup or location. ConfigError: a time without zone.
        IntegrityError, WrongKey: The chosen backup's manifest does not hold, in every asked location.
    """
    target = _target(site, request)
    notes: list[str] = []
    copies = _copies(site, request, target, notes)
    manifest = copies[0][1]
    source = site.source(target.source)
    replaces = request.into in (target.database, "replace")
    stamp = f"{names.now():{names.STAMP}}"
    side = _beside(target.database, "restore", stamp) if replaces or not request.into else request.into
    before = source.state(target.database, count=replaces)
    notes += _differences(manifest, before, request) if replaces and before.exists else []
    if not replaces and source.state(side).exists:
        raise ConfigError(
            f"The database {side!r} exists already; a restore never loads into an existing one.",
            kept="nothing was changed",
            remedy=f"choose another name, or replace {target.database!r} with --into {target.database}",
        )
    return RestorePlan(
        request,
        target,
        copies,
        side,
        replaces,
        _beside(target.database, "before", stamp),
        before,
        notes=[*notes, *manifest.warnings],
    )


class RestoreWork:
    """One restore under way. Holds the database's locks and a journal from entry to exit."""

    def __init__(self, site: Site, plan: RestorePlan, *, progress: Progress = silent) -> None:
        self.site = site
        self.plan = plan
        self.notes: list[str] = []
        self.entry = plan.entry
        self.manifest = plan.manifest
        self.comparison: Comparison | None = None
        self.safety: Entry | None = None
        self.report: SwapReport | None = None
        self._source = site.source(plan.target.source)
        self._progress = progress
        self._begun = time.monotonic()
        self._keep = False
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> RestoreWork:
        self._exit.enter_context(locks(self.site, self.plan.target))
        self.journal = Journal.create(
            self.site.journals,
            f"{self._source.kind}-restore",
            source=self.plan.target.source,
            database=self.plan.target.database,
            side=self.plan.side,
            replaces=self.plan.replaces,
            keep_as=self.plan.keep_as,
            backup=self.plan.manifest.file,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            if kind is None or self._keep:
                self.journal.close()
            else:
                self._undo()
        finally:
            self._exit.close()

    def load(self) -> None:
        """Load the backup beside production, from the first copy that proves whole."""
        for index, (entry, manifest) in enumerate(self.plan.copies):
            try:
                self._load_from(entry, manifest)
                return
            except (IntegrityError, NotFound) as error:
                if index + 1 == len(self.plan.copies):
                    raise
                self.notes.append(f"the copy in {entry.location} is not usable ({error.message}); used the next one")

    def compare(self) -> Comparison:
        """Hold the loaded copy against its manifest.

        Raises:
            IntegrityError: It differs; the copy is kept for a look, production is untouched.
        """
        plan = self.plan
        self.comparison = self._source.compare(self.manifest, plan.side, plan.request.selection)
        if not self.comparison.equal:
            self._keep = True
            shown = "; ".join(self.comparison.problems[:5])
            raise IntegrityError(
                f"The restored copy of {plan.target} is not what its manifest says: {shown}.",
                kept=f"production is untouched; the copy stays as {plan.side!r} for a look",
                remedy="try an older backup, or another location",
            )
        if not plan.replaces:
            self.notes += self._source.finish_side(
                self.manifest, self._part, plan.side, plan.request.selection, self.journal, self._progress
            )
        return self.comparison

    def safety_backup(self) -> Entry | None:
        """Back up what is about to be replaced, and prove that backup. None when nothing stands there."""
        if not self.plan.request.safety_backup or not self._source.state(self.plan.target.database).exists:
            return None
        entry, _ = capture(
            self.site,
            self.plan.target,
            tier=names.SAFETY,
            locked=True,
            progress=self._progress,
            label=f"safety copy before restoring {self.manifest.file}",
        )
        verify(self.site, entry, progress=self._progress)
        self.safety = entry
        return entry

    def swap(self) -> SwapReport:
        """Put the copy in production's place; the previous data stays under the plan's ``keep_as``."""
        plan = self.plan
        self.report = self._source.swap(
            self.manifest,
            self._part,
            plan.side,
            plan.target.database,
            plan.keep_as,
            plan.request.selection,
            self.journal,
            self._progress,
        )
        return self.report

    def result(self) -> RestoreResult:
        """What was done, once ``compare`` (and for a replacement ``swap``) has been."""
        assert self.comparison is not None
        into = self.plan.target.database if self.plan.replaces else self.plan.side
        notes = [*self.notes, *self.comparison.notes, *(self.report.notes if self.report else [])]
        return RestoreResult(
            into, self.entry, self.comparison, self.report, self.safety, notes, time.monotonic() - self._begun
        )

    def _load_from(self, entry: Entry, manifest: Manifest) -> None:
        plan = self.plan
        self.entry, self.manifest = entry, manifest
        try:
            self.notes += self._source.load_beside(
                manifest, self._part, plan.side, plan.request.selection, self.journal, self._progress
            )
        except BaseException:
            with contextlib.suppress(BackupError):
                self._source.drop_side(plan.side, self.journal)
            raise

    def _part(self, role: str) -> Iterator[bytes]:
        """Plain bytes of a part; the first is only given once the stored digest has been checked."""
        chunks = self.site.vault.read_part(self.entry, self.manifest, role, self._progress)
        first = next(chunks, b"")
        return itertools.chain([first] if first else [], chunks)

    def _undo(self) -> None:
        try:
            self.notes += self._source.recover(self.journal)
        except BackupError:
            self.journal.release()  # the next run's sweep ends it


def run(
    site: Site,
    plan: RestorePlan,
    *,
    approved: bool = False,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda line: None,
) -> RestoreResult:
    """Every step of a plan, in order.

    Raises:
        ConfirmationNeeded: It replaces a database and was not approved.
    """
    if plan.replaces and not approved:
        raise ConfirmationNeeded(
            f"This would replace the database {plan.target.database!r}.",
            kept="nothing was changed",
            remedy=f"confirm with --confirm {plan.target.database}",
        )
    with RestoreWork(site, plan, progress=progress) as work:
        tell(f"loading {plan.manifest.file} into {plan.side}")
        work.load()
        tell("comparing with the manifest")
        work.compare()
        if plan.replaces:
            if work.safety_backup() is not None:
                tell(f"safety backup {work.safety.file if work.safety else ''}")
            tell(f"replacing {plan.target.database}")
            work.swap()
        return work.result()


def check_confirmation(plan: RestorePlan, confirm: str) -> bool:
    """True when ``confirm`` approves the plan, False when it is empty.

    Raises:
        ConfirmationNeeded: It names something else.
    """
    if not confirm:
        return False
    if confirm != plan.target.database:
        raise ConfirmationNeeded(
            f"The confirmation {confirm!r} is not the name of the database to be replaced, {plan.target.database!r}.",
            kept="nothing was changed",
        )
    return True


def _target(site: Site, request: RestoreRequest) -> Target:
    if request.source:
        site.config.source(request.source)
        return Target(request.source, request.database)
    found = [
        source.name for source in site.config.sources() if not source.databases or request.database in source.databases
    ]
    exact = [source.name for source in site.config.sources() if request.database in source.databases] or found
    if len(exact) == 1:
        return Target(exact[0], request.database)
    if not exact:
        known = sorted({name for source in site.config.sources() for name in source.databases})
        raise UnknownName(
            f"Site {site.name} has no database {request.database!r}.", remedy=nearest(request.database, known)
        )
    raise ConfigError(
        f"Several sources have a database {request.database!r}: {', '.join(exact)}.", remedy="say which with --source"
    )


def _copies(site: Site, request: RestoreRequest, target: Target, notes: list[str]) -> list[tuple[Entry, Manifest]]:
    """The chosen backup wherever it is, best place first."""
    locations = site.vault.locations() if request.location == "auto" else [request.location]
    found: list[tuple[Entry, Manifest]] = []
    first_error: BackupError | None = None
    for location in locations:
        try:
            entry, manifest = _best(site, location, target, request.backup, notes)
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
    return found


def _best(site: Site, location: str, target: Target, which: str, notes: list[str]) -> tuple[Entry, Manifest]:
    """The backup that ``which`` means in one place; one that was found broken is passed over, with a note."""
    catalog = site.vault.catalog(location)
    for entry, manifest in catalog.candidates(target.source, target.database, which.strip()):
        if not _found_broken(site, entry, notes):
            return entry, manifest
        notes.append(f"{manifest.file} in {location} was found broken earlier and is not used")
    return catalog.find(target.source, target.database, which)


def _found_broken(site: Site, entry: Entry, notes: list[str]) -> bool:
    """Is the last word of a verification that this copy is broken? A mark that cannot be read says nothing."""
    try:
        words = [mark["kind"] for mark in site.vault.marks(entry) if mark["kind"] in ("verified", "broken")]
    except BackupError as error:
        notes.append(error.message)
        return False
    return words[-1:] == ["broken"]


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


def _beside(database: str, word: str, stamp: str) -> str:
    tail = f"_{word}_{stamp}"
    return database.encode()[: _NAME_LIMIT - len(tail)].decode("utf-8", "ignore") + tail


def _age(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
