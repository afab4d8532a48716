"""A bucket's objects come back: into a new bucket, or to where they were once somebody approved it."""

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
from engine.buckets.plan import BucketPlan, BucketRequest, check_confirmation
from engine.buckets.restore import BucketRestore, BucketResult
from flows.approval import approve
from flows.outcome import outcome
from flows.parameters import Names, SiteName, Source
from tasks import restore_buckets
from tasks.base import SiteHandle
from tasks.progress import RunProgress
from tasks.vault import sweep
from tasks.words import duration, plural


class Approval(RunInput):
    """Typed by the person who approves that objects are overwritten."""

    confirm: str = Field(title="Name of the bucket that is written to", description="Type it in full to approve.")


def _run_name() -> str:
    given = runtime.flow_run.parameters
    how = "plan of restoring" if given.get("dry_run") else "restore"
    what = f"{given.get('site')}/{given.get('bucket') or '?'} from {given.get('backup', 'latest')}"
    return f"{how} bucket {what} into {given.get('into') or 'a new bucket'}"


@flow(name="restore-bucket", flow_run_name=_run_name, persist_result=False)
def restore_bucket(
    site: SiteName,
    bucket: str = "",
    source: Source = "",
    backup: str = "latest",
    location: str = "auto",
    endpoint: str = "",
    into: str = "",
    under: str = "",
    prefix: str = "",
    objects: Names = [],  # noqa: B006 - a form's default; never changed
    settings: bool = False,
    confirm: str = "",
    dry_run: bool = False,
    safety_backup: bool = True,
) -> State[Any]:
    """Bring a bucket's objects back from a snapshot: into a new bucket, or to where they were.

    Args:
        site: Name of the site block, such as workbench.
        bucket: As the site file calls it. Empty: the only one.
        source: Whose bucket, where several sources have one of that name.
        backup: latest; a snapshot's file name; or "before 2025-01-16T02:00:00Z", with its zone.
        location: auto (local first, then the replicas), local, or a replica's name.
        endpoint: Another source of buckets, or a replica, where the objects are put. Empty: where they were.
        into: The bucket, made if it is not there. Empty: a new one named after the old one and the time.
        under: Put before every key, such as restored/.
        prefix: Only objects whose keys begin so. Empty: all.
        objects: Only these keys. Empty: all.
        settings: Set versioning, CORS and policy as they were; done anyway where a lost bucket is made again.
        confirm: For unattended overwriting: the bucket's name. Empty: the run pauses for approval.
        dry_run: Only say what would be done.
        safety_backup: Before objects are overwritten, take a snapshot of the bucket.
    """
    request = BucketRequest(
        bucket.strip(), source, backup, location, endpoint.strip(), into.strip(), under, prefix, tuple(objects),
        settings, safety_backup,
    )  # fmt: skip
    return outcome(_restore, site, request, confirm, dry_run)


def _restore(site: str, request: BucketRequest, confirm: str, dry_run: bool) -> State[None]:
    handle = SiteHandle(load_site(site), thaw=not dry_run)
    if not dry_run:
        sweep(handle)
    plan = restore_buckets.plan(handle, request)
    create_markdown_artifact(
        key=f"{site}-restore-bucket-plan",
        markdown=restore_buckets.plan_text(plan),
        description=f"What restoring {plan.target} means",
    )
    if dry_run:
        return Completed(
            message=f"Plan only, nothing was changed: {plan.manifest.file} into {plan.where}: {plan.new:,} new, "
            f"{plan.same:,} there as they were, {plan.differing:,} overwritten"
        )
    approved = _approve(plan, site, confirm) if plan.differing else check_confirmation(plan, confirm)
    result = _carry_out(handle, plan, approved)
    create_markdown_artifact(
        key=f"{site}-restore-bucket",
        markdown=restore_buckets.result_text(plan, result),
        description=f"What the last restore of a bucket on {site} did",
    )
    return Completed(
        message=f"{plan.target.database} is restored into {result.where}: {plural(result.written, 'object')} written, "
        f"{result.same:,} left as they were, in {duration(result.seconds)}"
    )


def _approve(plan: BucketPlan, site: str, confirm: str) -> bool:
    """True once it is approved. Raises ConfirmationNeeded."""
    return approve(
        f"overwriting objects of {plan.into}",
        Approval,
        partial(check_confirmation, plan),
        confirm,
        restore_buckets.approval_text(plan),
        artifact=f"{site}-restore-bucket-approval",
    )


def _carry_out(site: SiteHandle, plan: BucketPlan, approved: bool) -> BucketResult:
    progress = RunProgress(f"restore bucket {plan.target.database}")
    with site.open() as opened, BucketRestore(opened, plan, approved=approved, progress=progress) as work:
        if plan.differing:
            restore_buckets.safety_backup(work)
        restore_buckets.put(work)
        restore_buckets.compare(work)
        progress.finish()
        return work.result()
