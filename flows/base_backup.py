"""Physical copies of the PostgreSQL servers of a site: what their WAL is replayed on."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.outcome import outcome
from flows.parameters import SiteName, Source
from flows.shipping_run import take_bases


@flow(name="base-backup", flow_run_name="base backup of {site}", persist_result=False)
def base_backup(site: SiteName, source: Source = "") -> State[Any]:
    """Take a base backup of each PostgreSQL server, prove it, ship its WAL and copy all to each replica.

    Args:
        site: Name of the site block.
        source: Only this server. Empty: all.
    """
    return outcome(take_bases, site, source)
