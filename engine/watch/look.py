"""One look at a site: asks the places of its vault, and PostgreSQL servers for their slots; gives findings.

What cannot be asked is a finding of its own, and holds up nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import ParamSpec

from engine import idle, names
from engine.config import PostgresConfig
from engine.drill.record import records
from engine.errors import BackupError, ConfigError, IntegrityError, LockHeld, in_words
from engine.keyring.births import reminder
from engine.postgres import slots
from engine.postgres.wal_ship import connector_for
from engine.recoverable import recoverable, rolled_forward
from engine.site import Site
from engine.snapshots import snapshots, state_of
from engine.status import Status, StatusRow, newest_good, status
from engine.vault import LOCAL
from engine.vault_check import last
from engine.verify import check_size, recent_sizes
from engine.watch import judge
from engine.watch.findings import Finding, Level, Look, ordered
from engine.watch.judge import DiskUse
from engine.watch.reached import Reached, by_backups, by_logs

P = ParamSpec("P")
_BY_LISTING = frozenset(
    ("backup-age", "backup-damage", "backup-size", "drill", "recovery-point", "log-shipping", "verification")
)
"""Conditions of things that only listings make known: what a place that is down does not list is not over."""


def look(
    site: Site,
    *,
    disk: Sequence[DiskUse] = (),
    servers: bool = True,
    now: datetime | None = None,
    known: Status | None = None,
) -> Look:
    """Everything there is to find.

    Args:
        disk: What earlier looks saw of the local root's disk, oldest first; see ``engine.watch.remember``.
        servers: Ask database servers, too, for what only they know; without it stores alone are asked.
        known: How the site stands, where that was asked already.

    Raises:
        ConfigError: The site's settings do not fit together. Nothing else: what fails is a finding.
    """
    now = now or names.now()
    with site.vault.listed_once():
        found, failed = (known, []) if known is not None else _status(site, now)
        findings = [*failed, *_vault(site, found), *_backups(site, found, now), *_verified(site, found, now)]
        for replica in site.vault.locations()[1:]:
            findings += _guarded("copies", replica, _copies, site, replica, now)
        reached: list[Reached] = []
        findings += _logs(site, now, reached)
        findings += _guarded("drill", "last", _last_drill, site, found, now)
        findings += _guarded("release", "snapshots", _releases, site, now)
    for server in site.config.postgres if servers else ():
        if server.point_in_time:
            findings += _guarded("slot", server.name, _slot, site, server)
    findings += _guarded("key-age", "current", _key, site, now)
    findings += _guarded("disk", LOCAL, _disk, site, disk, now)
    findings += _guarded("disk-trend", LOCAL, _disk_trend, site, disk, now)
    known_by_logs = {each.about for each in reached}
    reached += [by_backups(row) for row in found.rows if str(row.target) not in known_by_logs]
    return Look(site.name, ordered(findings), _BY_LISTING if found.unseen or failed else frozenset(), reached)


def _status(site: Site, now: datetime) -> tuple[Status, list[Finding]]:
    """How the databases stand; where that cannot be told at all, a finding that says so."""
    try:
        return status(site, now=now), []
    except ConfigError:
        raise
    except Exception as error:
        said = in_words(error, "looking at the backups").message.rstrip(".")
        return Status([], {}), [Finding("vault", "backups", Level.UNKNOWN, said)]


def disk_of(site: Site, now: datetime) -> DiskUse:
    """The disk of the local root as ``df`` counts it: what is set aside for root is not to be had.

    Raises:
        IntegrityError: The root is not there.
    """
    try:
        found = os.statvfs(site.vault.root)
    except OSError as error:
        raise IntegrityError(f"{site.vault.root} cannot be looked at: {error.strerror}.") from None
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    return DiskUse(now, used, used + found.f_bavail * found.f_frsize)


def disk_now(site: Site, now: datetime) -> DiskUse | None:
    """The disk of the local root; None where it is not there."""
    try:
        return disk_of(site, now)
    except IntegrityError:
        return None


def _guarded(
    condition: str, about: str, find: Callable[P, Finding | None], *args: P.args, **kwargs: P.kwargs
) -> list[Finding]:
    """What a question finds, if anything; what keeps it from being asked, foreseen or not, is a finding as well."""
    try:
        found = find(*args, **kwargs)
        return [found] if found is not None else []
    except Exception as error:
        said = in_words(error, f"asking for {condition}").message.rstrip(".")
        return [Finding(condition, about, Level.UNKNOWN, f"{about}: {said}")]


def _rolled_forward(site: Site) -> list[tuple[str, str]]:
    """What cannot be listed is told of by the vault's own finding."""
    try:
        return rolled_forward(site, None, None)
    except Exception:
        return []


def _logs(site: Site, now: datetime, reached: list[Reached]) -> Iterator[Finding]:
    rolled = _rolled_forward(site)
    for source in dict.fromkeys(source for source, _ in rolled):
        yield from _guarded("log-shipping", source, _log_shipping, site, source, now)
    for source, database in rolled:
        about = f"{source}/{database}" if database else source
        yield from _guarded("recovery-point", about, _recovery_point, site, source, database, now, reached)


def _log_shipping(site: Site, source: str, now: datetime) -> Finding:
    tier = names.WAL if isinstance(site.config.server(source), PostgresConfig) else names.BINLOGS
    newest: datetime | None = None
    asked, refused = 0, None
    for location in site.vault.locations():
        try:
            logs = (each for each in site.vault.catalog(location).entries(source=source, tier=tier) if each.name.log)
            first = next(logs, None)
        except BackupError as error:
            refused = refused or error
            continue
        asked += 1
        if first is not None:
            looked = idle.said_of(site.vault, first) or first.name.taken_at
            newest = max(newest or looked, looked, first.name.taken_at)
    if not asked and refused is not None:
        raise refused
    return judge.log_shipping(source, newest, now, site.config.watch)


def _vault(site: Site, found: Status) -> list[Finding]:
    if not site.vault.state.is_dir():
        said = f"{site.vault.root} holds no vault of {site.name}: is its disk mounted?"
        return [Finding("vault", LOCAL, Level.CRITICAL, said)]
    if os.statvfs(site.vault.state).f_flag & os.ST_RDONLY:
        said = f"{site.vault.state} cannot be written, and no backup be made: its disk is mounted read-only"
        return [Finding("vault", LOCAL, Level.CRITICAL, said)]
    here = found.unseen.get(LOCAL)
    if here is not None:
        return [Finding("vault", LOCAL, Level.CRITICAL, f"the local root cannot be read: {here.message.rstrip('.')}")]
    if found.problems:
        return [Finding("vault", LOCAL, Level.WARNING, "; ".join(found.problems[:3]), len(found.problems))]
    return [Finding("vault", LOCAL, Level.OK, "the local root can be read", 0)]


def _backups(site: Site, found: Status, now: datetime) -> Iterator[Finding]:
    for row in found.rows:
        yield from judge.backups(row, site.config.watch)
        for tier, limit in site.config.watch.ages_of_tiers(row.target.source, row.target.database).items():
            about = f"{row.target}@{tier}"
            yield from _guarded("backup-age", about, _age_of_tier, site, found, row, tier, limit, now)
        yield from _guarded("backup-size", str(row.target), _size, site, row)
        proven = row.proven.at if row.proven else None
        waived = row.target.source in site.config.drill.not_restored
        yield judge.drill(row.target, proven, row.since, now, site.config.watch, row.doubts, waived=waived)
    yield from map(judge.no_backup_at_all, found.bare)
    told = {row.target.source for row in found.rows if any(not each.overtaken for each in row.doubts)}
    yield from (judge.drilled(name, *last, now) for name, last in found.unproven.items() if name not in told)


def _age_of_tier(site: Site, found: Status, row: StatusRow, tier: str, limit: float, now: datetime) -> Finding | None:
    source, database = row.target.source, row.target.database
    seen = [name for name in site.vault.locations() if name not in found.unseen]
    entries = [
        entry
        for name in seen
        for entry in site.vault.catalog(name).entries(source=source, database=database, tier=tier)
    ]
    return judge.of_tier(row, newest_good(site, row.target, entries, seen, now), tier, limit, now)


def _verified(site: Site, found: Status, now: datetime) -> Iterator[Finding]:
    try:
        known = last.recall(site)
    except Exception as error:
        said = in_words(error, "asking for the last verification").message.rstrip(".")
        yield Finding("vault-damage", LOCAL, Level.UNKNOWN, said)
        return
    oldest = min((row.since for row in found.rows if row.since is not None), default=None)
    for location in site.vault.locations():
        its = known.get(location)
        yield judge.verification(location, its.at if its else None, oldest, now, site.config.watch)
        if its is not None:
            yield judge.damage(location, its)


def _size(site: Site, row: StatusRow) -> Finding | None:
    if row.newest is None:
        return None
    about, manifest = str(row.target), site.vault.catalog(row.newest.location).load(row.newest)
    floor = site.config.source(row.target.source).floor_bytes
    try:
        told = check_size(manifest, recent_sizes(site.vault, row.newest, manifest), floor)
    except IntegrityError as error:
        told = [error.message]
    size = float(manifest.data.size)
    level, said = (Level.WARNING, told[0].rstrip(".")) if told else (Level.OK, f"{about} has its usual size")
    return Finding("backup-size", about, level, said, size, "B")


def _copies(site: Site, replica: str, now: datetime) -> Finding:
    lacking = [entry.name.taken_at for entry in site.vault.lacking(replica)]
    return judge.copies(replica, lacking, now, site.config.watch)


def _recovery_point(site: Site, source: str, database: str, now: datetime, reached: list[Reached]) -> Finding:
    about = f"{source}/{database}" if database else source
    try:
        its = by_logs(about, recoverable(site, source, database))
    except BackupError as error:
        reached.append(Reached(about, False, why=f"nobody knows: {error.message}"))
        raise
    reached.append(its)
    latest = its.ranges[-1][1] if its.any_second else None
    return judge.recovery_point(about, latest, now, site.config.watch)


def _slot(site: Site, server: PostgresConfig) -> Finding:
    connector, _ = connector_for(site, server.name)
    try:
        with connector.open() as connection:
            state = slots.server_state(connector, connection, switching=False)
            slot = slots.find_slot(connection, slots.slot_name(site.name, server.name), connector.where())
    except LockHeld:
        return Finding("slot", server.name, Level.OK, f"WAL of {server.name} is being shipped right now")
    if slot is None or slot.lost:
        what = "has no replication slot" if slot is None else "has given up on its replication slot"
        return Finding("slot", server.name, Level.CRITICAL, f"{server.name} {what}: WAL that is not shipped gets lost")
    lag = float(state.position - slot.restart) if slot.restart is not None else 0.0
    told = slots.warnings_of(slot, state)
    level = Level.WARNING if told else Level.OK
    said = told[0].rstrip(".") if told else f"{server.name} keeps {lag:,.0f} bytes of WAL that are not shipped yet"
    return Finding("slot", server.name, level, said, lag, "B")


def _last_drill(site: Site, found: Status, now: datetime) -> Finding | None:
    seen = [name for name in site.vault.locations() if name not in found.unseen]
    kept = records(site.vault, [], seen, now) if seen else []
    return judge.last_drill(str(kept[-1]["verdict"]), str(kept[-1]["said"])) if kept else None


def _releases(site: Site, now: datetime) -> Finding:
    known = [each for each in snapshots(site.vault) if not each.lacking]  # half a one waits for nothing
    waiting = [(each.title, each.taken_at) for each in known if state_of(site.vault, each) == "waiting"]
    return judge.releases(waiting, now, site.config.watch)


def _key(site: Site, now: datetime) -> Finding:
    told = reminder(site.vault.state, site.vault.keys, now)
    if told:
        return Finding("key-age", "current", Level.WARNING, told.rstrip("."))
    return Finding("key-age", "current", Level.OK, "the current encryption key is not over a year old")


def _disk_trend(site: Site, before: Sequence[DiskUse], now: datetime) -> Finding:
    return judge.disk_trend([*before, disk_of(site, now)], site.config.watch)


def _disk(site: Site, before: Sequence[DiskUse], now: datetime) -> Finding:
    return judge.disk([*before, disk_of(site, now)], site.config.watch)
