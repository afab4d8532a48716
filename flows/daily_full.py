"""The full backup of the night."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.backup_run import run_backups
from flows.outcome import outcome
from flows.parameters import SiteName


@flow(name="daily-full", flow_run_name="daily full backup of {site}", persist_result=False)
def daily_full(site: SiteName) -> State[Any]:
    """Back up, encrypt, verify and copy all that a site has: databases and files, side by side. Catches up what a
    replica lacks.

    Args:
        site: Name of the site block, such as workset.
    """
    return outcome(run_backups, site, "daily")
