"""``backups restore-cluster``: a whole PostgreSQL server on a new machine, or in a new container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.options import Location, PointInTime, Source
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import age

if TYPE_CHECKING:
    from engine.cluster import ClusterResult

_STOPPED = (
    "no server that stands was touched. What was put into the new one's directories is taken away again; where the "
    "file backup-flows-unfinished is left in one, it is no server: the same command begins anew there"
)


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "restore-cluster",
        waits=True,
        stopped=_STOPPED,
        example="""
        backups restore-cluster -f workbench --directory /var/lib/postgresql/15/main --dry-run
        backups restore-cluster -f workbench --directory /var/lib/postgresql/15/main --to 2025-01-16T14:31:07Z
        backups restore-cluster -f workbench --container new-postgres --location spaces""",
    )(restore_cluster)


def restore_cluster(
    run: Run,
    source: Source = None,
    point_in_time: PointInTime = "latest",
    location: Location = "auto",
    directory: Annotated[
        str, typer.Option(help="A data directory on this host: absent, or empty.", show_default=False)
    ] = "",
    container: Annotated[
        str,
        typer.Option(
            help="A container that was created and not started, with an empty data volume.", show_default=False
        ),
    ] = "",
    tablespaces: Annotated[
        str,
        typer.Option(
            help="Put tablespaces below this directory, by oid (default: where they stood).", show_default=False
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, change nothing.")] = False,
) -> Outcome:
    """Bring a whole PostgreSQL server back, roles, tablespaces and all: onto a new machine, or into a new container.

    The base backup is unpacked into an empty place and the log applied to it, on no network. The server is then shut
    down again and left for you to look at and start: what is to be done is printed at the end.
    """
    from engine.cluster import ClusterRequest, plan_cluster
    from engine.cluster import restore_cluster as restore

    request = ClusterRequest(source or "", point_in_time, location, directory, container, tablespaces)
    with run.site(sweep=not dry_run, thaw=not dry_run) as site:
        plan = plan_cluster(site, request)
        for line in plan.lines():
            run.out.say(line)
        if dry_run:
            return Outcome({"dry_run": True, "plan": plan.as_dict()})
        with run.out.progress() as progress:
            result = restore(site, plan, progress=progress)
    _show(run, result)
    return Outcome({"dry_run": False, "plan": plan.as_dict(), **result.as_dict()})


def _show(run: Run, result: ClusterResult) -> None:
    report = result.done.report
    run.out.say(
        f"The server is back in {result.done.where}, with {', '.join(report.databases)}, in {age(result.seconds)}; it "
        "is shut down.",
        style="bold green",
    )
    for number, step in enumerate(result.done.steps, 1):
        run.out.say(f"{number}. {step}")
