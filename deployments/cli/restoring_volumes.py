"""``backups restore-volume``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.carrying_out import Restore, carry_out
from deployments.cli.options import Location, Which, split
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import age

if TYPE_CHECKING:
    from engine.volumes.plan import VolumePlan
    from engine.volumes.restore import VolumeResult


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "restore-volume",
        waits=True,
        stopped="the volume holds what it held, or all that was restored; what was stopped runs again, at the latest "
        "after: backups sweep",
        example="""
        backups restore-volume -f workbench --volume notebooks
        backups restore-volume -f workbench --volume notebooks --paths a/b --backup 'before 2025-01-16T02:00:00Z'
        backups restore-volume -f workbench --volume notebooks --replace --dry-run
        backups restore-volume -f workbench --volume notebooks --replace --confirm workbench_notebooks""",
    )(restore_volume)


def restore_volume(
    run: Run,
    volume: Annotated[
        str, typer.Option(help="As the site file calls it; may be left out where it has one.", show_default=False)
    ] = "",
    source: Annotated[
        str, typer.Option(help="Whose volume, where several have one of that name.", show_default=False)
    ] = "",
    backup: Which = "latest",
    location: Location = "auto",
    into: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="A new volume of that name (default: one named after the volume and the time); with --replace, the "
            "volume whose data is replaced.",
            show_default=False,
        ),
    ] = "",
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Put it in place of what the volume holds, which is kept as another volume."),
    ] = False,
    paths: Annotated[
        list[str] | None,
        typer.Option(help="Only these, from the volume's top, with all below them.", show_default=False),
    ] = None,
    confirm: Annotated[
        str, typer.Option(help="For --replace: the name of the volume that is replaced.", show_default=False)
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, change nothing.")] = False,
) -> Outcome:
    """Restore a Docker volume into a new one; or, confirmed, in place of what it holds.

    Every file is read again and compared before anything is replaced. Then the containers that use the volume are
    stopped, old and new data exchanged in one step, and the containers started again. The previous data stays as
    volume NAME_before_TIME until you remove it.
    """
    from engine.volumes.plan import VolumeRequest, check_confirmation, make_plan
    from engine.volumes.restore import run as restore_now

    with run.site(sweep=not dry_run, thaw=not dry_run) as site:
        request = VolumeRequest(volume, source, backup, location, into, replace, split(paths))
        plan = make_plan(site, request)
        how = Restore(_question, check_confirmation, restore_now, _show, _facts)
        return carry_out(run, site, plan, how, confirm, dry_run)


def _question(plan: VolumePlan) -> str:
    return f"Type {plan.into} to replace what this volume holds" if plan.replaces else ""


def _show(run: Run, result: VolumeResult) -> None:
    run.out.say(
        f"Volume {result.into}: {result.members:,} files, directories and links from {result.entry.file} in "
        f"{result.entry.location}, each compared, in {age(result.seconds)}.",
        style="bold green",
    )
    if result.kept_as:
        run.out.say(f"What it held is in volume {result.kept_as}; remove it with: docker volume rm {result.kept_as}")
    if result.services:
        run.out.say(f"Containers stood still for {result.stopped_seconds:.1f} s: {', '.join(result.services)}.")


def _facts(result: VolumeResult) -> dict[str, Any]:
    return {
        "into": result.into,
        "kept_as": result.kept_as or None,
        "file": result.entry.file,
        "location": result.entry.location,
        "members": result.members,
        "services": result.services,
        "stopped_seconds": round(result.stopped_seconds, 3),
        "notes": result.notes,
        "seconds": round(result.seconds, 3),
    }
