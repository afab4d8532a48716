"""From when to when each source can be brought back, and what that rests on. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from engine.durations import in_words
from engine.recoverable import Recoverable
from engine.recovery import merged
from engine.status import StatusRow

_HOLES = 5


@dataclass(frozen=True)
class Reached:
    """One source.

    Attributes:
        about: ``mysql/workset``; ``postgres`` for a whole server that WAL is shipped of.
        any_second: Every moment of ``ranges``; else only those of its backups, of which these are the ends.
        ranges: UTC, oldest first. Empty where there is nothing.
        rests_on: The backup that the newest moments need.
        logs: How many logs are shipped.
        holes: What is missing between logs, in words.
        why: It does not reach further, or nobody knows how far; empty where nothing is wrong.
    """

    about: str
    any_second: bool
    ranges: list[tuple[datetime, datetime]] = field(default_factory=list)
    rests_on: str = ""
    logs: int = 0
    holes: list[str] = field(default_factory=list)
    why: str = ""

    def cells(self, now: datetime) -> dict[str, str]:
        """A row of the table."""
        first, last = (self.ranges[0][0], self.ranges[-1][1]) if self.ranges else (None, None)
        gaps = [f"{one[1]:%Y-%m-%d %H:%M:%S} to {two[0]:%Y-%m-%d %H:%M:%S}" for one, two in
                zip(self.ranges, self.ranges[1:], strict=False)]  # fmt: skip
        holes = [*(f"nothing from {each}" for each in gaps), *self.holes]
        more = f"; and {len(holes) - _HOLES} more" if len(holes) > _HOLES else ""
        return {
            "what": self.about,
            "can be had": "NOTHING" if last is None else "any second" if self.any_second else "its backups only",
            "from (UTC)": f"{first:%Y-%m-%d %H:%M:%S}" if first else "",
            "to (UTC)": f"{last:%Y-%m-%d %H:%M:%S}" if last else "",
            "to, ago": in_words(max((now - last).total_seconds(), 0.0)) if last else "",
            "holes": "; ".join(holes[:_HOLES]) + more if holes else "none" if self.any_second else "",
            "rests on": self.rests_on,
            "logs": str(self.logs) if self.any_second or self.logs else "none shipped",
            "why no more": self.why,
        }


def by_logs(about: str, found: Recoverable) -> Reached:
    """Of what logs are shipped for. Where they lead nowhere, the moments of the fulls or bases are left."""
    rolled = [each for each in found.windows if each.logs]
    holes, logs = [str(each) for each in found.holes], len(found.logs)
    if not rolled:
        ends = sorted(each.earliest for each in found.windows)
        why = "no logs are shipped that any backup could be rolled on with"
        newest = found.windows[0].anchor.file if found.windows else ""
        return Reached(about, False, [(ends[0], ends[-1])] if ends else [], newest, logs, holes, why)
    last = max(rolled, key=lambda each: each.latest)
    others = f" (and {len(rolled) - 1} more)" if len(rolled) > 1 else ""
    return Reached(about, True, merged(rolled), f"{last.anchor.file}{others}", logs, holes, last.ends)


def by_backups(row: StatusRow) -> Reached:
    """Of what no logs are shipped for."""
    about, newest = str(row.target), row.newest
    if newest is None:
        return Reached(about, False, why="there is no good backup")
    last = newest.name.taken_at
    return Reached(about, False, [(min(row.since or last, last), last)], newest.file)
