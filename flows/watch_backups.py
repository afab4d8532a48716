"""Is every backup young enough, whole, copied and proven, and is there room for the next?"""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed

from blocks import load_alerts, load_site
from engine import names
from engine.errors import BackupError
from engine.watch import words
from engine.watch.findings import Level
from flows.outcome import outcome
from flows.parameters import SiteName
from tasks import alerts, runs, watch
from tasks.base import SiteHandle, reason


def _run_name() -> str:
    return f"watch of {runtime.flow_run.parameters.get('site')}"


@flow(name="watch-backups", flow_run_name=_run_name, persist_result=False)
def watch_backups(site: SiteName) -> State[Any]:
    """Look at everything that makes a restore possible, and tell what is not as it should be.

    The run is Completed once it has looked, and its state is called Ok, Warning or Critical. Each finding is told once
    as an event when it comes, and once more when it is over. The table under Artifacts has them all.

    Args:
        site: Name of the site block, such as workset.
    """
    return outcome(_watch, site)


def _watch(site: str) -> State[None]:
    handle = SiteHandle(load_site(site))
    watched = watch.look(handle, runs.failed(site))
    watch.publish(handle, watched.look)
    said = [watched.look.sentence()]
    said += alerts.tell(handle, _messages(handle, watched, load_alerts(site)))
    if handle.config.watch.ping.get_secret_value() and watched.look.level is not Level.CRITICAL:
        try:
            watch.ping(handle)
        except BackupError as error:
            get_run_logger().error(str(error))
            said.append(reason(error))
    return Completed(name=watched.look.level.word.capitalize(), message="; ".join(said))


def _messages(
    site: SiteHandle, watched: watch.Watched, addresses: list[tuple[str, list[str]]]
) -> dict[str, list[alerts.Message]]:
    """What is to be told, by address: one message for all that changed, and that the watch is back."""
    now, found = names.now(), {}
    for address, levels in addresses:
        concerned = [each for each in watched.changes if words.concerns(each, levels)]
        told = [words.message(site.name, concerned, now, site.config.watch.runbooks)] if concerned else []
        back = words.silence(site.name, watched.before, now)
        found[address] = ([back] if back and "critical" in levels else []) + told
    return found
