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
class Standing:
    """A finding that is not over yet.

    Attributes:
        since: When it was first seen, UTC.
        had: Every level that it has had since.
    """

    level: Level
    since: datetime
    had: frozenset[Level]


@dataclass(frozen=True)
class Change:
    """A finding that is not as it was: it came, got worse or better, or is over.

    Attributes:
        since: When it was first seen, UTC.
        had: Every level that it has had since.
    """

    turn: Turn
    finding: Finding
    since: datetime
    had: frozenset[Level]


@dataclass
class Memory:
    """What is remembered.

    Attributes:
        raised: By a finding's id, what is not over.
        disk: Oldest first.
        looked_at: When the last look was taken, UTC.
        untold: By the address that did not take it, what was to be told there, the oldest first: subject and text.
    """

    raised: dict[str, Standing] = field(default_factory=dict)
    disk: list[DiskUse] = field(default_factory=list)
    looked_at: datetime | None = None
    untold: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def take_in(self, look: Look, now: datetime, disk: DiskUse | None) -> list[Change]:
        """Remember a look; gives what changed since the one before, the worst first. A condition that could not be
        asked about this time keeps the word that was said of it before."""
        changes: list[Change] = []
        standing: dict[str, Standing] = {}
        for finding in look.findings:
            before = self.raised.get(finding.id)
            turn = _turn(before, finding.level)
            if turn == "resolved" and before is not None:
                changes.append(Change(turn, finding, before.since, before.had))
            elif turn is not None:
                had = (before.had if before else frozenset()) | {finding.level}
                standing[finding.id] = Standing(finding.level, before.since if before else now, had)
                changes.append(Change(turn, finding, standing[finding.id].since, had))
            elif before is not None:
                standing[finding.id] = before
        for each in sorted(self.raised.keys() - {finding.id for finding in look.findings}):
            gone = self.raised[each]
            if each.partition("/")[0] in look.unasked:
                standing[each] = gone
            else:
                changes.append(Change("resolved", _gone(each), gone.since, gone.had))
        self.raised, self.looked_at = standing, now
        if disk is not None and (not self.disk or disk.at - self.disk[-1].at >= _EVERY):
            self.disk = [*self.disk, disk][-_MOST:]
        return changes


def _turn(before: Standing | None, level: Level) -> Turn | None:
    if level is Level.OK:
        return "resolved" if before is not None else None
    if before is None:
        return "raised"
    if level is Level.UNKNOWN or before.level is level:
        return None
    return "worse" if level is Level.CRITICAL or before.level is Level.UNKNOWN else "better"


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
    """What stands there; nothing where it cannot be read, or was written by another release."""
    try:
        body = json.loads(path.read_bytes())
        raised = {
            str(key): Standing(_level(word), names.noted_moment(since), frozenset(map(_level, had)))
            for key, (word, since, had) in body["raised"].items()
        }
        disk = [DiskUse(names.noted_moment(at), int(used), int(total)) for at, used, total in body["disk"]]
        looked_at = names.noted_moment(body["looked_at"]) if body["looked_at"] else None
        untold = {str(to): [(str(subject), str(text)) for subject, text in each] for to, each in body["untold"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Memory()
    return Memory(raised, disk, looked_at, untold)


def _level(word: str) -> Level:
    return Level[word.upper()]


def _write(path: Path, known: Memory) -> None:
    body = {
        "raised": {
            key: [each.level.word, names.iso(each.since), sorted(level.word for level in each.had)]
            for key, each in sorted(known.raised.items())
        },
        "disk": [[names.iso(each.at), each.used, each.total] for each in known.disk],
        "looked_at": names.iso(known.looked_at) if known.looked_at else "",
        "untold": known.untold,
    }
    fresh = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        fresh.write_text(json.dumps(body))
        os.replace(fresh, path)
