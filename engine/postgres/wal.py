"""WAL by name and number: positions (LSN), segments, timelines. Pure; nothing is asked of a server here.

Formats: PostgreSQL manual, "WAL Internals"; ``xlog_internal.h`` for the header of a segment's first page.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from engine.errors import IntegrityError

_LSN = re.compile(r"^([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})$")
_NAME = re.compile(r"^[0-9A-F]{24}$")
_LONG_HEADER = struct.Struct("<HHIQI4xQII")  # magic, info, timeline, address, rest of a record, system, sizes
_IS_LONG = 0x0002


def parse_lsn(text: str) -> int:
    """``0/16B3748`` as bytes from the beginning of the log. Raises ValueError."""
    found = _LSN.match(text)
    if not found:
        raise ValueError(f"{text!r} is no LSN")
    return (int(found[1], 16) << 32) | int(found[2], 16)


def lsn(position: int) -> str:
    """A position as PostgreSQL writes it: ``0/16B3748``."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


@dataclass(frozen=True, order=True)
class Segment:
    """One file of WAL.

    Attributes:
        number: Start LSN / size.
        size: Bytes of every segment of the server.
    """

    timeline: int
    number: int
    size: int

    @property
    def name(self) -> str:
        """``000000010000000000000003``."""
        high, low = divmod(self.number, 0x100000000 // self.size)
        return f"{self.timeline:08X}{high:08X}{low:08X}"

    @property
    def start(self) -> int:
        return self.number * self.size

    @property
    def end(self) -> int:
        """LSN after its last byte."""
        return self.start + self.size


def segment_at(timeline: int, position: int, size: int) -> Segment:
    """The segment that holds the byte at a position."""
    return Segment(timeline, position // size, size)


def parse_segment(name: str, size: int) -> Segment | None:
    """A segment's name taken apart; None for another name, such as a history file's."""
    if not _NAME.match(name):
        return None
    high, low = int(name[8:16], 16), int(name[16:], 16)
    return Segment(int(name[:8], 16), high * (0x100000000 // size) + low, size)


def ends_segment(position: int, size: int) -> int:
    """A position rounded up to the end of a segment; one at a boundary stays."""
    return -(-position // size) * size


def named(timeline: int, first: int, after: int, size: int) -> str:
    """Segments by number, for a message: all names, or the first and last of many."""
    names = [Segment(timeline, number, size).name for number in (first, after - 1)]
    count = after - first
    if count == 1:
        return names[0]
    if count == 2:
        return ", ".join(names)
    return f"{names[0]} to {names[1]} ({count} segments)"


def parse_history(text: str) -> list[tuple[int, int]]:
    """A timeline's history file: its ancestors, oldest first, and the LSN at which each was left."""
    found = []
    for line in text.splitlines():
        parts = line.split("#", 1)[0].split(None, 2)
        if len(parts) >= 2 and parts[0].isdigit() and _LSN.match(parts[1]):
            found.append((int(parts[0]), parse_lsn(parts[1])))
    return found


def history_name(timeline: int) -> str:
    """``00000002.history``."""
    return f"{timeline:08X}.history"


def check_segment(head: bytes, segment: Segment, system_id: str) -> None:
    """Hold the first page's header against what the segment must be.

    The page may carry an earlier timeline: a segment in which a timeline begins starts with a copy.

    Raises:
        IntegrityError: It is of another place, server or size.
    """
    if len(head) < _LONG_HEADER.size:
        raise IntegrityError(f"WAL segment {segment.name} is cut short.")
    _, info, timeline, address, _, system, size, _ = _LONG_HEADER.unpack_from(head)
    expected = (segment.start, int(system_id), segment.size)
    if not info & _IS_LONG or (address, system, size) != expected or not 0 < timeline <= segment.timeline:
        raise IntegrityError(
            f"What was received as WAL segment {segment.name} is not it: its first page says timeline {timeline}, "
            f"LSN {lsn(address)}, system {system}, {size} bytes a segment.",
            kept="it was not stored",
        )
