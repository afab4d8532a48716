"""What the operating system's refusals mean for a backup, in words."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import BackupError, DiskFull, NotFound, StoreError, StoreRefused, Unreadable

_NO_LINKS = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_OF_ONE_FILE = {
    errno.EIO, errno.ENODATA, errno.EREMOTEIO, errno.EILSEQ,  # bad sectors, as different disks tell them
    errno.EUCLEAN, errno.EBADMSG, errno.ESTALE,  # damage of the file system
    errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO,
}  # fmt: skip
"""What reading says of that very file. What else fails (too many open files, no memory) says nothing of it."""


@contextmanager
def speaking_of(action: str, path: Path, root: Path) -> Iterator[None]:
    """Turn an OSError of the block into one of ``engine.errors`` that says what failed on which path."""
    try:
        yield
    except OSError as error:
        raise in_words(error, action, path, root) from error


@contextmanager
def reading(path: Path, root: Path) -> Iterator[None]:
    """As ``speaking_of``, while one file is read: ``Unreadable`` where the root can be listed all the same."""
    try:
        yield
    except OSError as error:
        told = in_words(error, "read", path, root)
        if error.errno in _OF_ONE_FILE:
            with speaking_of("list", root, root), os.scandir(root) as entries:
                next(entries, None)
            raise Unreadable(told.message, remedy=told.remedy) from error
        raise told from error


def in_words(error: OSError, action: str, path: Path, root: Path) -> BackupError:
    """The error to raise instead of ``error``; ``action`` completes "Could not ..."."""
    what = f"Could not {action} {path}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return DiskFull(
                f"{what}: {_room(root, error.errno)}",
                kept="every backup published before; what was being written is removed.",
                remedy=f"free some room (df -h {root}), or shorten the retention; then run it again.",
            )
        case errno.EROFS:
            return StoreRefused(
                f"{what}: the file system is mounted read-only.",
                remedy=f"find out why (dmesg | tail), then: mount -o remount,rw $(findmnt -n -o TARGET -T {root})",
            )
        case errno.EACCES | errno.EPERM:
            return StoreRefused(
                f"{what}: permission denied.",
                remedy=f"let the user that runs backups own it: chown -R $(id -un) {root} && chmod 700 {root}",
            )
        case errno.ENOENT:
            return NotFound(f"{what}: it does not exist.")
        case errno.EXDEV:
            return StoreRefused(
                f"{what}: it stands on another file system than {root}, so nothing can be moved there at once.",
                remedy="make that folder a vault root of its own, or bring it onto the same file system.",
            )
        case errno.ENOTDIR | errno.EISDIR | errno.ENAMETOOLONG | errno.ELOOP:
            return StoreRefused(f"{what}: {error.strerror}.", remedy=f"look at what stands there: ls -ld {path}")
        case code if code in _NO_LINKS:
            return StoreRefused(
                f"{what}: its file system cannot hard-link, so a backup could not be published without a gap.",
                remedy="put the vault on ext4, xfs, btrfs, zfs or NFS.",
            )
        case _:
            return StoreError(f"{what}: {error.strerror or error}.", remedy="look at the disk: dmesg | tail")


def _room(root: Path, code: int) -> str:
    if code == errno.EDQUOT:
        return "the disk quota is used up."
    try:
        usage = shutil.disk_usage(root)
    except OSError:
        return "no space left."
    return f"no space left, {usage.free:,} bytes free of {usage.total:,}."
