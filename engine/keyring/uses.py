"""Which key each backup needs, told from the signed manifests of every place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.catalog import Entry
from engine.errors import BackupError, IntegrityError, NotFound, WrongKey
from engine.manifest import Manifest
from engine.progress import Progress, silent
from engine.vault import LOCAL, Vault

Known = tuple[Entry, Manifest]


@dataclass
class Use:
    """What a key still opens: how many backups (a copy elsewhere is the same one), their stored bytes, and where."""

    count: int = 0
    bytes: int = 0
    locations: set[str] = field(default_factory=set)


@dataclass
class Uses:
    """By key id.

    Attributes:
        unseen: Places that could not be asked.
        unreadable: Backups whose manifest does not hold, or whose key the ring has not.
    """

    by_key: dict[str, Use] = field(default_factory=dict)
    unseen: dict[str, BackupError] = field(default_factory=dict)
    unreadable: dict[str, BackupError] = field(default_factory=dict)


def uses(vault: Vault, progress: Progress = silent) -> Uses:
    """Read every manifest there is. Raises what the local root raises."""
    found = Uses()
    seen: set[tuple[str, str, str]] = set()
    for location in vault.locations():
        try:
            for entry, manifest in manifests(vault, location, found.unreadable, progress):
                use = found.by_key.setdefault(manifest.data.cipher.key_id, Use())
                use.locations.add(location)
                identity = (manifest.source, manifest.tier, entry.file)
                if identity not in seen:
                    seen.add(identity)
                    use.count += 1
                    use.bytes += manifest.stored_bytes
        except BackupError as error:
            if location == LOCAL:
                raise
            found.unseen[location] = error
    return found


def manifests(
    vault: Vault, location: str, unreadable: dict[str, BackupError], progress: Progress = silent
) -> Iterator[Known]:
    """Every backup of a place with its manifest, newest first; what cannot be read is noted."""
    catalog = vault.catalog(location)
    for number, entry in enumerate(catalog.entries()):
        progress(f"read the manifests in {location}", number)
        try:
            yield entry, catalog.load(entry)
        except (IntegrityError, WrongKey, NotFound) as error:
            unreadable[f"{location}: {entry.key}"] = error
