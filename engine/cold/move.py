"""Old monthly archives move to cold storage: copied in place by the endpoint, under the class that the site names.

Only data moves; manifests and marks stay warm, so that listing, retention and the choice of a backup never wait. So do
the lists of buckets: they are to the contents, which newer lists name as well and which stay where they are, what a
manifest is to its data. The newest archive of each database stays warm whatever its age. A copy in place is one step of
the endpoint: killed before it nothing has changed, killed after it the next run finds it done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from engine import marks, names
from engine.buckets import record
from engine.catalog import Entry
from engine.config import ObjectStoreConfig
from engine.durations import seconds_of
from engine.errors import BackupError, IntegrityError, StoreRefused
from engine.manifest import Manifest
from engine.progress import Progress, silent
from engine.prune.contents import COOLED, EXPIRED, Claims, all_claims
from engine.site import Site


@dataclass
class Moved:
    """What became of one replica.

    Attributes:
        moved: Files that were moved now, and ``bytes`` of how much.
        stood: How many had been moved before.
        error: Why it ended early; what was moved before stays.
        failed: By file, why it was left as it is.
    """

    location: str
    storage_class: str
    moved: list[str] = field(default_factory=list)
    bytes: int = 0
    stood: int = 0
    error: BackupError | None = None
    failed: dict[str, BackupError] = field(default_factory=dict)

    def verdict(self) -> str:
        """One line."""
        return f"{self.location}: {len(self.moved)} moved to {self.storage_class}, {self.stood} stood there already"


def move_all(site: Site, *, now: datetime | None = None, progress: Progress = silent) -> list[Moved]:
    """Move what is old enough, in every replica that has a rule for it. One that fails holds up no other."""
    done = []
    for replica in site.config.vault.replicas:
        if replica.cold_class:
            done.append(_move(site, replica, now or names.now(), progress))
    return done


def _move(site: Site, replica: ObjectStoreConfig, now: datetime, progress: Progress) -> Moved:
    assert replica.cold_class
    done = Moved(replica.name, replica.cold_class)
    try:
        for entry, manifest in _due(site, replica, now, done):
            _move_one(site, entry, manifest, done, progress)
    except BackupError as error:
        done.error = error
    return done


def _due(site: Site, replica: ObjectStoreConfig, now: datetime, done: Moved) -> list[tuple[Entry, Manifest]]:
    """Proven monthly archives past their age, but the newest of each database, and lists of buckets."""
    after = timedelta(seconds=seconds_of(replica.cold_after))
    claims = all_claims(site.vault, replica.name)
    catalog = site.vault.catalog(replica.name)
    newest: set[tuple[str | None, str]] = set()
    due = []
    for entry in catalog.entries(tier=names.MONTHLY):
        said = claims.get(entry.key, Claims())
        if record.is_list(entry):
            continue
        if said.claim != "good" or said.expired == EXPIRED or said.superseded:
            continue
        whose = (entry.source, names.encode(entry.name.name))
        if whose not in newest:
            newest.add(whose)
        elif now - entry.name.taken_at >= after:
            try:
                due.append((entry, catalog.load(entry)))
            except BackupError as error:
                done.failed[entry.file] = error
    return due


def _move_one(site: Site, entry: Entry, manifest: Manifest, done: Moved, progress: Progress) -> None:
    """All parts of one archive; each is compared in size and class afterwards."""
    store = site.vault.store(entry.location)
    warm = [part for part in manifest.files if store.cold(entry.beside(part.file)) is None]
    if not warm:
        done.stood += 1
        return
    progress(f"move {entry.file} to {done.storage_class}", 0, manifest.stored_bytes)
    for part in reversed(warm):  # companions, then data
        key = entry.beside(part.file)
        info = store.stat(key)
        if info is None or info.size != part.size:
            done.failed[entry.file] = IntegrityError(
                f"{part.file} in {entry.location} is not as large as its manifest says; it was not moved."
            )
            return
        if not store.freeze(key, done.storage_class):
            raise StoreRefused(
                f"{store.describe()} does not copy objects by itself, so nothing can be moved to {done.storage_class}.",
                kept="everything, where it was",
                remedy=f"leave cold_class of replica {entry.location} empty",
            )
        after, how = store.stat(key), store.cold(key)
        if after is None or after.size != part.size or how is None:
            raise IntegrityError(f"{part.file} in {entry.location} is not in {done.storage_class} after it was moved.")
    facts = {"class": done.storage_class}
    marks.add(store, site.vault.layout(entry.location), site.vault.keys, entry, COOLED, facts)
    done.moved.append(entry.file)
    done.bytes += manifest.stored_bytes


__all__ = ["Moved", "move_all"]
