"""A backup under another tier as well: new names for the same bytes, and a signed manifest that names its origin."""

from __future__ import annotations

import contextlib

from engine import names
from engine.catalog import Entry
from engine.copying import renamed
from engine.errors import BackupError
from engine.journal import Journal
from engine.manifest import Manifest, Origin, sign
from engine.sweeping import begin_publishing, withdraw
from engine.vault import LOCAL, Vault


def promote(vault: Vault, entry: Entry, manifest: Manifest, tier: str) -> tuple[Entry, Manifest]:
    """Give a backup of the local root a second place in another tier: hard links and a manifest, nothing is copied.

    It is taken a second later by its name (or a few), since tiers may share a folder here or at a replica. Killed at
    any step it leaves nothing that lists, and the next sweep removes the links.

    Raises:
        NotFound: A part of it is gone. StoreRefused: the file system cannot hard-link. And what the store raises.
    """
    assert entry.location == LOCAL
    store = vault.store(LOCAL)
    name, key, journal = vault.reserve(manifest.source, tier, entry.name)
    target = Entry(LOCAL, key, names.parse_file(name.file) or name, manifest.source, tier, manifest.data.size)
    promoted = _promoted(manifest, tier, name.file)
    try:
        pairs = list(zip(manifest.files, promoted.files, strict=True))
        begin_publishing(journal, LOCAL, key, [(target.beside(new.file), new) for _, new in pairs])
        for old, new in reversed(pairs):  # companions, then data
            store.duplicate(entry.beside(old.file), target.beside(new.file))
        store.put(target.manifest_key, sign(promoted, vault.keys))
        journal.close()
    except Exception:
        _take_back(journal, vault)
        raise
    finally:
        journal.release()
    return target, vault.catalog(LOCAL).load(target)


def _promoted(manifest: Manifest, tier: str, file: str) -> Manifest:
    files = [part.model_copy(update={"file": renamed(part.file, manifest.file, file)}) for part in manifest.files]
    origin = Origin(file=manifest.file, tier=manifest.tier, taken_at=manifest.taken_at)
    return manifest.model_copy(update={"tier": tier, "file": file, "files": files, "origin": origin})


def _take_back(journal: Journal, vault: Vault) -> None:
    with contextlib.suppress(BackupError):  # else the next sweep does it, by the journal
        withdraw(journal, vault.store(LOCAL))
        journal.close()
