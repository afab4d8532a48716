"""The recoverable windows of one source: from each full or base, as far as its logs follow without a hole.

Logs follow each other when they are of one chain and epoch and their numbers are neighbours. A window
begins where its full or base is consistent and ends at the last moment up to which every commit is known
to stand in its logs. All times are UTC by the database server's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from engine import names
from engine.logs import LogFile
from engine.recovery.fit import misfit

_NEVER = datetime.min.replace(tzinfo=UTC)
_NEW_ANCHOR = "later moments need a full (MySQL) or base backup (PostgreSQL) that was made after it"


@dataclass(frozen=True)
class Anchor:
    """A full or a base that logs can be replayed on.

    Attributes:
        file: The backup's data file.
        chain: As in ``LogFile.chain``; empty where the backup cannot know it (MariaDB has no server uuid).
            ``epoch`` is None where it cannot know that (any dump).
        number: Of the log in which the replay begins; for a base (which holds the WAL of its own making)
            the segment of its stop LSN.
        position: Where in it: binlog position, or LSN.
        earliest: The earliest moment it can serve, by the server's clock.
    """

    file: str
    chain: str
    number: int
    position: int
    earliest: datetime
    epoch: int | None = None


@dataclass(frozen=True)
class Window:
    """What one anchor and the logs after it can give back.

    Attributes:
        logs: In order, the first holds the anchor's position. Empty where none was shipped yet.
        earliest, latest: Every moment from one to the other, both included.
        ends: Why it does not go further, in words.
        left: The server went on after it, in logs that cannot be replayed on this anchor.
    """

    anchor: Anchor
    logs: tuple[LogFile, ...]
    earliest: datetime
    latest: datetime
    ends: str
    left: bool = False

    def holds(self, moment: datetime) -> bool:
        return self.earliest <= moment <= self.latest


@dataclass(frozen=True)
class Hole:
    """Logs that are missing between others of one row."""

    chain: str
    epoch: int
    after: LogFile
    before: LogFile

    @property
    def missing(self) -> int:
        return self.before.number - self.after.number - 1

    def __str__(self) -> str:
        count = f"{self.missing} logs are" if self.missing > 1 else "one log is"
        return f"{count} missing between {self.after.name} and {self.before.name}"


def windows(anchors: Iterable[Anchor], logs: Iterable[LogFile], database: str = "") -> list[Window]:
    """One window for each anchor, the one that begins latest first. Histories of timelines may be among the logs.

    Args:
        database: Whose anchors these are: where a restore replaced it, the windows from before end.
    """
    logs = list(logs)
    rows = _rows(logs)
    found = [_window(anchor, rows, logs, database) for anchor in anchors]
    return sorted(found, key=lambda each: (each.earliest, each.latest, each.anchor.file), reverse=True)


def holes(logs: Iterable[LogFile]) -> list[Hole]:
    """Where logs are missing between others, in order."""
    found = []
    for (chain, epoch), row in sorted(_rows(logs).items()):
        ordered = [row[number] for number in sorted(row)]
        found += [Hole(chain, epoch, one, other) for one, other in pairwise(ordered) if other.number != one.number + 1]
    return found


Row = dict[int, LogFile]


def _rows(logs: Iterable[LogFile]) -> dict[tuple[str, int], Row]:
    """Logs by row and number. Of two with one number the longer stands: a log shipped twice is the same."""
    rows: dict[tuple[str, int], Row] = {}
    for log in logs:
        if log.number <= 0:
            continue
        row = rows.setdefault(log.row, {})
        if log.number not in row or row[log.number].end < log.end:
            row[log.number] = log
    return rows


def _window(anchor: Anchor, rows: dict[tuple[str, int], Row], logs: Sequence[LogFile], database: str) -> Window:
    row = _row_of(anchor, rows)
    if row is None:
        return Window(anchor, (), anchor.earliest, anchor.earliest, "no log of its time was shipped yet")
    number = anchor.number
    run: list[LogFile] = []
    wrong = ""
    while number in row:
        wrong = _swapped(anchor, row[number], database) or (_misfit(run[-1], row[number]) if run else "")
        if wrong:
            break
        run.append(row[number])
        number += 1
    if not run:
        ends = f"{wrong}; {_NEW_ANCHOR}" if wrong else "no log of its time was shipped yet"
        return Window(anchor, (), anchor.earliest, anchor.earliest, ends, bool(wrong))
    later = [each for each in row if each > number]
    ends = f"the log after {run[-1].name} is missing" if later else f"{run[-1].name} is the newest log shipped"
    anew = wrong or (_began_anew(run[-1], logs) if not later else "")
    ends = f"{anew}; {_NEW_ANCHOR}" if anew else ends
    return Window(anchor, tuple(run), anchor.earliest, max(anchor.earliest, _latest(run)), ends, bool(anew))


def _swapped(anchor: Anchor, log: LogFile, database: str) -> str:
    """Where a restore put another database in the place of this one, after the anchor; empty where none did."""
    at = log.swapped.get(database)
    if at is None or (log.number, at) < (anchor.number, anchor.position):
        return ""
    when = f" of {names.both_zones(log.created_at)}" if log.created_at else ""
    return f"a restore replaced {database} in {log.name}{when}, and logs cannot be replayed across that"


def _misfit(log: LogFile, following: LogFile) -> str:
    return misfit(log, following.name, following.created_at, following.gtids_before)


def _began_anew(last: LogFile, logs: Sequence[LogFile]) -> str:
    """Where the server went on after a row ended for good: on another timeline, or with other numbers; empty where
    it did not."""
    physical = "." not in last.name  # WAL
    newer = [each for each in logs if each.epoch > last.epoch and (each.chain == last.chain or not physical)]
    if not newer:
        return ""
    first = min(newer, key=lambda each: (each.epoch, each.number))
    at = names.both_zones(first.created_at) if first.created_at else ""
    if physical:
        seen = f"; seen at {at}" if at else ""
        return f"after {last.name} the server went to timeline {first.epoch} (it was promoted or restored{seen})"
    return f"after {last.name} the server's logs began anew with {first.name}{f' of {at}' if at else ''}"


def _latest(run: Sequence[LogFile]) -> datetime:
    """Up to when every commit stands in these logs: what a log covers, all before it cover too. A log that
    states no time is certain up to its last commit and no further."""
    last = run[-1]
    known = [log.covers_until for log in run if log.covers_until is not None]
    if last.covers_until is None and last.last_commit is not None:
        known.append(last.last_commit)
    return max(known, default=_NEVER)


def _row_of(anchor: Anchor, rows: dict[tuple[str, int], Row]) -> Row | None:
    """The row that holds the anchor's position at its time. A dump does not know how often the numbering
    began anew: the log of its number must have been the server's at that moment."""
    fitting = []
    for (chain, epoch), row in rows.items():
        if anchor.chain not in ("", chain) or anchor.epoch not in (None, epoch):
            continue
        log = row.get(anchor.number)
        if log is None or not log.start <= anchor.position <= log.end:
            continue
        if anchor.epoch is None and not _was_open(log, row, anchor.earliest):
            continue
        fitting.append((epoch, row))
    return max(fitting, key=lambda each: each[0])[1] if fitting else None


def _was_open(log: LogFile, row: Row, moment: datetime) -> bool:
    """Was this the log being written at that moment? Unknown times rule nothing out."""
    if log.created_at is not None and moment < log.created_at.replace(microsecond=0):
        return False
    following = row.get(log.number + 1)
    closed = following.created_at if following is not None and log.next_created_at is None else log.next_created_at
    return closed is None or moment.replace(microsecond=0) <= closed
