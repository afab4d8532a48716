"""A volume that was written through the engine, read back through it and held against the listing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from engine.archive import member as kinds
from engine.archive.member import Member
from engine.errors import IntegrityError
from engine.volumes.helper import Helper

_MOST_NAMED = 5
_OWN = "lost+found"
"""What a new file system has by itself."""


def first_in(reading: Helper) -> str:
    """The first path that stands in a volume, read through the engine; empty where there is nothing."""
    return next((member.path for member, _ in reading.read() if member.path not in (kinds.ROOT, _OWN)), "")


def facts_of(members: Iterable[Member]) -> dict[str, bytes]:
    """By path a digest of what the engine can give back: kind, mode, owner, second, size, content, where it leads.
    Some eighty bytes a file."""
    return _all((member, member.sha256) for member in members)


def compare_through(reading: Helper, expected: dict[str, bytes]) -> int:
    """Read a volume through the engine; how many members it has.

    Raises:
        IntegrityError: It is not what was put there, naming the first that differ.
    """
    found = _all((member, _digest(content)) for member, content in reading.read())
    wrong = [path for path in expected if found.get(path) != expected[path]]
    wrong += [path for path in found if path not in expected]
    if wrong:
        named = ", ".join(map(repr, wrong[:_MOST_NAMED]))
        raise IntegrityError(f"What was restored is not what the backup holds: {named} and so on ({len(wrong):,}).")
    return len(expected)


def _all(members: Iterable[tuple[Member, str]]) -> dict[str, bytes]:
    """A file of several names is the same under each: which of them comes first is not the same everywhere. The
    engine sets no time before 1970."""
    found: dict[str, bytes] = {}
    for member, digest in members:
        if member.type == kinds.HARDLINK:
            found[member.path] = found.get(member.target, b"")
            continue
        content = digest if member.type == kinds.FILE else ""
        told = (member.type, member.mode, member.uid, member.gid, max(member.mtime // 10**9, 0), member.size, content,
                member.target)  # fmt: skip
        found[member.path] = hashlib.sha256(repr(told).encode()).digest()[:16]
    return found


def _digest(content: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in content:
        digest.update(chunk)
    return digest.hexdigest()
