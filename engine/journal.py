"""A journal of steps that must be finished or undone, whatever happens to the process.

One file a piece of work, ``<id>.jsonl`` under the vault's state directory, appended and fsynced a line
a step. Its writer holds a flock on it: a journal that can be locked has no living owner, and the next
run takes it over with ``abandoned``. A closed journal is deleted.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine import names


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
        path = directory / f"{kind}-{names.now():%Y%m%d_%H%M%S}-{secrets.token_hex(4)}.jsonl"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        journal = cls(path, handle, [])
        journal.record("begin", kind=kind, **facts)
        _sync_directory(directory)
        return journal

    @property
    def kind(self) -> str:
        return str(self.steps[0]["kind"]) if self.steps else ""

    @property
    def facts(self) -> dict[str, Any]:
        """What the journal was begun with."""
        return self.steps[0] if self.steps else {}

    def record(self, step: str, **facts: Any) -> None:
        """Write a step down, durably, *before* doing it (or after, for what it learnt)."""
        entry = {"step": step, "at": names.iso(names.now()), **facts}
        os.write(self._handle, json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        os.fsync(self._handle)
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
    for path in sorted(directory.glob(f"{kind_prefix}*.jsonl")):
        try:
            handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            continue
        if not path.exists():
            os.close(handle)
            continue
        steps = _read(path)
        if not steps:  # died before its first line was whole: nothing had been done yet
            path.unlink(missing_ok=True)
            os.close(handle)
            continue
        yield Journal(path, handle, steps)


def _read(path: Path) -> list[dict[str, Any]]:
    steps = []
    for line in path.read_bytes().splitlines():
        try:
            steps.append(json.loads(line))
        except ValueError:
            break  # a torn last line: that step was not begun
    return steps


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
