"""``backups restore-bucket``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.carrying_out import Restore, carry_out
from deployments.cli.options import Location, Which
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import age, size

if TYPE_CHECKING:
    from engine.buckets.plan import BucketPlan
    from engine.buckets.restore import BucketResult


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "restore-bucket",
        waits=True,
        stopped="every object is whole, as it was or as restored; run again with the same --into, it goes on there",
        example="""
        backups restore-bucket -f workbench --bucket uploads
        backups restore-bucket -f workbench --bucket uploads --backup 'before 2025-01-16T02:00:00Z' --prefix invoices/
        backups restore-bucket -f workbench --bucket uploads --into uploads --object logo.png --dry-run
        backups restore-bucket -f workbench --bucket uploads --into uploads --confirm uploads
        backups restore-bucket -f workbench --bucket uploads --endpoint spaces --into uploads-copy""",
    )(restore_bucket)


def restore_bucket(
    run: Run,
    bucket: Annotated[
        str, typer.Option(help="As the site file calls it (default: the only one).", show_default=False)
    ] = "",
    source: Annotated[
        str, typer.Option(help="Whose bucket, where several sources have one of that name.", show_default=False)
    ] = "",
    backup: Which = "latest",
    location: Location = "auto",
    endpoint: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Another source of buckets, or a replica, where the objects are put (default: where they were).",
            show_default=False,
        ),
    ] = "",
    into: Annotated[
        str,
        typer.Option(
            metavar="BUCKET",
            help="Made if it is not there (default: a new one named after the old one and the time).",
            show_default=False,
        ),
    ] = "",
    under: Annotated[
        str, typer.Option(metavar="PREFIX", help="Put before every key, such as restored/.", show_default=False)
    ] = "",
    prefix: Annotated[str, typer.Option(help="Only objects whose keys begin so.", show_default=False)] = "",
    object_: Annotated[
        list[str] | None,
        typer.Option("--object", metavar="KEY", help="Only this object (may be repeated).", show_default=False),
    ] = None,
    settings: Annotated[
        bool,
        typer.Option(
            "--settings",
            help="Set versioning, CORS and policy as they were; done anyway where a lost bucket is made again.",
        ),
    ] = False,
    confirm: Annotated[
        str, typer.Option(help="To overwrite objects: the name of the bucket they are in.", show_default=False)
    ] = "",
    safety_backup: Annotated[
        bool, typer.Option("--safety-backup/--no-safety-backup", help="Take a snapshot before objects are overwritten.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, change nothing.")] = False,
) -> Outcome:
    """Restore a bucket's objects into a new bucket; or, confirmed, to where they were.

    Objects come back with content type, headers, user metadata and tags. What stands there as it was is left alone,
    what is otherwise is overwritten only when that is confirmed, and what is only there stays.
    """
    from engine.buckets.plan import BucketRequest, check_confirmation, make_plan
    from engine.buckets.restore import run as restore_now

    with run.site(sweep=not dry_run, thaw=not dry_run) as site:
        request = BucketRequest(
            bucket, source, backup, location, endpoint, into, under, prefix, tuple(object_ or ()), settings,
            safety_backup,
        )  # fmt: skip
        with run.out.progress() as progress:
            plan = make_plan(site, request, progress=progress)
        how = Restore(_question, check_confirmation, restore_now, _show, _facts)
        return carry_out(run, site, plan, how, confirm, dry_run)


def _question(plan: BucketPlan) -> str:
    return f"Type {plan.into} to overwrite {plan.differing:,} of its objects" if plan.differing else ""


def _show(run: Run, result: BucketResult) -> None:
    run.out.say(
        f"{result.where}: {result.written:,} objects ({size(result.bytes)}) written, {result.same:,} left as they "
        f"were, from {result.entry.file} in {result.entry.location}, in {age(result.seconds)}.",
        style="bold green",
    )
    if result.safety is not None:
        run.out.say(f"Safety snapshot of what was overwritten: {result.safety.file}")


def _facts(result: BucketResult) -> dict[str, Any]:
    return {
        "into": result.into,
        "where": result.where,
        "file": result.entry.file,
        "location": result.entry.location,
        "written": result.written,
        "same": result.same,
        "bytes": result.bytes,
        "safety": result.safety.file if result.safety else None,
        "notes": result.notes,
        "seconds": round(result.seconds, 3),
    }
