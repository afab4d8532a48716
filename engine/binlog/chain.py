"""Which of a server's logs the vault lacks, and whether they go on where it stopped. Pure decisions.

Within one row (chain and epoch) numbers are neighbours. A server that was reset or restored begins to use
numbers again, or has fewer logs than were shipped: a new epoch begins.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from engine.binlog.server import ServerLog
from engine.logs import LogFile


@dataclass(frozen=True)
class Seen:
    """How a log on the server begins and how long it is: what tells it from another of its name."""

    created_at: datetime
    end: int
    gtids_before: str

    def is_log(self, log: LogFile) -> bool:
        """Is this the log that was shipped?"""
        return (self.end, self.gtids_before) == (log.end, log.gtids_before) and (
            log.created_at is None or log.created_at == self.created_at
        )


@dataclass(frozen=True)
class Work:
    """What a run has to do.

    Attributes:
        ship: Closed logs that the vault lacks, in the server's order.
        missing: Names of logs that the row needs and that neither vault nor server has.
        broken: Why the logs do not go on where the vault stopped; empty when they do.
    """

    ship: list[ServerLog] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    broken: str = ""


def is_break(logs: Sequence[ServerLog], newest: LogFile, seen: Seen | None) -> str:
    """Why the server's logs do not continue the vault's newest one; empty when they do.

    Args:
        logs: As the server lists them; the last is being written.
        seen: The server's log of the newest one's name, where it has one that is closed.
    """
    numbers = [log.number for log in logs]
    base = newest.name.rpartition(".")[0]
    if logs[-1].base != base:
        return f"its logs are now called {logs[-1].base}.*, no longer {base}.*"
    if seen is not None:
        return "" if seen.is_log(newest) else f"its {newest.name} is another log than the one that was shipped"
    if max(numbers) <= newest.number:
        return f"its newest log is {logs[-1].name}; {newest.name} was shipped already"
    if newest.number in numbers:
        return f"its {newest.name} is another log than the one that was shipped"
    return ""


def work(logs: Sequence[ServerLog], newest: LogFile | None, known: Collection[str]) -> Work:
    """What to ship when nothing is broken.

    Logs from before the oldest that the vault holds are left alone: retention has removed them there, and the
    server may keep its own for longer.

    Args:
        known: Names of every log in the vault.
    """
    closed = logs[:-1]
    if newest is None:
        return Work(ship=list(closed), missing=_between(closed))
    oldest = min((int(name.rpartition(".")[2]) for name in known), default=newest.number)
    ship = [log for log in closed if log.number > newest.number or (log.name not in known and log.number > oldest)]
    later = [log.number for log in logs if log.number > newest.number]
    missing = [_called(newest.name, each) for each in range(newest.number + 1, min(later, default=0))]
    return Work(ship=ship, missing=missing + _between([log for log in logs if log.number > newest.number]))


def restarted(logs: Sequence[ServerLog], same: Collection[str], broken: str) -> Work:
    """What to ship of a chain that began anew: all but what the vault holds of the time before.

    Args:
        same: Names of the server's logs that the vault has, as they are.
    """
    closed = logs[:-1]
    ship = [log for log in closed if log.name not in same]
    return Work(ship=ship, missing=_between(closed), broken=broken)


def row_gaps(numbers: Collection[int]) -> list[int]:
    """Numbers that are missing between others."""
    if not numbers:
        return []
    here = set(numbers)
    return [each for each in range(min(here), max(here)) if each not in here]


def _between(logs: Sequence[ServerLog]) -> list[str]:
    if not logs:
        return []
    return [_called(logs[0].name, each) for each in row_gaps([log.number for log in logs])]


def _called(like: str, number: int) -> str:
    base, _, digits = like.rpartition(".")
    return f"{base}.{number:0{len(digits)}d}"
