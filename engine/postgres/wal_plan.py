"""Decisions of WAL shipping, pure: where to go on, whether to switch, and whether a base backup is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from engine.clocks import Reading
from engine.errors import BackupError, LogChainBroken, LogGap
from engine.logs import LogFile
from engine.postgres.base_facts import BaseFacts
from engine.postgres.slots import ServerState
from engine.postgres.wal import Segment, lsn, named

AT_LEAST_EVERY = timedelta(hours=1)
"""A server that is idle gets a new segment this often, so that what is known of it does not hang on marks alone."""
BASE_NEEDED = "take a base backup now: the WAL shipped from here on can only be replayed on one"


@dataclass(frozen=True)
class Last:
    """The newest segment in the vault.

    Attributes:
        activity: The server's transactions when it was closed, or "" when that is not known.
        clock: The server's clock and ours at that moment, where that is known.
    """

    log: LogFile
    activity: str
    clock: Reading | None = None


def follows(last: Last | None, server: ServerState) -> bool:
    """Does the server still write the row that the vault's newest segment is of?"""
    return last is not None and last.log.row == (server.system_id, server.timeline)


def must_switch(last: Last | None, server: ServerState, activity: str, now: datetime, idle: timedelta) -> bool:
    """Begin a new segment? Not when no transaction has begun or ended since the last one was closed.

    Args:
        idle: Where nothing ended it is begun this often all the same.
    """
    if last is None or not follows(last, server) or not last.activity or last.log.covers_until is None:
        return True
    return activity != last.activity or now - last.log.covers_until >= idle


def starts(last: Last | None, server: ServerState, slot_restart: int, timeline_began: int) -> list[int]:
    """Where to go on from, the best first; the next is for when the server has the WAL there no more.

    Args:
        slot_restart: What the slot keeps from on.
        timeline_began: LSN at which the server's timeline left its parent; 0 for the first.
    """
    size = server.segment_size
    kept = max(slot_restart, timeline_began) // size * size
    if last is not None and follows(last, server):
        return [last.log.end] if kept <= last.log.end else [last.log.end, kept]
    return [kept]


def went_back(last: Last | None, server: ServerState) -> BackupError | None:
    """A server whose newest WAL is older than the vault's was put back to an earlier state."""
    if last is None or not follows(last, server) or server.position >= last.log.end:
        return None
    return put_back(
        f"The server is at {lsn(server.position)}, but the vault holds its WAL up to {lsn(last.log.end)} on the same "
        f"timeline {server.timeline}"
    )


def put_back(seen: str) -> BackupError:
    """The error for a server that goes on from an earlier state without a new timeline."""
    return LogChainBroken(
        f"{seen}: the server was put back to an earlier state without beginning a new timeline.",
        kept="what was shipped; nothing was shipped now, for it would carry the same names",
        remedy="give this source a new name in the site's file and take a base backup",
    )


@dataclass(frozen=True)
class Tail:
    """The newest unbroken row of segments. ``before`` is the segment shipped before it, if any."""

    first: Segment
    last: Segment
    before: Segment | None


def tail_of(shipped: Sequence[Segment]) -> Tail | None:
    """The row that ends with the newest, from names in the order of shipping."""
    if not shipped:
        return None
    first = last = shipped[-1]
    for each in reversed(shipped[:-1]):
        if each.timeline == first.timeline and each.number in (first.number, first.number - 1):
            first = min(first, each)
        else:
            return Tail(first, last, each)
    return Tail(first, last, None)


def unanchored(tail: Tail | None, base: BaseFacts | None, server: ServerState) -> BackupError | str | None:
    """Can what is shipped be replayed on the newest base backup? None if so; else an error, or for a
    server that never had one a warning."""
    if tail is None:
        return None
    fits = base is not None and (base.system_id, base.timeline) == (server.system_id, server.timeline)
    if fits and base is not None and base.start // server.segment_size >= tail.first.number:
        return None
    if base is None and tail.before is None:
        return "There is no base backup yet: WAL alone brings nothing back. Run base_backup."
    kept = "the WAL before and after it, and everything in the vault"
    missing = _missing(tail, base, server)
    if missing:
        return LogGap(f"WAL is missing: {missing} was gone from the server before it was shipped.", kept=kept,
                      remedy=BASE_NEEDED)  # fmt: skip
    if base is not None and base.system_id != server.system_id:
        what = f"is another server than the one of the newest base backup (system {base.system_id})"
    else:
        what = f"is on timeline {server.timeline} now: it was promoted or restored"
    return LogChainBroken(f"The server (system {server.system_id}) {what}.", kept=kept, remedy=BASE_NEEDED)


def _missing(tail: Tail, base: BaseFacts | None, server: ServerState) -> str:
    """The names of segments that lie between what is there, when that is what is wrong."""
    before, first = tail.before, tail.first
    if base is not None and (base.system_id, base.timeline) != (server.system_id, server.timeline):
        return ""
    if before is not None and before.timeline == first.timeline and before.number < first.number:
        return named(first.timeline, before.number + 1, first.number, first.size)
    if before is None and base is not None:
        return named(first.timeline, base.start // server.segment_size, first.number, first.size)
    return ""
