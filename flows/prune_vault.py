"""Remove what retention no longer keeps."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.outcome import outcome
from flows.parameters import Location, SiteName, Source
from flows.prune_run import prune_places


@flow(name="prune-vault", flow_run_name="prune {site}", persist_result=False)
def prune_vault(
    site: SiteName, location: Location = "all", source: Source = "", dry_run: bool = False, confirm: str = ""
) -> State[Any]:
    """Mark what has expired, and remove what was marked a day ago; in the local root and in every replica.

    The last good backup of a database and what recovery to any second needs are never removed. When a clock looks
    wrong, or too much would go at once, nothing goes until a person confirms it.

    Args:
        site: Name of the site block, such as workset.
        location: all, local, or a replica's name.
        source: Only this source's backups. Empty: all of them.
        dry_run: Only show the plan with its reasons, as an artifact.
        confirm: The site's name: a person has seen the plan and wants what is held back.
    """
    return outcome(prune_places, site, location=location, source=source, confirm=confirm, dry_run=dry_run)
