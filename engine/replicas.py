"""Bringing a replica up to date: several backups side by side, as many as the site file allows.

Copies fail apart. What a place says to all of them alike ends its turn: it takes no key of ours, it is full, or it
answered none of a few copies that came one after another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

from engine import stopping
from engine.abreast import abreast
from engine.buckets.record import is_list
from engine.catalog import Entry
from engine.copy_turns import PATIENCE
from engine.errors import (
    BackupError,
    Cancelled,
    ConfigError,
    CopyUnderWay,
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

IN_A_ROW = 3
"""So many copies that fail one after another for reasons of the place are enough."""
OWN = 6 * 3600.0
"""Seconds that a run waits for another one that copies its own backup."""
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
        elsewhere: What another run copies there just now; it tells how that ends.
        left: What was not begun any more.
        over: Why the place is not asked for anything more now; None where it may be.
    """

    copied: list[tuple[Entry, Stored]] = field(default_factory=list)
    failed: list[tuple[Entry, BackupError]] = field(default_factory=list)
    elsewhere: list[tuple[Entry, CopyUnderWay]] = field(default_factory=list)
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


def replicate(site: Site, entry: Entry, replica: str, *, own: bool = False, progress: Progress = silent) -> Stored:
    """Copy one backup to a replica. Idempotent.

    Args:
        own: Of this very run, which is not done before it stands there: another run that is at it is awaited for
            hours. Of anything else for a minute.

    Raises:
        LockHeld: Another run was at it all the time, and it is of this run. And what ``Vault.replicate`` raises;
            Cancelled.
    """
    what = f"the copy of {entry.file} to {replica}"
    stopping.check(what)
    try:
        return site.vault.replicate(entry, replica, stopping.heeding(progress, what), OWN if own else PATIENCE)
    except CopyUnderWay as error:
        if own:
            raise LockHeld(error.message, kept=error.kept, remedy=error.remedy) from None
        raise


def bring(entries: Sequence[Entry], copy: Callable[[Entry], Stored], at_once: int) -> Brought:
    """Copy them, so many at a time, begun in the order given; lists of the same bucket one after another, since they
    share their contents.

    Args:
        copy: One of them; called from several threads where ``at_once`` is more than 1.
    """
    work = _Work(copy)
    abreast(_groups(entries, at_once), work.do, at_once=at_once)
    order = {entry: number for number, entry in enumerate(entries)}
    work.done.copied.sort(key=lambda each: order[each[0]])
    work.done.failed.sort(key=lambda each: order[each[0]])
    work.done.elsewhere.sort(key=lambda each: order[each[0]])
    work.done.left.sort(key=order.__getitem__)
    return work.done


def catch_up(
    site: Site, replica: str, entries: Sequence[Entry], *, own: Container[str] = (), progress: Progress = silent
) -> Brought:
    """Bring backups to a replica, as many at a time as the site file says. ``own``: the files of this very run, see
    ``replicate``."""

    def copy(entry: Entry) -> Stored:
        return replicate(site, entry, replica, own=entry.file in own, progress=progress)

    return bring(entries, copy, concurrency(site, replica))


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
        except CopyUnderWay as error:
            with self._guard:
                self.done.elsewhere.append((entry, error))
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
        if isinstance(error, _OF_THE_PLACE) or self._in_a_row >= IN_A_ROW:
            self.done.over = self.done.over or error


def _groups(entries: Sequence[Entry], at_once: int) -> list[list[Entry]]:
    if at_once == 1:
        return [list(entries)]
    groups: dict[object, list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.source, entry.name.name) if is_list(entry) else entry, []).append(entry)
    return list(groups.values())


__all__ = ["Brought", "bring", "catch_up", "concurrency", "replicate"]
