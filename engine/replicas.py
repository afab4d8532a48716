"""Bringing a replica up to date: several backups side by side, as many as the site file allows.

Copies fail apart. What a place says to all of them alike ends its turn: it takes no key of ours, it is full, or it
answered none of a few copies that came one after another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from engine import stopping
from engine.abreast import abreast
from engine.buckets.record import is_list
from engine.catalog import Entry
from engine.errors import (
    BackupError,
    Cancelled,
    ConfigError,
    CredentialsRefused,
    DiskFull,
    IntegrityError,
    LockHeld,
    MissingGrant,
    NotFound,
    WrongKey,
    in_words,
)
from engine.progress import Progress, silent
from engine.site import Site
from engine.stores.base import Stored

PATIENCE = 3
"""So many copies that fail one after another for reasons of the place are enough."""
_OF_THE_PLACE = (ConfigError, CredentialsRefused, MissingGrant, DiskFull)
"""The next copy would fail the same way."""
_OF_THE_BACKUP = (IntegrityError, WrongKey, NotFound, LockHeld)
"""... this says nothing about the next one."""


@dataclass
class Brought:
    """What became of the backups that a replica lacked, in the order in which they were given.

    Attributes:
        copied: What stands there now, and how that was proven.
        failed: What could not be copied, and why.
        left: What was not begun any more.
        over: Why the place is not asked for anything more now; None where it may be.
    """

    copied: list[tuple[Entry, Stored]] = field(default_factory=list)
    failed: list[tuple[Entry, BackupError]] = field(default_factory=list)
    left: list[Entry] = field(default_factory=list)
    over: BackupError | None = None

    @property
    def missing(self) -> list[Entry]:
        """What the replica still lacks."""
        return [*(entry for entry, _ in self.failed), *self.left]

    @property
    def error(self) -> BackupError | None:
        """Why it lacks something; of several reasons the one that weighs most."""
        return self.over or next((error for _, error in self.failed), None)


def concurrency(site: Site, replica: str) -> int:
    """How many backups are copied there at a time, at most."""
    return next(each.concurrency for each in site.config.vault.replicas if each.name == replica)


def replicate(site: Site, entry: Entry, replica: str, *, progress: Progress = silent) -> Stored:
    """Copy one backup to a replica. Idempotent. Raises what ``Vault.replicate`` does; Cancelled."""
    what = f"the copy of {entry.file} to {replica}"
    stopping.check(what)
    return site.vault.replicate(entry, replica, stopping.heeding(progress, what))


def bring(entries: Sequence[Entry], copy: Callable[[Entry], Stored], at_once: int) -> Brought:
    """Copy them, so many at a time, begun in the order given; lists of the same bucket one after another, since they
    share their contents.

    Args:
        copy: One of them; called from several threads where ``at_once`` is more than 1.
    """
    work = _Work(copy)
    abreast(_groups(entries, at_once), work.do, at_once=at_once)
    order = {entry: number for number, entry in enumerate(entries)}
    for done in (work.done.copied, work.done.failed):
        done.sort(key=lambda each: order[each[0]])
    work.done.left.sort(key=order.__getitem__)
    return work.done


def catch_up(site: Site, replica: str, entries: Sequence[Entry], *, progress: Progress = silent) -> Brought:
    """Bring backups to a replica, as many at a time as the site file says."""
    return bring(entries, lambda entry: replicate(site, entry, replica, progress=progress), concurrency(site, replica))


class _Work:
    """The copies to one replica: what became of them, and whether the place is worth another try."""

    def __init__(self, copy: Callable[[Entry], Stored]) -> None:
        self.done = Brought()
        self._copy = copy
        self._in_a_row = 0
        self._guard = threading.Lock()

    def do(self, entry: Entry) -> None:
        if self.done.over is not None:
            with self._guard:
                self.done.left.append(entry)
            return
        try:
            stored = self._copy(entry)
        except Cancelled:
            raise
        except Exception as failure:
            with self._guard:
                self._failed(entry, in_words(failure, f"The copy of {entry.file}"))
        else:
            with self._guard:
                self._in_a_row = 0
                self.done.copied.append((entry, stored))

    def _failed(self, entry: Entry, error: BackupError) -> None:
        self.done.failed.append((entry, error))
        if isinstance(error, _OF_THE_BACKUP):
            return
        self._in_a_row += 1
        if isinstance(error, _OF_THE_PLACE) or self._in_a_row >= PATIENCE:
            self.done.over = self.done.over or error


def _groups(entries: Sequence[Entry], at_once: int) -> list[list[Entry]]:
    if at_once == 1:
        return [list(entries)]
    groups: dict[object, list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.source, entry.name.name) if is_list(entry) else entry, []).append(entry)
    return list(groups.values())


__all__ = ["Brought", "bring", "catch_up", "concurrency", "replicate"]
