"""Puts members below a directory: each file whole old or whole new, and never through a link.

Every directory on the way is opened by itself without following links, and all work is done relative to
the directory that was opened: what somebody renames meanwhile leads nowhere.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

from engine.archive import member as kinds
from engine.archive.member import Member
from engine.errors import DiskFull, IntegrityError, RestoreRefused

_PREFIX = ".backup-flows-"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PAGE = bytes(4096)
_OURS = ("user.", "system.posix_acl_", "security.capability")
"""Extended attributes that are taken away where the backup has none; a new file may inherit an ACL."""


class Placer:
    """Writes members, in the archive's order.

    Args:
        base: Everything is put below this directory, which is there.
        token: Marks files that are being written.
        durable: Every file is on disk before it gets its name; else whoever uses this sees to that at the end.

    Attributes:
        notes: What could not be given back, such as owners when not root.
    """

    def __init__(self, base: Path, token: str, *, durable: bool = True) -> None:
        self._base = base
        self._durable = durable
        self._token = token
        self._entered: set[str] = set()
        self._directories: list[tuple[Member, bool]] = []
        self._at: tuple[str, int] | None = None
        self._root = os.geteuid() == 0
        self._troubles: dict[str, list[str]] = {}

    @property
    def notes(self) -> list[str]:
        return [
            f"{why}: {paths[0]}" + (f" and {len(paths) - 1:,} more" if len(paths) > 1 else "")
            for why, paths in self._troubles.items()
        ]

    def directory(self, member: Member) -> None:
        """Make a directory, or take the one that is there; its mode, owner and time are set by ``finish``.
        One that only leads to something (``above``) is left as it is where it is there."""
        parent, name = self._parent(member.path)
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
            made = True
        except FileExistsError:
            made = False
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise self._in_the_way(member.path) from None
        if made or not member.above:
            self._directories.append((member, made))

    def put(self, member: Member, content: Iterable[bytes] = ()) -> None:
        """Put a file, link, hard link or fifo in its place at once, over whatever file or link is there.

        Raises:
            IntegrityError: The content is not what the listing says; what was there stays.
        """
        parent, name = self._parent(member.path)
        folder = member.path.rpartition("/")[0]
        self._entered.add(folder)
        beside = f"{_PREFIX}{self._token}-{secrets.token_hex(4)}"
        try:
            self._write(member, content, parent, beside)
            os.rename(beside, name, src_dir_fd=parent, dst_dir_fd=parent)
        except IsADirectoryError:
            raise self._in_the_way(member.path) from None
        finally:
            # After a rename of two names of one file, or on a failure, it is still there.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=parent)

    def touch(self, member: Member) -> None:
        """Give a file or link its mode, owner, time and attributes back; its content is right already."""
        parent, name = self._parent(member.path)
        self._dress(member, parent, name)

    def finish(self) -> None:
        """Set what directories are, the innermost first, and make all of it durable."""
        for member, made in reversed(self._directories):
            if made or not member.above:
                parent, name = self._parent(member.path)
                self._dress(member, parent, name)
        for folder in sorted(self._entered) if self._durable else ():
            handle = self._open(folder)
            os.fsync(handle)
            os.close(handle)

    def close(self) -> None:
        """Let go of the directory that is open."""
        if self._at is not None:
            os.close(self._at[1])
            self._at = None

    def _write(self, member: Member, content: Iterable[bytes], parent: int, beside: str) -> None:
        if member.type == kinds.FILE:
            self._write_file(member, content, parent, beside)
        elif member.type == kinds.LINK:
            os.symlink(member.target, beside, dir_fd=parent)
        elif member.type == kinds.FIFO:
            os.mkfifo(beside, 0o600, dir_fd=parent)
        else:
            folder, _, first = member.target.rpartition("/")
            source = self._open(folder)
            try:
                os.link(first, beside, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source)
            return
        self._dress(member, parent, beside)

    def _write_file(self, member: Member, content: Iterable[bytes], parent: int, beside: str) -> None:
        handle = os.open(
            beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
        )
        digest = hashlib.sha256()
        size = 0
        try:
            for chunk in content:
                digest.update(chunk)
                size += len(chunk)
                if member.sparse:
                    _write_with_holes(handle, chunk)
                else:
                    _write_all(handle, chunk)
            if (size, digest.hexdigest()) != (member.size, member.sha256):
                raise IntegrityError(
                    f"The content of {member.path!r} in the archive is not what its listing says.",
                    kept="what stands there now was not touched",
                    remedy="use another copy of this backup (--location)",
                )
            if member.sparse:
                os.ftruncate(handle, member.size)
            if self._durable:
                os.fsync(handle)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(
                    f"No room left below {self._base}.", kept="every file is whole: as it was, or as restored"
                ) from error
            raise
        finally:
            os.close(handle)

    def _dress(self, member: Member, parent: int, name: str) -> None:
        """Owner, then mode (a change of owner clears setuid), attributes, and the time last."""
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            self._dress_opened(member, parent, name, handle)
        finally:
            os.close(handle)

    def _dress_opened(self, member: Member, parent: int, name: str, handle: int) -> None:
        mode = member.mode
        link = member.type == kinds.LINK
        found = os.fstat(handle)
        if stat.S_ISLNK(found.st_mode) != link:
            raise self._in_the_way(member.path)
        if (found.st_uid, found.st_gid) != (member.uid, member.gid):
            if self._root:
                os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
            else:
                self._trouble("owners are given back only by root; these files belong to you", member.path)
                mode &= 0o1777  # setuid would be setuid of somebody else
        if not link:
            os.chmod(f"/proc/self/fd/{handle}", mode)
        self._attributes(member, f"/proc/self/fd/{parent}/{name}" if link else f"/proc/self/fd/{handle}", link)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)

    def _attributes(self, member: Member, path: str, link: bool) -> None:
        with contextlib.suppress(OSError):
            for name in os.listxattr(path, follow_symlinks=not link):
                if name not in member.xattrs and name.startswith(_OURS):
                    os.removexattr(path, name, follow_symlinks=not link)
        for name, value in member.xattrs.items():
            try:
                os.setxattr(path, name, value, follow_symlinks=not link)
            except OSError as error:
                why = (error.strerror or "").lower()
                self._trouble(f"the extended attribute {name} could not be set ({why})", member.path)

    def _trouble(self, why: str, path: str) -> None:
        self._troubles.setdefault(why, []).append(path)

    def _parent(self, path: str) -> tuple[int, str]:
        """The opened directory that a member stands in, and its name there."""
        folder, _, name = path.rpartition("/")
        if self._at is None or self._at[0] != folder:
            self.close()
            self._at = (folder, self._open(folder))
        return self._at[1], name

    def _open(self, folder: str) -> int:
        handle = os.open(self._base, _OPEN)
        done = ""
        for part in folder.split("/") if folder else ():
            done = f"{done}/{part}"
            try:
                inner = os.open(part, _OPEN, dir_fd=handle)
            except OSError:
                raise self._in_the_way(done.lstrip("/")) from None
            finally:
                os.close(handle)
            handle = inner
        return handle

    def _in_the_way(self, path: str) -> RestoreRefused:
        return RestoreRefused(
            f"{os.path.join(self._base, path)!r} is in the way: it is no directory where the backup has one, or one "
            "where the backup has a file.",
            kept="it was not touched; nothing is ever written through a link",
            remedy="move it away and run the restore again",
        )


def _write_all(handle: int, chunk: bytes | memoryview) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _write_with_holes(handle: int, chunk: bytes) -> None:
    """Write what is not zeros, and leave holes for pages that are. The file's length is set at its end."""
    view = memoryview(chunk)
    start = 0
    for at in range(0, len(chunk), len(_PAGE)):
        page = chunk[at : at + len(_PAGE)]
        if page == _PAGE[: len(page)]:
            _write_all(handle, view[start:at])
            os.lseek(handle, len(page), os.SEEK_CUR)
            start = at + len(page)
    _write_all(handle, view[start:])
