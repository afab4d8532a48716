"""What the last look found, so that a finding is told once when it comes and once when it is over; what is still to be
told; what is over, for the report; and how the disk filled up.

Settings by environment, for tests: ``BACKUP_FLOWS_SILENT_SECONDS`` (2700).

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
from engine.watch.findings import Finding, Level, Look, Setback, ordered, worst
from engine.watch.judge import DiskUse
from engine.whole import replace_file

FILE = "watch.json"
_EVERY = timedelta(minutes=50)
_MOST = 24 * 14
"""Of the disk one look an hour is kept, for two weeks."""

SILENT = timedelta(seconds=float(os.environ.get("BACKUP_FLOWS_SILENT_SECONDS", "2700")))
"""After so long without a look the watch was silent: three did not come."""
_OVER_FOR, _OVER_MOST = timedelta(days=60), 500
"""So long, and so many, what is over is remembered."""
_UNKNOWN_FOR = timedelta(days=2)
_PATIENCE = 60.0
"""Seconds that the lock is waited for: whoever holds it so long hangs, and must not silence the watch."""

_RUNS = 500
"""So many runs that ended badly are remembered, the newest: longer than any that is asked for twice."""

Turn = Literal["raised", "worse", "better", "resolved", "passed"]


@dataclass(frozen=True)
class Standing:
    """A finding that is not over yet.

    Attributes:
        since: When it was first seen, UTC.
        had: Every level that it has had since.
        said: What was wrong.
    """

    level: Level
    since: datetime
    had: frozenset[Level]
    said: str = field(default="", compare=False)


@dataclass(frozen=True)
class Over:
    """A finding that is over: what was wrong, from when to when (UTC), and the worst that it was."""

    id: str
    level: Level
    since: datetime
    until: datetime
    said: str


@dataclass(frozen=True)
class Change:
    """A finding that is not as it was: it came, got worse or better, or is over; or came and passed between two looks.

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
        runs_seen: Up to when the server was asked for runs that ended badly, UTC.
        runs_told: Which of these were told, the oldest first.
        over: What is over, the oldest first; silences of the watch itself, too.
        untold: By address, what is to be told there and was not yet, the oldest first: subject and text. It is kept
            with what is remembered, so that a watch that dies before it has told leaves it to the next one.
    """

    raised: dict[str, Standing] = field(default_factory=dict)
    disk: list[DiskUse] = field(default_factory=list)
    looked_at: datetime | None = None
    untold: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    runs_seen: datetime | None = None
    runs_told: list[str] = field(default_factory=list)
    over: list[Over] = field(default_factory=list)

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
            fresh = self._fresh(finding)
            if turn == "resolved" and before is not None:
                changes.append(Change(turn, _with_more(finding, fresh), before.since, before.had))
            elif turn is not None:
                had = (before.had if before else frozenset()) | {finding.level}
                standing[finding.id] = Standing(finding.level, before.since if before else now, had, finding.said)
                changes.append(Change(turn, finding, standing[finding.id].since, had))
            elif before is not None:
                standing[finding.id] = before
            elif fresh:
                changes.append(_passed(finding, fresh))
        for each in sorted(self.raised.keys() - {finding.id for finding in look.findings}):
            gone = self.raised[each]
            if each.partition("/")[0] in look.unasked:
                standing[each] = gone
            else:
                changes.append(Change("resolved", _gone(each), gone.since, gone.had))
        self._note_over(changes, now)
        self.raised, self.looked_at = standing, now
        if "run" not in look.unasked:
            self.runs_seen = now
        self.disk = [each for each in self.disk if each.at <= now]  # a clock was ahead: nothing else would follow these
        if disk is not None and (not self.disk or disk.at - self.disk[-1].at >= _EVERY):
            self.disk = [*self.disk, disk][-_MOST:]
        return changes

    def _note_over(self, changes: list[Change], now: datetime) -> None:
        """Before the look is taken in: what it ends, and the silence before it."""
        ended = [_over(each, self.raised, now) for each in changes if each.turn in ("resolved", "passed")]
        if self.looked_at is not None and now - self.looked_at > SILENT:
            ended.append(Over("silence/watch", Level.CRITICAL, self.looked_at, now, "the watch did not look"))
        kept = [each for each in [*self.over, *ended] if now - each.until <= _OVER_FOR]
        self.over = kept[-_OVER_MOST:]

    def _fresh(self, finding: Finding) -> list[Setback]:
        """Of its setbacks those that were not told; from now on they are. The first look of all tells of none: what was
        before it is over, or a finding."""
        fresh = [each for each in finding.setbacks if each.key not in self.runs_told]
        self.runs_told = [*self.runs_told, *(each.key for each in fresh)][-_RUNS:]
        return fresh if self.runs_seen is not None else []


def _over(change: Change, raised: dict[str, Standing], now: datetime) -> Over:
    before, finding = raised.get(change.finding.id), change.finding
    said = before.said if before is not None and before.said else finding.said
    return Over(finding.id, worst(change.had), change.since, now, said)


def _passed(finding: Finding, fresh: list[Setback]) -> Change:
    """Told once: runs failed or crashed, and one that came after them did not."""
    first, last = fresh[0], fresh[-1]
    what, again = f"at {last.at:%Y-%m-%d %H:%M} UTC {last.said}", "it succeeded again"
    if len(fresh) > 1:
        span = f"between {first.at:%Y-%m-%d %H:%M} and {last.at:%Y-%m-%d %H:%M} UTC"
        what = f"{len(fresh)} of its runs failed or crashed {span}, the last: {last.said}"
    again += f" at {finding.again:%Y-%m-%d %H:%M} UTC" if finding.again else ""
    told = replace(finding, level=Level.WARNING, said=f"{finding.about}: {what}; {again}")
    return Change("passed", told, first.at, frozenset({Level.WARNING}))


def _with_more(finding: Finding, fresh: list[Setback]) -> Finding:
    if not fresh:
        return finding
    return replace(finding, said=f"{finding.said}; since the look before {len(fresh)} more failed or crashed")


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
            str(key): Standing(_level(word), names.noted_moment(since), frozenset(map(_level, had)), "".join(said))
            for key, (word, since, had, *said) in body["raised"].items()
        }
        disk = [DiskUse(names.noted_moment(at), int(used), int(total)) for at, used, total in body["disk"]]
        looked_at = names.noted_moment(body["looked_at"]) if body["looked_at"] else None
        untold = {str(to): [(str(subject), str(text)) for subject, text in each] for to, each in body["untold"].items()}
        runs_seen = names.noted_moment(body["runs_seen"]) if body.get("runs_seen") else looked_at
        runs_told = [str(each) for each in body.get("runs_told", [])]
        over = [
            Over(str(key), _level(word), names.noted_moment(since), names.noted_moment(until), str(said))
            for key, word, since, until, said in body.get("over", [])
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return Memory()
    return Memory(raised, disk, looked_at, untold, runs_seen, runs_told, over)


def _level(word: str) -> Level:
    return Level[word.upper()]


def _write(path: Path, known: Memory) -> bool:
    """Whole or not at all, and for its owner only, as messages stand in it; False where it could not be."""
    body = {
        "raised": {
            key: [each.level.word, names.iso(each.since), sorted(level.word for level in each.had), each.said]
            for key, each in sorted(known.raised.items())
        },
        "disk": [[names.iso(each.at), each.used, each.total] for each in known.disk],
        "looked_at": names.iso(known.looked_at) if known.looked_at else "",
        "untold": known.untold,
        "runs_seen": names.iso(known.runs_seen) if known.runs_seen else "",
        "runs_told": known.runs_told,
        "over": [
            [each.id, each.level.word, names.iso(each.since), names.iso(each.until), each.said] for each in known.over
        ],
    }
    try:
        replace_file(path, json.dumps(body))
    except OSError:
        return False
    return True
