"""From facts to findings: what is too old, too large, lacking or overdue. Pure: asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from engine import names
from engine.drill.record import Doubt
from engine.durations import in_words, seconds_of
from engine.site import Target
from engine.status import StatusRow
from engine.vault_check.last import Last
from engine.watch.findings import Finding, Level, above
from engine.watch_config import WatchConfig

FULL = 95.0
"""Percent of a disk in use that is critical."""
_TREND = timedelta(hours=12)
"""Over less than this no trend of a disk is told."""
_TOLD_DAYS = 365
_DAY = 86_400.0
_APART = names.APART.total_seconds()
_CLOCK = "a clock is wrong, or was"


def backups(row: StatusRow, limits: WatchConfig) -> list[Finding]:
    """Age of the newest good backup of a database, and damage of newer ones."""
    about, limit = str(row.target), limits.age_of(row.target.source, row.target.database)
    if row.newest is None:
        return [Finding("backup-age", about, Level.CRITICAL, f"{about} has no good backup"), *_damage(row)]
    age = row.age_seconds
    said = f"the newest good backup of {about} is {in_words(max(age, 0))} old"
    level = above(age, limit)
    if level is not Level.OK:
        said += f", more than {in_words(limit)}"
    if age < -_APART:
        level, said = Level.CRITICAL, f"the newest good backup of {about} is dated {in_words(-age)} ahead: {_CLOCK}"
    elif row.ahead:
        level = max(level, Level.WARNING)
        said += f"; {row.ahead[0]}{_more(row.ahead)} dated ahead of now: {_CLOCK}"
    return [Finding("backup-age", about, level, said, age, "s", limit, 2 * limit), *_damage(row)]


def of_tier(whole: StatusRow, row: StatusRow, tier: str, limit: float, now: datetime) -> Finding | None:
    """Age of the newest good backup of one tier, which newer ones of other tiers hide.

    Args:
        whole: The database with all of its backups; ``row`` with those of the tier alone.
        limit: Seconds.
    """
    about = f"{row.target}@{tier}"
    if whole.since is None:
        return None  # there is nothing at all, which is told of by itself
    if row.newest is None:
        age = (now - whole.since).total_seconds()
        said = f"{row.target} has no good {tier} backup; there are others since {in_words(max(age, 0))}"
    else:
        age = row.age_seconds
        said = f"the newest good {tier} backup of {row.target} is {in_words(max(age, 0))} old{_ahead(age)}"
    level = _judged(age, limit)
    if level is not Level.OK and age > 0:
        said += f", more than {in_words(limit)}"
    return Finding("backup-age", about, level, said, age, "s", limit, 2 * limit)


def _more(files: Sequence[str]) -> str:
    return " is" if len(files) == 1 else f" and {len(files) - 1} more are"


def _judged(age: float, limit: float, critical: float | None = None) -> Level:
    """How bad an age is. One that is less than nothing says that a clock is wrong, or was: nobody knows the age."""
    return Level.WARNING if age < -_APART else above(age, limit, critical)


def _ahead(age: float) -> str:
    return f" (dated {in_words(-age)} ahead of now: {_CLOCK})" if age < -_APART else ""


def _damage(row: StatusRow) -> list[Finding]:
    about = str(row.target)
    told = [f"{file} was found broken" for file in row.broken]
    told += [f"{file} is incomplete: {missing}" for file, missing in row.incomplete.items()]
    told += row.problems
    if told:
        return [Finding("backup-damage", about, Level.WARNING, f"{about}: {'; '.join(told[:3])}", len(told))]
    return [Finding("backup-damage", about, Level.OK, f"{about}: no newer backup is broken or incomplete", 0)]


def no_backup_at_all(source: str) -> Finding:
    """A source that names no databases, and of which there is nothing."""
    return Finding("backup-age", source, Level.CRITICAL, f"{source} has no good backup of anything")


def copies(replica: str, lacking: Sequence[datetime], now: datetime, limits: WatchConfig) -> Finding:
    """How far behind a replica is.

    Args:
        lacking: When the backups were taken that it lacks.
    """
    limit = seconds_of(limits.copies)
    behind = max(((now - each).total_seconds() for each in lacking), default=0.0)
    level = _judged(behind, limit, max(2 * limit, 2 * _DAY))
    said = f"{replica} lacks nothing"
    if lacking:
        said = f"{replica} lacks {len(lacking)} backups, the oldest for {in_words(max(behind, 0))}{_ahead(behind)}"
    return Finding("copies", replica, level, said, behind, "s", limit, max(2 * limit, 2 * _DAY))


def recovery_point(about: str, latest: datetime | None, now: datetime, limits: WatchConfig) -> Finding:
    """How much would be lost if the server were gone now.

    Args:
        latest: The newest moment that can be had; None where no logs can be replayed on anything.
    """
    limit = seconds_of(limits.logs)
    if latest is None:
        said = f"no moment of {about} can be restored from logs: none are shipped that fit a backup"
        return Finding("recovery-point", about, Level.CRITICAL, said)
    behind = (now - latest).total_seconds()
    said = f"{about} can be restored up to {in_words(max(behind, 0))} ago{_ahead(behind)}"
    return Finding("recovery-point", about, _judged(behind, limit), said, behind, "s", limit, 2 * limit)


def log_shipping(source: str, newest: datetime | None, now: datetime, limits: WatchConfig) -> Finding:
    """How long ago a log of a server was last shipped, whatever can be made of it.

    Args:
        newest: When the newest log was shipped, or a run of shipping last found nothing to ship.
    """
    limit = seconds_of(limits.logs)
    if newest is None:
        return Finding("log-shipping", source, Level.CRITICAL, f"no log of {source} has been shipped")
    age = (now - newest).total_seconds()
    said = f"the logs of {source} were last shipped {in_words(max(age, 0))} ago{_ahead(age)}"
    return Finding("log-shipping", source, _judged(age, limit), said, age, "s", limit, 2 * limit)


def damage(location: str, last: Last) -> Finding:
    """What the last verification of a place found, and is not right yet. What was healed is told as well: a disk that
    spoils one file goes on to others."""
    wrong = [each for each in last.open if each.severity == "damage"]
    since = f"{last.at:%Y-%m-%d %H:%M} UTC"
    if wrong:
        said = f"{_files(wrong[0].what, len(wrong))} in {location} could not be healed: {wrong[0].words}"
        return Finding("vault-damage", location, Level.CRITICAL, said, len(wrong))
    if last.error:
        said = f"{location} could not be verified on {since}: {last.error}"
        return Finding("vault-damage", location, Level.WARNING, said, 0)
    if last.open:
        said = f"{_files(last.open[0].what, len(last.open))} in {location} could not be judged: {last.open[0].words}"
        return Finding("vault-damage", location, Level.WARNING, said, 0)
    if last.healed:
        key, _, words = last.healed[0].partition(": ")
        said = f"{_files(key, len(last.healed))} in {location} was healed on {since}, and is whole again: {words}"
        return Finding("vault-damage", location, Level.WARNING, said, 0)
    return Finding("vault-damage", location, Level.OK, f"the verification of {since} found {location} whole", 0)


def _files(key: str, count: int) -> str:
    name = key.rsplit("/", 1)[-1]
    return f"{name} (and {count - 1} more damaged files)" if count > 1 else name


def verification(
    location: str, last: datetime | None, oldest: datetime | None, now: datetime, limits: WatchConfig
) -> Finding:
    """How long ago a place was last verified.

    Args:
        oldest: When the site's oldest backup was taken: before there were any, none could be read back.
    """
    limit, since = seconds_of(limits.verified), last or oldest
    if since is None:
        return Finding("verification", location, Level.OK, f"there is nothing in {location} to be verified yet")
    age = (now - since).total_seconds()
    said = f"{location} was last verified {in_words(max(age, 0))} ago{_ahead(age)}"
    if last is None:
        said = f"{location} was never verified; there are backups since {in_words(max(age, 0))}{_ahead(age)}"
    level = min(_judged(age, limit), Level.WARNING)
    return Finding("verification", location, level, said, age, "s", limit)


def drill(
    target: Target,
    proven: datetime | None,
    oldest: datetime | None,
    now: datetime,
    limits: WatchConfig,
    doubts: Sequence[Doubt] = (),
    *,
    waived: bool = False,
) -> Finding:
    """When a drill last proved a database, and what drills did not prove of it. That is over when the same backup, or
    one that was taken later, has been proven.

    Args:
        oldest: Its oldest backup: before there were any, none could be proven.
        waived: Drills only read it, as the site wants no more.
    """
    about, limit = str(target), seconds_of(limits.drill)
    since = proven or oldest
    if since is None:
        return Finding("drill", about, Level.OK, f"there is no backup of {about} to be proven yet")
    age = (now - since).total_seconds()
    said = f"a drill proved {about} {in_words(max(age, 0))} ago"
    if proven is None:
        said = f"no drill has proven {about} yet; there are backups since {in_words(max(age, 0))}"
    said += _ahead(age)
    level = _judged(age, limit)
    if waived:
        level, said = Level.OK, f"drills only read {about}, as drill.not_restored says: no proof of it is awaited"
    failed = [each for each in doubts if each.failed and each.overtaken]
    if failed:
        level = max(level, Level.WARNING)
        said = f"{failed[-1].file} failed its drill, and is still kept; of newer ones {said}"
    open_ = sorted((each for each in doubts if not each.overtaken), key=lambda each: each.at)
    if open_:
        level, what = Level.CRITICAL, open_[-1].file or f"a backup of {about}"
        came_to = "failed" if open_[-1].failed else "could not be verified by"
        said = f"{what} {came_to} its drill, and nothing newer was proven since"
    return Finding("drill", about, level, said, age, "s", limit, 2 * limit)


def drilled(source: str, verdict: str, at: datetime, now: datetime) -> Finding:
    """A source that its last drill did not prove, whatever became of single backups: logs, targets, the place."""
    since = in_words(max((now - at).total_seconds(), 0))
    said = "failed" if verdict == "failed" else "could not verify everything"
    return Finding("drill", source, Level.CRITICAL, f"the last drill of {source}, {since} ago, {said}")


def last_drill(verdict: str, said: str) -> Finding:
    """What the last drill came to."""
    return Finding("drill", "last", Level.OK if verdict == "proven" else Level.CRITICAL, f"the last {said}")


def releases(waiting: Sequence[tuple[str, datetime]], now: datetime, limits: WatchConfig) -> Finding:
    """Snapshots that wait for the word that their deployment succeeded: their titles, and when they were taken."""
    limit = seconds_of(limits.releases)
    old = [(title, (now - at).total_seconds()) for title, at in waiting]
    title, age = max(old, key=lambda each: each[1], default=("", 0.0))
    said = f"{len(old)} snapshots wait to be released" if old else "no snapshot waits to be released"
    if age > limit:
        said += f"; {title} for {in_words(age)}"
    level = Level.WARNING if age > limit else Level.OK
    return Finding("release", "snapshots", level, said, age, "s", limit)


@dataclass(frozen=True)
class DiskUse:
    """A disk at one moment (UTC), in bytes."""

    at: datetime
    used: int
    total: int


def days_until_full(history: Sequence[DiskUse]) -> float | None:
    """By the slope of a line through what was seen (least squares); None where it does not fill, or too little is
    known. ``history``: oldest first."""
    if len(history) < 3 or history[-1].at - history[0].at < _TREND:
        return None
    first = history[0].at
    days = [(each.at - first).total_seconds() / _DAY for each in history]
    mean_day, mean_used = sum(days) / len(days), sum(each.used for each in history) / len(history)
    spread = sum((day - mean_day) ** 2 for day in days)
    slope = sum((day - mean_day) * (each.used - mean_used) for day, each in zip(days, history, strict=True)) / spread
    free = history[-1].total - history[-1].used
    return max(free, 0) / slope if slope > 0 else None


def disk(history: Sequence[DiskUse], limits: WatchConfig) -> Finding:
    """Room on the local root's disk now."""
    now = history[-1]
    percent = 100.0 * now.used / now.total if now.total else 100.0
    critical = max(FULL, limits.disk)
    free = max(now.total - now.used, 0) / 1e9
    said = f"the vault's disk is {percent:.0f}% full, {free:,.1f} GB are free"
    return Finding("disk", "local", above(percent, limits.disk, critical), said, percent, "%", limits.disk, critical)


def disk_trend(history: Sequence[DiskUse], limits: WatchConfig) -> Finding:
    """When the local root's disk will be full, by its trend. The figure is the time left, in seconds."""
    left, limit = days_until_full(history), seconds_of(limits.full_in)
    if left is None or left > _TOLD_DAYS:
        return Finding("disk-trend", "local", Level.OK, "the vault's disk does not fill up, or slowly")
    level = Level.WARNING if left * _DAY < limit else Level.OK
    said = f"the vault's disk will be full in {left:.0f} days, as it goes on"
    return Finding("disk-trend", "local", level, said, left * _DAY, "s")
