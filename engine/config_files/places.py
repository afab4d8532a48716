"""Where new files wait and previous ones are kept: on the file system they belong to, so that a rename moves them.

A directory in the vault's root where that stands on the same file system, else one at the top of theirs, whose name
begins with a dot: a pattern that a server reads its configuration by (``sites-enabled/*``) finds nothing of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.archive.member import Member
from engine.config_files.beneath import opened
from engine.config_files.diff import Difference
from engine.config_files.walk import inside
from engine.errors import RestoreRefused

FileSystem = tuple[int, int]
"""Device and mount: what a file can be renamed within."""


@dataclass(frozen=True)
class Changed:
    """What a restore in place changes on one file system, in the archive's order.

    Attributes:
        near: A directory there that is changed.
        moved: Members to put in place, each with all below it where it is a directory that is not there.
        filled: All members to be written: those of ``moved`` and what is in them.
        dressed: Members whose mode, owner, time or attributes alone are set.
    """

    near: str
    moved: list[Member]
    filled: dict[str, Member]
    dressed: list[Member]


def by_file_system(found: Difference) -> list[Changed]:
    """What is to be changed, a file system each.

    Raises:
        RestoreRefused: One is read-only, a file that is to be replaced is mounted there by itself, or a link or file
            is in the way. FileNotFoundError: a directory is not there any more.
    """
    groups: dict[FileSystem, Changed] = {}
    known: dict[str, FileSystem] = {}
    of: dict[str, Changed] = {}
    for path, member in found.whole.items():
        folder = path.rpartition("/")[0]
        if folder not in of:
            one = _group(folder, groups, known)
            _refuse_mounted(f"/{path}", known[folder])
            one.moved.append(member)
        of[path] = of.get(folder) or one
        of[path].filled[path] = member
    for path, member in found.dress.items():
        one = _group(path.rpartition("/")[0], groups, known)
        one.dressed.append(member)
    return list(groups.values())


def place_for(changed: Changed, vault: Path, roots: Iterable[str]) -> Path:
    """The directory to make one in for what is replaced there; it need not be there itself.

    Args:
        vault: The vault's root.
        roots: What the backup holds: a place inside of these is the last choice.

    Raises:
        RestoreRefused: There is none that may be written to.
    """
    own = file_system(changed.near)
    beside = vault / "restored"
    if file_system(beside if beside.is_dir() else vault) == own:
        return beside
    at, found = Path(changed.near), []
    while file_system(at) == own:
        if os.access(at, os.W_OK | os.X_OK):
            found.append(at)
        if at == at.parent:
            break
        at = at.parent
    outside = [each for each in found if not any(str(each) == root or inside(str(each), root) for root in roots)]
    if not found:
        raise RestoreRefused(
            f"No directory on the file system of {changed.near} may be written to: previous files could not be kept.",
            kept="nothing was changed",
            remedy="run this as root, or restore into a directory and copy by hand",
        )
    return (outside or found)[-1]


def hidden(place: Path, vault: Path) -> bool:
    """Is this a place where a directory of ours is to have a name that patterns do not match?"""
    return place != vault / "restored"


def file_system(path: str | Path) -> FileSystem:
    """Of what stands at a path, a link itself. Raises OSError."""
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        facts = Path(f"/proc/self/fdinfo/{handle}").read_text().split()
        mount = int(facts[facts.index("mnt_id:") + 1]) if "mnt_id:" in facts else 0
        return os.fstat(handle).st_dev, mount
    finally:
        os.close(handle)


def _group(folder: str, groups: dict[FileSystem, Changed], known: dict[str, FileSystem]) -> Changed:
    if folder not in known:
        with opened(Path("/"), folder):  # never through a link
            known[folder] = file_system(f"/{folder}")
        if os.statvfs(f"/{folder}").f_flag & os.ST_RDONLY:
            raise RestoreRefused(
                f"/{folder} is on a read-only file system.",
                kept="nothing was changed",
                remedy="mount it writable, leave it out with --paths, or restore into a directory",
            )
    return groups.setdefault(known[folder], Changed(f"/{folder}", [], {}, []))


def _refuse_mounted(path: str, around: FileSystem) -> None:
    if os.path.lexists(path) and file_system(path) != around:
        raise RestoreRefused(
            f"{path} is mounted there by itself, as containers have files of their host: it cannot be replaced.",
            kept="nothing was changed",
            remedy="restore where it comes from, or leave it out with --paths, or restore into a directory",
        )
