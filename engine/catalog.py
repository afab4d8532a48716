"""Which backups a store holds: from names alone, manifests only when needed. CONTRACT (being implemented)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from engine.manifest import Manifest
from engine.names import BackupName


@dataclass(frozen=True)
class Entry:
    """One backup in one store, known from its names.

    Attributes:
        location: ``local`` or the replica's name.
        key: Key of the data file; the manifest's is ``key + '.json'``.
        source: The source's name, or None when only the manifest tells.
        tier: The tier, or None when only the manifest tells.
        size: Bytes of the data file as listed.
    """

    location: str
    key: str
    name: BackupName
    source: str | None
    tier: str | None
    size: int

    @property
    def file(self) -> str:
        return self.key.rsplit("/", 1)[-1]

    @property
    def manifest_key(self) -> str:
        return self.key + ".json"


class Catalog:
    """Backups of one store. A backup is a data file with a manifest beside it; anything else is not."""

    def entries(self, *, source: str | None = None, database: str | None = None,
                tier: str | None = None) -> Iterator[Entry]:
        """Newest first. Reads a manifest only where the names leave source or tier open."""
        raise NotImplementedError

    def load(self, entry: Entry) -> Manifest:
        """The signed manifest. Raises IntegrityError, WrongKey, NotFound."""
        raise NotImplementedError

    def find(self, source: str, database: str, which: str = "latest") -> tuple[Entry, Manifest]:
        """``latest``, a file name, or ``before 2025-01-16T02:00:00Z`` (newest at or before).

        Raises:
            UnknownName: none such; says what there is. ConfigError: a time without zone.
        """
        raise NotImplementedError

    def newest_before(self, source: str, database: str, moment: datetime) -> Entry | None:
        raise NotImplementedError
