"""What the last look found, so that a finding is told once when it comes and once when it is over; and how the disk
filled up. One small file in the vault's state directory: when it is lost, what is wrong is told once more."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from engine import names
from engine.watch.findings import Finding, Level, Look
from engine.watch.judge import DiskUse

FILE = "watch.json"
_EVERY = timedelta(minutes=50)
_MOST = 24 * 14
"""Of the disk one look an hour is kept, for two weeks."""

Turn = Literal["raised", "worse", "better", "resolved"]


@dataclass(frozen=True)
class Change:
    """A finding that is not as it was: it came, got worse or better, or is over.

    Attributes:
        since: When it was first seen, UTC.
    """

    turn: Turn
    finding: Finding
    since: datetime


@dataclass
class Memory:
    """What is remembered.

    Attributes:
        raised: By a finding's id, how bad it was last and since when it has been wrong (UTC).
        disk: Oldest first.
    """

    raised: dict[str, tuple[Level, datetime]] = field(default_factory=dict)
    disk: list[DiskUse] = field(default_factory=list)

    def take_in(self, look: Look, now: datetime, disk: DiskUse | None) -> list[Change]:
        """Remember a look; gives what changed since the one before, the worst first. A condition that could not be
        asked about this time keeps the word that was said of it before."""
        changes: list[Change] = []
        seen: dict[str, tuple[Level, datetime]] = {}
        for finding in look.findings:
            before = self.raised.get(finding.id)
            if finding.level is Level.OK:
                if before is not None:
                    changes.append(Change("resolved", finding, before[1]))
                continue
            if before is None:
                changes.append(Change("raised", finding, now))
                seen[finding.id] = (finding.level, now)
            elif finding.level is Level.UNKNOWN or before[0] is finding.level:
                seen[finding.id] = before
            else:
                worse = finding.level is Level.CRITICAL or before[0] is Level.UNKNOWN
                changes.append(Change("worse" if worse else "better", finding, before[1]))
                seen[finding.id] = (finding.level, before[1])
        gone = self.raised.keys() - {each.id for each in look.findings}
        changes += [Change("resolved", _gone(each), self.raised[each][1]) for each in sorted(gone)]
        self.raised = seen
        if disk is not None and (not self.disk or disk.at - self.disk[-1].at >= _EVERY):
            self.disk = [*self.disk, disk][-_MOST:]
        return changes


def _gone(identity: str) -> Finding:
    condition, _, about = identity.partition("/")
    return Finding(condition, about, Level.OK, f"{about} is not watched any more")


@contextlib.contextmanager
def memory(state: Path) -> Iterator[Memory]:
    """What is remembered, for one at a time; what it is at the end is written down. Where that cannot be, on a full or
    missing disk, the watch goes on without."""
    path = state / FILE
    lock: Any = None
    try:
        lock = (state / f"{FILE}.lock").open("a")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        pass
    try:
        known = _read(path)
        yield known
        if lock is not None:
            _write(path, known)
    finally:
        if lock is not None:
            lock.close()


def recall(state: Path) -> Memory:
    """What is remembered, to look at."""
    return _read(state / FILE)


def _read(path: Path) -> Memory:
    try:
        body = json.loads(path.read_bytes())
        raised = {
            str(key): (Level[str(word).upper()], datetime.fromisoformat(since))
            for key, (word, since) in body["raised"].items()
        }
        disk = [DiskUse(datetime.fromisoformat(at), int(used), int(total)) for at, used, total in body["disk"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Memory()
    return Memory(raised, disk)


def _write(path: Path, known: Memory) -> None:
    body = {
        "raised": {key: [level.word, names.iso(since)] for key, (level, since) in sorted(known.raised.items())},
        "disk": [[names.iso(each.at), each.used, each.total] for each in known.disk],
    }
    fresh = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        fresh.write_text(json.dumps(body))
        os.replace(fresh, path)
