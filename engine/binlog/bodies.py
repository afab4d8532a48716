"""What stands in the bodies of binary log events. Every function raises ValueError where a body is too short."""

from __future__ import annotations

import io
import struct
import uuid
import zlib
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import zstandard

from engine.binlog import kinds
from engine.binlog.reading import Cursor, Feed

_CHUNK = 1 << 18
_HEADER = struct.Struct("<IBII6x")
_ZSTD_READER = zstandard.ZstdDecompressor()
_ZSTD, _UNPACKED = 0, 255
_MARIADB_GTID = struct.Struct("<QIB")
_MYSQL_GTID = struct.Struct("<x16sQ17x7s")
"""Flags; source and number; the logical clock's kind and two numbers; microseconds of the commit."""
_QUERY = struct.Struct("<4xIB2xH")
_STANDALONE = 1
_MICROSECONDS_MASK = (1 << 55) - 1
_ORIGINAL_FOLLOWS = 1 << 55


class Begin(NamedTuple):
    """How a transaction begins.

    Attributes:
        gtid: As SQL writes it; empty for an anonymous transaction.
        committed: Microseconds since 1970 by the server's clock at its commit; 0 where the server does not say.
        standalone: Ends with its first statement.
    """

    gtid: str
    committed: int
    standalone: bool


class Query(NamedTuple):
    """A statement as text: the session's database, and how many seconds it had taken."""

    database: str
    text: bytes
    seconds: int


def begin(kind: int, body: bytes, server_id: int) -> Begin:
    """A GTID event of either flavour."""
    if kind == kinds.MYSQL_GTID_TAGGED:
        return _tagged(body)
    try:
        if kind == kinds.MARIADB_GTID:
            number, domain, flags = _MARIADB_GTID.unpack_from(body)
            return Begin(f"{domain}-{server_id}-{number}", 0, bool(flags & _STANDALONE))
        source, number, stamp = _MYSQL_GTID.unpack_from(body)
    except struct.error as error:
        raise ValueError(str(error)) from None
    committed = int.from_bytes(stamp, "little") & _MICROSECONDS_MASK
    return Begin(f"{_uuid(source)}:{number}" if kind == kinds.MYSQL_GTID else "", committed, False)


@cache
def _uuid(source: bytes) -> str:
    return str(uuid.UUID(bytes=source))


def _tagged(body: bytes) -> Begin:
    """MySQL's serialization: version, size, last field not to be ignored, then fields by number."""
    cursor = Cursor(body)
    for _ in range(3):
        cursor.varlen()
    source, number, tag, committed = uuid.UUID(int=0), 0, "", 0
    while cursor.left:
        field = cursor.varlen()
        if field == 1:
            source = uuid.UUID(bytes=bytes(cursor.varlen() for _ in range(16)))
        elif field == 3:
            tag = cursor.bytes(cursor.varlen()).decode()
        elif field in (2, 4, 5):
            value = cursor.varlen_signed()
            number = value if field == 2 else number
        else:
            value = cursor.varlen()
            if field == 6:
                committed = value
                break
    return Begin(f"{source}:{tag}:{number}", committed, False)


def query(kind: int, body: bytes) -> Query:
    """A statement, unpacked where MariaDB has compressed it."""
    try:
        seconds, name_length, variables = _QUERY.unpack_from(body)
    except struct.error as error:
        raise ValueError(str(error)) from None
    at = _QUERY.size + variables + (13 if kind == kinds.EXECUTE_LOAD_QUERY else 0)
    text = body[at + name_length + 1 :]
    if not text:
        raise ValueError("a statement without a text")
    database = body[at : at + name_length].decode("utf-8", "replace")
    return Query(database, _unpacked(text) if kind == kinds.MARIADB_QUERY_COMPRESSED else text, seconds)


def _unpacked(text: bytes) -> bytes:
    """MariaDB's compressed events: one byte that says how long the length is, the length, zlib's stream."""
    head = text[0]
    if not head & 0x80 or head & 0x70:
        raise ValueError("compressed in an unknown way")
    try:
        return zlib.decompress(text[1 + (head & 0x07) :])
    except zlib.error as error:
        raise ValueError(str(error)) from None


def table_map(body: bytes) -> tuple[int, str, str]:
    """Number, database and table."""
    cursor = Cursor(body)
    number = cursor.number(6)
    cursor.bytes(2)
    database = cursor.bytes(cursor.packed()).decode("utf-8", "replace")
    cursor.bytes(1)
    return number, database, cursor.bytes(cursor.packed()).decode("utf-8", "replace")


def rows_table(body: bytes) -> int:
    """The table's number that an event of changed rows names."""
    return int.from_bytes(body[:6], "little")


def rotate(body: bytes) -> tuple[int, str]:
    """Position and name of the log that follows."""
    return int.from_bytes(body[:8], "little"), body[8:].decode("utf-8", "replace")


def payload(body: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The events inside a compressed transaction: kind, time, server id, body."""
    cursor = Cursor(body)
    fields = {2: _UNPACKED, 3: 0}
    while field := cursor.packed():
        fields[field] = Cursor(cursor.bytes(cursor.packed())).packed()
    how, size = fields[2], fields[3]
    packed = body[cursor.at :]
    if how not in (_ZSTD, _UNPACKED):
        raise ValueError(f"compressed in an unknown way ({how})")
    try:
        if how == _UNPACKED:
            yield from _inner(Feed((packed,)))
        elif size <= _CHUNK:
            yield from _inner(Feed((_ZSTD_READER.decompress(packed, max_output_size=size),)))
        else:
            stream = _ZSTD_READER.stream_reader(io.BytesIO(packed), read_across_frames=True)
            yield from _inner(Feed(iter(lambda: stream.read(_CHUNK), b"")))
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


def _inner(feed: Feed) -> Iterator[tuple[int, int, int, bytes]]:
    while head := feed.take(_HEADER.size):
        if len(head) < _HEADER.size:
            raise ValueError("it ends within an event's header")
        at, kind, server_id, size = _HEADER.unpack(head)
        inside = feed.take(size - _HEADER.size)
        if len(inside) != size - _HEADER.size:
            raise ValueError("it ends within an event")
        yield kind, at, server_id, inside


def previous_gtids(body: bytes) -> str:
    """A MySQL GTID set as SQL writes it: ``uuid:1-5,uuid:tag:1``."""
    cursor = Cursor(body)
    head = cursor.number(8)
    tagged = head >> 56 == 1
    found = []
    for _ in range(head >> 8 & 0xFFFFFFFFFFFF if tagged else head):
        name = str(uuid.UUID(bytes=cursor.bytes(16)))
        if tagged and (length := cursor.varlen()):
            name += ":" + cursor.bytes(length).decode()
        for _ in range(cursor.number(8)):
            first, after = cursor.number(8), cursor.number(8)
            name += f":{first}" if after == first + 1 else f":{first}-{after - 1}"
        found.append(name)
    return ",".join(found)


def gtid_list(body: bytes) -> str:
    """MariaDB's last GTID of each domain and server: ``0-1-5,1-2-9``."""
    cursor = Cursor(body)
    found = []
    for _ in range(cursor.number(4) & 0x0FFFFFFF):
        domain, server_id, number = cursor.number(4), cursor.number(4), cursor.number(8)
        found.append(f"{domain}-{server_id}-{number}")
    return ",".join(found)
