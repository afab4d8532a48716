"""For how long an object lock keeps a backup: never longer than retention does, so that nothing waits for a lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from engine import names
from engine.names import MANIFEST_SUFFIX
from engine.retention.policy import PERIODS, Policy

if TYPE_CHECKING:
    from engine.layout import Layout, Pair

_DAY = timedelta(days=1)
_REGULAR = ("daily", "weekly", "monthly")
"""What a lock is meant for. What is kept for less (hourly backups, logs) is locked for as long as it is kept."""
_AHEAD = 2
"""What new lists and records lean on again is locked for so many times the days, where retention lets it."""


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


@dataclass(frozen=True)
class Term:
    """Until when something is locked that a backup leans on, UTC.

    Attributes:
        least: At the least: as long as that backup itself is.
        most: Where it is not, it is locked until then: further ahead, so that this has not to be done every night, and
            no longer than retention keeps that backup.
    """

    least: datetime
    most: datetime


@dataclass(frozen=True)
class ObjectLocks:
    """The locks of one replica.

    Attributes:
        days: As the site file has them.
    """

    layout: Layout
    policy: Policy
    days: int

    def __call__(self, key: str) -> datetime | None:
        """Until when an object is to be locked that is written now, UTC; None for what is not (marks, probes), and for
        the contents of buckets, which the list tells that they are written for.

        Parts and the manifest of a backup: counted from when it was taken. Saved images: from now, since older records
        may need one. Sealed site files: a day longer than the backups of their recovery point, since those of the
        hours after it have none of their own.
        """
        from engine.sealed import folder_of, of_key

        if key.startswith(folder_of(self.layout)):
            sealed = of_key(key)
            return sealed.at + (self.days + 1) * _DAY if sealed is not None else None
        place = self.layout.place(key.removesuffix(MANIFEST_SUFFIX))
        if place is None or place.name.ext.endswith(MANIFEST_SUFFIX):
            return None
        image = all(tier == names.IMAGE for _, tier in place.pairs)
        return (names.now() if image else place.name.taken_at) + min(self._spans(place.pairs, self.days))

    def term(self, key: str, now: datetime) -> Term | None:
        """For how long what a backup leans on is to be locked, by the backup's key; None where its own lock is over."""
        place = self.layout.place(key)
        if place is None:
            return None
        taken = place.name.taken_at
        least = taken + min(self._spans(place.pairs, self.days))
        return Term(least, taken + min(self._spans(place.pairs, _AHEAD * self.days))) if least > now else None

    def lasting(self, now: datetime) -> Term:
        """Of what backups of this very moment lean on, and what stays whatever retention does."""
        return Term(now + self.days * _DAY, now + (self.days + 1) * _DAY)

    def _spans(self, pairs: Iterable[Pair], days: int) -> list[timedelta]:
        return [days * _DAY, *(self.policy.of(source, tier).reach(PERIODS.get(tier, _DAY)) for source, tier in pairs)]
