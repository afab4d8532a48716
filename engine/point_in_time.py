"""A database as it was at any second: planned, recovered away from production, taken as a backup of its own.

    plan = plan_past(site, RestoreRequest("workset", source="mysql"), "2026-11-22T10:00:00Z")
    entry, manifest = bring_back(site, plan)

What comes out is an ordinary signed backup of tier ``recovered``. Where it then goes (beside production, or
in its place after approval) is the business of an ordinary restore of that file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from engine import names
from engine.catalog import Entry
from engine.codec import check_stored
from engine.config import MySQLConfig, PostgresConfig
from engine.drill.told import Told, of_drills
from engine.errors import BackupError, ConfigError, IntegrityError, NotFound, OutsideWindow, Unreadable
from engine.logs import LogFile
from engine.manifest import Manifest
from engine.moments import Moment, no_statements, right_before
from engine.progress import Progress, silent
from engine.recoverable import Copies, Recoverable, recoverable
from engine.recovery import RecoveryPlan, Statement, Target, make_plan, parse_target
from engine.restore_names import check_parts_of_any, check_request
from engine.restore_plan import RestoreRequest, check_ahead, find_target
from engine.site import Site
from engine.site import Target as Whose

if TYPE_CHECKING:
    from engine.scratch.postgres_files import BaseBackup, WalFile
    from engine.scratch.postgres_settings import Goal

Open = Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class PastPlan:
    """What a recovery would do, before it does anything.

    Attributes:
        found: Everything that could be used.
        plan: Which full or base, which logs, to where.
        when: The target as the person wrote it.
        statement: What was found, where ``when`` names a statement to stop right before; ``search``: how.
    """

    site: str
    found: Recoverable
    plan: RecoveryPlan
    when: str
    notes: list[str] = field(default_factory=list)
    statement: Moment | None = None
    search: list[str] = field(default_factory=list)
    drilled: Told = field(default_factory=Told)

    @property
    def manifest(self) -> Manifest:
        """Of the full or base that the logs are replayed on."""
        return self.found.anchors[self.plan.anchor.file][0][1]

    def told(self, site: Site) -> PastPlan:
        """With what drills say of the full or base."""
        found = self.found
        copies = found.anchors[self.plan.anchor.file]
        return replace(self, drilled=of_drills(site, Whose(found.source, self.manifest.database), copies))

    def lines(self) -> list[str]:
        """The plan in words, a line each."""
        logs = self.plan.logs
        window, manifest = self.plan.window, self.manifest
        kind = "base backup" if manifest.tier == names.BASE else f"{manifest.tier} backup"
        read = sum(self.found.copies(log)[0][1].data.plain_size for log in logs)
        through = f"{logs[0].name} to {logs[-1].name}" if len(logs) > 1 else logs[0].name if logs else ""
        was = self.statement
        before = f", right before {was.what} of {names.both_zones(was.at)}" if was else ""
        return [
            f"Brings {self.found.source}/{self.found.database} back as it was at {self.plan.target}{before}.",
            f"From the {kind} {manifest.file}, consistent since {names.both_zones(window.earliest)}.",
            *self.drilled.lines(),
            f"Then {len(logs)} {'log is' if len(logs) == 1 else 'logs are'} replayed ({through}, {read:,} bytes), on a "
            "scratch server of its own: production is not touched."
            if logs
            else "No log needs to be replayed.",
            f"This can be had from {names.both_zones(window.earliest)} to {names.both_zones(window.latest)}.",
            *(f"Note: {note}" for note in [*self.search, *self.notes, *self.found.notes]),
        ]

    def as_dict(self) -> dict[str, Any]:
        """The plan for scripts."""
        window = self.plan.window
        return {
            "source": self.found.source,
            "database": self.found.database,
            "target": str(self.plan.target),
            "statement": self.statement.facts() if self.statement else None,
            "from": self.manifest.file,
            "logs": [log.name for log in self.plan.logs],
            "earliest": names.iso(window.earliest),
            "latest": names.iso(window.latest),
            "notes": [*self.search, *self.notes, *self.found.notes],
            **self.drilled.as_dict(),
        }


def plan_past(site: Site, request: RestoreRequest, when: str) -> PastPlan:
    """Find what brings a database back to a moment. Changes nothing; asks stores only.

    Args:
        request: What is restored, where from and where to; names no backup.
        when: A time with its zone, ``latest``, ``LOG:POSITION``, ``gtid ...``, ``lsn ...``, or a statement to stop
            right before (``before DROP TABLE users``; its form: ``engine.recovery.statement``).

    Raises:
        ConfigError: ``when`` is none of these, a backup is named as well, or it cannot go where it is to;
            several statements fit.
        OutsideWindow: It cannot be had; says what can. UnknownName: No such source or location.
    """
    if request.backup != "latest":
        raise ConfigError(
            f"Both a moment ({when}) and a backup ({request.backup}) are given.",
            kept="nothing was changed",
            remedy="leave the backup out (latest): the right full or base is found by itself",
        )
    place = find_target(site, request)
    source, database = place.source, place.database
    check_request(site.source(source).kind, request.into, request.selection)  # a recovery can take hours
    target = parse_target(when)
    refuse_foreign(site, source, target, when)
    found = recoverable(site, source, database, location=request.location)
    if target.statement is None:
        plan = make_plan(found.windows, target, now=names.now())
        return PastPlan(site.name, found, plan, when, plan.notes).told(site)
    return _before_statement(site, found, target.statement, when).told(site)


def check_goal(site: Site, plan: PastPlan, request: RestoreRequest, confirm: str = "") -> None:
    """Refuse now what would be refused when the recovery, which can take hours, is over: a wrong confirmation, tables
    that nobody knows, a place that it cannot go to. Not for what only becomes a backup, or is looked at.

    Raises:
        ConfirmationNeeded, UnknownName, RestoreRefused, ConfigError.
    """
    check_ahead(site, request, confirm)
    if request.tables or request.schemas:
        check_parts_of_any(_dumps_around(site, plan), request.selection)


def _dumps_around(site: Site, plan: PastPlan) -> list[Manifest]:
    """Dumps of the database from right before the anchor on, as far as they can be read: what there was to select."""
    since, found = plan.manifest.taken_at, plan.found
    dumps: list[Manifest] = []
    for place in site.vault.locations():
        with contextlib.suppress(BackupError):
            catalog = site.vault.catalog(place)
            for entry in catalog.entries(source=found.source, database=found.database):
                if entry.name.log or entry.tier == names.BASE:
                    continue
                dumps.append(catalog.load(entry))
                if entry.name.taken_at <= since:
                    break
        if dumps:
            break
    return dumps


def refuse_foreign(site: Site, source: str, target: Target, when: str) -> None:
    """Raises ConfigError for a target that only the other engine knows."""
    physical = not isinstance(site.config.source(source), MySQLConfig)
    if physical and target.kind == "statement":
        raise no_statements(source)
    if physical and target.kind in ("position", "gtid"):
        raise ConfigError(
            f"{when!r} is a place in the logs of MySQL; {source} is PostgreSQL.",
            remedy="give a time with its zone, latest, or an LSN (lsn 0/3000148)",
        )
    if not physical and target.kind == "lsn":
        raise ConfigError(
            f"{when!r} is a place in the logs of PostgreSQL; {source} is not.",
            remedy="give a time with its zone, latest, a position (mysql-bin.000042:1234) or a GTID (gtid 0-1-1234)",
        )


def _before_statement(site: Site, found: Recoverable, statement: Statement, when: str) -> PastPlan:
    """Look for the statement, then plan for its place, in the very row of logs in which it stands."""
    now = names.now()
    moment, row, notes = right_before(site, found, statement, now=now)
    windows = [each for each in found.windows if each.logs and each.logs[0].row == row]
    try:
        plan = make_plan(windows, parse_target(moment.target), now=now)
    except OutsideWindow as error:
        error.message = f"{moment.what} of {names.both_zones(moment.at)} was found, but {error.message}"
        raise
    return PastPlan(site.name, found, plan, when, [moment.note] if moment.note else [], moment, notes)


@dataclass(frozen=True)
class Past:
    """A database at a moment of its past, on a scratch server that is gone when the block is left.

    Attributes:
        config: With which the source's own kind of connection reaches the scratch server.
        export: Takes an ordinary backup of it, of tier ``recovered``.
        notes: For a person.
    """

    config: MySQLConfig | PostgresConfig
    export: Callable[[], tuple[Entry, Manifest]]
    notes: list[str]


def bring_back(site: Site, plan: PastPlan, *, progress: Progress = silent) -> tuple[Entry, Manifest]:
    """Recover on a scratch server and take a backup of it, of tier ``recovered``. Production is not touched.

    Raises:
        As ``recovered``; and what a capture and the vault raise.
    """
    with recovered(site, plan, progress=progress) as past, _nothing_of_production():
        return past.export()


@contextlib.contextmanager
def recovered(site: Site, plan: PastPlan, *, progress: Progress = silent) -> Iterator[Past]:
    """The database at that moment, to be looked at or exported.

    Raises:
        IntegrityError: A log or the full is damaged in every place; says which, and the latest safe moment.
        And what the scratch server and the replay raise.
    """
    mysql = isinstance(site.config.source(plan.found.source), MySQLConfig)
    with contextlib.ExitStack() as held:
        with _nothing_of_production():
            proven = proven_logs(site, plan, progress)
            make = _recovered_mysql if mysql else _recovered_postgres
            past = held.enter_context(make(site, plan, proven, progress))
        yield past


def proven_logs(site: Site, plan: PastPlan, progress: Progress = silent) -> dict[str, tuple[Entry, Manifest]]:
    """A whole copy of every log that the plan needs, by its name, each read to its end.

    Raises:
        IntegrityError: One is damaged in every place; names the latest safe moment.
    """
    return {log.name: _proven(site, plan, log, progress) for log in plan.plan.logs}


def _proven(site: Site, plan: PastPlan, log: LogFile, progress: Progress) -> tuple[Entry, Manifest]:
    """The first whole copy of a log: every one is read to its end before anything is replayed."""
    reasons = []
    for entry, manifest in plan.found.copies(log):
        try:
            check_stored(site.vault.store(entry.location).read(entry.key), manifest.data)
        except (IntegrityError, NotFound, Unreadable) as error:
            reasons.append(f"{entry.location}: {error.message}")
            continue
        progress("check logs", log.number - plan.plan.logs[0].number + 1, len(plan.plan.logs))
        return entry, manifest
    before = [each.safe_until for each in plan.plan.logs if each.number < log.number and each.safe_until]
    safe = max([*before, plan.plan.window.earliest])
    raise IntegrityError(
        f"The log {log.name} is damaged in every place it stands in ({'; '.join(reasons)}).",
        kept="nothing was replayed; production is untouched",
        remedy=f"the latest moment that is safe before it: {names.both_zones(safe)}; recover to {names.iso(safe)}",
    )


@contextlib.contextmanager
def _recovered_mysql(
    site: Site, plan: PastPlan, proven: dict[str, tuple[Entry, Manifest]], progress: Progress
) -> Iterator[Past]:
    from engine.mysql.pitr import export, recover
    from engine.mysql.replay import ReplayFile
    from engine.mysql.surroundings import fitted
    from engine.scratch.mysql import Settings, open_scratch

    logs = [
        ReplayFile(log.name, _opener(site, *proven[log.name], progress), proven[log.name][1].data.plain_size)
        for log in plan.plan.logs
    ]
    entry, manifest = _whole_anchor(site, plan)
    assert manifest.server is not None
    start = (manifest.log.binlog_file, manifest.log.binlog_position)
    stop = _stop_of(plan, {log.name: log.open for log in logs}) if logs else start
    needed = [log.name for log in logs].index(stop[0]) + 1 if logs else 0
    settings, known, notes = fitted(site, plan.found.source, manifest, Settings())
    plan.notes.extend(notes)
    with open_scratch(site, plan.found.source, manifest.server, settings) as scratch:
        what, read = f"A recovery of {plan.found.source}/{plan.found.database}", logs[:needed]
        scratch.refuse_without_room(what, manifest.data.plain_size, sum(log.size for log in read))
        there = recover(site, scratch, entry, manifest, read, start, stop, progress, known)
        other = scratch.of_another_series(manifest.server)
        there.notes.extend([*notes, *([f"WARNING: {other}: another series of the server"] if other else [])])
        take = partial(export, site, scratch, there, source=plan.found.source, label=_label(plan), progress=progress)
        yield Past(scratch.config, take, there.notes)


def _stop_of(plan: PastPlan, logs: dict[str, Open]) -> tuple[str, int]:
    """Log and position at which the replay ends."""
    from engine.binlog.search import OpenLog, position_for

    target, last = plan.plan.target, plan.plan.logs[-1]
    if target.kind == "position":
        return target.log, target.position
    if target.kind == "latest":
        return last.name, last.end
    found = position_for(target.moment or target.gtid, [OpenLog(log, logs[log.name]) for log in plan.plan.logs])
    plan.notes.extend(found.notes)
    return found.log, found.position


@contextlib.contextmanager
def _recovered_postgres(
    site: Site, plan: PastPlan, proven: dict[str, tuple[Entry, Manifest]], progress: Progress
) -> Iterator[Past]:
    from engine.postgres.pitr import export, recover

    config = site.config.source(plan.found.source)
    assert isinstance(config, PostgresConfig)
    given = physical(site, plan, proven, progress)
    name, database = plan.found.source, plan.found.database
    with recover(
        config, site=site.name, state=site.vault.state, base=given.base, wal=given.wal, goal=given.goal,
        progress=progress,
    ) as there:  # fmt: skip
        take = partial(export, site, there, source=name, database=database, label=_label(plan), progress=progress)
        yield Past(there.config, take, there.report.notes)


@dataclass(frozen=True)
class Physical:
    """What a PostgreSQL cluster is recovered from, and to where."""

    base: BaseBackup
    wal: list[WalFile]
    goal: Goal


def physical(
    site: Site, plan: PastPlan, proven: dict[str, tuple[Entry, Manifest]], progress: Progress = silent
) -> Physical:
    """The base backup and log files of a plan, from places where they are whole. Raises as ``_whole_anchor``."""
    from engine.postgres.base_facts import base_facts, tablespace_role
    from engine.postgres.wal import lsn
    from engine.scratch.postgres_files import BaseBackup, WalFile
    from engine.scratch.postgres_settings import Goal

    entry, manifest = _whole_anchor(site, plan)
    facts = base_facts(manifest)
    base = BaseBackup(
        facts.version_num // 10000,
        _opener(site, entry, manifest, progress),
        {
            str(each.oid): _opener(site, entry, manifest, progress, tablespace_role(each.oid))
            for each in facts.tablespaces
        },
        sum(part.plain_size for part in manifest.files),
    )
    wal = [WalFile(name, _opener(site, *copy, progress)) for name, copy in proven.items()]
    wal += [WalFile(one.name.name, _opener(site, one, its, progress)) for one, its in plan.found.histories]
    target = plan.plan.target
    goal = Goal(time=target.moment, lsn=lsn(target.position) if target.kind == "lsn" else "")
    return Physical(base, wal, goal)


def _whole_anchor(site: Site, plan: PastPlan) -> tuple[Entry, Manifest]:
    """The first copy of the full or base whose every part is whole. Raises IntegrityError, NotFound, Unreadable."""
    copies: Copies = plan.found.anchors[plan.plan.anchor.file]
    first: BackupError | None = None
    for entry, manifest in copies:
        try:
            for part in manifest.files:
                check_stored(site.vault.store(entry.location).read(entry.beside(part.file)), part)
            return entry, manifest
        except (IntegrityError, NotFound, Unreadable) as error:
            first = first or error
            plan.notes.append(f"the copy of {manifest.file} in {entry.location} is not usable: {error.message}")
    assert first is not None
    first.remedy = first.remedy or "recover from an older full: give a moment before this one was made"
    raise first


def _opener(site: Site, entry: Entry, manifest: Manifest, progress: Progress, role: str = "data") -> Open:
    return partial(site.vault.read_part, entry, manifest, role)


def _label(plan: PastPlan) -> str:
    moment = plan.plan.target.moment
    return f"as of {names.iso(moment) if moment is not None else plan.plan.target}"


@contextlib.contextmanager
def _nothing_of_production() -> Iterator[None]:
    """What a recovery that failed leaves as it was, said in every error that does not say so itself."""
    try:
        yield
    except BackupError as error:
        error.kept = error.kept or "production was not touched"
        raise
