"""Read a file back from its disk while it is still being written, so that the end need not wait."""

from __future__ import annotations

import hashlib
import os
import threading

STEP = 16 * 1024 * 1024
_CHUNK = 1024 * 1024


class ReadBack:
    """Follows the writer of a file: syncs what is there, drops it from the page cache, reads it, digests it.

    Without the drop the bytes would come from memory and prove nothing about the disk. Small files
    are read at the end, larger ones by a thread a step behind the writer, which spreads the cost of
    fsync over the whole write. The descriptor stays the writer's: ``finish`` or ``stop`` comes
    before its close.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._done = 0
        self._target = 0
        self._stopped = False
        self._error: OSError | None = None
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def advance(self, written: int) -> None:
        """``written`` bytes stand in the file by now. Raises OSError when an earlier sync failed."""
        if self._error:
            raise self._error
        whole = written - written % STEP
        if whole <= self._target:
            return
        with self._wake:
            self._target = whole
            self._wake.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="read-back", daemon=True)
            self._thread.start()

    def finish(self, size: int) -> str:
        """Sync and read the rest up to ``size`` bytes; the hex SHA-256 of what the disk holds.

        Raises:
            OSError: A sync or a read failed.
        """
        self.stop()
        if self._error:
            raise self._error
        os.fsync(self._descriptor)
        self._read(size)
        return self._digest.hexdigest()

    def stop(self) -> None:
        """End the thread, whatever is left to read."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        if self._thread:
            self._thread.join()

    def _follow(self) -> None:
        try:
            while (target := self._next()) is not None:
                os.fdatasync(self._descriptor)
                self._read(target)
        except OSError as error:
            self._error = error

    def _next(self) -> int | None:
        with self._wake:
            self._wake.wait_for(lambda: self._stopped or self._target > self._done)
            return None if self._stopped else self._target

    def _read(self, target: int) -> None:
        os.posix_fadvise(self._descriptor, self._done, 0, os.POSIX_FADV_DONTNEED)
        while self._done < target:
            chunk = os.pread(self._descriptor, min(_CHUNK, target - self._done), self._done)
            if not chunk:
                return
            self._digest.update(chunk)
            self._done += len(chunk)
