"""For how long an object lock keeps a backup: never longer than retention does, so that nothing waits for a lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from engine.names import MANIFEST_SUFFIX
from engine.retention.policy import PERIODS, Policy

if TYPE_CHECKING:
    from engine.layout import Layout

_DAY = timedelta(days=1)
_REGULAR = ("daily", "weekly", "monthly")
"""What a lock is meant for. What is kept for less (hourly backups, logs) is locked for as long as it is kept."""


def refusals(
    given: Mapping[str, str], sources: Iterable[str], locked: Mapping[str, int],
    there: Mapping[str, Mapping[str, str]] | None = None,
) -> list[str]:  # fmt: skip
    """Why the days of a lock cannot be taken, in words.

    Args:
        given: The site's retention; every rule of it can be read.
        locked: Days by replica.
        there: Rules of their own, by replica.
    """
    told = []
    for replica, days in locked.items():
        policy = Policy(given, there=(there or {}).get(replica))
        for source in sources:
            for tier in _REGULAR:
                rule = policy.of(source, tier)
                if rule.reach(PERIODS[tier]) < days * _DAY:
                    told.append(
                        f"replica {replica}: lock_days {days} is longer than {tier} backups of {source} are kept "
                        f"({rule.text}): they could not go when they are to; lower lock_days, or keep them longer"
                    )
    return told


def locked_until(key: str, layout: Layout, policy: Policy, days: int) -> datetime | None:
    """Until when an object is to be locked, UTC: a part or the manifest of a backup, counted from when it was taken;
    None for anything else (marks, probes)."""
    place = layout.place(key.removesuffix(MANIFEST_SUFFIX))
    if place is None or place.name.ext.endswith(MANIFEST_SUFFIX):
        return None
    kept = [policy.of(source, tier).reach(PERIODS.get(tier, _DAY)) for source, tier in place.pairs]
    return place.name.taken_at + min([days * _DAY, *kept])
