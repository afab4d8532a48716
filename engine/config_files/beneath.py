"""Directories below another one, opened part by part so that no link on the way is followed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from engine.errors import RestoreRefused

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def opened(base: Path, folder: str) -> Iterator[int]:
    """A directory below ``base``, open as long as the block lasts.

    Raises:
        FileNotFoundError: It is not there. RestoreRefused: something on the way is a link or a file.
    """
    handle = os.open(base, _OPEN)
    try:
        done = base
        for part in folder.split("/") if folder else ():
            done /= part
            inner = _inside(handle, part, done)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def status(name: str, folder: int) -> os.stat_result | None:
    """What stands under a name in an open directory, a link itself; None where nothing does."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def same(one: os.stat_result | None, other: os.stat_result | None) -> bool:
    """Are these two names of one file?"""
    return one is not None and other is not None and (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def sync(folder: Path) -> None:
    """Have the names in a directory reach the disk."""
    handle = os.open(folder, _OPEN)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(tree: Path) -> None:
    """Remove a directory of ours with all in it, also where directories in it were restored as read-only."""
    for folder, folders, _ in os.walk(tree):
        for each in folders:
            path = os.path.join(folder, each)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(tree)


def _inside(handle: int, part: str, path: Path) -> int:
    try:
        return os.open(part, _OPEN, dir_fd=handle)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RestoreRefused(
            f"{str(path)!r} is in the way: it is no directory that can be opened ({error.strerror}).",
            kept="it was not touched; nothing is ever written through a link",
            remedy="move it away and run the restore again",
        ) from None
