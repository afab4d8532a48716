"""No faster than so many bytes a second, over all threads that share it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator

SYNTAX = "write it as 500kB, 10MB or 1GB (a second)"
_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}
_FORM = re.compile(r"^([1-9]\d{0,5})\s*(kB|MB|GB)$")
_BURST_SECONDS = 0.25
"""What was not used is not saved up for longer than this."""


def rate_of(text: str) -> int:
    """Bytes a second.

    Raises:
        ValueError: It is none; says what one looks like.
    """
    found = _FORM.match(text.strip())
    if not found:
        raise ValueError(f"is no bandwidth: {SYNTAX}")
    return int(found[1]) * _UNITS[found[2]]


class Pace:
    """Makes whoever spends bytes wait until they are due. A rate of 0 is none."""

    def __init__(
        self,
        bytes_per_second: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._due = 0.0
        self._guard = threading.Lock()

    def spend(self, count: int) -> None:
        """Wait for the turn of so many bytes."""
        if not self._rate:
            return
        with self._guard:
            now = self._clock()
            self._due = max(self._due, now - _BURST_SECONDS) + count / self._rate
            wait = self._due - now
        if wait > 0:
            self._sleep(wait)

    def of(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The same chunks, each when it is due."""
        for chunk in chunks:
            self.spend(len(chunk))
            yield chunk
