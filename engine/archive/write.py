"""Writes a tree: each file read once, digested on its way, its line put into the listing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.archive import member as kinds
from engine.archive.headers import END, header, padding
from engine.archive.member import Member, of_stat
from engine.progress import Progress, silent
from engine.source import Sink

_CHUNK = 256 * 1024
_SMALL = 4 * 1024 * 1024
"""Files up to this size are read whole, and again when they changed meanwhile; larger ones stream."""
_TRIES = 3
_HOT = 0.25
"""Seconds. File times go forward in ticks of the kernel (up to 10 ms), and a write sets them when it begins: a file
that was written to this recently may still be written to without showing it."""


@dataclass
class Totals:
    """What an archive holds. ``bytes`` of file contents.

    Attributes:
        incomplete: What is not in it, or not as it ever was on disk: path and why.
        left_out: What is never in it, such as sockets.
    """

    files: int = 0
    directories: int = 0
    links: int = 0
    bytes: int = 0
    incomplete: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


class TreeWriter:
    """Writes members to a tar and their lines to its listing. Memory does not grow with the tree, but for
    one entry a file that has several names.

    Args:
        data: Takes the tar's bytes.
        listing: Takes the listing's.
    """

    def __init__(self, data: Sink, listing: Sink, progress: Progress = silent, estimate: int | None = None) -> None:
        self.totals = Totals()
        self._data = data
        self._listing = listing
        self._progress = progress
        self._estimate = estimate
        self._names: dict[tuple[int, int], str] = {}

    def add(self, path: str, *, above: bool = False) -> None:
        """Archive one file, directory or link; not what is inside a directory. Trouble with it is noted in
        ``totals``, and the archive goes on."""
        name = path.lstrip("/")
        try:
            found = os.lstat(path)
            kind = _KINDS.get(stat.S_IFMT(found.st_mode))
            if kind is None:
                self.totals.left_out.append(f"{path}: {_odd(found.st_mode)}")
            elif kind == kinds.FILE:
                self._file(path, name, found)
            else:
                target = os.readlink(path) if kind == kinds.LINK else ""
                self._put(of_stat(name, kind, found, target=target, xattrs=_xattrs(path), above=above))
        except OSError as error:
            self.totals.incomplete.append(f"{path}: {trouble(error)}")

    def finish(self) -> Totals:
        """End the tar."""
        self._data.write(END)
        return self.totals

    def _put(self, member: Member) -> None:
        """A member without content."""
        self._data.write(header(member))
        self._list(member)

    def _list(self, member: Member) -> None:
        self._listing.write(member.line())
        if member.type == kinds.FILE:
            self.totals.files += 1
            self.totals.bytes += member.size
        elif member.type == kinds.DIRECTORY:
            self.totals.directories += not member.above
        else:
            self.totals.links += 1
        self._progress("archive", self.totals.bytes, self._estimate)

    def _file(self, path: str, name: str, found: os.stat_result) -> None:
        first = self._names.get((found.st_dev, found.st_ino)) if found.st_nlink > 1 else None
        if first is not None:
            self._put(of_stat(name, kinds.HARDLINK, found, target=first))
            return
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.ESTALE, "it became something else while it was read")
            (self._small if found.st_size <= _SMALL else self._large)(handle, path, name)
        finally:
            os.close(handle)
        if found.st_nlink > 1:
            self._names[found.st_dev, found.st_ino] = name

    def _small(self, handle: int, path: str, name: str) -> None:
        for _ in range(_TRIES):
            before, settled = _settled(handle)
            content = _read_whole(handle, before.st_size)
            now = os.fstat(handle)
            steady = settled and _state(before) == _state(now) and len(content) == before.st_size
            if steady:
                break
        if not steady:
            content = content[: before.st_size]
            self._changed(path)
        digest = hashlib.sha256(content).hexdigest()
        made = of_stat(name, kinds.FILE, before, size=len(content), sha256=digest, xattrs=_xattrs(handle))
        self._data.write(header(made) + content + padding(made.size))
        self._list(made)

    def _large(self, handle: int, path: str, name: str) -> None:
        before, settled = _settled(handle)
        made = of_stat(name, kinds.FILE, before, size=before.st_size, xattrs=_xattrs(handle))
        self._data.write(header(made))
        digest = hashlib.sha256()

        def write(chunk: bytes) -> None:
            digest.update(chunk)
            self._data.write(chunk)

        whole = self._stream(handle, path, made.size, write)
        self._data.write(padding(made.size))
        if whole and not (settled and _state(before) == _state(os.fstat(handle))):
            self._changed(path)
        self._list(Member(**{**vars(made), "sha256": digest.hexdigest()}))

    def _stream(self, handle: int, path: str, size: int, write: Callable[[bytes], None]) -> bool:
        """Exactly ``size`` bytes: a header that says so is written already. Zeros where there are fewer; false then."""
        left = size
        while left:
            try:
                chunk = os.read(handle, min(_CHUNK, left))
            except OSError as error:
                self.totals.incomplete.append(f"{path}: {trouble(error)}; filled up with zeros")
                break
            if not chunk:
                self.totals.incomplete.append(f"{path}: it shrank while it was read; filled up with zeros")
                break
            write(chunk)
            left -= len(chunk)
            self._progress("archive", self.totals.bytes + size - left, self._estimate)
        whole = not left
        while left:
            write(bytes(min(_CHUNK, left)))
            left -= min(_CHUNK, left)
        return whole

    def _changed(self, path: str) -> None:
        self.totals.incomplete.append(f"{path}: it changed while it was read")


_KINDS = {
    stat.S_IFREG: kinds.FILE,
    stat.S_IFDIR: kinds.DIRECTORY,
    stat.S_IFLNK: kinds.LINK,
    stat.S_IFIFO: kinds.FIFO,
}


def trouble(error: OSError) -> str:
    """Why a file could not be read, in words."""
    if error.errno == errno.ENOENT:
        return "it vanished while the backup was made"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "it may not be read by this user"
    if error.errno == errno.ELOOP:
        return "it became a link while it was read"
    return (error.strerror or type(error).__name__).lower()


def _odd(mode: int) -> str:
    return "a socket, which has no content" if stat.S_ISSOCK(mode) else "a device file, which is never archived"


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _settled(handle: int) -> tuple[os.stat_result, bool]:
    """What a file is, once its last change is a moment ago; as it is, and false, where it goes on changing."""
    for last in (False, True):
        found = os.fstat(handle)
        age = (time.time_ns() - found.st_ctime_ns) / 1e9
        if not 0 <= age < _HOT or last:
            break
        time.sleep(_HOT - age)
    return found, not 0 <= age < _HOT


def _read_whole(handle: int, size: int) -> bytes:
    """The content as it is now, but no more than one byte above ``size``: then it has grown."""
    os.lseek(handle, 0, os.SEEK_SET)
    parts = []
    left = size + 1
    while left and (chunk := os.read(handle, left)):
        parts.append(chunk)
        left -= len(chunk)
    return b"".join(parts)


def _xattrs(what: str | int) -> dict[str, bytes]:
    follow = {} if isinstance(what, int) else {"follow_symlinks": False}
    found = {}
    with contextlib.suppress(OSError):  # a file system without them
        for name in os.listxattr(what, **follow):
            with contextlib.suppress(OSError):
                found[name] = os.getxattr(what, name, **follow)
    return found
