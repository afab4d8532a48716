"""Stored images that a new record of containers leans on are locked for as long as the record is."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from engine import names
from engine.catalog import Entry
from engine.errors import IntegrityError, NotFound, WrongKey
from engine.images.record import saved_images

if TYPE_CHECKING:
    from engine.vault import Vault


def lock_images(vault: Vault, entry: Entry, replica: str) -> None:
    """Before a record is copied, the images that it needs and that stand there are locked as long as it will be. Images
    that come later lock themselves for long enough. Of any other backup nothing is asked.

    Raises:
        CredentialsRefused: The key may not lengthen locks. And what the store raises.
    """
    locks = vault.object_locks.get(replica)
    if locks is None or not entry.name.ext.startswith(f"{names.RECORD_EXT}."):
        return
    manifest = vault.catalog(entry.location).load(entry)
    key = locks.layout.key(manifest.source, manifest.tier, manifest.taken_at, manifest.file)
    term = locks.term(key, names.now())
    if term is None:
        return
    catalog, store = vault.catalog(replica), vault.store(replica)
    for name in sorted(saved_images(manifest) or ()):
        for image in catalog.entries(source=manifest.source, database=name, tier=names.IMAGE):
            with contextlib.suppress(IntegrityError, WrongKey, NotFound):  # damaged: a verification finds it
                files = catalog.load(image).files
                for each in (image.manifest_key, *(image.beside(part.file) for part in files)):
                    store.retain(each, term)


__all__ = ["lock_images"]
