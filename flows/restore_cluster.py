"""A whole PostgreSQL server comes back: into an empty directory of the worker's host, or a new container."""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from blocks import load_site
from engine.cluster import ClusterRequest, ClusterResult
from flows.outcome import outcome
from flows.parameters import SiteName, Source
from tasks import cluster
from tasks.base import SiteHandle
from tasks.vault import sweep
from tasks.words import duration, plural


def _run_name() -> str:
    given = runtime.flow_run.parameters
    how = "plan of a new server" if given.get("dry_run") else "new server"
    where = given.get("directory") or given.get("container") or "nowhere"
    return f"{how} from {given.get('site')}/{given.get('source') or '*'} as of {given.get('point_in_time')} in {where}"


@flow(name="restore-cluster", flow_run_name=_run_name, persist_result=False)
def restore_cluster(
    site: SiteName,
    source: Source = "",
    point_in_time: str = "latest",
    location: str = "auto",
    directory: str = "",
    container: str = "",
    tablespaces: str = "",
    dry_run: bool = False,
) -> State[Any]:
    """Bring a whole PostgreSQL server back into an empty place. Nothing that stands is touched; nothing is started.

    Args:
        site: Name of the site block, such as workbench.
        source: The PostgreSQL server of the site. May be empty where there is one.
        point_in_time: latest, a time with its zone (2025-01-16T14:31:07Z), or an LSN (lsn 0/3000148).
        location: auto (local first, then the replicas), local, or a replica's name.
        directory: A data directory on the worker's host, absent or empty. Or:
        container: A container that was created from an image of the same PostgreSQL version and not started, with
            an empty data volume.
        tablespaces: A directory below which tablespaces are put, by oid. Empty: where they stood.
        dry_run: Only say what would be done.
    """
    request = ClusterRequest(source, point_in_time.strip(), location, directory.strip(), container.strip(), tablespaces)
    return outcome(_restore, site, request, dry_run)


def _restore(site: str, request: ClusterRequest, dry_run: bool) -> State[None]:
    handle = SiteHandle(load_site(site), thaw=not dry_run)
    if not dry_run:
        sweep(handle)
    plan = cluster.plan(handle, request)
    create_markdown_artifact(
        key=f"{site}-cluster-plan",
        markdown="\n\n".join(plan.lines()),
        description=f"What a new server in {plan.ground.describe()} means",
    )
    if dry_run:
        return Completed(message=f"Plan only, nothing was changed: {plan.lines()[0]}")
    result = cluster.restore(handle, plan)
    create_markdown_artifact(
        key=f"{site}-cluster", markdown=_story(result), description=f"What to do with {result.done.where} now"
    )
    return Completed(
        message=f"The server is back in {result.done.where}, shut down, with "
        f"{plural(len(result.done.report.databases), 'database')}, in {duration(result.seconds)}; "
        f"what to do next: see the artifact {site}-cluster"
    )


def _story(result: ClusterResult) -> str:
    steps = [f"{number}. {step}" for number, step in enumerate(result.done.steps, 1)]
    return "\n".join([f"# {result.done.where}", "", "It is shut down. What to do next:", "", *steps])
