"""One log on its way from the server into the vault."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from engine import clocks, names
from engine.binlog.events import START, Reader
from engine.binlog.fetch import fetch
from engine.binlog.server import Head, ServerLog
from engine.binlog.transactions import Transaction, transactions
from engine.logs import CONTENTS, KIND, LogFile
from engine.manifest import LogPosition, Manifest
from engine.progress import Progress
from engine.source import Facts, Sink
from engine.vault import Vault

if TYPE_CHECKING:
    from engine.binlog.swaps import Swap
    from engine.mysql.server import MySQLSource

FULL_NEEDED_SINCE = "full_needed_since"
"""In a log's manifest beside its facts: a full begun later (UTC) is needed to recover by this log."""


@dataclass(frozen=True)
class Place:
    """Where a log stands among the others.

    Attributes:
        covers_until: By the server's clock; None where it is not known.
        until: No transaction of it was committed later than this, by the server's clock.
        full_needed_since: When the row began anew or lost a log, UTC; None where a full of any time will do.
        twice: Moments that came twice, by the server's clock, as its clock and ours tell.
        latest: The latest commit in the logs before, where the server stamps them itself.
        clock: When this run began, by the server's clock and ours.
        following: How the server's next log begins.
        swaps: Databases of the server that a restore replaced, whenever.
    """

    chain: str
    epoch: int
    covers_until: datetime | None
    until: datetime
    full_needed_since: datetime | None = None
    twice: clocks.Span | None = None
    latest: datetime | None = None
    clock: clocks.Reading | None = None
    following: Head | None = None
    swaps: tuple[Swap, ...] = ()


def ship_log(
    vault: Vault, source: MySQLSource, log: ServerLog, place: Place, progress: Progress
) -> tuple[Manifest, LogFile]:
    """Fetch one closed log, check every byte of it, publish it.

    Raises:
        IntegrityError: The server's log is damaged, or not as long as the server says; nothing was published.
        ToolFailed: The server cannot give it. Unreachable, DiskFull.
    """
    with vault.begin_log(
        source=source.name, kind=KIND[names.BINLOGS], tier=names.BINLOGS, log=log.name, estimated_bytes=log.size
    ) as writer:
        with contextlib.closing(fetch(source.connect(), log.name, source.flavour)) as fetched:
            chunks = _written(fetched, writer.data(), log, progress)
            reader = Reader(chunks, f"{log.name} of {source.name}", log.size)
            facts = _facts(reader, log, place)
        contents: dict[str, object] = {CONTENTS: facts.model_dump(mode="json")}
        if place.clock is not None:
            contents[clocks.CONTENTS] = place.clock.document()
        if place.full_needed_since is not None:
            contents[FULL_NEEDED_SINCE] = names.iso(place.full_needed_since)
        position = LogPosition(binlog_file=log.name, binlog_position=facts.end, gtid=facts.gtid_last)
        _, manifest = writer.publish(
            Facts(server=source.server(), dump_format=KIND[names.BINLOGS], log=position, contents=contents)
        )
        return manifest, facts


def _written(chunks: Iterable[bytes], sink: Sink, log: ServerLog, progress: Progress) -> Iterator[bytes]:
    done = 0
    step = f"ship {log.name}"
    for chunk in _joined(chunks):
        sink.write(chunk)
        done += len(chunk)
        progress(step, done, log.size)
        yield chunk


def _joined(chunks: Iterable[bytes], least: int = 1 << 18) -> Iterator[bytes]:
    """Small events together: an encoder and a progress bar are not called for each."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= least:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _facts(reader: Reader, log: ServerLog, place: Place) -> LogFile:
    """Read the log to its end and say what recovery must know of it."""
    span = _Span(place.until, place.latest)
    for each in transactions(reader, changed=False):
        span.add(each)
    described = reader.format
    assert described is not None  # a reader that comes to its end has seen it
    covers = place.covers_until
    if span.exact and span.last is not None and (covers is None or covers < span.last):
        covers = span.last
    found = LogFile(
        name=log.name, number=log.number, chain=place.chain, epoch=place.epoch, start=START, end=reader.end,
        created_at=described.created_at, covers_until=covers, first_commit=span.first, last_commit=span.last,
        twice=span.twice if span.exact and span.count else place.twice,
        transactions=span.count, gtids_before=reader.gtids_before, gtid_last=span.gtid,
        next_created_at=place.following.created_at if place.following else None,
        next_gtids=place.following.gtids_before if place.following else "",
    )  # fmt: skip
    return found.model_copy(
        update={"swapped": {each.database: each.position for each in place.swaps if each.is_in(found)}}
    )


class _Span:
    """First and last commit of a log; times that a client has set to the future are left out.

    Args:
        latest: The latest commit before this log. One of its own that is earlier tells that the clock was set back.
    """

    def __init__(self, until: datetime, latest: datetime | None) -> None:
        self.twice: clocks.Span | None = None
        self._latest = latest
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.exact = True
        self.count = 0
        self.gtid = ""
        self._until = until

    def add(self, each: Transaction) -> None:
        self.count += 1
        self.gtid = each.gtid or self.gtid
        self.exact = self.exact and each.exact
        stamp = each.stamp
        if each.exact and self._latest is not None and stamp < self._latest:
            self.twice = min(stamp, self.twice[0] if self.twice else stamp), self._latest
        self._latest = max(stamp, self._latest or stamp)
        if each.exact or stamp <= self._until:
            self.first = self.first or stamp
            self.last = stamp if self.last is None else max(self.last, stamp)
