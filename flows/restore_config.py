"""Config files come back: into a directory, or to where they were once somebody approved it."""

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
from engine.config_files.plan import ConfigPlan, ConfigRequest, check_confirmation
from engine.config_files.restore import ConfigRestore, ConfigResult
from engine.config_files.source import shown
from flows.approval import approve
from flows.outcome import outcome
from flows.parameters import Names, SiteName, Source
from tasks import restore_files
from tasks.base import SiteHandle
from tasks.progress import RunProgress
from tasks.vault import sweep
from tasks.words import duration


class Approval(RunInput):
    """Typed by the person who approves that files are put back in place."""

    confirm: str = Field(title="Name of the source to put back", description="Type it in full to approve.")


def _run_name() -> str:
    given = runtime.flow_run.parameters
    how = "plan of restoring" if given.get("dry_run") else "restore"
    into = given.get("into") or "a new directory"
    return (
        f"{how} {given.get('site')}/{given.get('source') or 'config'} from {given.get('backup', 'latest')} into {into}"
    )


@flow(name="restore-config", flow_run_name=_run_name, persist_result=False)
def restore_config(
    site: SiteName,
    source: Source = "",
    backup: str = "latest",
    location: str = "auto",
    into: str = "",
    paths: Names = [],  # noqa: B006 - a form's default; never changed
    confirm: str = "",
    dry_run: bool = False,
    safety_backup: bool = True,
) -> State[Any]:
    """Bring config files back from a backup: into a directory, or to where they were.

    Args:
        site: Name of the site block, such as workbench.
        source: Which config files, where the site has several.
        backup: latest; a backup's file name; or "before 2025-01-16T02:00:00Z", with its zone.
        location: auto (local first, then the replicas), local, or a replica's name.
        into: Empty: a new directory in the vault's root, under restored/. An absolute path: a new or empty directory.
            /: back to where they were, after approval; what would change is shown first.
        paths: Only these absolute paths, each with all below it. Empty: all.
        confirm: For unattended restores to /: the source's name, config. Empty: the run pauses for approval.
        dry_run: Only say what would be done.
        safety_backup: Before files are replaced, back up what stands there.
    """
    request = ConfigRequest(source, backup, location, into.strip(), tuple(paths), safety_backup)
    return outcome(_restore, site, request, confirm, dry_run)


def _restore(site: str, request: ConfigRequest, confirm: str, dry_run: bool) -> State[None]:
    handle = SiteHandle(load_site(site), thaw=not dry_run)
    if not dry_run:
        sweep(handle)
    plan = restore_files.plan(handle, request)
    create_markdown_artifact(
        key=f"{site}-restore-config-plan",
        markdown=restore_files.plan_text(plan),
        description=f"What restoring {plan.target.source} means",
    )
    if dry_run:
        changed = f": {plan.difference.counted()}" if plan.difference else ""
        return Completed(
            message=f"Plan only, nothing was changed: {plan.manifest.file} into {shown(plan.into)}{changed}"
        )
    if plan.changes:
        _approve(plan, site, confirm)
    elif confirm:
        check_confirmation(plan, confirm)
    result = _carry_out(handle, plan)
    create_markdown_artifact(
        key=f"{site}-restore-config",
        markdown=restore_files.result_text(plan, result),
        description=f"What the last restore of config files on {site} did",
    )
    return Completed(
        message=f"{plan.target.source} is back in {shown(result.into)}: {result.written:,} written, "
        f"{result.altered:,} altered, {result.equal:,} left as they were, in {duration(result.seconds)}"
    )


def _approve(plan: ConfigPlan, site: str, confirm: str) -> None:
    """Raises ConfirmationNeeded."""
    approve(
        f"putting {plan.target.source} back in place",
        Approval,
        partial(check_confirmation, plan),
        confirm,
        restore_files.approval_text(plan),
        artifact=f"{site}-restore-config-approval",
    )


def _carry_out(site: SiteHandle, plan: ConfigPlan) -> ConfigResult:
    progress = RunProgress(f"restore {plan.target.source}")
    with site.open() as opened, ConfigRestore(opened, plan, progress=progress) as work:
        if plan.in_place:
            restore_files.safety_backup(work)
        restore_files.put(work)
        if plan.in_place:
            restore_files.swap(work)
        restore_files.compare(work)
        progress.finish()
        return work.result()
