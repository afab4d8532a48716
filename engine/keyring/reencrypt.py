"""Re-encryption: what older keys wrote, written again with the current one, proven, and then put in its place.

Of each backup a new one is made under a name a second later, whose signed manifest names its origin and the key of
that. It is read to its end, gets what was said of the old one (pinned, released, until when), and is copied to every
replica that has the old one. Only then the old one is marked as superseded, place by place; retention marks that as
expired and removes it a day later, so that no restore loses its file. Killed at any step, the next run goes on from
what it finds: half a backup does not list, and a whole one is taken up.

With a bucket's list go the contents that it names (``engine.buckets.anew``): one that only leans on contents of an
older key is written anew, too. Logs are left as they are: they go by their age.
"""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from engine import backup, marks, names
from engine.buckets.anew import Anew
from engine.buckets.copies import with_contents
from engine.buckets.record import DUMP_FORMAT
from engine.catalog import Entry
from engine.codec import Encoder
from engine.copying import renamed
from engine.errors import BackupError, Cancelled, DiskFull, IntegrityError
from engine.journal import Journal
from engine.keyring.todo import Old, bytes_of, look, total
from engine.keyring.uses import Known
from engine.leases import Hold
from engine.manifest import Manifest, Origin, StoredFile, sign
from engine.names import BackupName
from engine.pins import standing
from engine.progress import Progress, silent
from engine.prune.contents import CARRIED, SUPERSEDED, claims_of
from engine.site import Site
from engine.stores.base import StagedWrite, Store
from engine.sweeping import begin_publishing, withdraw
from engine.vault import Vault

AT_ONCE = 20
"""How many backups a run takes on, unless it is told otherwise."""


@dataclass(frozen=True)
class Replaced:
    """One backup that was written anew: as which file, and in which places that now stands for the old one."""

    old: str
    new: str
    locations: list[str]
    bytes: int


@dataclass
class Report:
    """What a run came to.

    Attributes:
        left: How many are still to be done, those that failed among them, and ``left_bytes`` of how many bytes at most.
        failed: By file, why it could not be done.
        passed: By place and key, what was passed over since it does not hold: a manifest that cannot be read, or whose
            key the ring lacks; what is marked as broken; what the site file does not lead to.
        unseen: Places that could not be asked.
        logs: How many logs keep an older key until they go by their age.
    """

    done: list[Replaced] = field(default_factory=list)
    left: int = 0
    left_bytes: int = 0
    failed: dict[str, BackupError] = field(default_factory=dict)
    passed: dict[str, BackupError] = field(default_factory=dict)
    unseen: dict[str, BackupError] = field(default_factory=dict)
    logs: int = 0

    @property
    def problems(self) -> dict[str, BackupError]:
        """Why older keys are still needed though a run was made, by what it is about."""
        unseen = {f"{location} could not be asked": error for location, error in self.unseen.items()}
        return {**self.failed, **self.passed, **unseen}

    @property
    def standing(self) -> str:
        """What the keys of older backups are still needed for, in words, without figures of what is left."""
        beside = [f"{len(self.failed | self.passed):,} could not be done"] if self.failed or self.passed else []
        beside += [f"{', '.join(self.unseen)} could not be asked"] if self.unseen else []
        beside += [f"{self.logs:,} logs keep an older key until they go by their age"] if self.logs else []
        return "; ".join(beside)


def re_encrypt(
    site: Site, *, count: int = AT_ONCE, most_bytes: int = 0, dry_run: bool = False, progress: Progress = silent
) -> Report:
    """Write anew, with the current key, what older keys wrote; newest first.

    Args:
        count: How many backups at most.
        most_bytes: Of how many stored bytes at most, together; 0 for any. The first is taken whatever its size.
        dry_run: Only count what there is to do.

    Raises:
        LockHeld: Another run re-encrypts. DiskFull. And what the local root raises.
    """
    report = Report()
    if dry_run:
        report.left, report.left_bytes = total(_look(site.vault, report, progress))
        return report
    site.vault.check()
    with site.vault.re_encrypting():
        todo = deque(_look(site.vault, report, progress))
        undone: list[Old] = []
        taken = 0
        buckets: set[tuple[str, str]] = set()
        while todo and len(report.done) < count:
            size = bytes_of(todo[0], buckets)
            if most_bytes and taken and taken + size > most_bytes:
                break
            old = todo.popleft()
            try:
                report.done.append(_replace(site, old, progress))
                taken += size
            except (DiskFull, Cancelled):
                raise
            except BackupError as error:  # it does not count, else those that cannot be done would hold up the rest
                report.failed[old.manifest.file] = error
                undone.append(old)
    report.left, report.left_bytes = total([*undone, *todo])
    return report


def _look(vault: Vault, report: Report, progress: Progress) -> list[Old]:
    found = look(vault, progress)
    report.passed, report.unseen, report.logs = found.passed, found.unseen, found.logs
    return found.olds


def _replace(site: Site, old: Old, progress: Progress) -> Replaced:
    """Every step of one backup, in the order that loses nothing."""
    vault = site.vault
    with vault.lock(old.manifest.source, old.manifest.database):
        home = next(name for name in vault.locations() if name in {**old.places, **old.new})
        entry, manifest = old.new[home] if home in old.new else _written(vault, old, home, progress)
        if home in vault.object_locks:
            with with_contents(vault, entry, home, progress):  # a list's: they stand there, and are locked like it
                pass
        if claims_of(vault, entry).claim != "good":
            backup.verify(site, entry, progress=progress, new=True)
        if home in old.places:
            _carry_words(vault, old.places[home], entry)
        for location in old.places:
            if location != home:
                vault.replicate(entry, location, progress)
        for location, there in old.places.items():
            store, layout = vault.store(location), vault.layout(location)
            facts = {"by": manifest.file, "key": manifest.data.cipher.key_id}
            marks.add(store, layout, vault.keys, there, SUPERSEDED, facts)
            new = standing(vault, location, entry, manifest)
            if new is not None:
                _carry_words(vault, there, new)  # what was said meanwhile was said of the old one alone
    return Replaced(old.manifest.file, manifest.file, list(old.places), manifest.stored_bytes)


def _carry_words(vault: Vault, old: Entry, new: Entry) -> None:
    store, layout = vault.store(old.location), vault.layout(old.location)
    marks.carry((store, layout, old), (store, layout, new), vault.keys, CARRIED)


def _written(vault: Vault, old: Old, home: str, progress: Progress) -> Known:
    """The new backup, published where the old one stands; its name is free at every place that is to have it."""
    store, layout = vault.store(home), vault.layout(home)
    source, tier = old.manifest.source, old.manifest.tier
    name, journal = _free_name(vault, old)
    key = layout.key(source, tier, name.taken_at, name.file)
    target = Entry(home, key, names.parse_file(name.file) or name, source, tier, 0)
    try:
        with contextlib.ExitStack() as staged_parts:
            anew, hold = _anew(vault, home, old.manifest, staged_parts, progress)
            parts = [
                _encoded(vault, old, home, part, target, store, staged_parts, anew, progress)
                for part in old.manifest.files
            ]
            facts = anew.facts if anew is not None else old.manifest.contents
            manifest = _described(old.manifest, name.file, [part for _, part in parts], facts)
            begin_publishing(journal, home, key, [(target.beside(part.file), part) for _, part in parts])
            for staged, part in reversed(parts):  # companions, then data
                _commit(staged, part)
            hold.check(f"{name.file} was made a backup of {home}")
            store.put(target.manifest_key, sign(manifest, vault.keys))
        journal.close()
    except Exception:
        with contextlib.suppress(BackupError):  # else the next sweep does it, by the journal
            withdraw(journal, store)
            journal.close()
        raise
    finally:
        journal.release()
    entry = replace(target, size=manifest.data.size)
    return entry, vault.catalog(home).load(entry)


def _free_name(vault: Vault, old: Old) -> tuple[BackupName, Journal]:
    """A name that is free in every place that has the old backup, and the journal that holds it here."""
    some = next(iter(old.places.values())) if old.places else next(iter(old.new.values()))[0]
    wanted = some.name
    while True:
        name, _, journal = vault.reserve(old.manifest.source, old.manifest.tier, wanted)
        if not any(_is_taken(vault, location, old.manifest, name) for location in old.places):
            return name, journal
        journal.close()
        wanted = name.later()


def _is_taken(vault: Vault, location: str, manifest: Manifest, name: BackupName) -> bool:
    store = vault.store(location)
    return any(
        next(iter(store.list(f"{folder}/{name.stem}." if folder else f"{name.stem}.")), None) is not None
        for folder in vault.layout(location).folders(manifest.source, name.taken_at)
    )


def _encoded(
    vault: Vault, old: Old, home: str, part: StoredFile, target: Entry, store: Store,
    staged_parts: contextlib.ExitStack, anew: Anew | None, progress: Progress,
) -> tuple[StagedWrite, StoredFile]:  # fmt: skip
    """One part, opened with its own key (every byte checked before) and written with the current one; staged."""
    file = renamed(part.file, old.manifest.file, target.file)
    archive = old.manifest.tier in names.ARCHIVES
    staged = staged_parts.enter_context(store.stage(target.beside(file), archive=archive))
    encoder = Encoder(
        staged.write, vault.keys, compression=part.compression, level=vault.settings.level,
        iterations=vault.settings.iterations,
    )  # fmt: skip
    staged_parts.callback(encoder.abort)
    with (
        contextlib.closing(vault.read_part(old.places[home], old.manifest, part.role, progress)) as plain,
        contextlib.closing(anew.lines(plain) if anew is not None and part.role == "data" else plain) as chunks,
    ):
        for chunk in chunks:
            encoder.write(chunk)
    encoded = encoder.finish()
    if anew is None and part.plain_size >= 0 and encoded.plain_size != part.plain_size:
        raise IntegrityError(f"{part.file} has {encoded.plain_size} bytes, its manifest says {part.plain_size}.")
    return staged, encoder.stored(encoded, file=file, role=part.role)


def _commit(staged: StagedWrite, part: StoredFile) -> None:
    done = staged.commit()
    if (done.size, done.sha256) != (part.size, part.sha256):
        raise IntegrityError(f"{part.file}: the store holds other bytes than were written to it.")


def _anew(
    vault: Vault, home: str, old: Manifest, held: contextlib.ExitStack, progress: Progress
) -> tuple[Anew | None, Hold]:
    """Of a bucket's list, what writes its contents anew, too; and what keeps anything else from filling or sweeping
    these meanwhile."""
    if old.dump_format != DUMP_FORMAT:
        return None, Hold()
    hold = held.enter_context(vault.filling(home, old.source, old.database))
    return Anew(vault, home, old, progress), hold


def _described(old: Manifest, file: str, parts: list[StoredFile], contents: dict[str, Any]) -> Manifest:
    origin = Origin(file=old.file, tier=old.tier, taken_at=old.taken_at, key_id=old.data.cipher.key_id)
    return old.model_copy(update={"file": file, "files": parts, "origin": origin, "contents": contents})


__all__ = ["AT_ONCE", "Replaced", "Report", "re_encrypt"]
