"""Which positions of a binary log are the same place, as nothing is committed between them.

A log begins and ends with events that are no transaction: what it is, what was executed before it, which log
comes next. A server that stops there may show the position before them, or after.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Protocol

FIRST = 4
"""Position of a log's first event."""
_HEADER = struct.Struct("<IBIIIH")
_NEUTRAL = frozenset({
    3, 4, 15,  # stop, rotate, format description
    27, 35,  # heartbeat, previous GTIDs
    161, 163, 164,  # MariaDB: checkpoint, GTID list, start of encryption
})  # fmt: skip


class Watch(Protocol):
    """Something that wants to see events of some kinds: where each begins, and its body with its checksum."""

    kinds: set[int]

    def see(self, position: int, kind: int, body: bytes) -> None: ...


class Borders:
    """Watches a log go by, up to a position.

    Args:
        watch: Is shown events up to there; what it raises ends the reading.

    Attributes:
        low: The lowest position that is the same place as the stop; FIRST where nothing comes before it.
        at: Where an event ends or begins: the stop itself, if that is such a place.
    """

    def __init__(self, stop: int | None, watch: Watch | None = None) -> None:
        self._stop = stop
        self._watch = watch
        self._buffer = bytearray()
        self._skip = FIRST
        self.low = self.at = FIRST

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks, looked at."""
        for chunk in chunks:
            self._look(chunk)
            yield chunk

    def _look(self, chunk: bytes) -> None:
        self._buffer += chunk
        at = 0
        while True:
            step = min(self._skip, len(self._buffer) - at)
            at += step
            self._skip -= step
            if self._skip or len(self._buffer) - at < _HEADER.size:
                break
            _, kind, _, size, _, _ = _HEADER.unpack_from(self._buffer, at)
            if size < _HEADER.size or (self._stop is not None and self.at + size > self._stop):
                self._skip = 1 << 62  # the rest does not matter, or is damaged: the server will say so
                continue
            if self._watch is not None and kind in self._watch.kinds:
                if len(self._buffer) - at < size:
                    break
                self._watch.see(self.at, kind, bytes(self._buffer[at + _HEADER.size : at + size]))
            self._skip = size
            self.at += size
            if kind not in _NEUTRAL:
                self.low = self.at
        del self._buffer[:at]
