"""Every source, restored in a throwaway place and proven there."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from pydantic import Field

from engine.drill.run import DrillRequest
from flows.drill_run import run_drill
from flows.outcome import outcome
from flows.parameters import Database, Location, SiteName, Source


def _run_name() -> str:
    given = runtime.flow_run.parameters
    parts = [str(given.get(name) or "") for name in ("site", "source", "database")]
    return f"{'thorough ' if given.get('thorough') else ''}drill of {'/'.join(part for part in parts if part)}"


@flow(name="monthly-restore-drill", flow_run_name=_run_name, persist_result=False)
def monthly_restore_drill(
    site: SiteName,
    source: Source = "",
    database: Database = "",
    backup: str = "latest",
    location: Location = "auto",
    thorough: bool = False,
    point_in_time: bool = True,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> State[Any]:
    """Restore every source into a throwaway place and prove it there, rung by rung. Production is not touched.

    The run is Completed only if all was proven. It is Failed when something is not as it must be, when it could not be
    verified, and when it took longer than the RTO target allows or more would be lost than the RPO target allows. The
    table under Artifacts has every check; the signed record stays in the vault.

    Args:
        site: Name of the site block, such as workset.
        source: Only this source. Empty: all of them.
        database: Only this database.
        backup: latest; oldest (that is kept); cold (the newest in cold storage); a backup's file name; or
            "before 2025-01-16T02:00:00Z", with its zone. With latest, and nothing else named, the older ones that the
            site file names under drill, also come in turn as well.
        location: auto (local first, then the replicas), local, or a replica's name.
        thorough: Compare the rows of every table and recover every database through its logs, not a sample.
        point_in_time: Recover to a second drawn by lot, too, where logs are kept.
        seed: The number that an earlier drill said, to draw what it drew. 0: draw anew.
    """
    request = DrillRequest(source, database, backup.strip(), location, thorough, point_in_time, seed)
    return outcome(run_drill, site, request)
