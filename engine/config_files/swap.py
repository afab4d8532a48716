"""What was restored beside takes its place, and what stood there is kept: each step may be repeated, or taken back.

A directory of our own on the same file system holds ``new/`` (what waits), ``files/`` (what stood there) and
``before.jsonl`` (what was before: owners, modes, times). A file first gets a second name in ``files/``; then what waits
is renamed over it. What is no longer in ``new/`` has been put; so a dead run is gone on with, or taken back, by what is
there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.archive.member import Member, read_listing
from engine.archive.place import Placer
from engine.config_files.beneath import opened, same, status
from engine.config_files.walk import BEFORE

NEW, OLD = "new", "files"
_ROOT = Path("/")


@dataclass(frozen=True)
class Move:
    """One path that is put in place.

    Attributes:
        path: Below ``/``, without the slash.
        place: The directory that holds ``new/`` and ``files/``.
        new: Inode of what is put.
        had: Something stood there.
    """

    path: str
    place: Path
    new: int
    had: bool


@dataclass(frozen=True)
class Swap:
    """All that one restore changes: moves, and members whose mode, owner, time and attributes are set, with what these
    were before."""

    moves: list[Move] = field(default_factory=list)
    dressed: list[Member] = field(default_factory=list)
    undressed: list[Member] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For a journal, whose text may hold no bytes that are no UTF-8."""
        return {
            "moves": [
                [os.fsencode(each.path).hex(), os.fsencode(each.place).hex(), each.new, each.had] for each in self.moves
            ],
            "dressed": [each.line().decode() for each in self.dressed],
            "undressed": [each.line().decode() for each in self.undressed],
        }

    @classmethod
    def of(cls, body: dict[str, Any]) -> Swap:
        moves = [Move(_path(path), Path(_path(place)), int(new), bool(had)) for path, place, new, had in body["moves"]]
        lines = ([each.encode() for each in body[what]] for what in ("dressed", "undressed"))
        return cls(moves, *(list(read_listing(each, "the journal")) for each in lines))


def keep(place: Path, path: str) -> bool:
    """Give what stands at a path a second name in ``files/``; false where nothing does.

    Raises:
        OSError: It cannot have one. RestoreRefused: something on the way is no directory.
    """
    with _three(place, path) as (here, _, old, name):
        return _keep(name, here, old)


def forward(swap: Swap) -> list[str]:
    """Put all that is not put yet. Says what could not be given back, such as owners when not root.

    Raises:
        OSError: One cannot be put. RestoreRefused: something is in the way. What was put so far stands.
    """
    for move in swap.moves:
        if not os.path.lexists(move.place / NEW / move.path):
            continue
        with _three(move.place, move.path) as (here, new, old, name):
            _keep(name, here, old)
            os.rename(name, name, src_dir_fd=new, dst_dir_fd=here)
            with contextlib.suppress(FileNotFoundError):  # of two names of one file both stay
                os.unlink(name, dir_fd=new)
    notes = _dress(swap.dressed)
    _sync(swap.moves)
    return notes


def back(swap: Swap) -> list[str]:
    """Have all stand as it stood. Says what was left because somebody else has changed it since.

    Raises:
        OSError: One cannot be put back; its previous version is in ``files/``.
    """
    left = []
    for move in reversed(swap.moves):
        with _three(move.place, move.path) as (here, new, old, name):
            now, kept = status(name, here), status(name, old)
            ours = now is not None and now.st_ino == move.new
            if kept is not None and same(now, kept):
                os.unlink(name, dir_fd=old)
            elif kept is not None and (ours or now is None):
                os.rename(name, name, src_dir_fd=old, dst_dir_fd=here)
            elif kept is not None:
                left.append(f"/{move.path} was changed meanwhile: what stood there before is in {move.place / OLD}")
            elif ours and not move.had and status(name, new) is None:
                os.rename(name, name, src_dir_fd=here, dst_dir_fd=new)
    _dress(swap.undressed)
    _sync(swap.moves)
    return left


def write_before(place: Path, before: Iterable[tuple[str, Member | None]]) -> None:
    """Write down what stood at each path, None where nothing did; as lines of a listing, made durable."""
    with open(os.open(place / BEFORE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        for path, member in before:
            absent = json.dumps({"path": path, "type": "absent"}, separators=(",", ":")).encode() + b"\n"
            file.write(member.line() if member is not None else absent)
        file.flush()
        os.fsync(file.fileno())


def _keep(name: str, here: int, old: int) -> bool:
    now, kept = status(name, here), status(name, old)
    if now is None or same(now, kept):
        return now is not None
    if kept is not None:  # of before somebody else replaced it
        os.unlink(name, dir_fd=old)
    os.link(name, name, src_dir_fd=here, dst_dir_fd=old, follow_symlinks=False)
    os.fsync(old)
    return True


def _dress(members: Iterable[Member]) -> list[str]:
    placer = Placer(_ROOT, "")
    try:
        for each in members:
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile; comparing tells it
                placer.touch(each)
        return placer.notes
    finally:
        placer.close()


def _sync(moves: Iterable[Move]) -> None:
    for folder in sorted({each.path.rpartition("/")[0] for each in moves}):
        with opened(_ROOT, folder) as handle:
            os.fsync(handle)


@contextlib.contextmanager
def _three(place: Path, path: str) -> Iterator[tuple[int, int, int, str]]:
    """The open directories where a path stands, waits and is kept, and its name in them."""
    folder, _, name = path.rpartition("/")
    try:
        with opened(_ROOT, folder) as here, opened(place / NEW, folder) as new, opened(place / OLD, folder) as old:
            yield here, new, old, name
    except OSError as error:  # which names the last part alone
        error.filename, error.filename2 = f"/{path}", None
        raise


def _path(text: str) -> str:
    return os.fsdecode(bytes.fromhex(text))
