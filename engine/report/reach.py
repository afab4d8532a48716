"""From when to when each database can be brought back to any second."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from engine import names
from engine.errors import BackupError
from engine.recoverable import recoverable, rolled_forward
from engine.recovery import merged
from engine.site import Site


@dataclass(frozen=True)
class Reach:
    """One database of MySQL, or one whole PostgreSQL server (with an empty ``database``).

    Attributes:
        earliest, latest: Any second between these, UTC; None where no logs lead anywhere.
        ranges: How many windows there are that do not touch; one has no gap.
        ends: Why it does not reach further.
        holes: Logs that are missing between others, in words, and when the server began the one after, if known.
        error: Why nobody knows; empty otherwise.
    """

    source: str
    database: str
    earliest: datetime | None = None
    latest: datetime | None = None
    ranges: int = 0
    ends: str = ""
    holes: list[tuple[datetime | None, str]] = field(default_factory=list)
    error: str = ""

    @property
    def name(self) -> str:
        return f"{self.source}/{self.database}" if self.database else self.source

    def as_dict(self) -> dict[str, Any]:
        return {
            "source": self.source, "database": self.database,
            "earliest": names.iso(self.earliest) if self.earliest else None,
            "latest": names.iso(self.latest) if self.latest else None, "ranges": self.ranges, "ends": self.ends,
            "holes": [said for _, said in self.holes], "error": self.error,
        }  # fmt: skip


def reach(site: Site) -> list[Reach]:
    """Of everything that logs are shipped for. What cannot be told is in ``error``."""
    try:
        known = rolled_forward(site, None, None)
    except BackupError as error:
        shipped = [each.name for each in site.config.servers() if each.point_in_time]
        return [Reach(name, "", error=error.message) for name in shipped]
    return [_of(site, source, database) for source, database in known]


def _of(site: Site, source: str, database: str) -> Reach:
    try:
        found = recoverable(site, source, database)
    except BackupError as error:
        return Reach(source, database, error=error.message)
    holes = [(each.before.created_at, str(each)) for each in found.holes]
    rolled = [each for each in found.windows if each.logs]
    if not rolled:
        return Reach(source, database, holes=holes, ends="no logs are shipped that any backup could be rolled on with")
    ranges = merged(rolled)
    one, two = max(ranges, key=lambda each: each[1])
    last = max(rolled, key=lambda each: each.latest)
    return Reach(source, database, one, two, len(ranges), last.ends, holes)
