"""Reading from cold storage: ask for the thaw, say how long it takes and what it costs, go on when it is there.

Nothing is thawed that nobody wants to read: a vault has no ``thaw`` of its own, and then what is cold is refused with
what to do. Restores and verifications of one backup give it one.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine import names
from engine.catalog import Entry
from engine.cold.classes import Coldness, Speed, cost_of, wait_of
from engine.errors import BackupError, Cold, Thawing
from engine.manifest import Manifest
from engine.stores.base import Store


@dataclass(frozen=True)
class Thaw:
    """How to thaw: for how many days the copy stays readable, and how fast it is to be there."""

    days: int = 3
    speed: Speed = "Standard"


def require_readable(store: Store, entry: Entry, manifest: Manifest, thaw: Thaw | None) -> None:
    """Return at once for what can be read; else ask for its thaw, if there is one to ask with.

    Raises:
        Thawing: It was asked for, now or before; the same again helps once it is there.
        Cold: It is cold, and nobody asked for it. And what the store raises.
    """
    frozen = [(key, how) for key, how in _parts(store, entry, manifest) if how.state != "thawed"]
    if not frozen:
        return
    if thaw is None:
        raise _cold(store, entry, frozen[0][1])
    asked = False
    for key, how in frozen:
        if how.state == "cold":
            store.thaw(key, thaw.days, thaw.speed)
            asked = True
    # Some endpoints are done at once.
    frozen = [(key, how) for key, how in _parts(store, entry, manifest) if how.state != "thawed"]
    if frozen:
        raise _thawing(store, manifest, frozen[0][1], thaw, asked)


def is_cold(store: Store, entry: Entry) -> Coldness | None:
    """How a backup's data stands, where it cannot be read now; None for what can, or when that cannot be told."""
    try:
        how = store.cold(entry.key)
    except BackupError:
        return None
    return how if how is not None and how.state != "thawed" else None


def note_of(entry: Entry, how: Coldness, speed: Speed = "Standard") -> str:
    """For a plan, before anything is asked for."""
    wait = wait_of(how.storage_class, speed)
    now = "its thaw is under way" if how.state == "thawing" else "it has to be thawed first"
    return (
        f"{entry.file} is in cold storage in {entry.location} ({how.storage_class}): {now} ({wait}; {cost_of(speed)})"
    )


def _parts(store: Store, entry: Entry, manifest: Manifest) -> list[tuple[str, Coldness]]:
    keys = [entry.beside(part.file) for part in manifest.files]
    return [(key, how) for key in keys if (how := store.cold(key)) is not None]


def _cold(store: Store, entry: Entry, how: Coldness) -> Cold:
    return Cold(
        f"{entry.file} is in cold storage in {store.describe()} ({how.storage_class}) and cannot be read now.",
        kept="it, and everything else",
        remedy=f"ask for its thaw: backups thaw {entry.file} --location {entry.location} "
        f"({wait_of(how.storage_class, 'Standard')}), or use another copy (--location)",
    )


def _thawing(store: Store, manifest: Manifest, how: Coldness, thaw: Thaw, asked: bool) -> Thawing:
    said = "its thaw was asked for now" if asked else "its thaw is under way"
    return Thawing(
        f"{manifest.file} is in cold storage in {store.describe()} ({how.storage_class}): {said} at "
        f"{names.iso(names.now().replace(microsecond=0))}; it takes {wait_of(how.storage_class, thaw.speed)} "
        f"({cost_of(thaw.speed)}; {manifest.stored_bytes:,} bytes), and it stays readable for {thaw.days} days.",
        kept="nothing was begun",
        remedy="run the same again when it is there, or with --wait; a flow run goes on by itself",
    )


__all__ = ["Thaw", "is_cold", "note_of", "require_readable"]
