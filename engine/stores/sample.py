"""Remember a few ranges of a stream while it passes, to compare them with what a store gives back."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

RANGE = 64 * 1024
RANDOM_RANGES = 6


@dataclass(frozen=True)
class SampledRange:
    """Where a range stands in the stream (bytes), and its digest."""

    start: int
    length: int
    sha256: str


class Sampler:
    """Keeps the digests of the first range, the last one and some picked evenly at random between.

    The stream's length is not known before it ends, so the random ones are a reservoir: each range
    that passes replaces a kept one with the chance that makes all equally likely in the end. Which
    they are cannot be foretold by whoever stores the bytes.
    """

    def __init__(self, count: int = RANDOM_RANGES) -> None:
        self._count = count
        self._seen = 0
        self._first: SampledRange | None = None
        self._last: SampledRange | None = None
        self._kept: list[SampledRange] = []
        self._random = random.SystemRandom()

    def feed(self, start: int, data: memoryview) -> None:
        """Take in one part of the stream; ``start`` is its place in the whole."""
        for offset in range(0, len(data), RANGE):
            slot = self._slot()
            if slot is not None:
                self._kept[slot : slot + 1] = [_digest(start, data, offset)]
        if self._first is None and len(data):
            self._first = _digest(start, data, 0)
        if len(data):
            self._last = _digest(start, data, max(0, len(data) - RANGE))

    def ranges(self) -> Iterator[SampledRange]:
        """The ranges kept, in the order of the stream."""
        ends = [kept for kept in (self._first, self._last) if kept is not None]
        yield from sorted({*ends, *self._kept}, key=lambda kept: kept.start)

    def mismatch(self, read: Callable[[int, int], bytes]) -> SampledRange | None:
        """The first range that ``read(start, length)`` gives back otherwise than it passed, or None."""
        for kept in self.ranges():
            if hashlib.sha256(read(kept.start, kept.length)).hexdigest() != kept.sha256:
                return kept
        return None

    def _slot(self) -> int | None:
        self._seen += 1
        if self._seen <= self._count:
            return self._seen - 1
        chosen = self._random.randrange(self._seen)
        return chosen if chosen < self._count else None


def _digest(start: int, data: memoryview, offset: int) -> SampledRange:
    piece = data[offset : offset + RANGE]
    return SampledRange(start + offset, len(piece), hashlib.sha256(piece).hexdigest())
