"""The databases of a site as they are right before a deployment."""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State

from engine.snapshots import Deploy
from flows.outcome import outcome
from flows.parameters import Database, Label, SiteName, Source
from flows.snapshot_run import take_snapshot


def _run_name() -> str:
    given = runtime.flow_run.parameters
    return f"snapshot of {given.get('site')} before {given.get('release') or 'a deployment'}"


@flow(name="pre-deploy-snapshot", flow_run_name=_run_name, persist_result=False)
def pre_deploy_snapshot(
    site: SiteName,
    release: Label = "",
    commit: Label = "",
    actor: Label = "",
    key: Label = "",
    source: Source = "",
    database: Database = "",
    copy_now: bool = False,
) -> State[Any]:
    """Take a snapshot of the databases, verified; kept until release-snapshots says that the deployment succeeded.

    Args:
        site: Name of the site block, such as workset.
        release: What is deployed, as people call it: v1.4.2.
        commit: The commit that is deployed.
        actor: Who deploys.
        key: A second run with the same key is the same snapshot, not another. Empty: always a new one.
        source: Only this server of the site. Empty: all of them.
        database: Only this database. Empty: all of them.
        copy_now: Also bring every replica up to date before this ends. Else the next backup of any kind does.
    """

    def work() -> State[Any]:
        return take_snapshot(site, Deploy(release, commit, actor, key), source=source, database=database, copy=copy_now)

    return outcome(work)
