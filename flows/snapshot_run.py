"""The bodies of the flows around a deployment: take a snapshot and prove it; say how the deployment went."""

from __future__ import annotations

import threading

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from blocks import load_site
from engine import names
from engine.abreast import abreast
from engine.errors import in_words
from engine.locks import patiently
from engine.releases import Outcome
from engine.retention.policy import PRE_DEPLOYMENT
from engine.site import Target
from engine.snapshots import WAIT_SECONDS, Deploy
from flows.backup_run import bring_up_to_date
from tasks import snapshots
from tasks.base import SiteHandle, reason
from tasks.drill import last_proven
from tasks.report import Ledger, publish
from tasks.words import plural


def take_snapshot(site: str, deploy: Deploy, *, source: str, database: str, copy: bool) -> State[None]:
    """Take a snapshot of every database of a site, servers side by side, or give the one of the same key.

    Raises:
        UnknownName: No such site, source or database. LockHeld: another snapshot does not end. And what asking the
            servers raises: without one of them there is no snapshot.
    """
    handle = SiteHandle(load_site(site))
    log = get_run_logger()
    with handle.open() as opened, patiently(opened.vault.snapshotting, WAIT_SECONDS, log.info):
        ground = snapshots.prepare(handle, deploy, source, database)
        if ground.same is not None:
            taken = names.iso(ground.same.taken_at)
            return Completed(message=f"Snapshot {ground.same.title} stands already, taken {taken}")
        ledger = Ledger(handle.name, PRE_DEPLOYMENT, swept=ground.swept)
        _take_all(handle, ground.targets, deploy, ledger)
    for replica in handle.config.vault.replicas if copy else ():
        bring_up_to_date(handle, replica.name, ledger)
    ledger.last_proven = last_proven(handle)
    publish(ledger)
    if ledger.failed:
        text = f"No snapshot to deploy on: {ledger.verdict()}"
        log.error(text)
        return Failed(message=text)
    return Completed(message=f"Snapshot {ledger.recovery_point} ({deploy.label}): {ledger.verdict()}")


def _take_all(site: SiteHandle, targets: list[Target], deploy: Deploy, ledger: Ledger) -> None:
    speaking = threading.Lock()

    def take(target: Target) -> None:
        try:
            captured, report = snapshots.take(site, target, deploy, ledger.recovery_point, targets)
        except Exception as failure:
            with speaking:
                ledger.lost(str(target), in_words(failure, f"The snapshot of {target}"))
            return
        with speaking:
            ledger.proven(captured, report)

    abreast([[each] for each in targets], take)
    ledger.rows.sort(key=lambda row: targets.index(row.captured.target))


def end_deployment(site: str, snapshot: str, *, failed: bool) -> State[None]:
    """Say of a snapshot how its deployment went; a replica that could not be told fails the run at its end.

    Raises:
        UnknownName: No such site or snapshot.
    """
    handle = SiteHandle(load_site(site))
    outcome = snapshots.judge(handle, snapshot, failed)
    text = "\n".join([_failed(site, outcome) if failed else _released(outcome), *outcome.warnings])
    get_run_logger().info(text)
    if not outcome.errors:
        return Completed(message=text)
    missing = "; ".join(f"{place} was not told: {reason(error)}" for place, error in outcome.errors.items())
    return Failed(message=f"{missing}.\nKept safe: {text}\nNext: start this again when it can be reached")


def _released(outcome: Outcome) -> str:
    if not any(outcome.marked.values()):
        return f"Snapshot {outcome.snapshot.title} had been released before; nothing changed"
    older = f"; {plural(len(outcome.older), 'older snapshot')} may go" if outcome.older else ""
    return f"Snapshot {outcome.snapshot.title} is released: the newest whose deployment succeeded{older}"


def _failed(site: str, outcome: Outcome) -> str:
    """Names a file, to be found in its own directory only: a bare name could also be found among shipped examples."""
    return (
        f"Snapshot {outcome.snapshot.title} stays: its deployment failed.\n"
        f"To go back to {names.iso(outcome.snapshot.taken_at)}, on the host and in the directory of its site file: "
        f"{outcome.snapshot.way_back(f'{site}.yaml')}"
    )
