"""The steps of a backup, as flows and the command line both take them: preflight, capture, verify, copy."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from engine import stopping
from engine.catalog import Entry
from engine.errors import BackupError, in_words
from engine.file_source import Source
from engine.manifest import Manifest
from engine.names import BINLOGS
from engine.pins import keep_until
from engine.progress import Progress, silent
from engine.replicas import catch_up
from engine.site import Site, Target
from engine.source import Preflight
from engine.stores.base import Stored
from engine.verify import VerifyReport, recent_sizes, verify_backup

POINT = "point"
"""Where a manifest's contents say what its recovery point has to hold: ``sources`` of the site, ``databases`` of its
own source."""


@dataclass(frozen=True)
class BackupResult:
    """One finished, verified backup. ``seconds`` from the first byte to its verification."""

    entry: Entry
    manifest: Manifest
    report: VerifyReport
    seconds: float


@dataclass(frozen=True)
class CopyResult:
    """One copy of one backup to one replica: done, or why not."""

    replica: str
    file: str
    stored: Stored | None
    error: BackupError | None


def preflight(site: Site, target: Target) -> Preflight:
    """Everything that can be known before the dump: vault writable, server, tools, grants, engines."""
    site.vault.check()
    return site.any_source(target.source).preflight(target.database)


def capture(
    site: Site,
    target: Target,
    *,
    tier: str,
    label: str = "",
    recovery_point: str = "",
    progress: Progress = silent,
    locked: bool = False,
    source: Source | None = None,
    about: Mapping[str, Any] | None = None,
    keep: timedelta | None = None,
) -> tuple[Entry, Manifest]:
    """Dump one database (or archive the files of a source) into the local vault and publish it.

    Args:
        recovery_point: What all backups of one run share; see ``engine.names.recovery_point``.
        locked: The caller already holds this database's locks.
        source: Instead of the site's source of that name: one of its kind that captures something else.
        about: Further facts for the manifest's contents.
        keep: For how long it is to be kept, of a tier that retention never removes by itself.

    Raises:
        LockHeld: Another run works on this database. DiskFull: no room. And what the source raises.
    """
    own = source is None
    source = source or site.any_source(target.source)
    progress = stopping.heeding(progress, f"backup of {target}")
    stopping.check(f"backup of {target}")
    with contextlib.nullcontext() if locked else locks(site, target):
        site.vault.check()
        found = source.preflight(target.database)
        point = {POINT: _point_of(site, target, source)} if own and recovery_point else {}
        with site.vault.begin(
            source=target.source,
            kind=source.kind,
            tier=tier,
            database=target.database,
            ext=source.extension(),
            label=label,
            recovery_point=recovery_point,
            estimated_bytes=found.estimated_bytes,
        ) as writer:
            facts = source.capture(target.database, writer, progress)
            told = dict.fromkeys((*found.warnings, *facts.warnings))
            warnings = [each for each in told if each not in facts.incomplete]
            contents = {**facts.contents, **point, **(about or {})}
            entry, manifest = writer.publish(replace(facts, warnings=warnings, contents=contents))
        if keep is not None:
            keep_until(site.vault, entry, manifest.taken_at + keep)
        return entry, manifest


def _point_of(site: Site, target: Target, source: Source) -> dict[str, list[str]]:
    """What the recovery point of a backup has to hold to be whole: the site's sources, and the databases that the
    server holds now where the site names none. Says so also in a run of one database alone."""
    named = site.config.source(target.source).databases
    return {"sources": [each.name for each in site.config.sources()], "databases": named or source.databases()}


def verify(
    site: Site, entry: Entry, *, progress: Progress = silent, new: bool = False, accept_size: bool = False
) -> VerifyReport:
    """Read one stored backup to its end and prove it; leaves a mark either way.

    Args:
        new: It was made just now: of a bucket's snapshot only the contents are read that it was the first to store.
        accept_size: A person says that its size is right now; see ``verify_backup``.

    Raises:
        IntegrityError, WrongKey: It is not what its manifest says; the message says which part.
    """
    manifest = site.vault.catalog(entry.location).load(entry)
    config = site.config.source(manifest.source)
    progress = stopping.heeding(progress, f"verification of {entry.file}")
    if entry.name.log == BINLOGS:
        return verify_backup(site.vault, entry.location, entry, inspect_log, recent=[], progress=progress)
    return verify_backup(
        site.vault,
        entry.location,
        entry,
        None if manifest.is_archive else site.source(manifest.source).inspect,
        recent=recent_sizes(site.vault, entry, manifest),
        floor_bytes=config.floor_bytes,
        progress=progress,
        new=new,
        accept_size=accept_size,
    )


def inspect_log(manifest: Manifest, chunks: Iterable[bytes]) -> None:
    """Read a shipped binary log to its end: every event and its checksum.

    Raises:
        IntegrityError: It is not whole.
    """
    from engine.binlog.events import Reader

    for _ in Reader(chunks, manifest.file, size=manifest.data.plain_size):
        pass


def replicate_all(site: Site, *, own: Container[str] = (), progress: Progress = silent) -> list[CopyResult]:
    """Bring every replica up to date, newest first; one failing replica does not stop the others.

    Args:
        own: Files of this very run: where another run copies one just now, that is awaited.

    Returns:
        What was copied, and what could not be. What was not begun any more, because its place takes nothing, is not
        in it, nor what another run copies just now.
    """
    results: list[CopyResult] = []
    for replica in site.vault.locations():
        if replica == "local":
            continue
        try:
            lacking = site.vault.lacking(replica)
        except Exception as failure:
            results.append(CopyResult(replica, "", None, in_words(failure, f"Looking at {replica}")))
            continue
        brought = catch_up(site, replica, lacking, own=own, progress=progress)
        results += [CopyResult(replica, entry.file, stored, None) for entry, stored in brought.copied]
        results += [CopyResult(replica, entry.file, None, error) for entry, error in brought.failed]
    return results


def backup_one(
    site: Site,
    target: Target,
    *,
    tier: str,
    label: str = "",
    recovery_point: str = "",
    progress: Progress = silent,
    about: Mapping[str, Any] | None = None,
    keep: timedelta | None = None,
) -> BackupResult:
    """Capture and verify one database, locally. Replicas are a step of their own. See ``capture``."""
    begun = time.monotonic()
    entry, manifest = capture(
        site, target, tier=tier, label=label, recovery_point=recovery_point, progress=progress, about=about, keep=keep
    )
    report = verify(site, entry, progress=progress, new=True)
    return BackupResult(entry, manifest, report, time.monotonic() - begun)


@contextlib.contextmanager
def locks(site: Site, target: Target) -> Iterator[None]:
    """One run at a time per database: a flock on the vault and the server's own advisory lock."""
    with site.vault.lock(target.source, target.database), site.any_source(target.source).lock(target.database):
        yield
