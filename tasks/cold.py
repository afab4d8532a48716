"""Tasks of cold storage: old archives move there, and what is to be read is asked for."""

from __future__ import annotations

from prefect.logging import get_run_logger

from engine.catalog import Entry
from engine.cold.move import Moved, move_all
from engine.manifest import Manifest
from tasks.base import SiteHandle, step
from tasks.progress import told


@step(name="move to cold storage", run_name="move old archives of {site.name} to cold storage")
def move(site: SiteHandle) -> list[Moved]:
    """Move monthly archives past their age, in every replica that has a rule for it."""
    with site.open() as opened, told("cold storage") as progress:
        done = move_all(opened, progress=progress)
    for each in done:
        (get_run_logger().error if each.error or each.failed else get_run_logger().info)(each.verdict())
    return done


@step(name="thaw", run_name="see that {entry.file} can be read")
def require_readable(site: SiteHandle, entry: Entry, manifest: Manifest) -> None:
    """Ask for the thaw of what is in cold storage; a run that has to wait for it ends here for now."""
    with site.open() as opened:
        opened.vault.require_readable(entry, manifest)
