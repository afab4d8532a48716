"""A site's vault: where a backup is born, copied, found and read again.

vault = Vault(site_config)
with vault.begin(source="mysql", kind="mysql", tier="daily", database="workset", ext="sql") as writer:
    facts = source.capture("workset", writer, progress)
    entry, manifest = writer.publish(facts)
vault.replicate(entry, "spaces")
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import marks, names
from engine.adopt import recognise
from engine.births import Births
from engine.catalog import Catalog, Entry
from engine.codec import EXTENSIONS, KeyRing, decode
from engine.cold.thaw import Thaw, require_readable
from engine.config import SiteConfig
from engine.copy_turns import PATIENCE, CopyTurns
from engine.copying import Copying, is_lacking
from engine.errors import BackupError, UnknownName, nearest
from engine.journal import Journal
from engine.layout import Layout, layouts
from engine.locks import waited_for
from engine.manifest import Manifest
from engine.names import BackupName
from engine.pacing import Pace, rate_of
from engine.progress import Progress, silent
from engine.removal import finish_abandoned
from engine.retention.locks import ObjectLocks
from engine.roots import absolute_root, check_root, make_private
from engine.source import Facts
from engine.spool import sweep_spools, verified_chunks
from engine.stores import LocalStore, Store, Stored, open_store
from engine.stores.local_errors import speaking_of
from engine.stores.s3_bucket import unlocked
from engine.sweeping import withdraw_abandoned
from engine.vault_leases import Leases
from engine.vault_locks import VaultLocks
from engine.writer import BackupWriter, Birth, Settings

if TYPE_CHECKING:
    from engine.buckets.contents import Contents

LOCAL = "local"
STATE = ".backup-flows"
UPLOADS_DIE_AFTER = timedelta(days=1)
"""An unfinished upload of which nothing on this machine speaks has no living writer when it is older than this."""


class Vault(VaultLocks):
    """The local root, its replicas, the key ring and the naming of one site.

    Attributes:
        state: ``<root>/.backup-flows/<site>``: locks, journals, spools; never listed, never replicated.
        paces: By replica, what keeps all that is sent there to its bandwidth; shared where several vaults of one run
            send there.
        object_locks: By replica, of those that lock what is written there.
    """

    keys: KeyRing
    thaw: Thaw | None = None
    """How what is in cold storage is thawed when it is read; None: it is refused."""

    def __init__(self, config: SiteConfig) -> None:
        """Opens nothing yet; ``check`` does. Raises ConfigError for keys, templates, and for two sources
        whose backups could meet under one name."""
        self.site = config.site
        self.keys = KeyRing.from_config(config.vault.keys)
        self.root = absolute_root(config.vault.root)
        self.state = self.root / STATE / self.site
        self._layouts = layouts(config)
        self._settings = Settings(config.vault.compression, config.vault.compression_level, config.vault.iterations)
        self._replicas = {each.name: each for each in config.vault.replicas}
        self.leases = Leases(self.site, self.state, self._replicas)
        self._policy = config.retention_in
        self.object_locks = {
            each.name: ObjectLocks(self._layouts[each.name], config.retention_in(each.name), each.lock_days)
            for each in config.vault.replicas
            if each.lock
        }
        self._stores: dict[str, Store] = {LOCAL: LocalStore(self.root, self.state)}
        self._catalogs: dict[str, Catalog] = {}
        sources = [source.name for source in config.sources()]
        self._births = Births(
            self.site, self.root, self.publishing, sources, self._layouts[LOCAL], partial(self.store, LOCAL),
            self.catalog,
        )  # fmt: skip
        self.paces: dict[str, Pace] = {}
        self._turns = CopyTurns(lambda name, what: self._held(name, what, stays=False))

    @property
    def _spools(self) -> Path:
        return self.state / "spool"

    @property
    def removals(self) -> Path:
        """Where removals under way keep their journals."""
        return self.state / "removals"

    @property
    def settings(self) -> Settings:
        """How bytes are compressed and encrypted."""
        return self._settings

    def layout(self, location: str) -> Layout:
        """How backups are called in that location. Raises UnknownName."""
        self.store(location)
        return self._layouts[location]

    @property
    def publishing(self) -> Path:
        """Where writers and copies under way keep their journals."""
        return self.state / "publishing"

    def finish_removals(self) -> list[str]:
        """Finish what a prune that died had begun to remove; says what went."""
        return list(finish_abandoned(self.removals, self.store, self.layout))

    @property
    def iterations(self) -> int:
        """PBKDF2 rounds of what is written now."""
        return self._settings.iterations

    def contents(self, location: str, source: str, bucket: str) -> Contents:
        """The contents of a bucket's objects there, which its lists name. Raises UnknownName."""
        from engine.buckets.contents import Contents

        store = self.store(location)
        return Contents(store, self._layouts[location].contents_prefix(source, bucket), self.keys, self._spools)

    def check(self) -> None:
        """The root exists (made 0700) or says why not; writable; stage area on the same file system.

        Raises:
            ConfigError: No directory, not ours, read-only. DiskFull, StoreError.
        """
        check_root(self.root, self.state)
        self._stores[LOCAL].check()

    def locations(self) -> list[str]:
        """``local`` and every replica's name."""
        return [LOCAL, *self._replicas]

    def store(self, location: str) -> Store:
        """Raises UnknownName with the nearest name."""
        if location not in self._stores:
            if location not in self._replicas:
                raise UnknownName(
                    f"Site {self.site} has no location {location!r}.", remedy=nearest(location, self.locations())
                )
            config, until = self._replicas[location], self.object_locks.get(location, unlocked)
            self._stores[location] = open_store(config, until, root=self.root, state=f"{STATE}/{self.site}")
        return self._stores[location]

    def catalog(self, location: str = LOCAL) -> Catalog:
        """What that location holds. Raises UnknownName."""
        if location not in self._catalogs:
            self._catalogs[location] = Catalog(self.store(location), self._layouts[location], self.keys)
        return self._catalogs[location]

    @contextmanager
    def listed_once(self) -> Iterator[None]:
        """Within it each place is listed once; see ``Catalog.listed_once``."""
        with ExitStack() as places:
            for name in self.locations():
                places.enter_context(self.catalog(name).listed_once())
            yield

    def begin(
        self,
        *,
        source: str,
        kind: str,
        tier: str,
        database: str,
        ext: str,
        label: str = "",
        recovery_point: str = "",
        estimated_bytes: int = 0,
    ) -> BackupWriter:
        """Start a backup under a name that nothing has yet (a second is added where one has).

        Args:
            ext: Of the plain dump: ``sql``, ``dump``.
            estimated_bytes: What the server thinks the database holds, before compression.

        Raises:
            DiskFull: Less room than the estimate (or the last such backup) needs, with figures.
            UnknownName: No such source or tier.
        """
        self._births.known(source, tier)
        self._births.room_for(source, database, estimated_bytes)
        settings = self._settings
        return self._begin(
            source, kind, tier, database, ext + EXTENSIONS[settings.compression], names.now(), label, recovery_point
        )

    def begin_log(self, *, source: str, kind: str, tier: str, log: str, estimated_bytes: int) -> BackupWriter:
        """Start the backup of one log of a server; its facts are an ``engine.logs.LogFile``.

        Args:
            kind: ``binlog`` or ``wal``.
            log: As the server calls it: ``mysql-bin.000001``.
            estimated_bytes: Its plain size.

        Raises:
            DiskFull: Less room than that. UnknownName: No such source or tier.
        """
        self._births.known(source, tier)
        self._births.room(estimated_bytes, f"The log {log} of {source}")
        ext = EXTENSIONS[self._settings.compression].removeprefix(".")
        return self._begin(source, kind, tier, log, ext, names.now(), "", "", log=tier)

    def read_part(
        self, entry: Entry, manifest: Manifest, role: str = "data", progress: Progress = silent
    ) -> Generator[bytes, None, None]:
        """Plain bytes of one part. The stored digest is checked in a first pass (for a remote store
        the bytes are spooled to the local state directory meanwhile, 0600, still encrypted), so that not
        one unverified byte comes out.

        Raises:
            UnknownName: The backup has no such part. IntegrityError, WrongKey, NotFound, DiskFull.
        """
        part = next((each for each in manifest.files if each.role == role), None)
        if part is None:
            raise UnknownName(
                f"{manifest.file} has no part {role!r}.", remedy=nearest(role, [each.role for each in manifest.files])
            )
        if entry.location != LOCAL:
            make_private(self.root, self.state)
        self.require_readable(entry, manifest)
        stored = verified_chunks(self.store(entry.location), entry.beside(part.file), part, self._spools, progress)
        with closing(stored), closing(decode(stored, part, self.keys)) as plain:
            yield from plain

    def require_readable(self, entry: Entry, manifest: Manifest) -> None:
        """Ask for the thaw of what is in cold storage. Raises Thawing, Cold; see ``engine.cold.thaw``."""
        if entry.location != LOCAL:
            require_readable(self.store(entry.location), entry, manifest, self.thaw)

    def replicate(self, entry: Entry, replica: str, progress: Progress = silent, patience: float = PATIENCE) -> Stored:
        """Copy one backup (companions, data, marks, then manifest) to a replica; idempotent. A new copy gets a
        ``copied`` mark there that says how it was proven, and what was said of the original.

        Args:
            patience: Seconds to wait for another run that makes this very copy.

        Raises:
            IntegrityError: Our copy is damaged, or another file stands there. CopyUnderWay: another run is still at
                it. LockHeld, LeaseLost: as ``with_contents`` says. And what the store raises.
        """
        target = self.store(replica)
        make_private(self.root, self.state)
        from engine.buckets.copies import with_contents
        from engine.images.leant_on import lock_images

        turn = self._turns.awaited(replica, entry.file, patience, progress)
        with turn, with_contents(self, entry, replica, progress) as hold:
            lock_images(self, entry, replica)
            copying = Copying(
                entry,
                self.catalog(entry.location),
                self.store(entry.location),
                target,
                self._layouts[replica],
                self.publishing,
                progress,
                self.pace(replica),
                partial(self._say_of_copy, entry, replica),
                hold,
            )
            stored = copying.run()
        self._carry_words(entry, self._copy_of(entry, replica, stored))  # what was said while it was under way
        return stored

    @staticmethod
    def _copy_of(entry: Entry, replica: str, stored: Stored) -> Entry:
        return Entry(replica, stored.key, entry.name, entry.source, entry.tier, stored.size)

    def _say_of_copy(self, entry: Entry, replica: str, stored: Stored) -> None:
        there = self._copy_of(entry, replica, stored)
        self.mark(there, "copied", proof=stored.proof, sha256=stored.sha256, origin=entry.location)
        self._carry_words(entry, there)

    def pace(self, replica: str) -> Pace:
        """How fast may be sent there; one for all that is sent with these ``paces``."""
        given = self._replicas[replica].bandwidth
        return self.paces.setdefault(replica, Pace(rate_of(given) if given else 0))

    def _carry_words(self, entry: Entry, there: Entry) -> None:
        """What was said of a backup before it was copied holds for the copy: pinned, released, until when."""
        from engine.prune.contents import CARRIED

        places = [(self.store(each.location), self._layouts[each.location], each) for each in (entry, there)]
        marks.carry(places[0], places[1], self.keys, CARRIED)

    def lacking(self, replica: str) -> list[Entry]:
        """Local backups that a replica does not have (by names), newest first; not those that retention would
        take away there again."""
        there = {entry.key for entry in self.catalog(replica).entries()}
        here, layout = self._layouts[LOCAL], self._layouts[replica]
        found = [
            entry
            for entry in self.catalog(LOCAL).entries()
            if (place := here.place(entry.key)) and is_lacking(entry, place.pairs, layout, there)
        ]
        return self.wanted(replica, found)

    def wanted(self, replica: str, lacking: list[Entry]) -> list[Entry]:
        """Of local backups that a replica lacks, those that its retention would keep."""
        from engine.prune.copies import worth_copying

        return worth_copying(self, replica, lacking, self._policy(replica)) if lacking else []

    def adopt(
        self,
        path: Path,
        *,
        source: str,
        kind: str,
        tier: str,
        database: str,
        iterations: int = 10_000,
        key_id: str | None = None,
        facts: Facts,
    ) -> tuple[Entry, Manifest]:
        """Take in a file that ``dump | gzip | openssl enc -aes-256-cbc -pbkdf2`` made: it is read through
        once, copied into place under a proper name, and gets a manifest (``adopted``). The original stays.

        Its time is the one in its name, else the time it was last written. Use
        ``engine.adopt.recognise(...).plain(keys)`` to count its rows for ``facts`` first.

        Raises:
            WrongKey: No key opens it. IntegrityError: It is damaged. DiskFull.
        """
        self._births.known(source, tier)
        foreign = recognise(path, self.keys, iterations=iterations, key_id=key_id)
        self._births.room(path.stat().st_size, f"Adopting {path}")
        parsed = names.parse_file(path.name)
        taken = parsed.taken_at if parsed else names.from_timestamp(path.stat().st_mtime)
        ext = {"pg_custom": "dump"}.get(facts.dump_format, facts.dump_format) + EXTENSIONS[foreign.compression]
        with self._begin(source, kind, tier, database, ext, taken, "", "") as writer:
            return writer.publish_foreign(foreign, facts)

    def mark(self, entry: Entry, kind: str, **facts: object) -> None:
        """Append a signed record under ``marks/`` (verified, broken, pinned...) at the entry's location."""
        marks.add(self.store(entry.location), self._layouts[entry.location], self.keys, entry, kind, facts)

    def marks(self, entry: Entry) -> list[dict[str, Any]]:
        """Signed records of one backup, oldest first; a forged one raises IntegrityError."""
        return marks.read(self.store(entry.location), self._layouts[entry.location], self.keys, entry)

    def sweep(self, replicas: bool = True) -> list[str]:
        """Remove what dead runs left in every store (best effort on replicas): staged files, data
        whose writer died before its manifest, uploads, spools. Says what went.

        Args:
            replicas: Also ask each replica for uploads that nobody finished.
        """
        if not self.state.is_dir():
            return []
        done = [f"{LOCAL}: {name} (spooled)" for name in sweep_spools(self._spools)]
        done += withdraw_abandoned(self.publishing, self.store, self._turns.at_once)
        done += self.finish_removals()
        for location in self.locations() if replicas else [LOCAL]:
            try:
                age = 0.0 if location == LOCAL else UPLOADS_DIE_AFTER.total_seconds()
                done += [f"{location}: {what} (unfinished)" for what in self.store(location).sweep(age)]
            except BackupError as error:
                if location == LOCAL:
                    raise
                done.append(f"{location}: could not be swept: {error.message}")
        return done

    def _begin(
        self,
        source: str,
        kind: str,
        tier: str,
        database: str,
        ext: str,
        moment: datetime,
        label: str,
        recovery_point: str,
        log: str = "",
    ) -> BackupWriter:
        wanted = BackupName(moment.replace(microsecond=0), database, ext, log)
        name, key, journal = self.reserve(source, tier, wanted)
        birth = Birth(self.site, source, kind, tier, database, name, key, moment, label, recovery_point)
        return BackupWriter(birth, self._stores[LOCAL], self.catalog, self.keys, self._settings, journal)

    def reserve(self, source: str, tier: str, wanted: BackupName) -> tuple[BackupName, str, Journal]:
        """A name that nothing has yet (the one wanted, or a little later), its key, and the journal that holds it
        until it is closed or its writer dies."""
        make_private(self.root, self.state)
        with speaking_of("write to", self.state, self.root), waited_for(self.state / "names.lock"):
            name = self._births.free_name(source, wanted)
            key = self._layouts[LOCAL].key(source, tier, name.taken_at, name.file)
            return name, key, Journal.create(self.publishing, "publish", source=source, stem=name.stem)


__all__ = ["BackupWriter", "Vault"]
