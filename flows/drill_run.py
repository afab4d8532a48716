"""The body of a drill: source by source, so that one that cannot be had keeps no other from its proof."""

from __future__ import annotations

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from blocks import load_site
from engine.drill.run import DrillRequest
from engine.drill.verdict import PROVEN, DrillResult
from tasks.base import SiteHandle
from tasks.drill import begin, drill_source, finish, publish
from tasks.vault import sweep


def run_drill(site: str, request: DrillRequest) -> State[None]:
    """Sweep, find, restore and prove, tell.

    Raises:
        UnknownName, ConfigError: What was asked for is not there, or a block is wrong.
    """
    handle = SiteHandle(load_site(site))
    sweep(handle)
    begun = begin(handle, request)
    sources = [drill_source(handle, begun, name) for name in begun.sources]
    result, key = finish(handle, begun, sources)
    publish(result, key)
    if result.verdict == PROVEN:
        return Completed(message=f"{result.sentence()}\n{_told(result, key)}")
    text = "\n".join(
        [
            f"{result.sentence()}.",
            "Kept safe: production was not touched; the backups stand as they did",
            f"Next: look at the artifact {site}-drills; to draw the same again: seed={result.seed}",
            _told(result, key),
        ]
    )
    get_run_logger().error(text)
    return Failed(message=text)


def _told(result: DrillResult, key: str) -> str:
    return f"Drill {result.id}, seed {result.seed}; signed record: {key}"
