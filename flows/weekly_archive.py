"""The archive of each week: its newest verified backups, promoted."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.archive_run import make_archives
from flows.outcome import outcome
from flows.parameters import SiteName


@flow(name="weekly-archive", flow_run_name="weekly archive of {site}", persist_result=False)
def weekly_archive(site: SiteName) -> State[Any]:
    """Promote the newest verified recovery point of each week that is over and has no archive yet; nothing is dumped.

    Args:
        site: Name of the site block, such as workbench.
    """
    return outcome(make_archives, site, "weekly")
