"""``backups restore-config``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.carrying_out import Restore, carry_out
from deployments.cli.options import Location, Which, split
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import age

if TYPE_CHECKING:
    from engine.config_files.plan import ConfigPlan
    from engine.config_files.restore import ConfigResult


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "restore-config",
        waits=True,
        stopped="all files are as they were, or all as restored, after the next run or: backups sweep",
        example="""
        backups restore-config -f workbench
        backups restore-config -f workbench --paths /etc/nginx --into /root/nginx --backup 'before 2025-01-16T02:00:00Z'
        backups restore-config -f workbench --into / --dry-run
        backups restore-config -f workbench --into / --paths /etc/letsencrypt --confirm config""",
    )(restore_config)


def restore_config(
    run: Run,
    source: Annotated[
        str, typer.Option(help="Which config files, where the site has several.", show_default=False)
    ] = "",
    backup: Which = "latest",
    location: Location = "auto",
    into: Annotated[
        str,
        typer.Option(
            metavar="DIRECTORY",
            help="A new or empty directory (default: a new one in the vault's root, under restored/); / puts the files "
            "back where they were.",
            show_default=False,
        ),
    ] = "",
    paths: Annotated[
        list[str] | None,
        typer.Option(help="Only these, with all below them (commas or repeated).", show_default=False),
    ] = None,
    confirm: Annotated[
        str, typer.Option(help="For --into /: the name of the source (config).", show_default=False)
    ] = "",
    safety_backup: Annotated[
        bool, typer.Option("--safety-backup/--no-safety-backup", help="Back up what stands there before replacing it.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, change nothing.")] = False,
) -> Outcome:
    """Restore config files into a directory; or, confirmed, back to where they were.

    Before files are put back, what would be added and changed is shown by name and by kind of change, never their
    content. All of it is put in place, or nothing; what it replaces is kept. Files that are not in the backup stay.
    Owners are given back when this is run as root.
    """
    from engine.config_files.plan import ConfigRequest, check_confirmation, make_plan
    from engine.config_files.restore import run as restore_now

    with run.site(sweep=not dry_run, thaw=not dry_run) as site:
        place = into and str(Path(into).absolute())
        request = ConfigRequest(source, backup, location, place, split(paths), safety_backup)
        plan = make_plan(site, request)
        how = Restore(_question, check_confirmation, restore_now, _show, _facts)
        return carry_out(run, site, plan, how, confirm, dry_run)


def _question(plan: ConfigPlan) -> str:
    return f"Type {plan.target.source} to put these files back in place" if plan.changes else ""


def _show(run: Run, result: ConfigResult) -> None:
    run.out.say(
        f"{result.into}: {result.written:,} written, {result.altered:,} altered, {result.equal:,} left as they were, "
        f"from {result.entry.file} in {result.entry.location}, in {age(result.seconds)}.",
        style="bold green",
    )
    if result.safety is not None:
        run.out.say(f"Safety backup of what was replaced: {result.safety.file}")
    for kept, back in zip(result.kept, result.how_back, strict=True):
        run.out.say(f"What was replaced is kept in {kept} until you remove it; back by hand: {back}")


def _facts(result: ConfigResult) -> dict[str, Any]:
    return {
        "into": result.into,
        "file": result.entry.file,
        "location": result.entry.location,
        "written": result.written,
        "altered": result.altered,
        "equal": result.equal,
        "safety_backup": result.safety.file if result.safety else None,
        "kept": result.kept,
        "notes": result.notes,
        "seconds": round(result.seconds, 3),
    }
