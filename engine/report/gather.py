"""The facts of a report, read from the vault's places alone. What cannot be asked is told, and holds up nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from engine import names
from engine.config import SiteConfig
from engine.drill.record import records
from engine.report.coverage import Covered, Verdict, coverage, verdict
from engine.report.history import History, history
from engine.report.incidents import Incident, incidents
from engine.report.reach import Reach, reach
from engine.report.storage import Place, monthly, storage
from engine.site import Site
from engine.status import status
from engine.vault import LOCAL
from engine.watch.findings import Finding, Level
from engine.watch.look import look
from engine.watch.remember import recall

DAYS, WEEKS = 7, 13


@dataclass(frozen=True)
class Report:
    """Everything that a report says. Times are UTC, sizes bytes, spans seconds.

    Attributes:
        since: Where the period begins; it ends ``at``, when the report was made.
        trend: Where the trend begins.
        findings: Of the watch, now; the worst first.
        drills: The records of drills since ``trend``, oldest first; and ``last_drill`` of every source the newest,
            however old.
        unseen: Places that could not be asked, with the reason.
        notes: What could not be read, in words.
    """

    site: str
    at: datetime
    since: datetime
    trend: datetime
    verdict: Verdict
    coverage: list[Covered]
    findings: list[Finding]
    incidents: list[Incident]
    reach: list[Reach]
    history: History
    places: list[Place]
    drills: list[Mapping[str, Any]]
    last_drill: dict[str, Mapping[str, Any]]
    config: SiteConfig
    unseen: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def monthly(self) -> float | None:
        """What all that is stored costs a month, as far as prices are known; None where none is."""
        return monthly(self.places)[0]

    @property
    def stored(self) -> int:
        """Bytes in all places together."""
        return sum(place.bytes for place in self.places)

    def as_dict(self) -> dict[str, Any]:
        """For scripts."""
        cost, whole = monthly(self.places)
        return {
            "site": self.site, "at": names.iso(self.at), "since": names.iso(self.since),
            "trend_since": names.iso(self.trend), "verdict": self.verdict.as_dict(),
            "coverage": [each.as_dict() for each in self.coverage],
            "findings": [each.as_dict() for each in self.findings],
            "incidents": [each.as_dict() for each in self.incidents],
            "windows": [each.as_dict() for each in self.reach],
            "backups": [each.as_dict() for each in self.history.points],
            "storage": {
                "places": [each.as_dict() for each in self.places], "bytes": self.stored,
                "currency": self.config.report.currency,
                "monthly": None if cost is None else round(cost, 6), "every_price_known": whole,
            },
            "drills": [_in_short(each) for each in self.drills],
            "unseen": self.unseen, "notes": self.notes,
        }  # fmt: skip


def gather(site: Site, *, days: int = DAYS, weeks: int = WEEKS, now: datetime | None = None) -> Report:
    """Read everything. No database server and no Prefect is asked.

    Args:
        days: How long the period is that incidents are told of.
        weeks: How far back sizes, durations and drills go.

    Raises:
        ConfigError: The site's settings do not fit together. What cannot be asked is ``unseen``.
    """
    now = now or names.now()
    since = now - timedelta(days=days)
    trend = min(now - timedelta(weeks=weeks), since)
    with site.vault.listed_once():
        found = status(site, now=now)
        seen = [name for name in site.vault.locations() if name not in found.unseen]
        past = history(site, seen, since, trend, now)
        reached = reach(site)
    notes = list(found.problems)
    known = recall(site.vault.state)
    watched = look(site, disk=known.disk, servers=False, now=now, known=found)
    drills: list[Mapping[str, Any]] = list(records(site.vault, [], seen, now)) if seen else []
    covered = coverage(site.config, found, now, past.tiers)
    happened = incidents(site, seen, since, past, drills, reached, notes, known.over)
    critical = _critical(watched.findings, covered, found.unseen)
    return Report(
        site.name, now, since, trend, verdict(covered, critical, list(found.unseen)), covered,
        watched.findings, happened, reached, past, storage(site, found.unseen),
        [each for each in drills if datetime.fromisoformat(each["finished_at"]) >= trend],
        _newest_of_each(drills), site.config, {name: each.message for name, each in found.unseen.items()},
        list(dict.fromkeys([*notes, *past.notes])),
    )  # fmt: skip


def _critical(findings: Sequence[Finding], covered: Sequence[Covered], unseen: Collection[str]) -> list[str]:
    """What is critical, but for what coverage and the places that could not be asked tell of already."""
    told = {f"{name}/{each.about}" for each in covered for name in ("backup-age", "drill")}
    told |= {f"vault/{LOCAL}"} if LOCAL in unseen else set()
    told |= {"drill/last"} if any(each.drill_failed for each in covered) else set()
    return [each.said for each in findings if each.level is Level.CRITICAL and each.id not in told]


def _newest_of_each(drills: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """By source, what the newest drill that tried it came to; with the drill's end and id."""
    found: dict[str, Mapping[str, Any]] = {}
    for record in drills:
        for source in record["sources"]:
            found[str(source["source"])] = {**source, "at": record["finished_at"], "drill": record["id"]}
    return found


def _in_short(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of a drill without its checks."""
    kept = (
        "id", "verdict", "said", "begun_at", "finished_at", "thorough", "rto_seconds", "rto_target", "rpo_seconds",
        "rpo_target", "rpo_missed",
    )  # fmt: skip
    sources = [
        {name: each.get(name) for name in ("source", "verdict", "rto_seconds", "rpo_seconds", "place")}
        for each in record["sources"]
    ]
    return {**{name: record.get(name) for name in kept}, "sources": sources}


__all__ = ["DAYS", "WEEKS", "Report", "gather"]
