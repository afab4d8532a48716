"""What restoring files over those that are there would change. Contents are compared by digest and never shown:
they may be secrets."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from engine.archive import member as kinds
from engine.archive.member import Member
from engine.config_files.walk import Walk

ADDED, CHANGED, EXTRA = "added", "changed", "only here"
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Change:
    """One path that differs.

    Attributes:
        path: Absolute.
        kind: ``added`` (not there now), ``changed``, or ``only here`` (not in the backup: left as it is).
        what: How it differs: ``content``, ``mode 0644 to 0600``, ``owner 0:0 to 33:33``...
    """

    path: str
    kind: str
    what: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}" + (f" ({', '.join(self.what)})" if self.what else "")


@dataclass
class Difference:
    """A backup held against what is there.

    Attributes:
        changes: In the archive's order, then what is only here.
        whole: Members to put in place anew, by path.
        dress: Members whose mode, owner, time or attributes alone are to be set, by path.
        same: How many members are there as in the backup.
        blocked: Paths where a file stands for a directory, or the other way round, or a link for a directory.
    """

    changes: list[Change] = field(default_factory=list)
    whole: dict[str, Member] = field(default_factory=dict)
    dress: dict[str, Member] = field(default_factory=dict)
    same: int = 0
    blocked: list[str] = field(default_factory=list)

    def counted(self) -> str:
        """In words: ``3 added, 2 changed, 120 equal, 1 only here``."""
        count = {kind: sum(change.kind == kind for change in self.changes) for kind in (ADDED, CHANGED, EXTRA)}
        return f"{count[ADDED]:,} added, {count[CHANGED]:,} changed, {self.same:,} equal, {count[EXTRA]:,} only here"


def difference(members: Iterable[Member], base: str, roots: Sequence[str], exclude: Sequence[str]) -> Difference:
    """Hold members against the files below a directory.

    Args:
        members: Those to restore, in the archive's order.
        base: The directory that member paths are below: ``/``.
        roots: Absolute paths to look through for what is not in the backup.
        exclude: Patterns of what was never in the backup; such files are not told as ``only here``.
    """
    found = Difference()
    known = set()
    for member in members:
        known.add(os.path.join(base, member.path))
        _compare(member, base, found)
    walk = Walk(roots, exclude)
    found.changes += [Change(each.path, EXTRA) for each in walk if not each.above and each.path not in known]
    return found


def _compare(member: Member, base: str, found: Difference) -> None:
    path = os.path.join(base, member.path)
    try:
        now = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        found.whole[member.path] = member
        found.changes.append(Change(path, ADDED, (member.type,)))
        return
    if stat.S_ISDIR(now.st_mode) != (member.type == kinds.DIRECTORY):
        found.blocked.append(path)
        return
    if member.above:
        return
    whole = _content(member, path, now, base, found)
    outside = _outside(member, path, now) if member.type != kinds.HARDLINK else []
    if whole or outside:
        found.changes.append(Change(path, CHANGED, (*whole, *outside)))
        (found.whole if whole else found.dress)[member.path] = member
    else:
        found.same += 1


def _content(member: Member, path: str, now: os.stat_result, base: str, found: Difference) -> list[str]:
    """What only putting it anew can mend."""
    if member.type == kinds.HARDLINK:
        if member.target in found.whole:
            return ["content"]
        try:
            other = os.lstat(os.path.join(base, member.target))
        except OSError:
            return ["hard link"]
        return [] if (other.st_dev, other.st_ino) == (now.st_dev, now.st_ino) else ["hard link"]
    if stat.S_IFMT(now.st_mode) != _FORMATS[member.type]:
        return [f"a {member.type} again"]
    if member.type == kinds.LINK:
        return [] if os.readlink(path) == member.target else ["where the link leads"]
    if member.type == kinds.FILE and (now.st_size != member.size or _digest(path) != member.sha256):
        return ["content"]
    return []


def _outside(member: Member, path: str, now: os.stat_result) -> list[str]:
    """What can be set on what is there."""
    found = []
    mode = stat.S_IMODE(now.st_mode)
    if member.type != kinds.LINK and mode != member.mode:
        found.append(f"mode {mode:04o} to {member.mode:04o}")
    if (now.st_uid, now.st_gid) != (member.uid, member.gid):
        found.append(f"owner {now.st_uid}:{now.st_gid} to {member.uid}:{member.gid}")
    if member.type == kinds.FILE and now.st_mtime_ns != member.mtime:
        found.append("time")
    if member.type != kinds.LINK and any(_attribute(path, name) != value for name, value in member.xattrs.items()):
        found.append("attributes")
    return found


_FORMATS = {
    kinds.FILE: stat.S_IFREG,
    kinds.DIRECTORY: stat.S_IFDIR,
    kinds.LINK: stat.S_IFLNK,
    kinds.FIFO: stat.S_IFIFO,
}


def _attribute(path: str, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return None


def _digest(path: str) -> str:
    """SHA-256 of a file; empty where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()
