"""A site's vault: where a backup is born, copied, found and read again.

    vault = Vault(site_config)
    with vault.begin(source="mysql", kind="mysql", tier="daily", database="workset", ext="sql") as writer:
        facts = source.capture("workset", writer, progress)
        entry, manifest = writer.publish(facts)
    vault.replicate(entry, "spaces")

CONTRACT (being implemented): see the signatures below.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from engine.catalog import Catalog, Entry
from engine.codec import KeyRing
from engine.config import SiteConfig
from engine.manifest import Manifest
from engine.progress import Progress, silent
from engine.source import Facts, Sink
from engine.stores.base import Store, Stored


class BackupWriter:
    """A backup being written. Leaving it without ``publish`` removes every staged byte."""

    def data(self) -> Sink:
        """Sink for the plain dump (compressed, encrypted, staged on the local root)."""
        raise NotImplementedError

    def companion(self, role: str, ext: str = "sql") -> Sink:
        """Sink for a part stored beside it: ``accounts``, ``globals``, ``properties``."""
        raise NotImplementedError

    def publish(self, facts: Facts) -> tuple[Entry, Manifest]:
        """Finish, fsync, rename companions and data, fsync directories; then the signed manifest, last."""
        raise NotImplementedError

    def __enter__(self) -> BackupWriter:
        raise NotImplementedError

    def __exit__(self, *exc: object) -> None:
        raise NotImplementedError


class Vault:
    """The local root, its replicas, the key ring and the naming of one site."""

    site: str
    keys: KeyRing
    root: Path
    state: Path
    """``<root>/.backup-flows/<site>``: locks, journals, caches; never listed, never replicated."""

    def __init__(self, config: SiteConfig) -> None:
        """Opens nothing yet; ``check`` does. Raises ConfigError for keys, templates, and for two sources
        whose backups could meet under one name."""
        raise NotImplementedError

    def check(self) -> None:
        """The root exists (made 0700) or says why not; writable; stage area on the same file system."""
        raise NotImplementedError

    def locations(self) -> list[str]:
        """``local`` and every replica's name."""
        raise NotImplementedError

    def store(self, location: str) -> Store:
        """Raises UnknownName with the nearest name."""
        raise NotImplementedError

    def catalog(self, location: str = "local") -> Catalog:
        raise NotImplementedError

    def begin(self, *, source: str, kind: str, tier: str, database: str, ext: str, label: str = "",
              recovery_point: str = "", estimated_bytes: int = 0) -> BackupWriter:
        """Start a backup under a name that nothing has yet (a second is added where one has).

        Raises:
            DiskFull: Less room than the estimate (or the last such backup) needs, with figures.
        """
        raise NotImplementedError

    def read_part(self, entry: Entry, manifest: Manifest, role: str = "data",
                  progress: Progress = silent) -> Iterator[bytes]:
        """Plain bytes of one part. The stored digest is checked in a first pass (for a remote store
        the bytes are spooled to the local state directory meanwhile, 0600, still encrypted), so that not
        one unverified byte comes out."""
        raise NotImplementedError

    def replicate(self, entry: Entry, replica: str, progress: Progress = silent) -> Stored:
        """Copy one backup (companions, data, then manifest) to a replica; idempotent."""
        raise NotImplementedError

    def lacking(self, replica: str) -> list[Entry]:
        """Local backups that a replica does not have (by names), newest first."""
        raise NotImplementedError

    def adopt(self, path: Path, *, source: str, kind: str, tier: str, database: str, iterations: int = 10_000,
              key_id: str | None = None, facts: Facts) -> tuple[Entry, Manifest]:
        """Take in a file that ``dump | gzip | openssl enc -aes-256-cbc -pbkdf2`` made: it is read through
        once, linked or copied into place under a proper name, and gets a manifest (``adopted``)."""
        raise NotImplementedError

    def mark(self, entry: Entry, kind: str, **facts: object) -> None:
        """Append a signed record under ``marks/`` (verified, broken, pinned...) at the entry's location."""
        raise NotImplementedError

    def marks(self, entry: Entry) -> list[dict[str, object]]:
        """Signed records of one backup, oldest first; a forged one raises IntegrityError."""
        raise NotImplementedError

    def lock(self, source: str, database: str) -> AbstractContextManager[None]:
        """flock under ``state``: one run at a time per source and database; LockHeld names pid and since."""
        raise NotImplementedError

    def sweep(self) -> list[str]:
        """Remove what dead runs left in every store (best effort on replicas): staged files, data
        without manifest older than a day that no living run holds, uploads, spools. Says what went."""
        raise NotImplementedError
