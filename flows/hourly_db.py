"""Every database of a site, every hour: for quick restores of the last day."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.backup_run import run_backups
from flows.outcome import outcome
from flows.parameters import SiteName


@flow(name="hourly-db", flow_run_name="hourly backup of {site}", persist_result=False)
def hourly_db(site: SiteName) -> State[Any]:
    """Dump, encrypt, verify and copy every database of a site.

    Args:
        site: Name of the site block, such as workbench.
    """
    return outcome(run_backups, site, "hourly", only_servers=True)
