"""A binary log read as a stream of checked events.

Both flavours' format (version 4): four magic bytes, then events, each a header of 19 bytes, a body and,
where the log says so in its first event, a CRC-32. Every event names the position of the next, so that a
missing one shows.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple, NoReturn

from engine.binlog import bodies, kinds
from engine.binlog.reading import Feed
from engine.errors import IntegrityError

MAGIC = b"\xfebin"
ENCRYPTED_MAGIC = b"\xfdbin"
START = len(MAGIC)
"""Position of a log's first event."""
HEADER = struct.Struct("<IBIIIH")
CHECKSUM = 4
_WRAP = 0xFFFFFFFF
_LARGE = 16 << 20
_HEAD = 64 << 10
_PIECE = 1 << 20
_LEARNT = frozenset(
    {kinds.ROTATE, kinds.STOP, kinds.PREVIOUS_GTIDS, kinds.MARIADB_GTID_LIST, kinds.MARIADB_START_ENCRYPTION}
)


class Event(NamedTuple):
    """One event.

    Attributes:
        kind: See ``engine.binlog.kinds``.
        at: Seconds since 1970, UTC, as the session that wrote it saw the time: clients can set it.
        size: Bytes in the log, header and checksum included.
        start: Its position in the log; ``end`` is the next one's.
        body: Without header and checksum. Of changed rows beyond 16 MiB only the head.
    """

    kind: int
    at: int
    server_id: int
    size: int
    start: int
    end: int
    flags: int
    body: bytes


class Format(NamedTuple):
    """What a log says of itself in its first event."""

    server_version: str
    created_at: datetime
    checksums: bool

    @property
    def flavour(self) -> str:
        return "mariadb" if "mariadb" in self.server_version.lower() else "mysql"


class Reader:
    """The events of one log, from its first byte on; can be iterated once. Memory does not grow with the log.

    Args:
        chunks: The log's plain bytes, in chunks of any size.
        name: What messages call it.
        size: Its size where it is known: a log of another size is refused.

    Attributes:
        format: Known once the first event was read.
        end: Position after the last event read.
        closed: The server ended the log properly, by a rotation or its own end.
        next_name: The log that follows, where it ended by a rotation.
        gtids_before: What the server had executed when it began the log, as SQL writes it.
        unwanted: Kinds of events that are checked like all others, and not given; set it before iterating.

    Iterating raises:
        IntegrityError: A flipped bit, a missing event, an end within an event: names log and position.
    """

    def __init__(self, chunks: Iterable[bytes], name: str = "the binary log", size: int | None = None) -> None:
        self.name = name
        self.format: Format | None = None
        self.end = START
        self.closed = False
        self.next_name = ""
        self.gtids_before = ""
        self.unwanted: frozenset[int] = frozenset()
        self._feed = Feed(chunks)
        self._size = size

    def __iter__(self) -> Iterator[Event]:
        self._read_magic()
        while head := self._feed.take(HEADER.size):
            event = self._event(head)
            self.end = event.end
            if event.kind in _LEARNT:
                self._learn(event)
            if event.kind not in self.unwanted:
                yield event
            yield from self._whole_events()
        if self.format is None:
            self.damaged(self.end, "it holds no event")
        if self._size is not None and self.end != self._size:
            self.damaged(self.end, f"it ends there; {self._size:,} bytes were expected")

    def _whole_events(self) -> Iterator[Event]:
        """The events that have come in whole, up to the first that is not as it should be or wants a closer look:
        the same as ``_event`` gives, in a third of the time."""
        if self.format is None:
            return
        chunk, at = self._feed.held
        view, last, position = memoryview(chunk), len(chunk) - HEADER.size, self.end
        tail, unwanted = CHECKSUM if self.format.checksums else 0, self.unwanted - _LEARNT
        while at <= last:
            when, kind, server_id, size, following, flags = HEADER.unpack_from(chunk, at)
            stop = at + size
            if stop > len(chunk) or following != (position + size) & _WRAP or not HEADER.size + tail <= size <= _LARGE:
                return
            if tail and zlib.crc32(view[at : stop - tail]) != int.from_bytes(chunk[stop - tail : stop], "little"):
                return
            head, at, start, position = at, stop, position, position + size
            self._feed.skip_to(at)
            self.end = position
            if kind in unwanted:
                continue
            body = chunk[head + HEADER.size : stop - tail]
            event = Event(kind, when, server_id, size, start, position, flags, body)
            if kind in _LEARNT:
                self._learn(event)
            yield event

    def damaged(self, position: int, what: str) -> NoReturn:
        """Raise the error that names log and position."""
        raise IntegrityError(
            f"{self.name} is damaged at position {position}: {what}.", kept="everything before that position is whole"
        )

    def _read_magic(self) -> None:
        magic = self._feed.take(len(MAGIC))
        if magic == ENCRYPTED_MAGIC:
            raise IntegrityError(
                f"{self.name} is encrypted by its server and cannot be read.",
                remedy="fetch it from the server, which sends its logs in clear: run binlog_ship",
            )
        if magic != MAGIC:
            self.damaged(0, "it does not begin as a binary log does")

    def _event(self, head: bytes) -> Event:
        start = self.end
        if len(head) < HEADER.size:
            self.damaged(start, "it ends within an event's header")
        at, kind, server_id, size, following, flags = HEADER.unpack(head)
        if self.format is None and kind != kinds.FORMAT_DESCRIPTION:
            self.damaged(start, f"its first event is of kind {kind}, not a format description")
        least = HEADER.size + (CHECKSUM if self.format and self.format.checksums else 0)
        if size < least:
            self.damaged(start, f"an event of {size} bytes cannot be")
        if following != (start + size) & _WRAP:
            self.damaged(
                start,
                f"an event of {size} bytes names position {following} as the next: events are missing or altered",
            )
        body = self._body(kind, head, size, start, at)
        return Event(kind, at, server_id, size, start, start + size, flags, body)

    def _body(self, kind: int, head: bytes, size: int, start: int, at: int) -> bytes:
        length = size - HEADER.size
        if kind in kinds.ROWS and length > _LARGE:
            return self._head_of_large(head, length, start)
        body = self._feed.take(length)
        if len(body) != length:
            self.damaged(start, f"it ends within an event of {size} bytes")
        if self.format is None:
            self.format = self._describe(body, start, at)
            head = head[:17] + bytes((head[17] & ~kinds.IN_USE, head[18]))
        elif not self.format.checksums:
            return body
        # A format description has a checksum whatever it says of the others.
        if zlib.crc32(body[:-CHECKSUM], zlib.crc32(head)) != int.from_bytes(body[-CHECKSUM:], "little"):
            self.damaged(start, f"an event of {size} bytes has a wrong checksum")
        return body[:-CHECKSUM]

    def _head_of_large(self, head: bytes, length: int, start: int) -> bytes:
        checksums = self.format is not None and self.format.checksums
        rest = length - (CHECKSUM if checksums else 0)
        crc, kept, seen = zlib.crc32(head), b"", 0
        for piece in self._feed.pieces(rest, _PIECE):
            crc = zlib.crc32(piece, crc) if checksums else crc
            kept = kept or piece[:_HEAD]
            seen += len(piece)
        tail = self._feed.take(length - rest)
        if seen + len(tail) != length:
            self.damaged(start, f"it ends within an event of {length + HEADER.size} bytes")
        if checksums and crc != int.from_bytes(tail, "little"):
            self.damaged(start, f"an event of {length + HEADER.size} bytes has a wrong checksum")
        return kept

    def _describe(self, body: bytes, start: int, at: int) -> Format:
        # version, 50 bytes of server version, created, header length, a length for each kind, algorithm, checksum
        if len(body) < 2 + 50 + 4 + 1 + 1 + CHECKSUM or body[56] != HEADER.size:
            self.damaged(start, "its format description is not of version 4")
        algorithm = body[-CHECKSUM - 1]
        if algorithm not in (0, 1):
            self.damaged(start, f"its checksums are of an unknown kind ({algorithm})")
        version = body[2:52].rstrip(b"\0").decode("ascii", "replace")
        return Format(version, datetime.fromtimestamp(at, UTC), algorithm == 1)

    def _learn(self, event: Event) -> None:
        try:
            if event.kind == kinds.ROTATE:
                self.closed, self.next_name = True, bodies.rotate(event.body)[1]
            elif event.kind == kinds.STOP:
                self.closed = True
            elif event.kind == kinds.PREVIOUS_GTIDS:
                self.gtids_before = bodies.previous_gtids(event.body)
            elif event.kind == kinds.MARIADB_GTID_LIST:
                self.gtids_before = bodies.gtid_list(event.body)
        except ValueError as error:
            self.damaged(event.start, f"an event of kind {event.kind} cannot be read: {error}")
        # sent over the network, in clear, it says that a replica may pass it over
        if event.kind == kinds.MARIADB_START_ENCRYPTION and not event.flags & kinds.IGNORABLE:
            raise IntegrityError(
                f"{self.name} is encrypted by its server from position {event.end} on and cannot be read.",
                remedy="fetch it from the server, which sends its logs in clear: run binlog_ship",
            )
