"""Which key each backup needs, told from the signed manifests of every place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from engine import sealed
from engine.catalog import Entry
from engine.errors import BackupError, IntegrityError, NotFound, WrongKey
from engine.keyring.needed import require_keys
from engine.keyring.strangers import strangers
from engine.manifest import Manifest
from engine.progress import Progress, silent
from engine.vault import LOCAL, Vault

Known = tuple[Entry, Manifest]


@dataclass
class Use:
    """What a key still opens: how many backups (a copy elsewhere is the same one), their stored bytes, and where.

    Attributes:
        bytes: Of files of backups; what the contents of buckets come to is not known without reading every list.
        leaning: How many of these are lists of buckets that name contents which this key wrote.
        site_files: How many sealed site files, which tell what the machine was, need it as well.
    """

    count: int = 0
    bytes: int = 0
    leaning: int = 0
    site_files: int = 0
    locations: set[str] = field(default_factory=set)


@dataclass
class Uses:
    """By key id.

    Attributes:
        unseen: Places that could not be asked.
        unreadable: Backups whose manifest does not hold, or whose key the ring has not.
        strangers: Of those that were counted, backups that the site file does not lead to: their source's name by
            place and key.
    """

    by_key: dict[str, Use] = field(default_factory=dict)
    unseen: dict[str, BackupError] = field(default_factory=dict)
    unreadable: dict[str, BackupError] = field(default_factory=dict)
    strangers: dict[str, str] = field(default_factory=dict)


def uses(vault: Vault, progress: Progress = silent) -> Uses:
    """Read every manifest there is. Raises what the local root raises."""
    found = Uses()
    seen: set[tuple[str, str, str]] = set()
    points: set[str] = set()
    for location in vault.locations():
        try:
            for about, manifest in _all(vault, location, found, progress):
                identity = (manifest.source, manifest.tier, manifest.file)
                _count(found, location, manifest, is_new=identity not in seen)
                seen.add(identity)
                try:
                    require_keys(vault.keys, manifest)
                except WrongKey as error:
                    found.unreadable[about] = error
            _count_site_files(vault, location, found, points)
        except BackupError as error:
            if location == LOCAL:
                raise
            found.unseen[location] = error
    return found


def _all(vault: Vault, location: str, found: Uses, progress: Progress) -> Iterator[tuple[str, Manifest]]:
    """Every manifest of a place: of what the site file leads to, and of what it does not."""
    for entry, manifest in manifests(vault, location, found.unreadable, progress):
        yield f"{location}: {entry.key}", manifest
    for each in strangers(vault, location):
        if each.manifest is not None:
            found.strangers[each.about] = each.manifest.source
            yield each.about, each.manifest
        elif each.error is not None:
            found.unreadable[each.about] = each.error


def _count_site_files(vault: Vault, location: str, found: Uses, points: set[str]) -> None:
    """Those of points that were not counted in another place."""
    store = vault.store(location)
    for each in sealed.listed(store, sealed.folder_of(vault.layout(location)), vault.site):
        try:
            use = found.by_key.setdefault(sealed.key_id_of(store.get(each.key)), Use())
        except NotFound:
            continue  # removed since
        except IntegrityError as error:
            found.unreadable[f"{location}: {each.key}"] = error
            continue
        use.locations.add(location)
        use.site_files += each.point not in points
        points.add(each.point)


def _count(found: Uses, location: str, manifest: Manifest, *, is_new: bool) -> None:
    for key_id in manifest.key_ids:
        use = found.by_key.setdefault(key_id, Use())
        use.locations.add(location)
        if is_new:
            use.count += 1
            use.bytes += sum(part.size for part in manifest.files if part.cipher.key_id == key_id)
            use.leaning += key_id in manifest.contents.get("keys", ()) and manifest.dump_format == "bucket"


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
