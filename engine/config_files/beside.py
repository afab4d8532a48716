"""What is to be put in place, written beside first and compared there: nothing that stands is touched meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from engine import names
from engine.archive import member as kinds
from engine.archive.member import Member, of_stat
from engine.archive.place import Placer
from engine.archive.write import attributes_of
from engine.config_files.beneath import opened, remove, sync
from engine.config_files.diff import Change, difference
from engine.config_files.places import Changed, by_file_system, hidden, place_for
from engine.config_files.plan import ConfigPlan
from engine.config_files.source import shown
from engine.config_files.swap import NEW, OLD, Move, Swap, keep, write_before
from engine.config_files.words import UNTOUCHED, speaking
from engine.errors import IntegrityError
from engine.journal import Journal

Fill = Callable[[dict[str, Member], Callable[[Member, Iterable[bytes]], None]], None]
"""Hands over the wanted members that are no directories, each with its content from the archive."""


@dataclass(frozen=True)
class _Place:
    path: Path
    changed: Changed

    @property
    def new(self) -> Path:
        return self.path / NEW


class Beside:
    """The directories, one for each file system, where a restore in place puts things together.

    Args:
        token: Ends the directories' names until the restore is done.
    """

    def __init__(self, plan: ConfigPlan, vault: Path, token: str, journal: Journal) -> None:
        self._plan = plan
        self._vault = vault
        self._token = token
        self._journal = journal
        self._places: list[_Place] = []
        self.notes: list[str] = []

    def make(self) -> None:
        """Make the directories, each written down before.

        Raises:
            RestoreRefused: A file system is read-only, or none of its directories can be written to. DiskFull.
        """
        assert self._plan.difference is not None
        stamp = f"{names.now():{names.STAMP}}"
        with speaking("making room for what is restored"):
            for changed in by_file_system(self._plan.difference):
                place = place_for(changed, self._vault, self._plan.roots)
                name = f"{self._plan.target.source}_before_{stamp}"
                final = place / f"{'.' * hidden(place, self._vault)}{name}"
                made = place / f".{name}.{self._token}"
                self._journal.record("place", path=os.fsencode(made).hex(), kept_as=os.fsencode(final).hex())
                place.mkdir(parents=True, exist_ok=True, mode=0o700)
                made.mkdir(mode=0o700)
                sync(place)
                self._places.append(_Place(made, changed))

    def fill(self, fill: Fill) -> None:
        """Write all of it from one copy of the backup, and compare it with the signed listing.

        Raises:
            IntegrityError: That copy is not whole. RestoreRefused, DiskFull.
        """
        with speaking("writing beside what is to be restored"), contextlib.ExitStack() as stack:
            placers = {}
            wanted: dict[str, Member] = {}
            of: dict[str, Placer] = {}
            for each in self._places:
                self._clear(each)
                placers[each.path] = placer = Placer(each.new, self._token)
                stack.callback(placer.close)
                self._directories(each, placer)
                for path, member in each.changed.filled.items():
                    if member.type == kinds.HARDLINK and member.target not in each.changed.filled:
                        self._name_again(each, member)
                    elif member.type != kinds.DIRECTORY:
                        wanted[path], of[path] = member, placer
            if wanted:
                fill(wanted, lambda member, content: of[member.path].put(member, content))
            for placer in placers.values():
                placer.finish()
            self._compare()
            self.notes = [note for placer in placers.values() for note in placer.notes]

    def swap(self) -> Swap:
        """Keep what stands there, and say what is to be put: the moves of a swap.

        Raises:
            RestoreRefused: A file cannot be kept under a second name. DiskFull.
        """
        found = Swap()
        for place in self._places:
            before: list[tuple[str, Member | None]] = []
            with speaking("keeping what stands there"):
                for member in place.changed.moved:
                    had = keep(place.path, member.path)
                    before.append((member.path, standing(member.path) if had else None))
                    inode = os.lstat(place.new / member.path).st_ino
                    found.moves.append(Move(member.path, place.path, inode, had))
                for member in place.changed.dressed:
                    old = standing(member.path)
                    if old is not None:
                        before.append((member.path, old))
                        found.dressed.append(member)
                        found.undressed.append(old)
                write_before(place.path, before)
                _as_they_are(place.path / OLD)
                _sync_below(place.path)
        return found

    def _clear(self, place: _Place) -> None:
        """An empty ``new/`` and ``files/`` with the directories that lead to each place."""
        for folder in (NEW, OLD):
            remove(place.path / folder)
            (place.path / folder).mkdir(mode=0o700)
            for member in place.changed.moved:
                (place.path / folder / member.path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _directories(self, place: _Place, placer: Placer) -> None:
        for member in place.changed.filled.values():
            if member.type == kinds.DIRECTORY:
                placer.directory(member)

    def _name_again(self, place: _Place, member: Member) -> None:
        """Another name of a file that stands there as it should."""
        folder, _, name = member.path.rpartition("/")
        source, _, first = member.target.rpartition("/")
        with opened(Path("/"), source) as there, opened(place.new, folder) as here:
            os.link(first, name, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)

    def _compare(self) -> None:
        """Raises IntegrityError: what was written is not what the listing says."""
        for place in self._places:
            filled = place.changed.filled
            members = [each for each in filled.values() if each.type != kinds.HARDLINK or each.target in filled]
            found = difference(members, str(place.new), [], [])
            wrong = wrong_ones(found.changes)
            if wrong or found.blocked:
                told = "; ".join(shown(str(each)) for each in [*wrong, *found.blocked][:5])
                raise IntegrityError(f"What was written beside is not what the backup holds: {told}.", kept=UNTOUCHED)


def standing(path: str) -> Member | None:
    """What stands at a path below ``/``, without its content; None where nothing does."""
    try:
        found = os.lstat(f"/{path}")
    except FileNotFoundError:
        return None
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "other")
    target = os.readlink(f"/{path}") if kind == kinds.LINK else ""
    size = found.st_size if kind == kinds.FILE else 0
    return of_stat(path, kind, found, target=target, size=size, xattrs=attributes_of(f"/{path}"))


def wrong_ones(changes: Iterable[Change]) -> list[Change]:
    """Those that are wrong: what only root can give differs for others."""
    root = os.geteuid() == 0
    return [each for each in changes if root or not all(what.startswith(_BY_ROOT) for what in each.what)]


def _as_they_are(kept: Path) -> None:
    """Give directories that hold what is kept owner, mode, time and attributes of those they stand for, so that all of
    it can be copied back by hand."""
    for folder, _, _ in os.walk(kept, topdown=False):
        real = Path("/") / Path(folder).relative_to(kept)
        now = os.lstat(real)
        with contextlib.suppress(PermissionError):
            os.chown(folder, now.st_uid, now.st_gid)
        shutil.copystat(real, folder, follow_symlinks=False)


def _sync_below(base: Path) -> None:
    for folder, _, _ in os.walk(base, topdown=False):
        sync(Path(folder))


_BY_ROOT = ("owner ", "mode ", "attributes")
_KINDS = {
    stat.S_IFREG: kinds.FILE,
    stat.S_IFDIR: kinds.DIRECTORY,
    stat.S_IFLNK: kinds.LINK,
    stat.S_IFIFO: kinds.FIFO,
}
