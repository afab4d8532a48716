"""Tasks that bring a whole PostgreSQL server back: plan, then do it."""

from __future__ import annotations

from prefect.logging import get_run_logger

from engine import cluster
from engine.cluster import ClusterPlan, ClusterRequest, ClusterResult
from tasks.base import SiteHandle, step
from tasks.progress import told


@step(name="plan the server", run_name="plan a new server of {site.name} to {request.when}")
def plan(site: SiteHandle, request: ClusterRequest) -> ClusterPlan:
    """Find the base and the logs, and look at where it is to go. Changes nothing."""
    with site.open() as opened:
        made = cluster.plan_cluster(opened, request)
    for line in made.lines():
        get_run_logger().info(line)
    return made


@step(name="restore the server", run_name="restore {plan.past.found.source} into {plan.ground.data}")
def restore(site: SiteHandle, plan: ClusterPlan) -> ClusterResult:
    """Unpack the base, apply the log on no network, shut down. Tried again it begins anew."""
    with site.open() as opened, told(f"restore {plan.past.found.source}") as progress:
        result = cluster.restore_cluster(opened, plan, progress=progress)
    for line in result.done.steps:
        get_run_logger().info(line)
    return result
