"""A Docker volume comes back: as a new one, or in place of what it holds once somebody approved it."""

from __future__ import annotations

from functools import partial
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.input import RunInput
from prefect.states import Completed
from pydantic import Field

from blocks import load_site
from engine.volumes.plan import VolumePlan, VolumeRequest, check_confirmation
from engine.volumes.restore import VolumeRestore, VolumeResult
from flows.approval import approve
from flows.outcome import outcome
from flows.parameters import Names, SiteName, Source
from tasks import restore_volumes
from tasks.base import SiteHandle
from tasks.progress import RunProgress
from tasks.vault import sweep
from tasks.words import duration, plural


class Approval(RunInput):
    """Typed by the person who approves that a volume's data is replaced."""

    confirm: str = Field(title="Name of the volume to replace", description="Type it in full to approve.")


def _run_name() -> str:
    given = runtime.flow_run.parameters
    how = "plan of restoring" if given.get("dry_run") else "restore"
    place = "in place" if given.get("replace") else f"into {given.get('into') or 'a new volume'}"
    return f"{how} volume {given.get('site')}/{given.get('volume') or '?'} from {given.get('backup', 'latest')} {place}"


@flow(name="restore-volume", flow_run_name=_run_name, persist_result=False)
def restore_volume(
    site: SiteName,
    volume: str = "",
    source: Source = "",
    backup: str = "latest",
    location: str = "auto",
    into: str = "",
    replace: bool = False,
    paths: Names = [],  # noqa: B006 - a form's default; never changed
    confirm: str = "",
    dry_run: bool = False,
) -> State[Any]:
    """Bring a Docker volume back from a backup: as a new volume, or in place of what it holds.

    Args:
        site: Name of the site block, such as workbench.
        volume: As the site file calls it. Empty: the only one.
        source: Whose volume, where several sources have one of that name.
        backup: latest; a backup's file name; or "before 2025-01-16T02:00:00Z", with its zone.
        location: auto (local first, then the replicas), local, or a replica's name.
        into: A new volume of that name. Empty: one named after the volume and the time. With replace: the volume whose
            data is replaced; empty: the one that was backed up.
        replace: Put it in place of what the volume holds, after approval. The containers that use it are stopped for
            that moment and started again; the previous data is kept as another volume.
        paths: Only these, from the volume's top, each with all below it. Empty: all.
        confirm: For unattended replacements: the volume's name. Empty: the run pauses for approval.
        dry_run: Only say what would be done.
    """
    request = VolumeRequest(volume.strip(), source, backup, location, into.strip(), replace, tuple(paths))
    return outcome(_restore, site, request, confirm, dry_run)


def _restore(site: str, request: VolumeRequest, confirm: str, dry_run: bool) -> State[None]:
    handle = SiteHandle(load_site(site), thaw=not dry_run)
    if not dry_run:
        sweep(handle)
    plan = restore_volumes.plan(handle, request)
    create_markdown_artifact(
        key=f"{site}-restore-volume-plan",
        markdown=restore_volumes.plan_text(plan),
        description=f"What restoring {plan.target} means",
    )
    if dry_run:
        return Completed(message=f"Plan only, nothing was changed: {plan.manifest.file} into volume {plan.into}")
    if plan.replaces:
        _approve(plan, site, confirm)
    elif confirm:
        check_confirmation(plan, confirm)
    result = _carry_out(handle, plan)
    create_markdown_artifact(
        key=f"{site}-restore-volume",
        markdown=restore_volumes.result_text(plan, result),
        description=f"What the last restore of a volume on {site} did",
    )
    kept = f"; what it held is in volume {result.kept_as}" if result.kept_as else ""
    return Completed(
        message=f"Volume {result.into} is restored: {plural(result.members, 'entry')}, each compared, in "
        f"{duration(result.seconds)}{kept}"
    )


def _approve(plan: VolumePlan, site: str, confirm: str) -> None:
    """Raises ConfirmationNeeded."""
    approve(
        f"replacing what volume {plan.into} holds",
        Approval,
        partial(check_confirmation, plan),
        confirm,
        restore_volumes.approval_text(plan),
        artifact=f"{site}-restore-volume-approval",
    )


def _carry_out(site: SiteHandle, plan: VolumePlan) -> VolumeResult:
    progress = RunProgress(f"restore volume {plan.into}")
    with site.open() as opened, VolumeRestore(opened, plan, progress=progress) as work:
        restore_volumes.put(work)
        restore_volumes.compare(work)
        if plan.replaces:
            restore_volumes.exchange(work)
        progress.finish()
        return work.result()
