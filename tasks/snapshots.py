"""Tasks of snapshots before a deployment: look what stands, take one database's, say how the deployment went."""

from __future__ import annotations

from dataclasses import dataclass

from prefect.logging import get_run_logger

from engine import names, releases, snapshots
from engine.site import Swept, Target
from engine.snapshots import Deploy, Snapshot
from engine.verify import VerifyReport
from tasks.base import SiteHandle, step
from tasks.databases import Captured
from tasks.progress import told
from tasks.words import duration, size


@dataclass(frozen=True)
class Ground:
    """What is to be snapshot, and the snapshot of the same key that stands already."""

    targets: list[Target]
    same: Snapshot | None
    swept: Swept


@step(name="look before the snapshot", run_name="look what stands on {site.name}")
def prepare(site: SiteHandle, deploy: Deploy, source: str, database: str) -> Ground:
    """Undo what dead runs left on this host, ask the servers for their databases, and look for the same key."""
    with site.open() as opened:
        opened.vault.check()
        swept = opened.sweep(replicas=False)
        targets = snapshots.snapshot_targets(opened, source, database)
        same = snapshots.standing(opened, deploy.key, targets)
    for line in swept.done:
        get_run_logger().info("swept: %s", line)
    for line in swept.problems:
        get_run_logger().warning("not yet swept: %s", line)
    return Ground(targets, same, swept)


@step(name="snapshot", run_name="snapshot {site.name}/{target}")
def take(
    site: SiteHandle, target: Target, deploy: Deploy, recovery_point: str, parts: list[Target]
) -> tuple[Captured, VerifyReport]:
    """Dump and prove one database of those that the snapshot is to have. What fails half-way leaves nothing."""
    log = get_run_logger()
    with site.open() as opened, told(f"snapshot {target}") as progress:
        made = snapshots.take(
            opened, target, deploy, recovery_point, parts=parts, progress=progress,
            tell=lambda text: log.info("waiting: %s", text),
        )  # fmt: skip
    manifest = made.manifest
    log.info(
        "%s: %s (%s stored) with %s, dumped and verified in %s: %s",
        target,
        size(manifest.data.plain_size),
        size(manifest.stored_bytes),
        manifest.holds,
        duration(made.seconds),
        manifest.file,
    )
    for warning in manifest.warnings:
        log.warning("%s: %s", target, warning)
    return Captured(target, made.entry, manifest, made.seconds), made.report


@step(name="say how the deployment went", run_name="say how {snapshot} of {site.name} went")
def judge(site: SiteHandle, snapshot: str, failed: bool) -> releases.Outcome:
    """Mark a snapshot as released, or as that of a deployment that failed, wherever it stands."""
    with site.open() as opened:
        outcome = (releases.withhold if failed else releases.release)(opened, snapshot)
    log = get_run_logger()
    for each in outcome.older:
        log.info("%s may go now, taken %s", each.title, names.iso(each.taken_at))
    for warning in outcome.warnings:
        log.warning("%s", warning)
    for place, error in outcome.errors.items():
        log.warning("%s was not told: %s", place, error.message)
    return outcome
