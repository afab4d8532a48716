"""Weekly and monthly archives: the newest verified recovery point of a period, promoted without dumping again.

Each period that is over gets one recovery point: of all that are there the one with most of the site's databases and
files proven, and of these the newest. It is read to its end once more before it is promoted. A period that a run
could not finish is finished by the next, from the same recovery point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from engine import backup, names
from engine.catalog import Entry
from engine.errors import BackupError, IntegrityError, NotFound, WrongKey
from engine.locks import patiently
from engine.manifest import Manifest
from engine.periods import Period, ended
from engine.progress import Progress, silent
from engine.promotion import promote
from engine.prune.contents import claims_of
from engine.site import Site, Target
from engine.vault import LOCAL
from engine.verdicts import verdict

FROM = {names.WEEKLY: ("daily", "hourly"), names.MONTHLY: ("daily", names.WEEKLY, "hourly")}
"""Tiers that an archive is promoted from; of one recovery point the first that has it."""
WAIT_SECONDS = 600.0
"""For a run that works on the same database."""
Part = tuple[Entry, Manifest]


@dataclass
class Point:
    """What one recovery point holds that is proven."""

    id: str
    parts: dict[Target, Part] = field(default_factory=dict)

    @property
    def taken_at(self) -> datetime:
        return max(manifest.taken_at for _, manifest in self.parts.values())


@dataclass
class Archived:
    """What became of one period.

    Attributes:
        point: The recovery point; empty when there was none.
        made: What was promoted now.
        stood: What had been promoted before.
        lacking: Of the site's databases and files those that the recovery point does not have.
        problems: Backups that were found broken on the way, and were passed over.
    """

    period: Period
    point: str = ""
    made: list[Part] = field(default_factory=list)
    stood: list[Part] = field(default_factory=list)
    lacking: list[Target] = field(default_factory=list)
    problems: list[BackupError] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Is there anything that a person has to see?"""
        return not self.point or bool(self.lacking or self.problems)

    def verdict(self) -> str:
        """One line: what was promoted, and what is missing."""
        if not self.point:
            return f"{self.period} has no verified backup that could be promoted"
        made = f"{len(self.made)} promoted" + (f", {len(self.stood)} stood already" if self.stood else "")
        lacking = f"; it lacks {', '.join(map(str, self.lacking))}" if self.lacking else ""
        problems = "".join(f"; passed over: {each.message.rstrip('.')}" for each in self.problems)
        return f"{self.period} from recovery point {self.point}: {made}{lacking}{problems}"


def archive(
    site: Site,
    tier: str,
    *,
    now: datetime | None = None,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Archived]:
    """Promote what the periods that are over still lack, newest first; a period without any backup is left out.

    Args:
        tier: ``weekly`` or ``monthly``.
        now: For tests; the present moment.
        tell: Hears who is waited for.

    Raises:
        LockHeld: A run on one of the databases does not end. And what the local root raises. What was promoted
            before stays.
    """
    site.vault.check()
    done = []
    for number, period in enumerate(ended(tier, now or names.now())):
        found = _archive(site, period, progress, tell)
        if found.point or (number == 0 and _is_in_use(site, period)):
            done.append(found)
    return done


def _is_in_use(site: Site, period: Period) -> bool:
    """Was anything backed up before the period ended? Else there is nothing to miss yet."""
    entries = site.vault.catalog(LOCAL).entries()
    return any(not entry.name.log and entry.name.taken_at < period.end for entry in entries)


def _archive(site: Site, period: Period, progress: Progress, tell: Callable[[str], None]) -> Archived:
    done = Archived(period)
    stood = _standing(site, period, progress)
    candidates = _candidates(site, period)
    done.stood = list(stood.values())
    if stood:
        _, manifest = done.stood[0]
        done.point = manifest.recovery_point or manifest.file
    begun = {manifest.recovery_point for _, manifest in stood.values()}
    for point in sorted(candidates, key=lambda each: (each.id in begun, len(each.parts), each.taken_at), reverse=True):
        missing = {target: part for target, part in point.parts.items() if target not in stood}
        if stood and point.id not in begun:
            break  # one recovery point a period
        problem = _prove(site, missing.values(), progress)
        if problem is not None:
            done.problems.append(problem)
            continue
        for target, part in missing.items():
            done.made.append(_promote(site, target, part, period.tier, tell))
        done.point = point.id
        break
    done.lacking = sorted(set(_expected(site)) - {_whose(part) for part in (*done.stood, *done.made)})
    return done


def _expected(site: Site) -> list[Target]:
    """What the site names; a server that names no databases expects none by name."""
    return [Target(source.name, name) for source in site.config.sources() for name in source.databases]


def _standing(site: Site, period: Period, progress: Progress) -> dict[Target, Part]:
    """What had been promoted for this period, and was not found broken since."""
    found: dict[Target, Part] = {}
    for part in _loaded(site, period, period.tier):
        if part[1].started_at not in period:
            continue
        claim = claims_of(site.vault, part[0]).claim
        if claim == "unproven":  # whoever promoted it died before the mark
            claim = "good" if _prove(site, [part], progress) is None else "broken"
        if claim == "good":
            found.setdefault(_whose(part), part)
    return found


def _whose(part: Part) -> Target:
    return Target(part[1].source, part[1].database)


def _candidates(site: Site, period: Period) -> list[Point]:
    """The recovery points of a period with what is proven of each."""
    points: dict[str, Point] = {}
    for tier in FROM[period.tier]:
        for part in _loaded(site, period, tier):
            entry, manifest = part
            if manifest.started_at not in period or manifest.incomplete or not _is_proven(site, entry):
                continue
            name = manifest.recovery_point or entry.name.stem
            points.setdefault(name, Point(name)).parts.setdefault(_whose(part), part)
    return list(points.values())


def _loaded(site: Site, period: Period, tier: str) -> Iterable[Part]:
    """Backups of a tier whose names say that they are of the period, or of right after it: a promotion is named a
    little later than its origin. One whose manifest does not hold, or whose source the site has no more, is left
    out."""
    catalog = site.vault.catalog(LOCAL)
    sources = {source.name for source in site.config.sources()}
    for entry in catalog.entries(tier=tier):
        if not period.start <= entry.name.taken_at < period.end + timedelta(hours=1):
            continue
        try:
            manifest = catalog.load(entry)
        except (IntegrityError, WrongKey, NotFound):
            continue
        if manifest.tier == tier and manifest.source in sources:
            yield entry, manifest


def _is_proven(site: Site, entry: Entry) -> bool:
    try:
        return verdict(site, entry) is True
    except BackupError:
        return False


def _prove(site: Site, parts: Iterable[Part], progress: Progress) -> BackupError | None:
    """Read backups to their end; the first that is not what it should be, which is marked as broken then."""
    for entry, _ in parts:
        try:
            backup.verify(site, entry, progress=progress)
        except (IntegrityError, WrongKey) as error:
            return error
    return None


def _promote(site: Site, target: Target, part: Part, tier: str, tell: Callable[[str], None]) -> Part:
    with patiently(lambda: site.vault.lock(target.source, target.database), WAIT_SECONDS, tell):
        entry, manifest = promote(site.vault, *part, tier)
    # its bytes are those of the original, which was just read to its end: they are the same file
    site.vault.mark(entry, "verified", checks=["hard link"], origin=part[1].file, sha256=manifest.data.sha256)
    return entry, manifest


__all__ = ["Archived", "Point", "archive"]
