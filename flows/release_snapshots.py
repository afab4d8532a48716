"""A deployment is over: its snapshot is released, or kept because it failed."""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State

from flows.outcome import outcome
from flows.parameters import SiteName, Snapshot
from flows.snapshot_run import end_deployment


def _run_name() -> str:
    given = runtime.flow_run.parameters
    how = "keep" if given.get("failed") else "release"
    return f"{how} snapshot {given.get('snapshot')} of {given.get('site')}"


@flow(name="release-snapshots", flow_run_name=_run_name, persist_result=False)
def release_snapshots(site: SiteName, snapshot: Snapshot = "latest", failed: bool = False) -> State[Any]:
    """Say that a deployment succeeded: its snapshot is kept as the newest good one, older ones may go.

    Args:
        site: Name of the site block, such as workset.
        snapshot: latest, an id, a key, a release, or a file of the snapshot.
        failed: The deployment failed: keep its snapshot, and say how to go back.
    """
    return outcome(end_deployment, site, snapshot, failed=failed)
