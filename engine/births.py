"""Where a new backup may be born: a source and tier that there are, room for it, and a name that nothing has yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from engine.catalog import Catalog
from engine.errors import DiskFull, UnknownName, nearest
from engine.journal import living
from engine.layout import Layout
from engine.names import BackupName
from engine.stores import Store

GROWTH = 1.2
"""A backup may be this much larger than the last one of its database."""
COMPRESSION_GUESS = 4
"""A first backup is expected to need this fraction of the server's own estimate."""


@dataclass(frozen=True)
class Births:
    """The local root, as those see it who begin a backup there.

    Attributes:
        sources: Names of the site's sources.
        publishing: Where writers under way keep their journals, with the names they have taken.
        store, catalog: Of the local root, as they are when asked for.
    """

    site: str
    root: Path
    publishing: Path
    sources: list[str]
    layout: Layout
    store: Callable[[], Store]
    catalog: Callable[[], Catalog]

    def known(self, source: str, tier: str) -> None:
        """Raises UnknownName with the nearest one: no such source or tier."""
        if source not in self.sources:
            raise UnknownName(f"Site {self.site} has no source {source!r}.", remedy=nearest(source, self.sources))
        tiers = list(self.layout.tiers)
        if tier not in tiers:
            raise UnknownName(f"There is no tier {tier!r}.", remedy=nearest(tier, tiers))

    def room_for(self, source: str, database: str, estimated_bytes: int) -> None:
        """Raises DiskFull, with figures: less room than the last such backup needs, or else the server's estimate of
        what it holds, before compression."""
        last = next(self.catalog().entries(source=source, database=database), None)
        need = int(last.size * GROWTH) if last else estimated_bytes // COMPRESSION_GUESS
        why = f"the last one has {last.size:,}" if last else f"the server holds about {estimated_bytes:,}"
        self.room(need, f"A backup of {source}/{database} ({why})")

    def room(self, need: int, what: str) -> None:
        """Raises DiskFull: fewer bytes are free than these."""
        free = self.store().free_bytes()
        if free is not None and free < need:
            raise DiskFull(
                f"{what} needs about {need:,} bytes in {self.root}; {free:,} are free.",
                kept="nothing was begun; the backups there are untouched",
                remedy=f"free {need - free:,} bytes on the file system of {self.root}: df -h {self.root}",
            )

    def free_name(self, source: str, name: BackupName) -> BackupName:
        """The name, or one with seconds added, that no backup of this source has, in any tier's folder:
        tiers may share a folder here or on a replica."""
        store = self.store()
        begun = {(facts.get("source"), facts.get("stem")) for facts in living(self.publishing, "publish")}
        while (source, name.stem) in begun or any(
            next(iter(store.list(f"{folder}/{name.stem}." if folder else f"{name.stem}.")), None)
            for folder in self.layout.folders(source, name.taken_at)
        ):
            name = replace(name, taken_at=name.taken_at + timedelta(seconds=1))
        return name
