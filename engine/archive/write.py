"""Writes a tree: each file read once, digested on its way, its line put into the listing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from engine.archive import member as kinds
from engine.archive.headers import END, Segments, header, padding
from engine.archive.member import Member, of_stat
from engine.errors import IntegrityError
from engine.progress import Progress, silent
from engine.source import Sink

_CHUNK = 256 * 1024
_NOTHING = bytes(_CHUNK)
_SMALL = 4 * 1024 * 1024
"""Files up to this size are read whole, and again when they changed meanwhile; larger ones stream."""
_TRIES = 3
_MOST_SEGMENTS = 4096
"""Of one file. Where it has more, the smallest holes are archived as the zeros that they read as."""
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
        holes: Archive files with holes as such, not with the zeros that these read as.
    """

    def __init__(self, data: Sink, listing: Sink, progress: Progress = silent, estimate: int | None = None, *,
        holes: bool = False,
    ) -> None:  # fmt: skip
        self.totals = Totals()
        self._holes = holes
        self._data = data
        self._listing = listing
        self._progress = progress
        self._estimate = estimate
        self._names: dict[tuple[int, int], str] = {}

    def add(self, path: str, *, name: str = "", above: bool = False) -> None:
        """Archive one file, directory or link; not what is inside a directory. Trouble with it is noted in
        ``totals``, and the archive goes on.

        Args:
            name: What to call it in the archive and in messages, where that is not its path.
        """
        shown, name = name or path, name or path.lstrip("/")
        try:
            found = os.lstat(path)
            kind = _KINDS.get(stat.S_IFMT(found.st_mode))
            if kind is None:
                self.totals.left_out.append(f"{shown}: {_odd(found.st_mode)}")
            elif kind == kinds.FILE:
                self._file(path, name, shown, found)
            else:
                target = os.readlink(path) if kind == kinds.LINK else ""
                self._put(of_stat(name, kind, found, target=target, xattrs=attributes_of(path), above=above))
        except OSError as error:
            self.totals.incomplete.append(f"{shown}: {trouble(error)}")

    def add_read(self, member: Member, content: Iterable[bytes] = ()) -> None:
        """Archive what was read elsewhere: a member whose size is known, and its content.

        Raises:
            IntegrityError: The content has another size.
        """
        self._data.write(header(member))
        digest, size = hashlib.sha256(), 0
        for chunk in content:
            digest.update(chunk)
            size += len(chunk)
            self._data.write(chunk)
        if member.type == kinds.FILE:
            if size != member.size:
                raise IntegrityError(
                    f"{member.path!r} has {size:,} bytes, not the {member.size:,} it was said to have."
                )
            self._data.write(padding(size))
            member = replace(member, sha256=digest.hexdigest())
        self._list(member)

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

    def _file(self, path: str, name: str, shown: str, found: os.stat_result) -> None:
        first = self._names.get((found.st_dev, found.st_ino)) if found.st_nlink > 1 else None
        if first is not None:
            self._put(of_stat(name, kinds.HARDLINK, found, target=first))
            return
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.ESTALE, "it became something else while it was read")
            sparse = self._holes and found.st_blocks * 512 < found.st_size
            (self._small if found.st_size <= _SMALL and not sparse else self._large)(handle, shown, name)
        finally:
            os.close(handle)
        if found.st_nlink > 1:
            self._names[found.st_dev, found.st_ino] = name

    def _small(self, handle: int, shown: str, name: str) -> None:
        for _ in range(_TRIES):
            before, settled = _settled(handle)
            content = _read_whole(handle, before.st_size)
            now = os.fstat(handle)
            steady = settled and _state(before) == _state(now) and len(content) == before.st_size
            if steady:
                break
        if not steady:
            content = content[: before.st_size]
            self._changed(shown)
        digest = hashlib.sha256(content).hexdigest()
        made = of_stat(name, kinds.FILE, before, size=len(content), sha256=digest, xattrs=attributes_of(handle))
        self._data.write(header(made) + content + padding(made.size))
        self._list(made)

    def _large(self, handle: int, shown: str, name: str) -> None:
        before, settled = _settled(handle)
        size = before.st_size
        segments = _segments(handle, size) if self._holes else None
        made = of_stat(name, kinds.FILE, before, size=size, xattrs=attributes_of(handle), sparse=segments is not None)
        self._data.write(header(made, segments))
        digest = hashlib.sha256()
        at, whole = 0, True

        def write(chunk: bytes) -> None:
            digest.update(chunk)
            self._data.write(chunk)

        for offset, length in ((0, size),) if segments is None else segments:
            self._hole(at, offset, digest.update)
            if whole:
                whole = self._stream(handle, shown, offset, length, write)
            else:  # its map says that so much follows
                _zeros(length, write)
            at = offset + length
        self._hole(at, size, digest.update)
        self._data.write(padding(size if segments is None else sum(length for _, length in segments)))
        if whole and not (settled and _state(before) == _state(os.fstat(handle))):
            self._changed(shown)
        self._list(Member(**{**vars(made), "sha256": digest.hexdigest()}))

    def _stream(self, handle: int, shown: str, offset: int, size: int, write: Callable[[bytes], None]) -> bool:
        """Exactly ``size`` bytes: a header that says so is written already. Zeros where there are fewer; false then."""
        left = size
        os.lseek(handle, offset, os.SEEK_SET)
        while left:
            try:
                chunk = os.read(handle, min(_CHUNK, left))
            except OSError as error:
                self.totals.incomplete.append(f"{shown}: {trouble(error)}; filled up with zeros")
                break
            if not chunk:
                self.totals.incomplete.append(f"{shown}: it shrank while it was read; filled up with zeros")
                break
            write(chunk)
            left -= len(chunk)
            self._progress("archive", self.totals.bytes + offset + size - left, self._estimate)
        _zeros(left, write)
        return not left

    def _hole(self, start: int, end: int, write: Callable[[bytes], object]) -> None:
        """The zeros that a hole reads as; a large one takes its time, and may be stopped."""
        for at in range(start, end, _CHUNK):
            _zeros(min(_CHUNK, end - at), write)
            self._progress("archive", self.totals.bytes + at, self._estimate)

    def _changed(self, shown: str) -> None:
        self.totals.incomplete.append(f"{shown}: it changed while it was read")


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


def _segments(handle: int, size: int) -> Segments | None:
    """What of a file is no hole; None where it has none, or its file system cannot tell."""
    found: list[tuple[int, int]] = []
    least = 0
    at = 0
    try:
        while at < size:
            try:
                start = os.lseek(handle, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # nothing but a hole follows
                    return None
                break
            at = min(os.lseek(handle, start, os.SEEK_HOLE), size)
            if at <= start:
                break
            if found and start - sum(found[-1]) < least:
                found[-1] = (found[-1][0], at - found[-1][0])
            else:
                found.append((start, at - start))
            if len(found) > _MOST_SEGMENTS:
                least = max(2 * least, 65536)
                found = _joined(found, least)
    except OSError:
        return None
    return None if found == [(0, size)] else found


def _joined(segments: list[tuple[int, int]], least: int) -> list[tuple[int, int]]:
    """The same with holes of at least so many bytes."""
    joined = segments[:1]
    for offset, length in segments[1:]:
        last, size = joined[-1]
        if offset - (last + size) < least:
            joined[-1] = (last, offset + length - last)
        else:
            joined.append((offset, length))
    return joined


def _zeros(count: int, write: Callable[[bytes], object]) -> None:
    while count > 0:
        write(_NOTHING[:count] if count < _CHUNK else _NOTHING)
        count -= _CHUNK


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


def attributes_of(what: str | int) -> dict[str, bytes]:
    """Every extended attribute of a path (of a link itself) or an open file that can be read, by name."""
    follow = {} if isinstance(what, int) else {"follow_symlinks": False}
    found = {}
    with contextlib.suppress(OSError):  # a file system without them
        for name in os.listxattr(what, **follow):
            with contextlib.suppress(OSError):
                found[name] = os.getxattr(what, name, **follow)
    return found
