"""What is stored where, in which storage class, and what that costs by the prices of the site file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.config import BucketsConfig
from engine.drill.record import FOLDER as DRILLS
from engine.errors import BackupError
from engine.layout import MARKS
from engine.report.words import GIB
from engine.sealed import FOLDER as SEALED
from engine.site import Site
from engine.stores import LocalStore
from engine.stores.base import ObjectInfo


@dataclass(frozen=True)
class Held:
    """What a place holds in one storage class.

    Attributes:
        storage_class: Empty where nobody tells it.
        price: Of a GB (2^30 bytes) for a month; None where the site names none.
    """

    storage_class: str
    objects: int
    bytes: int
    price: float | None

    @property
    def monthly(self) -> float | None:
        """Cost of a month, as it stands now."""
        return None if self.price is None else self.bytes / GIB * self.price

    def as_dict(self) -> dict[str, Any]:
        return {
            "class": self.storage_class, "objects": self.objects, "bytes": self.bytes, "price": self.price,
            "monthly": None if self.monthly is None else round(self.monthly, 6),
        }  # fmt: skip


@dataclass(frozen=True)
class Place:
    """One place of the vault.

    Attributes:
        where: As its store describes it.
        error: Why it could not be listed; empty where it could.
    """

    name: str
    where: str
    held: list[Held] = field(default_factory=list)
    error: str = ""

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.held)

    def as_dict(self) -> dict[str, Any]:
        return {
            "place": self.name, "where": self.where, "bytes": self.bytes, "error": self.error,
            "classes": [each.as_dict() for each in self.held],
        }  # fmt: skip


def storage(site: Site, unseen: Mapping[str, BackupError]) -> list[Place]:
    """Every place, by a listing of all that is the site's there; those that could not be asked are not asked again."""
    return [_place(site, name, unseen.get(name)) for name in site.vault.locations()]


def monthly(places: list[Place]) -> tuple[float | None, bool]:
    """What all of it costs a month as far as prices are known, and whether all are; None where none is."""
    known = [each.monthly for place in places for each in place.held]
    sums = [each for each in known if each is not None]
    whole = len(sums) == len(known) and not any(place.error for place in places)
    return (sum(sums) if sums else None), whole


def _place(site: Site, name: str, error: BackupError | None) -> Place:
    where = site.vault.store(name).describe()
    if error is not None:
        return Place(name, where, error=error.message)
    counted: dict[str, tuple[int, int]] = {}
    try:
        for info in _objects(site, name):
            objects, size = counted.get(info.storage_class, (0, 0))
            counted[info.storage_class] = (objects + 1, size + info.size)
    except BackupError as failure:
        return Place(name, where, error=failure.message)
    prices = site.config.report
    held = [Held(kind, objects, size, prices.price_of(name, kind)) for kind, (objects, size) in sorted(counted.items())]
    return Place(name, where, held)


def _objects(site: Site, place: str) -> Iterator[ObjectInfo]:
    """All that is the site's in a place. Of a file with several names (archives are hard links) only the first."""
    store = site.vault.store(place)
    seen: set[tuple[int, int]] = set()
    for prefix in _prefixes(site, place):
        for info in store.list(prefix):
            if isinstance(store, LocalStore) and _is_known(str(store.root / info.key), seen):
                continue
            yield info


def _is_known(path: str, seen: set[tuple[int, int]]) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return True  # gone since
    if status.st_nlink == 1:
        return False
    identity = (status.st_dev, status.st_ino)
    known = identity in seen
    seen.add(identity)
    return known


def _prefixes(site: Site, place: str) -> list[str]:
    """What to list, none inside another."""
    layout = site.vault.layout(place)
    if layout.base:
        return [f"{layout.base}/"]
    contents = [
        layout.contents_prefix(source.name, bucket)
        for source in site.config.sources()
        if isinstance(source, BucketsConfig)
        for bucket in source.buckets
    ]
    wanted = sorted({*layout.prefixes(), *contents, f"{MARKS}/", f"{DRILLS}/", f"{SEALED}/"})
    return [one for number, one in enumerate(wanted) if not any(one.startswith(other) for other in wanted[:number])]
