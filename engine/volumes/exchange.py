"""Two volumes exchange their files, or some of them, each in one atomic step of the file system.

What was restored beside takes production's place, and production's data that of what was restored: nothing is
copied, and whoever looks sees one or the other. Which of them stands where is told by inode, also after a crash.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.archive import member as kinds
from engine.errors import RestoreRefused

_EXCHANGE = 2
"""RENAME_EXCHANGE of renameat2(2), in Linux since 3.15."""
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Pair:
    """One path that is exchanged.

    Attributes:
        path: Below both; ``.`` for all there is.
        old: Inode of production's before, 0 where it has none.
        new: Inode of what was restored.
    """

    path: str
    old: int
    new: int

    def as_dict(self) -> dict[str, Any]:
        """For a journal, whose text may hold no bytes that are no UTF-8."""
        return {"path": os.fsencode(self.path).hex(), "old": self.old, "new": self.new}

    @classmethod
    def of(cls, body: dict[str, Any]) -> Pair:
        return cls(os.fsdecode(bytes.fromhex(body["path"])), int(body["old"]), int(body["new"]))


def pairs(production: Path, side: Path, paths: Sequence[str]) -> list[Pair]:
    """What there is to exchange, before anything is.

    Raises:
        RestoreRefused: The directory that a path stands in is none here; or the volumes are on two file systems.
    """
    if os.stat(production).st_dev != os.stat(side).st_dev:
        raise RestoreRefused(
            f"{production} and {side} are on two file systems: their files cannot be exchanged.",
            kept="nothing was changed",
            remedy="restore into a new volume, and copy by hand",
        )
    return [Pair(path, _inode(production, path), _inode(side, path)) for path in paths]


def is_done(production: Path, pair: Pair) -> bool:
    """Does what was restored stand in production's place?"""
    return _inode(production, pair.path) == pair.new


def exchange(production: Path, side: Path, pair: Pair) -> None:
    """Exchange one path, whichever way it stands now; made durable.

    Raises:
        OSError: It cannot be done; nothing changed.
    """
    here, name = _parent(production, pair.path)
    try:
        there, other = _parent(side, pair.path)
        try:
            if pair.old:
                _swap(here, name, there, other)
            elif is_done(production, pair):
                os.rename(name, other, src_dir_fd=here, dst_dir_fd=there)
            else:
                os.rename(other, name, src_dir_fd=there, dst_dir_fd=here)
            os.fsync(here)
            os.fsync(there)
        finally:
            os.close(there)
    finally:
        os.close(here)


def check_possible(side: Path) -> None:
    """Try it where it harms nobody: beside the side volume's own files.

    Raises:
        RestoreRefused: This file system cannot do it.
    """
    made = [side.parent / f".backup-flows-{os.getpid()}-{number}" for number in (1, 2)]
    handle = os.open(side.parent, _OPEN)
    try:
        for each in made:
            each.mkdir(mode=0o700)
        _swap(handle, made[0].name, handle, made[1].name)
    except OSError as error:
        raise RestoreRefused(
            f"The file system of {side} cannot exchange two directories in one step ({error.strerror}).",
            kept="nothing was changed",
            remedy="restore into a new volume, and have the containers use that",
        ) from None
    finally:
        for each in made:
            if each.is_dir():
                each.rmdir()
        os.close(handle)


def sync(base: Path) -> None:
    """Have everything on this file system reach the disk."""
    handle = os.open(base, _OPEN)
    try:
        if _libc.syncfs(handle):
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(handle)


def _swap(here: int, name: str, there: int, other: str) -> None:
    if _libc.renameat2(here, os.fsencode(name), there, os.fsencode(other), _EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _inode(base: Path, path: str) -> int:
    try:
        handle, name = _parent(base, path)
    except FileNotFoundError:
        return 0
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise RestoreRefused(
                f"What {path!r} stands in is no directory in {base}.",
                kept="nothing was changed; nothing is ever written through a link",
                remedy="restore into a new volume, and copy by hand",
            ) from None
        raise
    try:
        return os.stat(name, dir_fd=handle, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return 0
    finally:
        os.close(handle)


def _parent(base: Path, path: str) -> tuple[int, str]:
    """An open directory, and the name in it, never through a link below the base."""
    if path == kinds.ROOT:
        return os.open(base.parent, _OPEN), base.name
    folder, _, name = path.rpartition("/")
    handle = os.open(base, _OPEN)
    for part in folder.split("/") if folder else ():
        try:
            inner = os.open(part, _OPEN, dir_fd=handle)
        finally:
            os.close(handle)
        handle = inner
    return handle, name
