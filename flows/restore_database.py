"""A database comes back: beside production, or in its place once somebody approved it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.input import RunInput
from prefect.states import Completed, Failed
from pydantic import Field

from blocks import load_site
from engine.restore import RestorePlan, RestoreRequest, RestoreResult, RestoreWork, check_confirmation
from flows.approval import approve
from flows.outcome import outcome
from flows.parameters import DatabaseName, Names, SiteName, Source
from tasks import cold, restore
from tasks.base import SiteHandle
from tasks.progress import RunProgress
from tasks.restore_report import approval_text, plan_text, result_text
from tasks.vault import sweep
from tasks.words import duration, plural


class Approval(RunInput):
    """Typed by the person who approves a replacement."""

    confirm: str = Field(title="Name of the database to replace", description="Type it in full to approve.")


def _run_name() -> str:
    given = runtime.flow_run.parameters
    into = given.get("into") or "a side database"
    how = "plan of restoring" if given.get("dry_run") else "restore"
    return (
        f"{how} {given.get('site')}/{given.get('source') or '*'}/{given.get('database')} {_whence(given)} into {into}"
    )


def _whence(given: dict[str, Any]) -> str:
    when = given.get("point_in_time")
    return f"as of {when}" if when else f"from {given.get('backup', 'latest')}"


@flow(name="restore-database", flow_run_name=_run_name, persist_result=False)
def restore_database(
    site: SiteName,
    source: Source,
    database: DatabaseName,
    backup: str = "latest",
    location: str = "auto",
    into: str = "",
    tables: Names = [],  # noqa: B006 - a form's default; never changed
    schemas: Names = [],  # noqa: B006
    point_in_time: str = "",
    only_backup: bool = False,
    confirm: str = "",
    dry_run: bool = False,
    safety_backup: bool = True,
) -> State[Any]:
    """Bring a database back from a backup. Nothing of production is touched before the very last step.

    Args:
        site: Name of the site block, such as workset.
        source: The server of the site, such as mysql. May be empty where only one has such a database.
        database: The database whose backup it is.
        backup: latest; a backup's file name; or "before 2025-01-16T02:00:00Z", with its zone.
        location: auto (local first, then the replicas), local, or a replica's name.
        into: Empty: a new database beside. The database's own name (or replace): in its place, after
            approval. Another name: a new database of that name.
        tables: Only these tables (schema.table for PostgreSQL; * allowed). Empty: all.
        schemas: Only these schemas (PostgreSQL). Empty: all.
        point_in_time: Instead of a backup: a time with its zone (2025-01-16T14:31:07Z), latest, a position
            in the logs (mysql-bin.000042:1234), a GTID (gtid 0-1-1234), an LSN (lsn 0/3000148), or the statement
            to stop right before (before DROP TABLE users; find-event lists what there is). The database is
            recovered to it on a scratch server first. (To look at it there, use the command line: backups restore
            --to ... --look. A scratch server has no network, so only somebody on the worker's machine could reach it.)
        only_backup: With point_in_time: stop when the recovered database is a backup in the vault.
        confirm: For unattended replacement: the database's name. Empty: the run pauses for approval.
        dry_run: Only say what would be done.
        safety_backup: Before a replacement, back up what stands there. Turn it off only when that cannot
            be read any more; the previous data is kept under another name all the same.
    """
    request = RestoreRequest(
        database=database,
        source=source,
        backup=backup,
        location=location,
        into=into,
        tables=tuple(tables),
        schemas=tuple(schemas),
        safety_backup=safety_backup,
    )
    if point_in_time:
        return outcome(_restore_past, site, request, point_in_time.strip(), only_backup, confirm, dry_run)
    return outcome(_restore, site, request, confirm, dry_run)


def _restore_past(
    site: str, request: RestoreRequest, when: str, only_backup: bool, confirm: str, dry_run: bool
) -> State[None]:
    """Recover to a moment, then restore what came out like any backup.

    Raises:
        ConfigError: A backup is named as well. OutsideWindow: that moment cannot be had. And what an ordinary restore
            to there would refuse, before anything is recovered.
    """
    handle = SiteHandle(load_site(site), thaw=not dry_run)
    past = restore.plan_past(handle, request, when, confirm, only_backup)
    create_markdown_artifact(
        key=f"{site}-recovery-plan",
        markdown="\n\n".join(past.lines()),
        description=f"What bringing {past.found.database} back to {when} means",
    )
    if dry_run:
        return Completed(message=f"Plan only, nothing was changed: {past.lines()[0]}")
    sweep(handle)
    entry, manifest = restore.bring_back(handle, past)
    if only_backup:
        return Completed(
            message=f"{past.found.source}/{past.found.database} as it was at {past.plan.target} is a backup now: "
            f"{entry.file}, {plural(manifest.total_rows, 'row')}"
        )
    return _restore(site, replace(request, backup=entry.file, location="local"), confirm, dry_run)


def _restore(site: str, request: RestoreRequest, confirm: str, dry_run: bool) -> State[None]:
    handle = SiteHandle(load_site(site), thaw=not dry_run)
    if not dry_run:
        sweep(handle)
    plan = restore.plan(handle, request)
    create_markdown_artifact(
        key=f"{site}-restore-plan", markdown=plan_text(plan), description=f"What restoring {plan.target} means"
    )
    if dry_run:
        return Completed(
            message=f"Plan only, nothing was changed: {plan.manifest.file} into "
            f"{plan.target.database if plan.replaces else plan.side}"
        )
    cold.require_readable(handle, plan.entry, plan.manifest)
    if plan.replaces and plan.before.exists:
        _approve(plan, site, confirm)
    elif confirm:
        check_confirmation(plan, confirm)
    result = _carry_out(handle, plan)
    create_markdown_artifact(
        key=f"{site}-restore", markdown=result_text(plan, result), description=f"What the last restore on {site} did"
    )
    rows = plural(sum(result.comparison.expected.values()), "row")
    done = f"{plan.target} is back as {result.into}: {result.rows:,} of {rows} in {duration(result.seconds)}"
    done += result.but
    if result.lacks_full is not None:
        return Failed(message=f"{result.lacks_full}\n{done}")
    return Completed(message=done)


def _approve(plan: RestorePlan, site: str, confirm: str) -> None:
    """Raises ConfirmationNeeded."""
    approve(
        f"replacing {plan.target}",
        Approval,
        partial(check_confirmation, plan),
        confirm,
        approval_text(plan),
        artifact=f"{site}-restore-approval",
    )


def _carry_out(site: SiteHandle, plan: RestorePlan) -> RestoreResult:
    progress = RunProgress(f"restore {plan.target}")
    with site.open() as opened, RestoreWork(opened, plan, progress=progress) as work:
        restore.load(work)
        restore.compare(work)
        if plan.replaces:
            restore.safety_backup(work)
            restore.swap(work)
            if work.needs_new_full:
                restore.new_full(work)
        progress.finish()
        return work.result()
