"""Which files a config source holds: its paths with what leads to them, without what is excluded."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import names
from engine.archive.write import trouble

BEFORE = "before.jsonl"
"""In a directory where a restore in place keeps what it replaced: owners, modes and times of before."""
_MOST_LINKS = 40


@dataclass(frozen=True)
class Found:
    """One file, directory or link to archive; ``above`` for a directory that only leads to one."""

    path: str
    above: bool = False


class Walk:
    """Walks the paths of a source, a directory's names in order, every directory before what is in it.

    A path that is a link, or goes through one, brings the link itself and what it leads to.

    Args:
        paths: Absolute.
        exclude: Patterns. One without a slash is held against each file's own name, one with a slash against
            its whole path; ``*`` stands for anything. An excluded directory is not entered.
        spare: Directories that are never entered: the vault itself.

    Attributes:
        roots: The true paths that are archived with all that is in them; none is inside another.
        missing: What is not there or cannot be looked at: path and why.
        notes: What was left out on purpose.
    """

    def __init__(self, paths: Sequence[str], exclude: Sequence[str] = (), spare: Sequence[Path] = ()) -> None:
        self.missing: list[str] = []
        self.notes: list[str] = []
        self._by_name = [re.compile(fnmatch.translate(each)).match for each in exclude if "/" not in each]
        self._by_path = [re.compile(fnmatch.translate(each.rstrip("/"))).match for each in exclude if "/" in each]
        self._spare = [os.path.realpath(each) for each in spare]
        self._approach: dict[str, bool] = {}
        found = [root for path in paths if (root := self._resolve(path)) is not None]
        self.roots = [root for root in dict.fromkeys(found) if not any(inside(root, other) for other in found)]

    def __iter__(self) -> Iterator[Found]:
        # In the order of a single walk: tar sets a directory's time when it comes to what is outside of it.
        leading = [
            path for path in self._approach if not any(path == root or inside(path, root) for root in self.roots)
        ]
        for path in sorted((*leading, *self.roots), key=lambda each: os.fsencode(each).split(b"/")):
            if path in self._approach and path not in self.roots:
                yield Found(path, above=self._approach[path])
            else:
                yield from self._below(path)

    def excluded(self, path: str) -> bool:
        """Is this path left out by a pattern?"""
        name = path.rsplit("/", 1)[-1]
        return any(match(name) for match in self._by_name) or any(match(path) for match in self._by_path)

    def _below(self, root: str) -> Iterator[Found]:
        waiting = [root]
        while waiting:
            path = waiting.pop()
            if self.excluded(path):
                continue
            if path in self._spare:
                self.notes.append(f"{path} is left out: the backups themselves stand there")
                continue
            if names.BESIDE.search(path) and os.path.isfile(os.path.join(path, BEFORE)):
                self.notes.append(f"{path} is left out: a restore keeps there what it replaced")
                continue
            yield Found(path)
            waiting += reversed(self._inside(path))

    def _inside(self, path: str) -> list[str]:
        try:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                return []
            return [os.path.join(path, name) for name in sorted(os.listdir(path), key=os.fsencode)]
        except OSError as error:
            self.missing.append(f"{path}: {trouble(error)}")
            return []

    def _resolve(self, path: str) -> str | None:
        """The true path of a configured one, what leads there noted; None where there is nothing."""
        parts = deque(path.split("/"))
        at = "/"
        links = 0
        while parts:
            name = parts.popleft()
            if name in ("", "."):
                continue
            here = os.path.dirname(at) if name == ".." else os.path.join(at, name)
            try:
                mode = os.lstat(here).st_mode
            except OSError as error:
                self._tell_missing(path, here, error)
                return None
            if stat.S_ISLNK(mode):
                links += 1
                if links > _MOST_LINKS:
                    self.missing.append(f"{path}: too many links lead to each other")
                    return None
                self._approach[here] = False
                target = os.readlink(here)
                parts.extendleft(reversed(target.split("/")))
                at = "/" if target.startswith("/") else at
                continue
            if name != ".." and any(each not in ("", ".") for each in parts):
                self._approach.setdefault(here, True)
            at = here
        if at == "/":
            self.missing.append(f"{path}: it leads to /, which is the whole machine; name its parts")
            return None
        return at

    def _tell_missing(self, path: str, here: str, error: OSError) -> None:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            self.missing.append(f"{path} is not there" if here == path else f"{path} is not there: there is no {here}")
        else:
            self.missing.append(f"{path}: {trouble(error)}")


def inside(path: str, folder: str) -> bool:
    """Is a path below a folder?"""
    return path.startswith(folder.rstrip("/") + "/") and path != folder
