"""WAL shipping: every finished segment into the vault, in short runs that end.

A run asks whether any transaction began or ended since the last segment was closed. If so it writes a tick
(an empty transaction), switches to a new segment and streams all that the vault lacks from our slot. The slot
moves on only when a segment is published; where to go on is decided by the vault alone. So a run that dies
at any point loses nothing and ships nothing twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from engine import clocks, idle, logs, names
from engine.catalog import Entry
from engine.config import PostgresConfig
from engine.errors import BackupError, ConfigError, LogChainBroken, LogGap
from engine.logs import LogFile, ShipReport
from engine.manifest import Manifest, Server
from engine.postgres import slots, wal_plan
from engine.postgres.base_facts import BaseFacts, base_facts
from engine.postgres.connection import Connection, Connector, translated
from engine.postgres.replication import Replication, replication
from engine.postgres.slots import ServerState, Slot
from engine.postgres.wal import (
    Segment,
    check_segment,
    ends_segment,
    history_name,
    parse_history,
    parse_lsn,
    parse_segment,
)
from engine.postgres.wal_plan import Last
from engine.processes import Runner, runner_for
from engine.progress import Progress, silent
from engine.site import Site
from engine.source import Facts
from engine.verdicts import found_broken

LOCK = "wal shipping"
ACTIVITY = "activity"
"""Beside the log's facts: the server's transactions when the segment was closed."""
_SETTLE_SECONDS = 0.1
# A transaction that is about to commit takes its stamp a moment before it writes its commit record. What was
# stamped before our look at the clock gets this long to be written before the segment is closed.
_HEADER = 40
_TICK = "SELECT pg_logical_emit_message(true, 'backup-flows', 'tick')"
# A transaction holds it from its first write until after its end is seen by all.
_BUSY = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted"
_ACTIVITY = "SELECT pg_current_snapshot()::text || ' ' || (SELECT count(*) FROM pg_prepared_xacts)"


def ship(site: Site, source: str, *, progress: Progress = silent) -> ShipReport:
    """Ship what is new of one server's WAL.

    Raises:
        LogChainBroken: The slot is lost, or the server is on another timeline or another server; a base
            backup is needed. LogGap: Segments are missing. Both after everything that could be was shipped.
        LockHeld: Another run works on it. ConfigError, MissingGrant, CredentialsRefused: with the setting,
            grant or line. And what the vault raises.
    """
    return Shipping(site, source, progress).run()


def connector_for(site: Site, source: str) -> tuple[Connector, Runner]:
    """The way to a PostgreSQL source. Raises ConfigError for another kind, UnknownName."""
    config = site.config.source(source)
    if not isinstance(config, PostgresConfig):
        raise ConfigError(f"{source} is no PostgreSQL server.", remedy="name a source of the kind postgres")
    runner = runner_for(config, site=site.name)
    return Connector(config, site.name, lambda: runner), runner


def newest_base(site: Site, source: str) -> tuple[Entry, Manifest, BaseFacts] | None:
    """The newest base backup of a source in the local vault, of those that were not found broken: no recovery begins
    with one that was."""
    catalog = site.vault.catalog()
    for entry in catalog.entries(source=source, tier=names.BASE):
        if not found_broken(site, entry, []):
            manifest = catalog.load(entry)
            return entry, manifest, base_facts(manifest)
    return None


@dataclass(frozen=True)
class _Goal:
    """Up to where to ship, and what is then known: see ``LogFile.covers_until`` and ``ACTIVITY``."""

    end: int
    covers_until: datetime
    activity: str
    switched: bool
    clock: clocks.Reading
    twice: clocks.Span | None
    idle: bool = False
    """Nothing at all was committed since the newest segment was closed, until ``covers_until``."""


@dataclass
class Shipping:
    """One run for one source."""

    site: Site
    source: str
    progress: Progress = silent
    _shipped: list[LogFile] = field(default_factory=list)
    _stored: int = 0
    _plain: int = 0
    _notes: list[str] = field(default_factory=list)
    _session: Callable[[], Replication] = field(init=False)

    def run(self) -> ShipReport:
        """See ``ship``."""
        begun = time.monotonic()
        self._connector, self._runner = connector_for(self.site, self.source)
        vault = self.site.vault
        vault.check()
        with vault.lock(self.source, LOCK), self._connector.open() as connection:
            server = slots.server_state(self._connector, connection)
            self._server = Server(
                flavour="postgres", version=_version(connection), uuid=server.system_id, tool="backup-flows"
            )
            entries = logs.ledger(vault, self.source, names.WAL)
            segments = _segments(entries, server.segment_size)
            last = self._load_last(segments)
            if broken := wal_plan.went_back(last, server):
                raise broken
            slot = self._slot(connection, last, server)
            goal = self._goal(connection, last, server, list(segments)[-1] if segments else None)
            if goal.twice:
                self._notes.append(clocks.warning(self.source, goal.twice))
            with contextlib.ExitStack() as stack:
                self._session = lambda: stack.enter_context(replication(self._connector, self._runner))
                session = None
                if last is not None and wal_plan.follows(last, server) and (slot.restart or 0) < last.log.end:
                    session = self._session()
                    self._move_on(session, connection, list(segments)[-1], last, slot)
                    slot = replace(slot, restart=last.log.end)
                self._stream(session, entries, last, server, slot, goal)
            if self._shipped:
                idle.settle(vault, self.source, names.WAL)
            elif goal.idle:
                idle.say(vault, list(segments)[-1], goal.covers_until)
            shipped = [parse_segment(each.name, server.segment_size) for each in self._shipped]
            self._judge([*segments.values(), *(each for each in shipped if each)], server)
        return ShipReport(
            shipped=self._shipped, covers_until=goal.covers_until, rotated=goal.switched,
            warnings=[*self._notes, *slots.warnings_of(slot, server)], bytes=self._plain, stored_bytes=self._stored,
            seconds=time.monotonic() - begun,
        )  # fmt: skip

    def _load_last(self, segments: dict[Entry, Segment]) -> Last | None:
        if not segments:
            return None
        manifest, log = logs.load_log(self.site.vault, list(segments)[-1])
        return Last(log, str(manifest.contents.get(ACTIVITY, "")), clocks.Reading.of(manifest.contents))

    def _slot(self, connection: Connection, last: Last | None, server: ServerState) -> Slot:
        """Our slot, made when there is none."""
        name, where = slots.slot_name(self.site.name, self.source), self._connector.where()
        slot = slots.find_slot(connection, name, where)
        if slot is not None and slot.lost:
            raise LogChainBroken(
                f"The server has given up on the replication slot {name}: it lagged by more than "
                f"max_slot_wal_keep_size ({server.keep_bytes:,} bytes), and WAL that was not shipped is gone.",
                kept="everything in the vault",
                remedy=f"{wal_plan.BASE_NEEDED}; it makes the slot anew. Then raise max_slot_wal_keep_size, or "
                "ship more often",
            )
        if slot is not None and slot.restart is None:  # made by hand, and never used: it keeps nothing
            slots.drop_slot(connection, name)
            slot = None
        if slot is None:
            if last is not None:
                self._notes.append(f"The replication slot {name} was gone from the server; it was made anew.")
            slot = slots.make_slot(connection, name)
        return slot

    def _goal(self, connection: Connection, last: Last | None, server: ServerState, newest: Entry | None) -> _Goal:
        """Close the present segment if anything happened in it."""
        with translated("closing a WAL segment"):
            now = _clock(connection)
            clock = clocks.Reading.beside(now)
            same = last is not None and wal_plan.follows(last, server)
            twice = clocks.set_back(last.clock if last is not None and same else None, clock)
            # In this order. Whatever was stamped by now and is no lock any more has ended, so it shows in what
            # follows; where that is as it was when the segment was closed, it had ended by then.
            busy = _text(connection, _BUSY) != "0"
            activity = _text(connection, _ACTIVITY)
            # Of an idle server a mark says so; where a transaction is open nobody can say that it is.
            every = self.site.config.watch.idle if busy else wal_plan.AT_LEAST_EVERY
            must = wal_plan.must_switch(last, server, activity, now, every)
            if last is not None and newest is not None and not must:
                end = server.position // server.segment_size * server.segment_size
                known = [each for each in (last.log.covers_until, idle.said_of(self.site.vault, newest)) if each]
                if busy or twice or now <= max(known):
                    return _Goal(end, max(known), activity, False, clock, twice)
                return _Goal(end, now, activity, False, clock, twice, idle=True)
            # A standby that is down must not hold us up; a commit after the covered time lets a recovery to
            # any time before it prove that it got there.
            connection.execute("SET synchronous_commit = local")
            time.sleep(_SETTLE_SECONDS)
            connection.execute(_TICK)
            activity = _text(connection, _ACTIVITY)
            switched = parse_lsn(_text(connection, "SELECT pg_switch_wal()::text"))
        return _Goal(ends_segment(switched, server.segment_size), now, activity, True, clock, twice)

    def _move_on(
        self, session: Replication, connection: Connection, entry: Entry, last: Last, slot: Slot
    ) -> None:  # fmt: skip
        """Move a slot that is behind the vault to where the vault ends.

        Either a run died before it could confirm what it had published, or the server was put back to an
        earlier state, slot and all, and has gone on from there: then its WAL is another.

        Raises:
            LogChainBroken: It is another.
        """
        vault, log = self.site.vault, last.log
        there = hashlib.sha256()
        for chunk in _Exactly(session.stream(slot.name, log.start, log.epoch)).take(log.end - log.start):
            there.update(chunk)
        session.stop()
        here = hashlib.sha256()
        for chunk in vault.read_part(entry, vault.catalog().load(entry)):
            here.update(chunk)
        if there.digest() != here.digest():
            raise wal_plan.put_back(f"WAL segment {log.name} on the server is another than the one in the vault")
        slots.advance(connection, slot, log.end)

    def _stream(
        self,
        session: Replication | None,
        entries: list[Entry],
        last: Last | None,
        server: ServerState,
        slot: Slot,
        goal: _Goal,
    ) -> None:
        assert slot.restart is not None
        began = 0
        if server.timeline > 1 and not self._has_history(entries, server):
            session = session or self._session()
            began = self._ship_history(session, server)
        begins = wal_plan.starts(last, server, slot.restart, began)
        for number, start in enumerate(begins):
            if start >= goal.end:
                break
            session = session or self._session()
            try:
                self._ship_from(session, slot, start, server, goal)
                break
            except LogGap:
                if number + 1 == len(begins) or self._shipped:
                    raise
                session = None

    def _ship_from(self, session: Replication, slot: Slot, start: int, server: ServerState, goal: _Goal) -> None:
        stream = _Exactly(session.stream(slot.name, start, server.timeline))
        for at in range(start, goal.end, server.segment_size):
            segment = Segment(server.timeline, at // server.segment_size, server.segment_size)
            newest = segment.end == goal.end
            log = LogFile(
                name=segment.name, number=segment.number, chain=server.system_id, epoch=server.timeline,
                start=segment.start, end=segment.end, covers_until=goal.covers_until if newest else None,
                twice=goal.twice,
            )  # fmt: skip
            content = _checked(stream.take(segment.size), segment, server)
            beside = {ACTIVITY: goal.activity if newest else "", clocks.CONTENTS: goal.clock.document()}
            self._publish(log, content, beside)
            session.confirm(segment.end)
            self.progress("ship WAL", segment.end - start, goal.end - start)
        session.stop()

    def _has_history(self, entries: list[Entry], server: ServerState) -> bool:
        """Is the history of the server's timeline in the vault, and this server's own?"""
        found = [each for each in entries if each.name.name == history_name(server.timeline)]
        return bool(found) and logs.load_log(self.site.vault, found[-1])[1].chain == server.system_id

    def _ship_history(self, session: Replication, server: ServerState) -> int:
        """Ship the history of the server's timeline; gives the LSN at which it began."""
        content = session.timeline_history(server.timeline)
        log = LogFile(
            name=history_name(server.timeline), number=0, chain=server.system_id, epoch=server.timeline, start=0,
            end=len(content),
        )  # fmt: skip
        self._publish(log, iter([content]), {ACTIVITY: ""})
        ancestors = parse_history(content.decode("utf-8", "replace"))
        return ancestors[-1][1] if ancestors else 0

    def _publish(self, log: LogFile, content: Iterator[bytes], beside: dict[str, Any]) -> None:
        size = log.end - log.start
        with self.site.vault.begin_log(
            source=self.source, kind=logs.KIND[names.WAL], tier=names.WAL, log=log.name, estimated_bytes=size
        ) as writer:
            sink = writer.data()
            for chunk in content:
                sink.write(chunk)
            contents = {logs.CONTENTS: log.model_dump(mode="json"), **beside}
            _, manifest = writer.publish(
                Facts(server=self._server, dump_format=logs.KIND[names.WAL], contents=contents)
            )
        self._shipped.append(log)
        self._plain += size
        self._stored += manifest.stored_bytes

    def _judge(self, segments: list[Segment], server: ServerState) -> None:
        """Say, at every run until one is there, that a base backup is needed."""
        found = newest_base(self.site, self.source)
        verdict = wal_plan.unanchored(wal_plan.tail_of(segments), found[2] if found else None, server)
        if isinstance(verdict, BackupError):
            raise verdict
        if verdict:
            self._notes.append(verdict)


class _Exactly:
    """A stream of bytes from which an exact number is taken at a time."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def take(self, size: int) -> Iterator[bytes]:
        while size:
            chunk = self._rest or next(self._chunks)
            self._rest = chunk[size:]
            size -= len(chunk) - len(self._rest)
            yield chunk[: len(chunk) - len(self._rest)]


def _checked(chunks: Iterator[bytes], segment: Segment, server: ServerState) -> Iterator[bytes]:
    """The same bytes, the first page's header held against what the segment must be."""
    head = b""
    while len(head) < _HEADER:
        head += next(chunks)
    check_segment(head, segment, server.system_id)
    yield from chain([head], chunks)


def _segments(entries: list[Entry], size: int) -> dict[Entry, Segment]:
    """What of a ledger is segments, in the order of shipping."""
    found = ((entry, parse_segment(entry.name.name, size)) for entry in entries)
    return {entry: segment for entry, segment in found if segment is not None}


def _version(connection: Connection) -> str:
    return _text(connection, "SELECT current_setting('server_version')")


def _text(connection: Connection, statement: str) -> str:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return str(row[0])


def _clock(connection: Connection) -> datetime:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment.astimezone(UTC)
