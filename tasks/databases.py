"""Tasks of a database backup: find the databases, look before dumping, dump, prove."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from prefect.logging import get_run_logger

from engine import backup
from engine.catalog import Entry
from engine.locks import patiently
from engine.manifest import Manifest
from engine.site import Target
from engine.source import Preflight
from engine.verify import VerifyReport
from tasks.base import SiteHandle, step
from tasks.progress import told
from tasks.words import duration, rate, size

WAIT_SECONDS = 3600.0
"""For another run that works on the same database; a task is tried again after that."""


@dataclass(frozen=True)
class Captured:
    """A backup that stands in the local vault; ``seconds`` from start to published."""

    target: Target
    entry: Entry
    manifest: Manifest
    seconds: float


@step(name="find databases", run_name="find databases on {site.name}/{source}")
def find_databases(site: SiteHandle, source: str) -> list[Target]:
    """Every database of a source that is to be backed up; of config files, its one archive."""
    with site.open() as opened:
        return opened.targets(source)


@step(name="preflight", run_name="preflight {site.name}/{target}")
def preflight(site: SiteHandle, target: Target) -> Preflight:
    """Everything that can be known before the dump; its warnings go to the log."""
    with site.open() as opened:
        found = backup.preflight(opened, target)
    server = found.server
    get_run_logger().info(
        "%s: %s %s, about %s to dump", target, server.flavour, server.version, size(found.estimated_bytes)
    )
    for warning in found.warnings:
        get_run_logger().warning("%s: %s", target, warning)
    return found


@step(name="dump", run_name="dump {site.name}/{target} ({tier})")
def capture(
    site: SiteHandle,
    target: Target,
    tier: str,
    label: str = "",
    recovery_point: str = "",
    keep: timedelta | None = None,
) -> Captured:
    """Dump one database, or archive files, encrypted, into the local vault. What fails half-way leaves nothing.

    Another run that works on it is waited for: schedules meet, and the night's full is not to be lost to an hourly one.
    """
    log = get_run_logger()
    with site.open() as opened, patiently(lambda: backup.locks(opened, target), WAIT_SECONDS, log.info):
        begun = time.monotonic()
        with told(f"dump {target}") as progress:
            entry, manifest = backup.capture(
                opened, target, tier=tier, label=label, recovery_point=recovery_point, progress=progress, keep=keep,
                locked=True,
            )  # fmt: skip
        seconds = time.monotonic() - begun
    log.info(
        "%s: dumped %s (%s stored) with %s in %s, %s: %s",
        target,
        size(manifest.data.plain_size),
        size(manifest.stored_bytes),
        manifest.holds,
        duration(seconds),
        rate(manifest.data.plain_size, seconds),
        entry.file,
    )
    for missing in manifest.incomplete:
        log.error("%s is incomplete: %s", target, missing)
    return Captured(target, entry, manifest, seconds)


@step(name="verify", run_name="verify {site.name}/{entry.file}")
def verify(site: SiteHandle, entry: Entry, new: bool = False) -> VerifyReport:
    """Read a stored backup to its end and prove it: digest, signature, decryption, end marker, rows, size. Of a
    bucket's ``new`` snapshot the contents that it was the first to store."""
    with site.open() as opened, told(f"verify {entry.file}") as progress:
        report = backup.verify(opened, entry, progress=progress, new=new)
    get_run_logger().info("%s: verified in %s: %s", entry.file, duration(report.seconds), ", ".join(report.checks))
    for warning in report.warnings:
        get_run_logger().warning("%s: %s", entry.file, warning)
    return report
