"""Removing the contents that no list names any more; part of a prune.

A content goes only when every list of its bucket in that place could be read, none names it, and it is a day old: a
snapshot or a copy that is under way, here or on another machine, has not written its list yet. Nothing is removed
where there is no list at all: that looks like lists that were lost, or are looked for in the wrong folder.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime, timedelta

from engine import names
from engine.buckets import record
from engine.buckets.contents import Contents
from engine.buckets.disk_map import DiskMap
from engine.catalog import Entry
from engine.errors import BackupError, IntegrityError, LockHeld, NotFound, Retained, WrongKey
from engine.leases import Hold
from engine.manifest import Manifest
from engine.vault import LOCAL, Vault

AGE = timedelta(hours=23)
"""A content that no list names stays this long."""


@dataclass
class Swept:
    """What became of the contents of one bucket in one place; sizes in bytes.

    Attributes:
        kept: Contents that lists name, or that are too young to go.
        problem: Why nothing, or not everything, was removed.
    """

    source: str
    bucket: str
    location: str
    removed: int = 0
    removed_bytes: int = 0
    kept: int = 0
    problem: str = ""

    def __str__(self) -> str:
        what = f"contents of {self.source}/{self.bucket} in {self.location}"
        told = f"{what}: {self.removed:,} removed ({self.removed_bytes:,} bytes), {self.kept:,} kept"
        return f"{told}; {self.problem}" if self.problem else told


def sweep_contents(vault: Vault, location: str, source: str, bucket: str, *, now: datetime | None = None) -> Swept:
    """Remove what no list of a bucket names any more. Never raises for one bucket: ``problem`` says what is wrong."""
    found = Swept(source, bucket, location)
    try:
        with ExitStack() as held:
            held.enter_context(vault.lock(source, bucket))
            hold = held.enter_context(vault.filling(location, source, bucket))
            _sweep(vault, found, hold, now or names.now())
    except LockHeld as error:
        found.problem = f"nothing was removed: {error.message.rstrip('.')}"
    except BackupError as error:
        found.problem = f"not all was looked at: {error.message.rstrip('.')}"
    return found


def _sweep(vault: Vault, found: Swept, hold: Hold, now: datetime) -> None:
    contents = vault.contents(found.location, found.source, found.bucket)
    with DiskMap() as needed:
        entries = list(vault.catalog(found.location).entries(source=found.source, database=found.bucket))
        if not entries:
            found.problem = "nothing was removed: there is no list of it there"
            return
        read: set[str] = set()
        for entry in entries:
            manifest = vault.catalog(found.location).load(entry)
            if manifest.data.sha256 in read:  # promoted, it is the same list
                continue
            read.add(manifest.data.sha256)
            _take(vault, entry, manifest, needed)
        _remove(contents, found, needed, hold, now)
    for key, seconds in contents.strays():
        if seconds > AGE.total_seconds():
            hold.check("what was never written to its end was removed")
            contents.store.delete(key)


def _take(vault: Vault, entry: Entry, manifest: Manifest, needed: DiskMap) -> None:
    """What one list names; read from the local root where the same list stands there."""
    tries = [entry]
    if entry.location != LOCAL:
        same = vault.catalog(LOCAL).entries(source=manifest.source, database=manifest.database)
        tries = [*(each for each in same if each.file == entry.file), entry]
    for each in tries:
        try:
            with closing(vault.read_part(each, manifest)) as plain:  # by the digest of this very manifest
                needed.update((name, "") for name in record.stored_names(plain, manifest.file))
            return
        except (IntegrityError, NotFound, WrongKey):
            if each is entry:
                raise


def _remove(contents: Contents, found: Swept, needed: DiskMap, hold: Hold, now: datetime) -> None:
    for each in contents.listing():
        if each.name in needed or now - each.modified < AGE:
            found.kept += 1
            continue
        hold.check("a content that no list names was removed")
        try:
            contents.remove(each.name)
        except Retained as error:
            found.problem = error.message.rstrip(".")
            found.kept += 1
            continue
        found.removed += 1
        found.removed_bytes += each.size
