"""Coverage: which sources are protected and proven, and the one sentence that says so. Pure: asks nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from engine import names
from engine.config import SiteConfig
from engine.drill.record import Proof
from engine.durations import seconds_of
from engine.report.words import named, plural, span
from engine.site import Target
from engine.status import Status, StatusRow

Standing = Literal["good", "unproven", "late", "none", "unknown"]
"""``good``: protected and proven. ``unproven``: there is a good backup in time, that no drill has proven lately.
``late``: the newest good backup is too old. ``none``: there is no good backup. ``unknown``: nobody could be asked."""
RANK: dict[Standing, int] = {"good": 0, "unproven": 1, "unknown": 2, "late": 3, "none": 4}
KINDS = {
    "mysql": "MySQL/MariaDB", "postgres": "PostgreSQL", "volumes": "Docker volume", "config": "config files",
    "images": "containers", "buckets": "bucket", "n8n": "n8n",
}  # fmt: skip


@dataclass(frozen=True)
class Covered:
    """One database (volume, bucket...).

    Attributes:
        tiers: How many backups of each tier there are.
        newest: File of its newest good backup; empty where there is none.
        copies: Places that have ``newest``, of ``places`` that could be asked.
        proven: When a drill last proved a backup of it; None: never.
        drill_failed: A drill did not prove a backup of it, and nothing newer was proven.
        said: What is not as it should be; empty where nothing is.
    """

    source: str
    database: str
    kind: str
    standing: Standing
    said: str = ""
    tiers: Mapping[str, int] = field(default_factory=dict)
    newest: str = ""
    last_good: datetime | None = None
    age_seconds: float | None = None
    verified: bool = False
    copies: Sequence[str] = ()
    places: Sequence[str] = ()
    proven: Proof | None = None
    drill_failed: bool = False

    @property
    def about(self) -> str:
        """As findings of the watch name it."""
        return f"{self.source}/{self.database}" if self.database else self.source

    @property
    def name(self) -> str:
        """``mysql/app``; ``n8n`` where source and database are called the same."""
        return self.source if self.database in ("", self.source) else f"{self.source}/{self.database}"

    def as_dict(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "source": self.source, "database": self.database, "kind": self.kind, "standing": self.standing,
            "said": self.said, "tiers": dict(self.tiers), "newest": self.newest,
            "last_good_at": names.iso(self.last_good) if self.last_good else None,
            "age_seconds": None if self.age_seconds is None else round(self.age_seconds),
            "verified": self.verified, "copies": list(self.copies), "places": list(self.places),
            "proven_at": names.iso(self.proven.at) if self.proven else None,
            "proven_file": self.proven.file if self.proven else None, "drill_failed": self.drill_failed,
        }  # fmt: skip


def coverage(
    config: SiteConfig,
    found: Status,
    now: datetime,
    tiers: Mapping[Target, Mapping[str, int]],
) -> list[Covered]:
    """Every database, in the site's order; a source without any backup as one row of its own.

    Args:
        tiers: How many backups of each tier there are.
    """
    kinds = kinds_of(config)
    order = {source.name: number for number, source in enumerate(config.sources())}
    seen = [name for name in ("local", *(each.name for each in config.vault.replicas)) if name not in found.unseen]
    rows = [
        _covered(row, config, now, kinds, tiers.get(row.target, {}), seen, bool(found.unseen)) for row in found.rows
    ]
    for source in found.bare:
        standing: Standing = "unknown" if found.unseen else "none"
        said = _nobody_knows(found) if found.unseen else f"{source} has no backup of anything"
        rows.append(Covered(source, "", kinds.get(source, ""), standing, said, places=seen))
    return sorted(rows, key=lambda row: (order.get(row.source, len(order)), row.database))


def _covered(
    row: StatusRow,
    config: SiteConfig,
    now: datetime,
    kinds: Mapping[str, str],
    tiers: Mapping[str, int],
    seen: Sequence[str],
    blind: bool,
) -> Covered:
    target = row.target
    proof, drill_failed = row.proven, any(not each.overtaken for each in row.doubts)
    made = Covered(
        target.source, target.database, kinds.get(target.source, ""), "good", tiers=dict(tiers), places=seen,
        proven=proof, drill_failed=drill_failed,
    )  # fmt: skip
    standing, said = _standing(row, made.name, config, now, drill_failed, blind)
    newest = row.newest
    return Covered(
        made.source, made.database, made.kind, standing, said, made.tiers, newest.file if newest else "",
        newest.name.taken_at if newest else None, row.age_seconds if newest else None, row.verified is True,
        row.locations, seen, proof, drill_failed,
    )  # fmt: skip


def _standing(
    row: StatusRow, name: str, config: SiteConfig, now: datetime, drill_failed: bool, blind: bool
) -> tuple[Standing, str]:
    if row.newest is None:
        if blind:
            return "unknown", f"nobody knows whether {name} has a good backup: not every place could be asked"
        return "none", f"{name} has no good backup"
    limit = config.watch.age_of(row.target.source, row.target.database)
    if row.age_seconds < -names.APART.total_seconds():
        return "late", f"the newest backup of {name} is dated {span(-row.age_seconds)} ahead: a clock is wrong, or was"
    if row.age_seconds > limit:
        return "late", f"the newest good backup of {name} is {span(row.age_seconds)} old, more than {span(limit)}"
    if drill_failed:
        return "unproven", f"the last drill of {name} failed"
    if row.target.source in config.drill.not_restored:
        return "unproven", f"{name} is only read by drills, as drill.not_restored says"
    if row.proven is None:
        return "unproven", f"{name} has never been proven by a drill"
    age = (now - row.proven.at).total_seconds()
    if age > seconds_of(config.watch.drill):
        return "unproven", f"{name} has not been proven for {span(age)}"
    return "good", ""


def _nobody_knows(found: Status) -> str:
    return f"nobody knows what there is: {', '.join(found.unseen)} could not be asked"


def kinds_of(config: SiteConfig) -> dict[str, str]:
    """What each source is, in words, by its name."""
    return {source.name: KINDS[name] for name in KINDS for source in getattr(config, name)}


@dataclass(frozen=True)
class Verdict:
    """The first line.

    Attributes:
        level: ``ok``, ``warning`` or ``critical``.
        good: So many of the site's ``sources`` are protected and proven, every database of them.
        protected: So many have a good backup in time.
    """

    level: str
    said: str
    good: int
    protected: int
    sources: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "level": self.level, "said": self.said, "good": self.good, "protected": self.protected,
            "sources": self.sources,
        }  # fmt: skip


def verdict(rows: Sequence[Covered], critical: Sequence[str] = (), unseen: Sequence[str] = ()) -> Verdict:
    """What a site comes to, in one sentence, the worst first.

    Args:
        critical: Findings of the watch that are no matter of coverage, in words.
        unseen: Places that could not be asked.
    """
    sources = dict.fromkeys(row.source for row in rows)
    worst = {name: max((row for row in rows if row.source == name), key=_badness) for name in sources}
    good = sum(row.standing == "good" for row in worst.values())
    protected = sum(row.standing in ("good", "unproven") for row in worst.values())
    bad = sorted((row for row in rows if row.standing != "good"), key=_badness, reverse=True)
    told = [row.said for row in bad]
    if unseen:
        told.append(f"{', '.join(unseen)} could not be asked")
    told += critical
    if not sources:
        return Verdict("critical", "This site names no source: nothing is backed up", 0, 0, 0)
    grave = critical or "local" in unseen or any(row.standing in ("none", "late") for row in bad)
    level = "critical" if grave else "warning"
    if not told:
        level = "ok"
    return Verdict(level, _sentence(good, protected, len(sources), told), good, protected, len(sources))


def _sentence(good: int, protected: int, sources: int, told: list[str]) -> str:
    more = f"; {named(told)}" if told else ""
    if good == sources:
        first = "The only source is" if sources == 1 else f"All {plural(sources, 'source')} are"
        return f"{first} protected and proven{more}"
    if sources == 1:
        return f"The only source is {'protected but not proven' if protected else 'not protected'}{more}"
    return f"{good or 'None'} of {plural(sources, 'source')} {'is' if good <= 1 else 'are'} protected and proven{more}"


def _badness(row: Covered) -> int:
    return RANK[row.standing]
