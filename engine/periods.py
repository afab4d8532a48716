"""Calendar weeks and months that are over, in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from engine.names import ARCHIVES, WEEKLY

CATCH_UP = {WEEKLY: 4, "monthly": 2}
"""So many periods back a missed archive is still made: as far as daily backups usually reach."""


@dataclass(frozen=True, order=True)
class Period:
    """From ``start`` up to, not including, ``end`` (UTC)."""

    start: datetime
    end: datetime
    tier: str

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    def __str__(self) -> str:
        if self.tier == WEEKLY:
            year, week, _ = self.start.isocalendar()
            return f"week {year}-W{week:02}"
        return f"month {self.start:%Y-%m}"


def ended(tier: str, now: datetime) -> list[Period]:
    """The newest periods that are over at ``now``, newest first. Weeks begin on Monday."""
    assert tier in ARCHIVES
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    end = today - timedelta(days=today.weekday()) if tier == WEEKLY else today.replace(day=1)
    found = []
    for _ in range(CATCH_UP[tier]):
        start = end - timedelta(days=7) if tier == WEEKLY else (end - timedelta(days=1)).replace(day=1)
        found.append(Period(start, end, tier))
        end = start
    return found
