"""What was backed up, how much and how fast, by signed manifests: all of the period, and one of each day before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

from engine import names
from engine.catalog import Entry
from engine.errors import BackupError, NotFound
from engine.manifest import Manifest, OtherSite
from engine.site import Site, Target

_SIDE_BY_SIDE = 8
_BEST = ("daily", "hourly", "pre-deployment", "manual")
"""Of a day's backups the one that stands for it; archives, which are promoted, stand for days of which no other is
left."""
_RHYTHM = {"hourly": timedelta(hours=2), "daily": timedelta(hours=26)}
"""Longer between two backups of a tier is one missed."""


@dataclass(frozen=True)
class Point:
    """One backup.

    Attributes:
        at: When it was begun, UTC.
        seconds: How long it took; None where that is not known (it was made by another tool).
        size: Bytes of what was backed up, before compression; of a bucket all its objects.
        moved: Bytes that were read for it; of a bucket only what was new.
        stored: Bytes in the vault.
        incomplete: What it lacks, named.
    """

    target: Target
    file: str
    tier: str
    at: datetime
    seconds: float | None
    size: int
    moved: int
    stored: int
    incomplete: tuple[str, ...] = ()

    @property
    def rate(self) -> float | None:
        """Bytes a second."""
        return self.moved / self.seconds if self.seconds and self.moved else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "source": self.target.source, "database": self.target.database, "file": self.file, "tier": self.tier,
            "taken_at": names.iso(self.at), "seconds": None if self.seconds is None else round(self.seconds, 3),
            "bytes": self.size, "moved_bytes": self.moved, "stored_bytes": self.stored,
            "bytes_per_second": None if self.rate is None else round(self.rate),
        }  # fmt: skip


@dataclass
class History:
    """What there is, and was.

    Attributes:
        tiers: How many backups of each tier there are of a database; of logs and base backups under the source alone,
            with no database.
        made: How many were made in the period, by database.
        points: Oldest first.
        missed: Between which moments no backup of a tier was made, though its rhythm wanted one.
        notes: Backups that could not be read.
    """

    tiers: dict[Target, Counter[str]] = field(default_factory=dict)
    made: Counter[Target] = field(default_factory=Counter)
    points: list[Point] = field(default_factory=list)
    missed: list[tuple[Target, str, datetime, datetime]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, target: Target) -> list[Point]:
        return [each for each in self.points if each.target == target]


def history(site: Site, places: Sequence[str], period: datetime, trend: datetime, now: datetime) -> History:
    """What these places hold.

    Args:
        period: From then on every manifest is read; of the days from ``trend`` to then one of each database.
    """
    found = History()
    known: dict[Target, list[Entry]] = {}
    for entry in _entries(site, places, found.notes):
        target = _target(entry)
        found.tiers.setdefault(target, Counter())[str(entry.tier)] += 1
        if entry.name.log or entry.tier in names.NEVER_LATEST:
            continue
        known.setdefault(target, []).append(entry)
        found.made[target] += period <= entry.name.taken_at <= now
    chosen = [each for entries in known.values() for each in _chosen(entries, period, trend, now)]
    found.points = sorted(_points(site, chosen, found.notes), key=lambda each: (each.at, each.file))
    for target, entries in known.items():
        found.missed += [(target, *each) for each in _missed(entries, period, now)]
    return found


def _entries(site: Site, places: Sequence[str], notes: list[str]) -> Iterator[Entry]:
    """Each backup once, from the first place that has it."""
    seen: set[tuple[str | None, str | None, str]] = set()
    for place in places:
        try:
            for entry in site.vault.catalog(place).entries(settled=True):
                identity = (entry.source, entry.tier, entry.file)
                if entry.source is not None and identity not in seen:
                    seen.add(identity)
                    yield entry
        except BackupError as error:
            notes.append(f"{place} could not be listed: {error.message}")


def _target(entry: Entry) -> Target:
    whole = entry.name.log or entry.tier in (names.BASE, names.IMAGE)
    return Target(str(entry.source), "" if whole else entry.name.name)


def _chosen(entries: Sequence[Entry], period: datetime, trend: datetime, now: datetime) -> Iterator[Entry]:
    best: dict[date, Entry] = {}
    for entry in entries:
        at = entry.name.taken_at
        if period <= at <= now + names.APART:
            if entry.tier not in names.ARCHIVES:
                yield entry
        elif trend <= at < period:
            other = best.get(at.date())
            if other is None or (_rank(entry), other.name.taken_at) < (_rank(other), at):
                best[at.date()] = entry
    yield from best.values()


def _rank(entry: Entry) -> int:
    return _BEST.index(entry.tier) if entry.tier in _BEST else len(_BEST)


def _points(site: Site, entries: Sequence[Entry], notes: list[str]) -> Iterator[Point]:
    def load(entry: Entry) -> Point | str | None:
        try:
            return point(site.vault.catalog(entry.location).load(entry))
        except (OtherSite, NotFound):
            return None  # of whoever shares the folder; removed meanwhile
        except BackupError as error:
            return f"{entry.file} in {entry.location}: {error.message}"

    with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="report") as pool:
        for read in pool.map(load, entries):
            if isinstance(read, Point):
                yield read
            elif read:
                notes.append(read)


def point(manifest: Manifest) -> Point:
    """What a manifest says of its making."""
    seconds = (manifest.finished_at - manifest.started_at).total_seconds()
    size = moved = manifest.data.plain_size
    if manifest.dump_format == "bucket":
        size, moved = int(manifest.contents.get("bytes", 0)), int(manifest.contents.get("copied_bytes", 0))
    return Point(
        Target(manifest.source, manifest.database), manifest.file, manifest.tier, manifest.taken_at,
        None if manifest.adopted or seconds <= 0 else seconds, size, moved, manifest.stored_bytes,
        tuple(manifest.incomplete),
    )  # fmt: skip


def _missed(entries: Sequence[Entry], period: datetime, now: datetime) -> Iterator[tuple[str, datetime, datetime]]:
    """Between two backups of one tier alone: what is older than the oldest, retention may have taken away."""
    for tier, rhythm in _RHYTHM.items():
        at = sorted(each.name.taken_at for each in entries if each.tier == tier and each.name.taken_at <= now)
        for one, two in pairwise(at):
            if two >= period and two - one > rhythm:
                yield tier, one, two
