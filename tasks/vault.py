"""Tasks on the vault: sweep what dead runs left, copy backups to replicas."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence

from prefect.logging import get_run_logger

from engine import replicas, sealed
from engine.catalog import Entry
from engine.errors import CopyUnderWay
from engine.replicas import Brought
from engine.site import Swept
from engine.stores.base import Stored
from tasks.base import SiteHandle, reason, step
from tasks.progress import told
from tasks.words import duration, size


@step(name="sweep", run_name="sweep what dead runs left on {site.name}", retries=1)
def sweep(site: SiteHandle) -> Swept:
    """Finish or undo what dead runs left: half-done swaps, side databases, staged files, uploads."""
    with site.open() as opened:
        opened.vault.check()
        found = opened.sweep()
    for line in found.done:
        get_run_logger().info("swept: %s", line)
    for line in found.problems:
        get_run_logger().warning("not yet swept: %s", line)
    return found


@step(name="seal the site file", run_name="seal the site file of {site.name} into {point}", retries=1)
def seal_site_file(site: SiteHandle, text: str, point: str, tier: str) -> str:
    """Seal the site file into a recovery point, so that bucket and key are enough to know what the machine was."""
    with site.open() as opened:
        return sealed.seal_site(opened.vault, text or sealed.written_out(site.config), point, tier)


@step(name="copy site files", run_name="copy sealed site files of {site.name} to {replica}")
def copy_site_files(site: SiteHandle, replica: str) -> list[str]:
    """Give a replica the sealed site files that it lacks."""
    with site.open() as opened:
        return sealed.copy_sealed(opened.vault, replica)


@step(name="find missing copies", run_name="find what {site.name}/{replica} lacks")
def find_lacking(site: SiteHandle, replica: str) -> list[Entry]:
    """Local backups that a replica does not have, newest first."""
    with site.open() as opened:
        return opened.vault.lacking(replica)


def copy_to(site: SiteHandle, replica: str, entries: Sequence[Entry], own: Container[str] = ()) -> Brought:
    """Copy backups to a replica, as many side by side as the site file says, each a task of its own.

    Args:
        own: The files of this very run: where another run copies one just now, that is awaited.
    """

    def copy(entry: Entry) -> Stored:
        done = replicate(site, entry, replica, entry.file in own)
        if isinstance(done, CopyUnderWay):
            raise done
        return done

    with site.open() as opened:
        at_once = replicas.concurrency(opened, replica)
    brought = replicas.bring(entries, copy, at_once)
    for entry, under_way in brought.elsewhere:
        get_run_logger().warning("%s is not at %s yet: %s", entry.file, replica, reason(under_way))
    for entry, error in brought.failed:
        get_run_logger().error("%s is not at %s: %s", entry.file, replica, reason(error))
    return brought


@step(name="copy", run_name="copy {entry.file} to {replica}")
def replicate(site: SiteHandle, entry: Entry, replica: str, own: bool = False) -> Stored | CopyUnderWay:
    """Copy one backup to one replica; says how the copy was checked there, or that another run makes it just now."""
    begun = time.monotonic()
    with site.open() as opened, told(f"copy {entry.file} to {replica}") as progress:
        try:
            stored = replicas.replicate(opened, entry, replica, own=own, progress=progress)
        except CopyUnderWay as error:
            return error
    get_run_logger().info(
        "%s: copied to %s (%s) in %s, checked by %s",
        entry.file,
        replica,
        size(stored.size),
        duration(time.monotonic() - begun),
        stored.proof,
    )
    return stored
