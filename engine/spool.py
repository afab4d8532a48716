"""Stored bytes checked before one of them is used: read twice where that is cheap, spooled where not.

A spool is a file in the state directory, 0600, holding bytes still encrypted. Its lock tells a
living reader's from a dead one's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

from engine.codec import check_stored
from engine.errors import DiskFull
from engine.manifest import StoredFile
from engine.progress import Progress, silent
from engine.stores.base import Store
from engine.stores.local_errors import speaking_of

_CHUNK = 256 * 1024
_MARGIN = 16 * 1024 * 1024


def verified_chunks(
    store: Store, key: str, stored: StoredFile, spools: Path, progress: Progress = silent
) -> Generator[bytes, None, None]:
    """The stored bytes of one file, every one of them checked before the first is given.

    Raises:
        IntegrityError: They are not those of the manifest. NotFound. DiskFull: no room for the spool.
    """
    if store.name == "local":
        check_stored(told(store.read(key), f"check {stored.file}", stored.size, progress), stored)
        yield from store.read(key)
        return
    with _spool(spools, stored) as handle:
        fetched = _kept(told(store.read(key), f"fetch {stored.file}", stored.size, progress), handle, spools)
        check_stored(fetched, stored, what=f"{stored.file} in {store.name}")
        os.lseek(handle, 0, os.SEEK_SET)
        while chunk := os.read(handle, _CHUNK):
            yield chunk


def told(chunks: Iterator[bytes], step: str, total: int, progress: Progress) -> Iterator[bytes]:
    """The same chunks, telling how far it is every few megabytes and at the end."""
    done = last = 0
    for chunk in chunks:
        done += len(chunk)
        if done - last >= 4 * 1024 * 1024:
            progress(step, done, total)
            last = done
        yield chunk
    progress(step, done, total)


def sweep_spools(spools: Path) -> list[str]:
    """Remove the spools that no living process holds; their names."""
    gone = []
    for path in sorted(spools.glob("*.spool")) if spools.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
                gone.append(path.name)
            except BlockingIOError:
                continue
            finally:
                os.close(handle)
    return gone


@contextlib.contextmanager
def _spool(spools: Path, stored: StoredFile) -> Iterator[int]:
    with speaking_of("write to", spools, spools):
        spools.mkdir(parents=True, exist_ok=True, mode=0o700)
    room = os.statvfs(spools)
    free = room.f_bavail * room.f_frsize
    if free < stored.size + _MARGIN:
        raise DiskFull(
            f"Reading {stored.file} needs {stored.size:,} bytes in {spools}; {free:,} are free.",
            kept="nothing was decrypted",
            remedy="free some space there",
        )
    handle, path = tempfile.mkstemp(prefix="read-", suffix=".spool", dir=spools)
    try:
        # A sweep may have it for a moment before we do; then its name is gone, which does no harm.
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        Path(path).unlink(missing_ok=True)
        os.close(handle)


def _kept(chunks: Iterator[bytes], handle: int, spools: Path) -> Iterator[bytes]:
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            try:
                rest = rest[os.write(handle, rest) :]
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise DiskFull(f"{spools} is full.", kept="nothing was decrypted") from error
                raise
        yield chunk
