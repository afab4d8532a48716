"""Proof that a stored backup is whole: digest, signature, every byte unpacked, rows counted, size usual.

Nothing reaches a database here, so one pass does: digest, decrypting, unpacking and counting run side
by side on the same bytes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from engine import archive, buckets, marks, n8n
from engine.buckets.verify import verify as verify_contents
from engine.catalog import Entry
from engine.codec import check_stored, decode
from engine.errors import BackupError, IntegrityError, NotFound
from engine.images import record, saved
from engine.manifest import Manifest, StoredFile
from engine.n8n import parts as n8n_parts
from engine.postgres import base_verify
from engine.progress import Progress, silent
from engine.prune.contents import BROKEN, EXPIRED, SIZE_ACCEPTED, claims_of
from engine.spool import told
from engine.stores.base import Store
from engine.vault import Vault
from engine.verdicts import CONTENT, word_of

RECENT = 10
"""How many earlier backups of the same source, database and tier are looked at."""
SMALL_WARNING = 0.5
LARGE_WARNING = 3.0
"""Outside these multiples of their median size, a warning."""
SMALL_FAILURE = 0.1
"""Below this multiple, a failure: a dump that lost its data. An archive of files is only warned about: its listing
proves what it holds, and an exclude makes it small at once; a bucket may be emptied."""

_BY_PARTS: dict[str, tuple[Callable[[Manifest, Callable[[str], Iterable[bytes]]], int], str]] = {
    base_verify.DUMP_FORMAT: (base_verify.verify, "the server's own manifest"),
    archive.DUMP_FORMAT: (archive.verify, "every file against the listing"),
    n8n.DUMP_FORMAT: (n8n_parts.verify, "every credential opened with n8n's own key"),
    record.DUMP_FORMAT: (record.verify, "every container with its image"),
    saved.DUMP_FORMAT: (saved.verify, "every layer's digest"),
}
"""By format: what proves a backup from its own parts, and how that is called."""

Inspect = Callable[[Manifest, Iterable[bytes]], dict[str, int] | None]
"""A source's reader of its own dumps; see ``engine.source.DatabaseSource.inspect``."""


class UnusualSize(IntegrityError):
    """A backup is too small to be what it should: that is so of every copy."""


class Gone(NotFound):
    """Retention removed the backup while it was being read: it is neither whole nor damaged."""


@dataclass(frozen=True)
class VerifyReport:
    """What was proven of one stored backup.

    Attributes:
        checks: In words, in the order made: ``signature``, ``digest``...
        rows: By table as found in the dump; None where its format does not show them.
        seconds: How long it took.
    """

    entry: Entry
    manifest: Manifest
    checks: list[str]
    rows: dict[str, int] | None
    plain_bytes: int
    stored_bytes: int
    seconds: float
    warnings: list[str] = field(default_factory=list)


def verify_backup(
    vault: Vault, location: str, entry: Entry, inspect: Inspect | None, *, recent: Sequence[int] | None = None,
    floor_bytes: int = 0, progress: Progress = silent, new: bool = False, accept_size: bool = False,
) -> VerifyReport:  # fmt: skip
    """Read one backup to its end and prove it; leaves a ``verified`` or a ``broken`` mark beside it.

    Args:
        inspect: The source's reader; None for what is proven by its own parts (base backups, archives of files).
        recent: Stored sizes (bytes) of earlier backups of the same kind; None looks them up.
        floor_bytes: The data file must not be smaller.
        new: Of a bucket's snapshot read the contents that it stored first, and see that the others are there.
        accept_size: A person says that its size is right now. What comes later is held against it, and what was
            before it counts no more.

    Raises:
        IntegrityError: It is not what its manifest says; which part, in the message. It is marked
            broken first. Gone: retention removed it meanwhile. WrongKey, StoreError: it could not be judged; no mark.
    """
    begun = time.monotonic()
    try:
        manifest = vault.catalog(location).load(entry)
        vault.require_readable(entry, manifest)
        known = recent_sizes(vault, entry, manifest) if recent is None else recent
        warnings = check_size(manifest, [] if accept_size else known, floor_bytes)
        rows, proof = _read_all(vault, entry, manifest, inspect, progress, new)
    except IntegrityError as error:
        _refuse_removed(vault, entry)
        _mark_broken(vault, entry, error, content=isinstance(error, UnusualSize) or _is_as_written(vault, entry))
        raise
    except NotFound as error:
        _refuse_removed(vault, entry)
        # Its manifest or a part of it is gone: that is damage, not a passing trouble.
        broken = IntegrityError(
            f"{entry.file} is not whole: {error.message}", remedy="use another copy of this backup (--location)"
        )
        _mark_broken(vault, entry, broken, content=False)
        raise broken from error
    companions = len(manifest.files) > 1 and manifest.dump_format not in _BY_PARTS
    checks = ["signature", "digest", "decrypted and unpacked", proof, *(["companions"] if companions else []), "size"]
    plain = sum(part.plain_size for part in manifest.files)
    report = VerifyReport(
        entry, manifest, checks, rows, plain, manifest.stored_bytes, time.monotonic() - begun, warnings
    )
    _refuse_removed(vault, entry)
    if accept_size:
        vault.mark(entry, SIZE_ACCEPTED, size=manifest.data.size)
    vault.mark(
        entry,
        "verified",
        checks=checks,
        warnings=warnings,
        rows=sum((rows or {}).values()),
        sha256=manifest.data.sha256,
    )
    return report


def was_removed(vault: Vault, entry: Entry) -> bool:
    """Has retention removed it, or begun to? Its manifest goes first then, and an expired one stands without it for a
    moment; a manifest that anything else took away is damage. Raises what the store does."""
    store = vault.store(entry.location)
    if store.stat(entry.manifest_key) is not None:
        return False
    return store.stat(entry.key) is None or claims_of(vault, entry).expired == EXPIRED


def _refuse_removed(vault: Vault, entry: Entry) -> None:
    if was_removed(vault, entry):
        raise Gone(
            f"{entry.file} was removed from {entry.location} by retention while it was being read.",
            kept="what stands elsewhere; no mark was left",
            remedy="see what there is: backups list",
        )


def check_size(manifest: Manifest, recent: Sequence[int], floor_bytes: int = 0) -> list[str]:
    """Hold a backup's stored size against the floor and earlier ones; gives warnings.

    Raises:
        UnusualSize: Below the floor, or suspiciously small.
    """
    size = manifest.data.size
    if size < floor_bytes:
        raise UnusualSize(
            f"{manifest.file} has {size:,} bytes, below the floor of {floor_bytes:,} set for {manifest.source}.",
            remedy="look at what the database lost, or lower floor_bytes",
        )
    if not recent:
        return []
    usual = statistics.median(recent[:RECENT])
    figures = f"{manifest.file} has {size:,} bytes; the last {len(recent[:RECENT])} had {usual:,.0f} (median)"
    if size < SMALL_FAILURE * usual and not manifest.is_archive:
        raise UnusualSize(
            f"{figures}: suspiciously small.",
            kept="the earlier backups",
            remedy=f"look at what the database lost; where it is right so: backups verify --backup {manifest.file} "
            "--accept-size",
        )
    if size < SMALL_WARNING * usual or size > LARGE_WARNING * usual:
        return [f"{figures}: unusually {'small' if size < usual else 'large'}."]
    return []


def recent_sizes(vault: Vault, entry: Entry, manifest: Manifest) -> list[int]:
    """Stored bytes of up to ``RECENT`` earlier backups of the same source, database and tier, newest first, without
    what was found broken. None from before one whose size a person accepted; none at all where it is this one's."""
    sizes: list[int] = []
    if _said_of(vault, entry)[1]:
        return sizes
    for each in vault.catalog(entry.location).entries(
        source=manifest.source, database=manifest.database, tier=manifest.tier
    ):
        if each.name.taken_at >= entry.name.taken_at:
            continue
        broken, accepted = _said_of(vault, each)
        if not broken:
            sizes.append(each.size)
        if len(sizes) == RECENT or accepted:
            break
    return sizes


def _said_of(vault: Vault, entry: Entry) -> tuple[bool, bool]:
    """Was it found broken; did a person accept its size? By its signed marks: what cannot be read says neither."""
    kinds = {mark.kind for mark in marks.named(vault.store(entry.location), vault.layout(entry.location), entry.key)}
    if not kinds & {BROKEN, SIZE_ACCEPTED}:
        return False, False
    try:
        said = vault.marks(entry)
    except BackupError:
        return False, False
    return word_of(said).whole is False, any(mark["kind"] == SIZE_ACCEPTED for mark in said)


def _read_all(
    vault: Vault, entry: Entry, manifest: Manifest, inspect: Inspect | None, progress: Progress, new: bool
) -> tuple[dict[str, int] | None, str]:
    """The rows where the format shows them, and what was proven, in words."""
    store = vault.store(entry.location)
    if manifest.dump_format in _BY_PARTS:
        _read_parts(vault, entry, manifest, progress)
        return None, _BY_PARTS[manifest.dump_format][1]
    if manifest.dump_format == buckets.DUMP_FORMAT:
        with closing(_plain(vault, store, entry, manifest.data, progress)) as listed:
            return None, verify_contents(vault, entry, manifest, listed, new=new, progress=progress)
    if inspect is None:
        raise IntegrityError(f"{manifest.file} has a format that this release does not read: {manifest.dump_format}.")
    for part in manifest.files[1:]:
        for _ in _plain(vault, store, entry, part, progress):
            pass
    try:
        with closing(_plain(vault, store, entry, manifest.data, progress)) as plain:
            rows = inspect(manifest, plain)
            for _ in plain:  # an inspection may stop early; the digest is known only at the end
                pass
    except IntegrityError:
        # Say first whether the stored bytes changed: then what the dump looks like means nothing.
        check_stored(store.read(entry.beside(manifest.data.file)), manifest.data)
        raise
    return rows, "end marker and rows" if rows else "end marker"


def _read_parts(vault: Vault, entry: Entry, manifest: Manifest, progress: Progress) -> None:
    """What is proven as a whole: the files in its parts by another part of it."""
    store = vault.store(entry.location)
    parts = {part.role: part for part in manifest.files}
    try:
        _BY_PARTS[manifest.dump_format][0](manifest, lambda role: _plain(vault, store, entry, parts[role], progress))
    except IntegrityError:
        for part in manifest.files:
            check_stored(store.read(entry.beside(part.file)), part)
        raise


def _plain(
    vault: Vault, store: Store, entry: Entry, part: StoredFile, progress: Progress
) -> Generator[bytes, None, None]:
    stored = told(store.read(entry.beside(part.file)), f"verify {part.file}", part.size, progress)
    return decode(stored, part, vault.keys)


def _is_as_written(vault: Vault, entry: Entry) -> bool:
    """Is every stored byte of it right, so that it was made wrong? What a bucket's list names may be gone here only."""
    store = vault.store(entry.location)
    try:
        manifest = vault.catalog(entry.location).load(entry)
        for part in manifest.files:
            check_stored(store.read(entry.beside(part.file)), part)
    except BackupError:
        return False
    return manifest.dump_format != buckets.DUMP_FORMAT


def _mark_broken(vault: Vault, entry: Entry, error: IntegrityError, *, content: bool) -> None:
    try:
        vault.mark(entry, "broken", reason=error.message, **{CONTENT: content})
    except BackupError as unmarked:
        error.add_note(f"It could not be marked as broken: {unmarked.message}")
