"""How a stream of unknown length is cut into parts, and how they travel side by side.

S3 takes at most 10,000 parts, each but the last of at least 5 MiB. A fixed part size therefore limits
what can be stored; parts that grow as the stream goes on do not, and start small.
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

MIB = 1024 * 1024
BASE_PART = 8 * MIB
LARGEST_PART = 512 * MIB
MOST_PARTS = 10_000

PartSize = Callable[[int], int]
"""Bytes of part ``n``, counted from 1."""


def growing(number: int, base: int = BASE_PART, every: int = 1000) -> int:
    """Size of part ``number``: ``base`` for the first ``every`` parts, then two more bases each time.

    10,000 parts from a base of 8 MiB hold 0.84 TB.
    """
    return min(base * (1 + 2 * ((number - 1) // every)), LARGEST_PART)


class PartReader(io.RawIOBase):
    """A part's bytes as a file, without copying them; rewinds for retries, stops when the upload does.

    A file, not bytes, because a client sends bytes in one call under one timeout: on a slow line a
    whole part never makes it in time.
    """

    def __init__(self, data: memoryview, stopped: threading.Event) -> None:
        self._data = data
        self._at = 0
        self._stopped = stopped

    def readinto(self, buffer: Any) -> int:
        if self._stopped.is_set():
            raise InterruptedError("the upload was aborted")
        piece = self._data[self._at : self._at + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def digest_arguments(data: memoryview | bytes, *, sha256: bool) -> dict[str, str]:
    """The argument of a put that lets the server compare what arrived.

    MD5 where SHA-256 is not to be sent: nearly every endpoint checks that one. It guards the way
    there against accidents, no more.
    """
    if sha256:
        return {"ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode()}
    return {"ContentMD5": base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()}


class Lanes:
    """Runs uploads of parts side by side, never holding more than ``budget`` bytes of them.

    One part is always let in, however large, so that parts may outgrow the budget: then they go one
    at a time. The first failure is kept and raised by the next call.
    """

    def __init__(self, threads: int, budget: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="upload")
        self._budget = budget
        self._held = 0
        self._freed = threading.Condition()
        self._failure: BaseException | None = None

    def submit(self, work: Callable[[], None], size: int) -> None:
        """Start ``work``, which holds ``size`` bytes, as soon as there is room. Raises the first failure."""
        with self._freed:
            self._freed.wait_for(lambda: self._failure or not self._held or self._held + size <= self._budget)
            self._raise()
            self._held += size
        self._pool.submit(self._run, work, size)

    def drain(self) -> None:
        """Wait for all. Raises the first failure."""
        with self._freed:
            self._freed.wait_for(lambda: not self._held)
            self._raise()

    def close(self) -> None:
        """Start nothing more, and wait for what runs."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, work: Callable[[], None], size: int) -> None:
        try:
            work()
        except Exception as error:
            self._failure = self._failure or error
        finally:
            with self._freed:
                self._held -= size
                self._freed.notify_all()

    def _raise(self) -> None:
        if self._failure:
            raise self._failure
