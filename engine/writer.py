"""A backup being written: staged parts, then published in an order that never shows half of one."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from engine import names
from engine.adopt import Foreign
from engine.catalog import Catalog, Entry
from engine.codec import EXTENSIONS, Compression, Encoded, Encoder, KeyRing
from engine.errors import BackupError, ConfigError, IntegrityError
from engine.journal import Journal
from engine.manifest import Manifest, StoredFile, sign
from engine.names import BackupName
from engine.source import Facts
from engine.stores.base import StagedWrite, Store
from engine.sweeping import begin_publishing, withdraw


@dataclass(frozen=True)
class Birth:
    """What is known of a backup before its first byte."""

    site: str
    source: str
    kind: str
    tier: str
    database: str
    name: BackupName
    key: str
    started_at: datetime
    label: str = ""
    recovery_point: str = ""


@dataclass(frozen=True)
class Settings:
    """How bytes are shaped."""

    compression: Compression = "gzip"
    level: int = -1
    iterations: int = 10_000


class _Part:
    """One file on its way: an encoder onto a staged write."""

    def __init__(self, store: Store, key: str, role: str, keys: KeyRing, settings: Settings) -> None:
        self.key = key
        self.role = role
        self.staged: StagedWrite = store.stage(key)
        try:
            self.encoder = Encoder(
                self.staged.write,
                keys,
                compression=settings.compression,
                level=settings.level,
                iterations=settings.iterations,
            )
        except BaseException:
            self.staged.abort()
            raise

    def finish(self) -> StoredFile:
        encoded: Encoded = self.encoder.finish()
        return self.encoder.stored(encoded, file=self.key.rsplit("/", 1)[-1], role=self.role)

    def abort(self) -> None:
        try:
            self.encoder.abort()
        finally:
            self.staged.abort()


def _commit(staged: StagedWrite, stored: StoredFile) -> None:
    done = staged.commit()
    if (done.size, done.sha256) != (stored.size, stored.sha256):
        raise IntegrityError(
            f"{stored.file}: the store holds other bytes than were written to it.", kept="nothing was published"
        )


class BackupWriter:
    """A backup being written. Leaving it without ``publish`` removes every staged byte.

    Made by ``Vault.begin``. Its journal is held until the end, so that a sweep of another process
    knows that it lives.
    """

    def __init__(
        self,
        birth: Birth,
        store: Store,
        catalog: Callable[[], Catalog],
        keys: KeyRing,
        settings: Settings,
        journal: Journal,
    ) -> None:
        self.birth = birth
        self._store = store
        self._catalog = catalog
        self._keys = keys
        self._settings = settings
        self._journal = journal
        self._data: _Part | None = None
        self._companions: dict[str, _Part] = {}
        self._published = False

    @property
    def file(self) -> str:
        """Name of the data file."""
        return self.birth.name.file

    def data(self) -> Encoder:
        """Sink for the plain dump (compressed, encrypted, staged on the local root)."""
        if self._data is None:
            # deriving what signs the manifest takes a tenth of a second: now, not when the dump has ended
            threading.Thread(target=self._keys.mac_key, args=(self._keys.current,), name="mac key").start()
            self._data = _Part(self._store, self.birth.key, "data", self._keys, self._settings)
        return self._data.encoder

    def companion(self, role: str, ext: str = "sql") -> Encoder:
        """Sink for a part stored beside it: ``accounts``, ``globals``, ``properties``."""
        if role not in self._companions:
            file = self.birth.name.companion(role, ext + EXTENSIONS[self._settings.compression])
            folder, slash, _ = self.birth.key.rpartition("/")
            self._companions[role] = _Part(self._store, folder + slash + file, role, self._keys, self._settings)
        return self._companions[role].encoder

    def publish(self, facts: Facts) -> tuple[Entry, Manifest]:
        """Finish, fsync, link companions and data, fsync directories; then the signed manifest, last.

        Raises:
            IntegrityError: No data was written, or the store holds other bytes. DiskFull, StoreError.
        """
        if self._data is None:
            raise IntegrityError(f"{self.file}: nothing was written to it.", kept="nothing was published")
        if self._published:
            raise ConfigError(f"{self.file} was published already.")
        finished = [(part, part.finish()) for part in (self._data, *self._companions.values())]
        if finished[0][1].plain_size == 0:
            raise IntegrityError(f"{self.file}: the dump is empty.", kept="nothing was published")
        return self._publish([(part.key, part.staged, stored) for part, stored in finished], facts)

    def publish_foreign(self, foreign: Foreign, facts: Facts) -> tuple[Entry, Manifest]:
        """Take in another tool's file as the data, its bytes unchanged; it is read through to its end.

        Raises:
            IntegrityError: It is damaged.
        """
        digest = hashlib.sha256()
        size = 0
        with self._store.stage(self.birth.key) as staged:

            def passing() -> Iterator[bytes]:
                nonlocal size
                for chunk in foreign.stored():
                    digest.update(chunk)
                    size += len(chunk)
                    staged.write(chunk)
                    yield chunk

            plain = sum(len(chunk) for chunk in foreign.plain(self._keys, passing()))
            stored = StoredFile(
                file=self.file,
                size=size,
                sha256=digest.hexdigest(),
                plain_size=plain,
                role="data",
                compression=foreign.compression,
                cipher=foreign.cipher,
            )
            return self._publish([(self.birth.key, staged, stored)], facts, adopted=True)

    def _publish(
        self, finished: list[tuple[str, StagedWrite, StoredFile]], facts: Facts, adopted: bool = False
    ) -> tuple[Entry, Manifest]:
        manifest = self._manifest(facts, [stored for _, _, stored in finished], adopted)
        signed = sign(manifest, self._keys)
        self._refuse_taken([key for key, _, _ in finished])
        begin_publishing(
            self._journal, self._store.name, self.birth.key, [(key, stored) for key, _, stored in finished]
        )
        for _, staged, stored in reversed(finished):  # companions, then data
            _commit(staged, stored)
        self._store.put(self.birth.key + names.MANIFEST_SUFFIX, signed)
        self._published = True
        self._journal.close()
        birth = self.birth
        listed = names.parse_file(self.file) or birth.name
        entry = Entry(self._store.name, birth.key, listed, birth.source, birth.tier, manifest.data.size)
        return entry, self._catalog().load(entry)

    def __enter__(self) -> BackupWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            with contextlib.ExitStack() as last:
                for part in (self._data, *self._companions.values()):
                    if part is not None:
                        last.callback(part.abort)
            if not self._published:
                self._withdraw()
        finally:
            self._journal.release()

    def _withdraw(self) -> None:
        """Take back what a publishing that failed half-way has made visible; the journal, if that
        cannot be done now, has the next sweep do it."""
        with contextlib.suppress(BackupError):
            withdraw(self._journal, self._store)
            self._journal.close()

    def _refuse_taken(self, part_keys: list[str]) -> None:
        """Nothing may stand where we publish: what a crash leaves there must be ours to remove."""
        for key in (*part_keys, self.birth.key + names.MANIFEST_SUFFIX):
            if self._store.stat(key) is not None:
                raise IntegrityError(
                    f"{key} appeared in {self._store.describe()} while this backup was made.",
                    kept="what stands there; it was not touched",
                    remedy="run the backup again",
                )

    def _manifest(self, facts: Facts, files: list[StoredFile], adopted: bool) -> Manifest:
        birth = self.birth
        return Manifest(
            site=birth.site, source=birth.source, kind=birth.kind, tier=birth.tier, database=birth.database,
            label=birth.label, file=self.file, started_at=birth.started_at, finished_at=names.now(), files=files,
            tool_version=tool_version(), recovery_point=birth.recovery_point,
            adopted=adopted, **facts_of(facts),
        )  # fmt: skip


def facts_of(facts: Facts) -> dict[str, Any]:
    """What a source learnt, as fields of a manifest."""
    return {
        "dump_format": facts.dump_format, "server": facts.server, "log": facts.log, "rows": facts.rows,
        "uncounted": facts.uncounted, "schema_sha256": facts.schema_sha256, "contents": facts.contents,
        "warnings": facts.warnings, "incomplete": facts.incomplete,
    }  # fmt: skip


def tool_version() -> str:
    """Version of this package, or ``unknown`` from a bare source tree."""
    try:
        return version("backup-flows")
    except PackageNotFoundError:
        return "unknown"
