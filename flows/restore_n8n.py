"""An n8n's workflows and credentials come back, under their own ids; over living ones once somebody approved it."""

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
from engine.n8n.plan import N8nPlan, N8nRequest, check_confirmation
from engine.n8n.restore import N8nRestore, N8nResult
from flows.approval import approve
from flows.outcome import outcome
from flows.parameters import Names, SiteName, Source
from tasks import restore_n8n as steps
from tasks.base import SiteHandle
from tasks.progress import RunProgress
from tasks.vault import sweep
from tasks.words import duration, plural


class Approval(RunInput):
    """Typed by the person who approves that workflows or credentials are overwritten."""

    confirm: str = Field(title="Name of the n8n that is written to", description="Type it in full to approve.")


def _run_name() -> str:
    given = runtime.flow_run.parameters
    how = "plan of restoring" if given.get("dry_run") else "restore"
    what = f"{given.get('site')}/{given.get('source') or 'n8n'} from {given.get('backup', 'latest')}"
    return f"{how} {what} into {given.get('into') or 'itself'}"


@flow(name="restore-n8n", flow_run_name=_run_name, persist_result=False)
def restore_n8n(
    site: SiteName,
    source: Source = "",
    backup: str = "latest",
    location: str = "auto",
    into: Source = "",
    workflows: Names = [],  # noqa: B006 - a form's default; never changed
    activate: bool = False,
    confirm: str = "",
    dry_run: bool = False,
    safety_backup: bool = True,
) -> State[Any]:
    """Bring n8n's workflows and credentials back from a backup, under their own ids.

    Args:
        site: Name of the site block, such as workbench.
        source: Which n8n, where the site has several.
        backup: latest; a backup's file name; or "before 2025-01-16T02:00:00Z", with its zone.
        location: auto (local first, then the replicas), local, or a replica's name.
        into: Another n8n of the site, by the name of its source. Empty: the one that was backed up.
        workflows: Only these, by id or name; credentials come along. Empty: all.
        activate: Make those active again that were. Never in another n8n than the one that was backed up.
        confirm: For unattended overwriting: the name of the source that is written to. Empty: the run pauses.
        dry_run: Only say what would be done.
        safety_backup: Before something is overwritten, back up what is there.
    """
    request = N8nRequest(source, backup, location, into.strip(), tuple(workflows), activate, safety_backup)
    return outcome(_restore, site, request, confirm, dry_run)


def _restore(site: str, request: N8nRequest, confirm: str, dry_run: bool) -> State[None]:
    handle = SiteHandle(load_site(site), thaw=not dry_run)
    if not dry_run:
        sweep(handle)
    plan = steps.plan(handle, request)
    create_markdown_artifact(
        key=f"{site}-restore-n8n-plan",
        markdown=steps.plan_text(plan),
        description=f"What restoring {plan.target.source} means",
    )
    if dry_run:
        wanted = len(plan.workflows.wanted) + len(plan.credentials.wanted)
        return Completed(
            message=f"Plan only, nothing was changed: {plan.manifest.file} into {plan.into}: {wanted:,} to bring in, "
            f"{plan.differing:,} of them over living ones"
        )
    approved = _approve(plan, site, confirm) if plan.differing else check_confirmation(plan, confirm)
    result = _carry_out(handle, plan, approved)
    create_markdown_artifact(
        key=f"{site}-restore-n8n",
        markdown=steps.result_text(plan, result),
        description=f"What the last restore of n8n on {site} did",
    )
    return Completed(
        message=f"{plan.target.source} is restored into {result.into}: {plural(result.workflows, 'workflow')} and "
        f"{plural(result.credentials, 'credential')} brought in, {plural(len(result.activated), 'workflow')} made "
        f"active, in {duration(result.seconds)}"
    )


def _approve(plan: N8nPlan, site: str, confirm: str) -> bool:
    """True once it is approved. Raises ConfirmationNeeded."""
    return approve(
        f"overwriting in {plan.into}",
        Approval,
        partial(check_confirmation, plan),
        confirm,
        steps.approval_text(plan),
        artifact=f"{site}-restore-n8n-approval",
    )


def _carry_out(site: SiteHandle, plan: N8nPlan, approved: bool) -> N8nResult:
    progress = RunProgress(f"restore {plan.target.source}")
    with site.open() as opened, N8nRestore(opened, plan, approved=approved, progress=progress) as work:
        if plan.differing:
            steps.safety_backup(work)
        steps.bring_in(work)
        steps.compare(work)
        if plan.activated:
            steps.activate(work)
        progress.finish()
        return work.result()
