"""The body of a drill: source by source, so that one that cannot be had keeps no other from its proof."""

from __future__ import annotations

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from blocks import load_site
from engine import names
from engine.drill.run import DrillRequest, also_due
from engine.drill.verdict import PROVEN, DrillResult
from engine.errors import Cancelled, Thawing, UnknownName, in_words
from tasks.base import SiteHandle, reason
from tasks.drill import begin, drill_source, finish, publish
from tasks.vault import sweep


def run_drill(site: str, request: DrillRequest) -> State[None]:
    """Sweep, find, restore and prove, tell. An older backup that the site wants tried as well comes first: it may have
    to be thawed, and the run comes back for it.

    Raises:
        UnknownName, ConfigError: What was asked for is not there, or a block is wrong. Thawing: It is in cold storage.
    """
    handle = SiteHandle(load_site(site), thaw=True)
    sweep(handle)
    also = also_due(handle.config.drill, request, names.now())
    good, told = _try_also(handle, also) if also is not None else (True, [])
    result, key = _drill(handle, request)
    told += [_told(result, key)]
    if result.verdict == PROVEN and good:
        return Completed(message="\n".join([result.sentence(), *told]))
    reason_first = told[:-1] if result.verdict == PROVEN else []  # what failed is the older backup
    text = "\n".join(
        [
            *reason_first,
            f"{result.sentence()}.",
            "Kept safe: production was not touched, and no backup was changed; one that was found damaged is marked as "
            "broken, and counts as good no longer",
            f"Next: look at the artifact {site}-drills; to draw the same again: seed={result.seed}",
            *told[len(reason_first) :],
        ]
    )
    get_run_logger().error(text)
    return Failed(message=text)


def _drill(handle: SiteHandle, request: DrillRequest) -> tuple[DrillResult, str]:
    begun = begin(handle, request)
    sources = [drill_source(handle, begun, name) for name in begun.sources]
    result, key = finish(handle, begun, sources)
    publish(result, key)
    return result, key


def _try_also(handle: SiteHandle, request: DrillRequest) -> tuple[bool, list[str]]:
    """Drill older backups; whether that went well, and what it came to. What there is none of is well. Raises Thawing
    and Cancelled only."""
    try:
        result, key = _drill(handle, request)
    except (Thawing, Cancelled):
        raise
    except UnknownName as error:
        get_run_logger().info("%s: %s", request.backup, reason(error))
        return True, []
    except Exception as failure:
        error = in_words(failure, f"The drill of {request.backup}")
        return False, [f"{request.backup}: it could not be drilled: {reason(error)}"]
    return result.verdict == PROVEN, [f"{request.backup}: {result.sentence()}", _told(result, key)]


def _told(result: DrillResult, key: str) -> str:
    return f"Drill {result.id}, seed {result.seed}; signed record: {key}"
