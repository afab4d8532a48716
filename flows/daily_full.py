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
    """Dump, encrypt, verify and copy every database of a site, and catch up what a replica lacks.

    Args:
        site: Name of the site block, such as workset.
    """
    return outcome(run_backups, site, "daily")
