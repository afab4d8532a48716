"""``backups restore-n8n``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.carrying_out import Restore, carry_out
from deployments.cli.options import Location, Which, split
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import age

if TYPE_CHECKING:
    from engine.n8n.plan import N8nPlan
    from engine.n8n.restore import N8nResult


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "restore-n8n",
        waits=True,
        stopped="each import is whole or not done; run it again, and it goes on from there",
        example="""
        backups restore-n8n -f workbench --dry-run
        backups restore-n8n -f workbench --activate --confirm n8n
        backups restore-n8n -f workbench --workflows Orders --backup 'before 2025-01-16T02:00:00Z'
        backups restore-n8n -f workbench --into n8n-trial""",
    )(restore_n8n)


def restore_n8n(
    run: Run,
    source: Annotated[str, typer.Option(help="Which n8n, where the site has several.", show_default=False)] = "",
    backup: Which = "latest",
    location: Location = "auto",
    into: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Another n8n of the site, by the name of its source (default: the one that was backed up).",
            show_default=False,
        ),
    ] = "",
    workflows: Annotated[
        list[str] | None,
        typer.Option(help="Only these, by id or name (commas, repeated); credentials come along.", show_default=False),
    ] = None,
    activate: Annotated[
        bool,
        typer.Option("--activate", help="Make those active again that were; never in another n8n."),
    ] = False,
    confirm: Annotated[
        str,
        typer.Option(help="To overwrite living ones: the name of the source that is written to.", show_default=False),
    ] = "",
    safety_backup: Annotated[
        bool, typer.Option("--safety-backup/--no-safety-backup", help="Back up what is there before overwriting.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, change nothing.")] = False,
) -> Outcome:
    """Restore n8n's workflows and credentials, under their own ids.

    Refused where that n8n is older than the backup, or has another encryption key. What is there as it was is left
    alone, so that a second run changes nothing. Workflows come in inactive.
    """
    from engine.n8n.plan import N8nRequest, check_confirmation, make_plan
    from engine.n8n.restore import run as restore_now

    with run.site(sweep=not dry_run, thaw=not dry_run) as site:
        plan = make_plan(site, N8nRequest(source, backup, location, into, split(workflows), activate, safety_backup))
        how = Restore(_question, check_confirmation, restore_now, _show, _facts)
        return carry_out(run, site, plan, how, confirm, dry_run)


def _question(plan: N8nPlan) -> str:
    return f"Type {plan.into} to overwrite {plan.differing:,} there" if plan.differing else ""


def _show(run: Run, result: N8nResult) -> None:
    run.out.say(
        f"{result.into} at {result.where}: {result.workflows:,} workflows and {result.credentials:,} credentials "
        f"brought in, {result.same:,} left as they were, {len(result.activated):,} made active, from "
        f"{result.entry.file} in {result.entry.location}, in {age(result.seconds)}.",
        style="bold green",
    )
    if result.safety is not None:
        run.out.say(f"Safety backup of what was overwritten: {result.safety.file}")


def _facts(result: N8nResult) -> dict[str, Any]:
    return {
        "into": result.into,
        "where": result.where,
        "file": result.entry.file,
        "location": result.entry.location,
        "workflows": result.workflows,
        "credentials": result.credentials,
        "same": result.same,
        "activated": result.activated,
        "safety": result.safety.file if result.safety else None,
        "notes": result.notes,
        "seconds": round(result.seconds, 3),
    }
