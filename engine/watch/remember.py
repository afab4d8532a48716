"""What the last look found, so that a finding is told once when it comes and once when it is over; what is still to be
told; and how the disk filled up.

One small file in the vault's state directory; where that cannot be written, on a disk that is full, read-only or not
mounted, one in the user's own (``${XDG_STATE_HOME:-~/.local/state}/backup-flows/watch``): just then nothing may be told
each quarter of an hour. When both are lost, what is wrong is told once more.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from engine import names
from engine.watch.findings import Finding, Level, Look, ordered
from engine.watch.judge import DiskUse
from engine.whole import replace_file

FILE = "watch.json"
_EVERY = timedelta(minutes=50)
_MOST = 24 * 14
"""Of the disk one look an hour is kept, for two weeks."""

_UNKNOWN_FOR = timedelta(days=2)
_PATIENCE = 60.0
"""Seconds that the lock is waited for: whoever holds it so long hangs, and must not silence the watch."""

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
        untold: By address, what is to be told there and was not yet, the oldest first: subject and text. It is kept
            with what is remembered, so that a watch that dies before it has told leaves it to the next one.
    """

    raised: dict[str, Standing] = field(default_factory=dict)
    disk: list[DiskUse] = field(default_factory=list)
    looked_at: datetime | None = None
    untold: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def hardened(self, look: Look, now: datetime) -> Look:
        """What could not be asked for two days is critical: nobody knows any more how it stands, and a word told once
        is forgotten by then."""
        found = []
        for finding in look.findings:
            before = self.raised.get(finding.id)
            if finding.level is Level.UNKNOWN and before is not None and now - before.since > _UNKNOWN_FOR:
                said = f"{finding.said}; it has not been well since {before.since:%Y-%m-%d %H:%M} UTC"
                finding = replace(finding, level=Level.CRITICAL, said=said)
            found.append(finding)
        return replace(look, findings=ordered(found))

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
        self.disk = [each for each in self.disk if each.at <= now]  # a clock was ahead: nothing else would follow these
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
    said = {"zombie": f"no run of {about} hangs any more", "late": f"no run of {about} is late any more"}
    return Finding(condition, about, Level.OK, said.get(condition, f"{about} is not watched any more"))


@contextlib.contextmanager
def memory(state: Path) -> Iterator[Memory]:
    """What is remembered, for one at a time; what it is at the end is written down. Where that cannot be, the watch
    goes on without."""
    lock = _lock(state)
    try:
        known = recall(state)
        yield known
        if _write(state / FILE, known):
            with contextlib.suppress(OSError):
                _spare(state).unlink(missing_ok=True)
        else:
            with contextlib.suppress(OSError):
                _spare(state).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write(_spare(state), known)
    finally:
        if lock is not None:
            lock.close()


def _lock(state: Path) -> Any:
    """The lock, held; None where it cannot be had: the file is replaced whole, so nothing worse follows than a word
    told twice."""
    try:
        lock = (state / f"{FILE}.lock").open("a")
    except OSError:
        return None
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            time.sleep(0.2)
        except OSError:
            break
    lock.close()
    return None


def _spare(state: Path) -> Path:
    """Where it is written down when the vault's disk does not take it."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    which = hashlib.sha256(str(state).encode()).hexdigest()[:12]
    return Path(base) / "backup-flows" / "watch" / f"{state.name}-{which}.json"


def recall(state: Path) -> Memory:
    """What is remembered, to look at: the later of both files."""
    here, spare = _read(state / FILE), _read(_spare(state))
    if spare.looked_at is not None and (here.looked_at is None or spare.looked_at >= here.looked_at):
        return spare
    return here


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
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return Memory()
    return Memory(raised, disk, looked_at, untold)


def _level(word: str) -> Level:
    return Level[word.upper()]


def _write(path: Path, known: Memory) -> bool:
    """Whole or not at all, and for its owner only, as messages stand in it; False where it could not be."""
    body = {
        "raised": {
            key: [each.level.word, names.iso(each.since), sorted(level.word for level in each.had)]
            for key, each in sorted(known.raised.items())
        },
        "disk": [[names.iso(each.at), each.used, each.total] for each in known.disk],
        "looked_at": names.iso(known.looked_at) if known.looked_at else "",
        "untold": known.untold,
    }
    try:
        replace_file(path, json.dumps(body))
    except OSError:
        return False
    return True
