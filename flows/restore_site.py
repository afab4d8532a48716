"""A whole machine comes back on a clean host, step by step, once somebody approved it."""

from __future__ import annotations

from functools import partial
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.input import RunInput
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from pydantic import Field

from blocks import load_site
from engine.restore_site.plan import SitePlan, SiteRequest, check_confirmation
from engine.restore_site.run import MachineRestore, SiteResult
from flows.approval import approve
from flows.outcome import outcome
from flows.parameters import Label, Names, SiteName
from tasks import restore_site as tasks
from tasks.base import SiteHandle
from tasks.progress import RunProgress
from tasks.vault import sweep
from tasks.words import duration, plural


class Approval(RunInput):
    """Typed by the person who approves that a machine is restored here."""

    confirm: str = Field(title="What the plan asks for", description="Type it in full to approve.")


def _run_name() -> str:
    given = runtime.flow_run.parameters
    how = "plan of restoring" if given.get("dry_run") else "restore"
    which = given.get("recovery_point") or given.get("at") or given.get("point_in_time") or "the newest recovery point"
    return f"{how} the machine {given.get('site')} from {which}"


@flow(name="restore-site", flow_run_name=_run_name, persist_result=False)
def restore_site(
    site: SiteName,
    recovery_point: Label = "",
    at: Label = "",
    point_in_time: Label = "",
    location: str = "auto",
    only: Names = [],  # noqa: B006 - a form's default; never changed
    without: Names = [],  # noqa: B006
    confirm: str = "",
    dry_run: bool = False,
    anew: bool = False,
) -> State[Any]:
    """Bring a whole machine back on this worker's host.

    Images, config files, volumes, containers, databases, buckets and n8n; then everything is asked whether it answers.
    A run that failed or was stopped goes on where it stopped when this is started again.

    Args:
        site: Name of the site block, such as workset.
        recovery_point: Its id. Empty: the newest that is complete.
        at: The newest complete one by then: "2025-01-16T02:00:00Z", with its zone, or a day.
        point_in_time: Databases as they were at that moment, with its zone, or latest; all else from the backup before.
        location: auto (local first, then the replicas), local, or a replica's name.
        only: Only these sources, or source/name. Empty: all.
        without: All but these.
        confirm: For unattended runs: the site's name; "replace NAME" on a machine that is in use. Empty: the run
            pauses for approval.
        dry_run: Only say what would be done.
        anew: Forget how far an unfinished restore came.
    """
    request = SiteRequest(
        recovery_point.strip(), at.strip(), point_in_time.strip(), location, tuple(only), tuple(without), anew
    )
    return outcome(_restore, site, request, confirm, dry_run)


def _restore(site: str, request: SiteRequest, confirm: str, dry_run: bool) -> State[None]:
    handle = SiteHandle(load_site(site), thaw=not dry_run)
    if not dry_run:
        sweep(handle)
    plan = tasks.plan(handle, request)
    create_markdown_artifact(
        key=f"{site}-restore-site-plan",
        markdown=tasks.plan_text(plan),
        description=f"What restoring the machine {site} means",
    )
    if dry_run:
        return Completed(message=f"Plan only, nothing was changed: recovery point {plan.point.id}")
    tasks.require_readable(handle, plan)
    approve(
        f"restoring the machine {site}",
        Approval,
        partial(check_confirmation, plan),
        confirm,
        tasks.approval_text(plan),
        artifact=f"{site}-restore-site-approval",
    )
    result = _carry_out(handle, plan)
    create_markdown_artifact(
        key=f"{site}-restore-site",
        markdown=tasks.result_text(handle.config, plan, result),
        description=f"What the last restore of the machine {site} did, and what is left for a person",
    )
    if not result.worked:
        text = tasks.verdict(result)
        get_run_logger().error(text)
        return Failed(message=text)
    return Completed(
        message=f"{tasks.headline(plan, result)} as of {plan.point.id}: {plural(len(result.done), 'step')} in "
        f"{duration(result.seconds)}; what is left for a person is in the artifact {site}-restore-site"
    )


def _carry_out(site: SiteHandle, plan: SitePlan) -> SiteResult:
    progress = RunProgress(f"restore machine {plan.site}")
    with site.open() as opened, MachineRestore(opened, plan, progress=progress) as work:
        result = work.carry_out(lambda each: tasks.restore(work, each.key, each.title))
        progress.finish()
        return result
