"""Bytes of a server's binary log over its ordinary connection: what replication sends, put together again.

COM_BINLOG_DUMP gives the events of a log one by one, wrapped for a replica: before the log's own, the server
makes up an event that names the log. Left out, the rest is the server's file to the byte. An encrypted server
sends its logs in clear.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Generator, Iterator
from typing import Any

from pymysql.constants import CR
from pymysql.err import OperationalError, raise_mysql_exception

from engine.binlog import kinds
from engine.binlog.events import HEADER, MAGIC, START
from engine.binlog.reading import Feed
from engine.errors import IntegrityError, ToolFailed
from engine.mysql.connection import Connection, query, translated

COM_BINLOG_DUMP = 0x12
NON_BLOCK = 0x01
"""The server says that it is at the end instead of waiting for more."""
SEND_ANNOTATIONS = 0x02
"""MariaDB: the statements' texts beside their rows, as the file holds them."""
_PACKET_OK, _PACKET_EOF, _PACKET_ERROR = 0x00, 0xFE, 0xFF
_FULL_PACKET = 0xFFFFFF
_EVENT_PACKET = struct.Struct("<HBBBIBIIIH")
"""A packet's length (in two parts) and number, a byte of status, and the header of the event in it."""
_CLOSER_LOOK = kinds.HEARTBEATS | {kinds.ROTATE}
_PIECE = 1 << 20
_CAPABILITY_GTID = 4


def fetch(connection: Connection, name: str, flavour: str) -> Generator[bytes, None, None]:
    """The bytes of one closed log, from its first to its last, as the server's own file holds them.

    The connection is used up: what the server still has under way belongs to later logs. It is closed.
    Memory does not grow with the log.

    Args:
        flavour: ``mariadb`` or ``mysql``.

    Raises:
        MissingGrant, Unreachable, ToolFailed: as the server answers. IntegrityError: it stops within an event.
    """
    try:
        _introduce(connection, flavour)
        with translated(f"Fetching {name}"):
            flags = NON_BLOCK | (SEND_ANNOTATIONS if flavour == "mariadb" else 0)
            command: Any = connection
            command._execute_command(COM_BINLOG_DUMP, struct.pack("<IHI", START, flags, 0) + name.encode())
            yield MAGIC
            yield from _events(_Packets(command), name)
    finally:
        with contextlib.suppress(Exception):
            connection._force_close()  # type: ignore[attr-defined]  # it would wait for the server's goodbye


def _introduce(connection: Connection, flavour: str) -> None:
    """Say what we understand: checksums as they are written, and MariaDB's own events."""
    query(connection, "SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32'")
    if flavour == "mariadb":
        query(connection, f"SET @mariadb_slave_capability = {_CAPABILITY_GTID}")


def _events(packets: _Packets, name: str) -> Iterator[bytes]:
    begun = False
    position = START
    while (packet := packets.event()) is not None:
        if len(packet) <= HEADER.size:
            raise IntegrityError(f"The server sent half an event of {name} at position {position}.")
        _, kind, _, size, following, flags = HEADER.unpack_from(packet, 1)
        if kind in kinds.HEARTBEATS or _made_up(kind, following, flags):
            for _ in packets.rest():
                pass
            if begun and kind == kinds.ROTATE:
                return
            continue
        begun = True
        yield packet[1:]
        sent = len(packet) - 1
        for piece in packets.rest():
            sent += len(piece)
            yield piece
        position += size
        if sent != size:
            raise IntegrityError(f"The server sent {sent} of {size} bytes of the event of {name} before {position}.")
        if more := packets.plain_events():
            yield more
            position += len(more)


def _made_up(kind: int, following: int, flags: int) -> bool:
    """Events for the replica alone have no position."""
    return bool(flags & kinds.ARTIFICIAL) or (kind == kinds.ROTATE and following == 0)


class _Packets:
    """The server's packets, of at most 16 MiB each; a larger event comes in several.

    The driver would put them together first, up to a gigabyte, and ask the socket for each one twice.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._feed = Feed(iter(self._received, b""))
        self._more = False

    def event(self) -> bytes | None:
        """The first packet of the next event, a byte of status before it; None where the server has no more."""
        packet = self._packet()
        status = packet[0] if packet else _PACKET_ERROR
        if status == _PACKET_OK:
            return packet
        if status == _PACKET_EOF:
            return None
        if status == _PACKET_ERROR:
            raise_mysql_exception(packet)
        raise ToolFailed(f"The server sent a packet of an unknown kind ({status}).")

    def plain_events(self) -> bytes:
        """The events that have come in whole, together, up to the first that wants a closer look: thousands of small
        ones at a time."""
        chunk, at = self._feed.held
        found, last = [], len(chunk) - _EVENT_PACKET.size
        while at <= last:
            low, high, _, status, _, kind, _, size, following, flags = _EVENT_PACKET.unpack_from(chunk, at)
            stop = at + 5 + size
            if status or low + (high << 16) != size + 1 or stop > len(chunk) or size >= _FULL_PACKET - 1:
                break
            if flags & kinds.ARTIFICIAL or not following or kind in _CLOSER_LOOK:
                break
            found.append(chunk[at + 5 : stop])
            at = stop
        self._feed.skip_to(at)
        return b"".join(found)

    def rest(self) -> Iterator[bytes]:
        """Further packets of that event."""
        while self._more:
            yield self._packet()

    def _packet(self) -> bytes:
        length = int.from_bytes(self._exactly(4)[:3], "little")
        self._more = length == _FULL_PACKET
        return self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = self._feed.take(count)
        if len(data) != count:
            raise OperationalError(CR.CR_SERVER_LOST, "the server ended the connection")
        return data

    def _received(self) -> bytes:
        """What has come in, at least one byte; nothing at the connection's end."""
        patience = self._connection._read_timeout
        self._connection._sock.settimeout(patience)
        try:
            data: bytes = self._connection._rfile.read1(_PIECE)
        except TimeoutError:
            raise OperationalError(CR.CR_SERVER_LOST, f"the server did not answer for {patience:g} s") from None
        return data
