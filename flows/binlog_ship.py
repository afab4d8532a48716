"""The binary logs of every MySQL and MariaDB server of a site, every few minutes: for a restore to any second."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from engine.config import MySQLConfig
from flows.outcome import outcome
from flows.parameters import SiteName
from flows.shipping_run import ship_logs


@flow(name="binlog-ship", flow_run_name="ship the binary logs of {site}", persist_result=False)
def binlog_ship(site: SiteName) -> State[Any]:
    """Ship every closed binary log that the vault lacks, encrypted and signed, and copy it to each replica.

    Args:
        site: Name of the site block.
    """
    return outcome(ship_logs, site, MySQLConfig)
