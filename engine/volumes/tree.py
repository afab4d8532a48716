"""A directory tree that somebody else may be changing: walked and held against a listing, never through a link.

Every directory is opened by itself without following links, and what is in it is reached through that handle.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.archive import member as kinds
from engine.archive.member import Member
from engine.archive.write import TreeWriter, trouble
from engine.errors import IntegrityError

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1024 * 1024
_MOST_NAMED = 5
_FORMATS = {kinds.FILE: stat.S_IFREG, kinds.DIRECTORY: stat.S_IFDIR, kinds.LINK: stat.S_IFLNK, kinds.FIFO: stat.S_IFIFO}


class Tree:
    """The files below a directory. Keeps one directory open, the one that was asked for last.

    Args:
        base: The directory.
    """

    def __init__(self, base: Path) -> None:
        self._base = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._folder: str | None = None
        self._handle = -1

    def directory(self, path: str) -> int:
        """An open handle of a directory below; it is closed when another is asked for.

        Raises:
            OSError: It, or one above it, is not there or is a link.
        """
        if path != self._folder:
            self._forget()
            self._handle = self._open(path)
            self._folder = path
        return self._handle

    def reach(self, path: str) -> str:
        """A path by which a member can be reached until another is asked for."""
        if path == kinds.ROOT:
            return f"/proc/self/fd/{self._base}/."
        folder, _, name = path.rpartition("/")
        return f"/proc/self/fd/{self.directory(folder)}/{name}"

    def close(self) -> None:
        self._forget()
        os.close(self._base)

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _forget(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self._handle, self._folder = -1, None

    def _open(self, path: str) -> int:
        handle = os.dup(self._base)
        for part in path.split("/") if path else ():
            try:
                inner = os.open(part, _OPEN, dir_fd=handle)
            finally:
                os.close(handle)
            handle = inner
        return handle


def write(base: Path, writer: TreeWriter) -> None:
    """Archive a directory with all below it, itself as ``.``; a directory comes before what is in it, and what is in
    it before anything else. Memory grows with the directories that wait, not with the files."""
    waiting = [""]
    with Tree(base) as tree:
        while waiting:
            folder = waiting.pop()
            try:
                handle = tree.directory(folder)
                writer.add(f"/proc/self/fd/{handle}/.", name=folder or kinds.ROOT)
                with os.scandir(handle) as entries:
                    for entry in entries:
                        path = f"{folder}/{entry.name}" if folder else entry.name
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(path)
                        else:
                            writer.add(f"/proc/self/fd/{handle}/{entry.name}", name=path)
            except OSError as error:
                writer.totals.incomplete.append(f"{folder or kinds.ROOT}: {trouble(error)}")


def measure(base: Path) -> tuple[int, list[str]]:
    """How many bytes the files of a tree take on disk, and the names of what stands at its top."""
    waiting, total = [""], 0
    top: list[str] = []
    with Tree(base) as tree:
        while waiting:
            folder = waiting.pop()
            with contextlib.suppress(OSError), os.scandir(tree.directory(folder)) as entries:
                for entry in entries:
                    if not folder:
                        top.append(entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{folder}/{entry.name}" if folder else entry.name)
                        continue
                    with contextlib.suppress(OSError):
                        found = entry.stat(follow_symlinks=False)
                        total += min(found.st_size, found.st_blocks * 512)
    return total, top


def compare(base: Path, members: Iterable[Member]) -> int:
    """Hold a tree that nobody else uses against what was to be put there: every file read again, nothing more there.

    Returns:
        How many members there are.

    Raises:
        IntegrityError: naming the first that differ.
    """
    wrong: list[str] = []
    count = 0
    with Tree(base) as tree:
        for member in members:
            count += 1
            if len(wrong) < _MOST_NAMED and (differing := _differing(tree, member)):
                wrong.append(f"{member.path!r} differs in {', '.join(differing)}")
        there = _count(tree)
    if not wrong and there != count:
        wrong.append(f"there are {there:,} files, directories and links, not {count:,}")
    if wrong:
        raise IntegrityError(f"What was restored is not what the backup holds: {'; '.join(wrong)}.")
    return count


def _differing(tree: Tree, member: Member) -> list[str]:
    try:
        path = tree.reach(member.path)
        found = os.lstat(path)
    except OSError:
        return ["that it is not there"]
    if member.type == kinds.HARDLINK:
        return [] if _same_file(tree, member.target, found) else ["the file that it is a name of"]
    if stat.S_IFMT(found.st_mode) != _FORMATS[member.type]:
        return ["kind"]
    differing = []
    if member.type != kinds.LINK and stat.S_IMODE(found.st_mode) != member.mode:
        differing.append("mode")
    if (found.st_uid, found.st_gid) != (member.uid, member.gid):
        differing.append("owner")
    if found.st_mtime_ns != member.mtime:
        differing.append("time")
    if member.type == kinds.LINK and os.readlink(path) != member.target:
        differing.append("where it leads")
    if member.type == kinds.FILE and (found.st_size != member.size or digest_of(path) != member.sha256):
        differing.append("content")
    if any(_attribute(path, name) != value for name, value in member.xattrs.items()):
        differing.append("attributes")
    return differing


def _same_file(tree: Tree, path: str, found: os.stat_result) -> bool:
    try:
        other = os.lstat(tree.reach(path))
    except OSError:
        return False
    return (other.st_dev, other.st_ino) == (found.st_dev, found.st_ino)


def _attribute(path: str, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return None


def digest_of(path: str) -> str:
    """SHA-256 of a file, never through a link; empty where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb", 0) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()


def _count(tree: Tree) -> int:
    """Everything there is, with the directory itself."""
    return 1 + sum(1 for _ in _paths(tree))


def _paths(tree: Tree) -> Iterator[str]:
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(tree.directory(folder)) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                yield path
