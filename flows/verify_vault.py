"""Read back what is stored, and heal what is damaged."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from engine.vault_check import Request, Share
from flows.outcome import outcome
from flows.parameters import Location, SiteName
from flows.verify_run import verify_places


@flow(name="verify-vault", flow_run_name="verify the vault of {site}", persist_result=False)
def verify_vault(
    site: SiteName,
    location: Location = "all",
    share: Annotated[float, Field(ge=0, le=1)] = 0.0,
    heal: bool = True,
    set_aside: bool = False,
    dry_run: bool = False,
) -> State[Any]:
    """Read back a share of everything stored, here and at every replica: signatures, digests, logs without holes,
    nothing missing, nothing left over. What is damaged is named, not counted on any more, and healed from another copy
    where one is proven good.

    The run is Failed when there is damage that could not be healed, or something that could not be judged.

    Args:
        site: Name of the site block, such as workset.
        location: all, local, or a replica's name.
        share: Part of everything to read back, such as 0.1; 1 for all. 0: so much that a run every day reads all within
            the vault's verify_within (30 days).
        heal: Put right what is damaged and stands whole elsewhere.
        set_aside: Move away files that belong to no backup, in the same place.
        dry_run: Only say what would be read.
    """
    request = Request(Share(share) if share else None, heal, set_aside, dry_run)
    return outcome(verify_places, site, location=location, request=request)
