"""A server's clock that was set back: moments of its time came twice, and what was committed by one of them cannot
be told by times alone.

Every run of shipping notes what the server's clock showed, and beside it what ours did: where this machine has been
up ever since, how long that was, which no setting of a clock changes. The next run compares.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from engine import names

CONTENTS = "clock"
"""In a log's manifest, beside its facts."""
_LEAST = timedelta(seconds=2)
_DRIFT = 0.001
"""Of two clocks that nobody sets: far more than quartz makes."""


@dataclass(frozen=True)
class Reading:
    """Several clocks at one moment.

    Attributes:
        server: The database server's, UTC. ``here``: this machine's, UTC.
        boot: What tells this machine's present life from others; empty where it is not known.
        up: Seconds of that life.
    """

    server: datetime
    here: datetime
    boot: str = ""
    up: float = 0.0

    @classmethod
    def beside(cls, server: datetime) -> Reading:
        """The server's clock, just read, and ours."""
        boot = ""
        with contextlib.suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return cls(server, names.now(), boot, time.clock_gettime(time.CLOCK_BOOTTIME))

    def document(self) -> dict[str, Any]:
        """For a manifest."""
        return {"server": names.iso(self.server), "here": names.iso(self.here), "boot": self.boot, "up": self.up}

    @classmethod
    def of(cls, contents: dict[str, Any]) -> Reading | None:
        """From a manifest's contents; None where an older release wrote them."""
        found = contents.get(CONTENTS)
        if not isinstance(found, dict):
            return None
        server, here = names.parse_moment(str(found["server"])), names.parse_moment(str(found["here"]))
        return cls(server, here, str(found["boot"]), float(found["up"]))

    def passed_since(self, before: Reading) -> timedelta:
        """How much time has passed, however clocks were set."""
        if self.boot and self.boot == before.boot:
            return timedelta(seconds=self.up - before.up)
        return max(self.here - before.here, timedelta())


Span = tuple[datetime, datetime]


def set_back(before: Reading | None, now: Reading) -> Span | None:
    """Between which moments, by the server's clock, its time may have come twice; None where it ran on."""
    if before is None:
        return None
    passed = now.passed_since(before)
    expected = before.server + passed
    lacking = expected - now.server
    if lacking <= _LEAST + passed * _DRIFT:
        return None
    return before.server - lacking, expected


def warning(source: str, twice: Span) -> str:
    """For a person."""
    low, high = map(names.both_zones, twice)
    return (
        f"The clock of {source} was set back: moments between {low} and {high} may have come twice. They can be "
        "recovered by a place in the logs, not by a time."
    )
