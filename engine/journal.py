"""A journal of steps that must be finished or undone, whatever happens to the process.

One file a piece of work, ``<kind>-<time>-<random>.jsonl`` under the vault's state directory, appended
and fsynced a line a step. Its writer holds a flock on it: a journal that can be locked has no living
owner, and the next run takes it over with ``abandoned``. A closed journal is deleted.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine import names
from engine.errors import DiskFull


class Journal:
    """Steps of one piece of work, oldest first; each a dict with ``step`` and ``at`` (UTC)."""

    def __init__(self, path: Path, handle: int, steps: list[dict[str, Any]]) -> None:
        self.path = path
        self.steps = steps
        self._handle = handle

    @classmethod
    def create(cls, directory: Path, kind: str, **facts: Any) -> Journal:
        """Begin a journal of that kind (``mysql-restore``, ``postgres-restore``...). No secrets in facts."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path, handle = _claim(directory, kind)
        journal = cls(path, handle, [])
        try:
            journal.record("begin", kind=kind, **facts)
            _sync_directory(directory)
        except BaseException:
            journal.close()
            raise
        return journal

    @property
    def kind(self) -> str:
        return str(self.steps[0]["kind"]) if self.steps else ""

    @property
    def facts(self) -> dict[str, Any]:
        """What the journal was begun with."""
        return self.steps[0] if self.steps else {}

    def record(self, step: str, **facts: Any) -> None:
        """Write a step down, durably, *before* doing it (or after, for what it learnt).

        Raises:
            DiskFull: No room for the line; the journal is as it was before.
        """
        entry = {"step": step, "at": names.iso(names.now()), **facts}
        end = os.fstat(self._handle).st_size
        try:
            rest = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
            while rest:
                rest = rest[os.write(self._handle, rest) :]
            os.fsync(self._handle)
        except OSError as error:
            os.ftruncate(self._handle, end)  # half a line would hide every later one
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(
                    f"No room left for the journal {self.path}.", kept="what was about to be done was not begun"
                ) from error
            raise
        self.steps.append(entry)

    def reached(self, step: str) -> dict[str, Any] | None:
        """The last entry of that step, or None when it was never recorded."""
        return next((entry for entry in reversed(self.steps) if entry["step"] == step), None)

    def close(self) -> None:
        """The work is whole (done or undone); nothing is left to recover."""
        if self._handle < 0:
            return
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let go without closing: the next run will take it over."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def abandoned(directory: Path, kind_prefix: str = "") -> Iterator[Journal]:
    """Journals whose writer is dead, oldest first, each now held by us."""
    paths = [path for path in directory.glob("*.jsonl") if path.name.startswith(kind_prefix)]
    for path in sorted(paths, key=lambda each: each.name.rsplit("-", 2)[1:]):
        handle = _take_over(path)
        if handle is None:
            continue
        steps = _read(handle)
        if not steps:  # died before its first line was whole: nothing had been done yet
            path.unlink(missing_ok=True)
            os.close(handle)
            continue
        yield Journal(path, handle, steps)


def living(directory: Path, kind_prefix: str = "") -> Iterator[dict[str, Any]]:
    """The facts of journals that some process, perhaps this one, holds now."""
    for path in directory.glob("*.jsonl"):
        if not path.name.startswith(kind_prefix):
            continue
        handle = _take_over(path)
        if handle is not None:
            os.close(handle)
            continue
        try:
            first = path.read_bytes().split(b"\n", 1)[0]
            yield json.loads(first)
        except (FileNotFoundError, ValueError):
            continue


def _claim(directory: Path, kind: str) -> tuple[Path, int]:
    """A new locked file. Between making and locking it, another run may take it for a dead one's."""
    while True:
        path = directory / f"{kind}-{names.now():%Y%m%d_%H%M%S}-{secrets.token_hex(4)}.jsonl"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return path, handle
        os.close(handle)


def _take_over(path: Path) -> int | None:
    """A lock on a dead writer's journal, or None when it lives or is gone."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    if not os.fstat(handle).st_nlink:
        os.close(handle)
        return None
    return handle


def _read(handle: int) -> list[dict[str, Any]]:
    """The whole lines. A torn last one is cut off: that step was not begun, and ours must not join it."""
    steps: list[dict[str, Any]] = []
    end = 0
    data = os.pread(handle, os.fstat(handle).st_size, 0)
    for line in data.splitlines(keepends=True):
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or not isinstance(entry, dict) or "step" not in entry:
            break
        steps.append(entry)
        end += len(line)
    if end < len(data):
        os.ftruncate(handle, end)
    return steps


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
