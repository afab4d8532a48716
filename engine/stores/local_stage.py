"""A file on its way into a local store: staged, held by a lock, proven, then linked into place.

Each staged file is held by a flock for as long as its writer lives. The kernel drops it with the
process, however that ends, so a sweep can tell leftovers from work in progress without a clock.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from engine.errors import IntegrityError, StoreError, StoreRefused
from engine.stores.base import Stored
from engine.stores.local_errors import in_words, speaking_of
from engine.stores.read_back import ReadBack


class LocalStage:
    """One staged write of a ``LocalStore``; see ``StagedWrite`` for what it promises."""

    def __init__(self, root: Path, staging: Path, key: str) -> None:
        self._root = root
        self._key = key
        self._target = root / key
        with speaking_of("stage a file in", staging, root):
            self._descriptor, self._path = _claim(staging, key)
        self._digest = hashlib.sha256()
        self._size = 0
        self._check = ReadBack(self._descriptor)
        self._open = True

    def write(self, data: bytes | memoryview) -> None:
        self._must_be_open()
        self._digest.update(data)
        rest = memoryview(data)
        try:
            while rest:
                written = os.write(self._descriptor, rest)
                self._size += written
                rest = rest[written:]
            self._check.advance(self._size)
        except OSError as error:
            failure = in_words(error, f"write after {self._size:,} bytes to", self._target, self._root)
            self.abort()
            raise failure from error

    def commit(self) -> Stored:
        self._must_be_open()
        try:
            with speaking_of("publish", self._target, self._root):
                self._prove()
                publish(self._path, self._target)
        finally:
            self.abort()
        return Stored(self._key, self._size, self._digest.hexdigest(), "read-back")

    def rehearse(self) -> None:
        """All of a commit but the publishing; what a store's check does. Raises as ``commit``."""
        twin = self._path.with_name(self._path.name + ".twin")
        with speaking_of("write to", self._path.parent, self._root):
            self._prove()
            _link(self._path, twin)
            twin.unlink()

    def abort(self) -> None:
        if not self._open:
            return
        self._open = False
        self._check.stop()
        try:
            self._path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)

    def __enter__(self) -> LocalStage:
        return self

    def __exit__(self, *exc: object) -> None:
        self.abort()

    def _must_be_open(self) -> None:
        if not self._open:
            raise StoreError(f"The write of {self._target} has ended already.")

    def _prove(self) -> None:
        found = self._check.finish(self._size)
        if os.fstat(self._descriptor).st_size != self._size or found != self._digest.hexdigest():
            raise IntegrityError(
                f"{self._target}: the disk gave back other bytes than were written to it.",
                kept="every backup published before; this one was not published.",
                remedy="check the disk: dmesg | tail; smartctl -a on its device.",
            )


def publish(existing: Path, target: Path) -> None:
    """Give a file its place, durably. Links, never renames: a link fails where something stands, so nothing is ever
    replaced.

    Raises:
        StoreRefused: Something stands there. OSError.
    """
    durable_directory(target.parent)
    try:
        _link(existing, target)
    except FileExistsError:
        raise StoreRefused(f"{target} exists already.", kept="what stands there; it was not touched.") from None
    try:
        sync_directory(target.parent)
    except OSError:
        target.unlink()
        raise


def _link(existing: Path, new: Path) -> None:
    """A second name for an own file. File systems that have no such thing say "not permitted"."""
    try:
        os.link(existing, new)
    except PermissionError as error:
        if error.errno == errno.EPERM:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), str(new)) from error
        raise


def durable_directory(path: Path, mode: int = 0o700) -> None:
    """Make a directory and what is missing above it, each entry synced; existing ones stay as they are.

    Raises:
        OSError: It cannot be made, or something else stands there.
    """
    if path.is_dir():
        return
    durable_directory(path.parent, mode)
    try:
        path.mkdir(mode)
    except FileExistsError:
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_staging(staging: Path) -> list[str]:
    """Remove the staged files that no living process holds; their names. Raises OSError."""
    if not staging.is_dir():
        return []
    return [path.name for path in sorted(staging.iterdir()) if _remove_if_dead(path)]


def _claim(staging: Path, key: str) -> tuple[int, Path]:
    """A new staged file of mode 0600 and its lock.

    Between making a file and locking it, a sweep may take it for a leftover: then try another name.
    """
    while True:
        path = staging / f"{uuid4().hex}.{quote(key.rsplit('/', 1)[-1])[:150]}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        if os.fstat(descriptor).st_nlink:
            return descriptor, path
        os.close(descriptor)


def _remove_if_dead(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
