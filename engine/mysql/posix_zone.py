"""The time zone of a server's system, as a rule that works without zone files: ``CET-1CEST,M3.5.0,M10.5.0/3``.

A server names its system's zone by an abbreviation only, which says little (IST is three zones). So it is asked
what its local time is at many instants, and the rule is found that gives the same at all of them.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo, available_timezones

HOUR, DAY = 3600, 86400
_BEFORE, _AFTER = 400, 400
"""Days around now that are asked about: all four changes of a year on either side."""
Ask = Callable[[Sequence[int]], Mapping[int, int]]
"""Offsets from UTC in seconds, east positive, by instant (seconds since 1970)."""


def find_rule(ask: Ask, now: datetime) -> str | None:
    """The rule of the zone that gives what ``ask`` answers, or None if there is none."""
    today = int(now.timestamp()) // DAY * DAY
    days = [today + number * DAY for number in range(-_BEFORE, _AFTER + 1)]
    shown = ask(days)
    offsets = [shown[each] for each in days]
    if len(set(offsets)) == 1:
        return fixed(offsets[0])
    known = dict(shown)
    fitting = [rule for rule in _rules() if _gives(rule, known)]
    changes = [day for day, one, other in zip(days, offsets, offsets[1:], strict=False) if one != other]
    known |= ask([day + number * HOUR // 2 for day in changes for number in range(1, 48)])
    return next((rule for rule in fitting if _gives(rule, known)), None)


def fixed(offset: int) -> str:
    """``<+0530>-5:30``: one offset for all time."""
    if not offset:
        return "UTC0"
    hours, minutes = divmod(abs(offset) // 60, 60)
    east = offset > 0
    return f"<{'+' if east else '-'}{hours:02}{minutes:02}>{'-' if east else ''}{hours}:{minutes:02}"


def offset_at(rule: str, instant: int) -> int:
    """Seconds east of UTC by a rule."""
    found = datetime.fromtimestamp(instant, UTC).astimezone(_zone(rule)).utcoffset()
    assert found is not None
    return int(found.total_seconds())


def _gives(rule: str, known: Mapping[int, int]) -> bool:
    return all(offset_at(rule, instant) == offset for instant, offset in known.items())


@cache
def _zone(rule: str) -> ZoneInfo:
    """A zone that follows the rule alone, from a zone file without a single change in it."""
    header = b"TZif2" + bytes(15) + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    body = struct.pack(">lbb", 0, 0, 0) + b"UTC\0"
    return ZoneInfo.from_file(io.BytesIO((header + body) * 2 + b"\n" + rule.encode() + b"\n"))


@cache
def _rules() -> tuple[str, ...]:
    """The rules of all zones that this system knows and that have two times a year, the plainest name's first."""
    found: dict[str, None] = {}
    for name in sorted(available_timezones()):
        rule = _file(name).rstrip(b"\n").rpartition(b"\n")[2].decode("ascii", "replace")
        if "," in rule:
            found[rule] = None
    return tuple(found)


def _file(name: str) -> bytes:
    for directory in TZPATH:
        path = Path(directory) / name
        if path.is_file():
            return path.read_bytes()
    try:
        return resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()
    except (ImportError, OSError):
        return b""
