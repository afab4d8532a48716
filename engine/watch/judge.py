"""From facts to findings: what is too old, too large, lacking or overdue. Pure: asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from engine import names
from engine.durations import in_words, seconds_of
from engine.site import Target
from engine.status import StatusRow
from engine.watch.findings import Finding, Level, above
from engine.watch_config import WatchConfig

FULL = 95.0
"""Percent of a disk in use that is critical."""
_TREND = timedelta(hours=12)
"""Over less than this no trend of a disk is told."""
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


def drill(target: Target, proven: datetime | None, oldest: datetime | None, now: datetime, limits: WatchConfig) -> (
    Finding
):  # fmt: skip
    """When a drill last proved a database.

    Args:
        oldest: Its oldest backup: before there were any, none could be proven.
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
    return Finding("drill", about, _judged(age, limit), said, age, "s", limit, 2 * limit)


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
    """Room on the local root's disk, now and by its trend."""
    now = history[-1]
    percent = 100.0 * now.used / now.total if now.total else 100.0
    said = f"the vault's disk is {percent:.0f}% full"
    level = above(percent, limits.disk, max(FULL, limits.disk))
    left = days_until_full(history)
    if left is not None:
        said += f", and wholly in {left:.0f} days as it goes on" if left < 365 else ""
        if left * _DAY < seconds_of(limits.full_in):
            level = max(level, Level.WARNING)
    return Finding("disk", "local", level, said, percent, "%", limits.disk, max(FULL, limits.disk))
