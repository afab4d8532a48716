"""Backups of the site in a place that its layout does not lead to: of a source that was taken out of the site file or
called otherwise since, or under a path of before. Nothing else sees them; they need their keys all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from engine import names, sealed
from engine.catalog import with_manifest
from engine.drill import record as drills
from engine.errors import BackupError, IntegrityError, NotFound, WrongKey
from engine.layout import CONTENTS, MARKS, Layout
from engine.manifest import Manifest, open_signed
from engine.stores.base import Store
from engine.vault import Vault

_NO_BACKUPS = frozenset((MARKS, CONTENTS, sealed.FOLDER, drills.FOLDER))


@dataclass(frozen=True)
class Stranger:
    """One such backup: its data's key, and its manifest or why that cannot be read."""

    location: str
    key: str
    manifest: Manifest | None = None
    error: BackupError | None = None

    @property
    def about(self) -> str:
        return f"{self.location}: {self.key}"


def strangers(vault: Vault, location: str) -> Iterator[Stranger]:
    """All of one place, by names and then manifests. Below what every backup of the site shares is looked, not where
    contents, marks and records stand. Raises what the store raises."""
    store, layout = vault.store(location), vault.layout(location)
    for prefix in _areas(store, layout):
        for key, _, _ in with_manifest(store, prefix):
            file = key.rsplit("/", 1)[-1]
            if names.parse_file(file) is None or layout.place(key) is not None:
                continue
            try:
                data = store.get(key + names.MANIFEST_SUFFIX)
            except NotFound:
                continue  # removed since
            if not _may_be_ours(data, layout.site):
                continue
            try:
                yield Stranger(location, key, open_signed(data, vault.keys, file=file, site=layout.site))
            except (IntegrityError, WrongKey) as error:
                yield Stranger(location, key, error=error)


def _areas(store: Store, layout: Layout) -> Iterator[str]:
    base = f"{layout.base}/" if layout.base else ""
    if base in layout.prefixes():  # backups stand right there
        yield base
        return
    yield from (f"{base}{name}/" for name in store.folders(base) if name not in _NO_BACKUPS)


def _may_be_ours(data: bytes, site: str) -> bool:
    """False for a document that says that it is another site's, or that is no signed one at all."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return True  # damaged: whose it was is not known
    return isinstance(body, dict) and "signature" in body and body.get("site", site) == site


__all__ = ["Stranger", "strangers"]
