"""Is every backup young enough, whole, copied and proven, and is there room for the next?"""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed

from blocks import load_alerts, load_site
from engine.errors import BackupError
from engine.watch.words import heard
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
    addresses = load_alerts(site)
    watched = watch.look(handle, runs.stand(site, since=watch.runs_seen(handle)), addresses)
    failed = alerts.tell(handle, watched.untold)
    said = [watched.look.sentence(), *failed.values()]
    said += [why for why in (watch.publish(handle, watched.look), watch.write_metrics(handle, watched.look)) if why]
    # Where nobody can be told, the silence of this address tells that; else it says that somebody looks.
    told = heard(watched.look.level, addresses, watched.untold, failed)
    if handle.config.watch.ping.get_secret_value() and told:
        try:
            watch.ping(handle)
        except BackupError as error:
            get_run_logger().error(str(error))
            said.append(reason(error))
    return Completed(name=watched.look.level.word.capitalize(), message="; ".join(said))
