"""Tasks of pruning: one place at a time, and the table of what became of each backup and why."""

from __future__ import annotations

import logging
from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from engine import names
from engine.prune import PlacePlan, Planned
from engine.prune import look as look_at
from engine.prune import prune as carry_out
from tasks.base import SiteHandle, step
from tasks.progress import told
from tasks.words import plural

MOST_ROWS = 2000
"""Of an artifact. What is merely kept is counted, not listed."""


@step(name="prune", run_name="prune {location} of {site.name}")
def prune(site: SiteHandle, location: str, source: str, confirmed: bool, dry_run: bool) -> PlacePlan:
    """Judge one place and carry it out, or only judge it."""
    with site.open() as opened, told(f"prune {location}") as progress:
        if dry_run:
            (plan,) = look_at(opened, location=location, source=source, confirmed=confirmed)
        else:
            (plan,) = carry_out(opened, location=location, source=source, confirmed=confirmed, progress=progress)
    log = get_run_logger()
    for each in plan.planned:
        if each.action in ("remove", "reprieve", "retained", "in use"):
            log.info("%s: %s: %s (%s)", location, each.item.file, each.action, each.reason)
    if plan.brake:
        log.warning("%s: nothing is removed: %s", location, plan.brake)
    for group, reason in plan.held.items():
        log.warning("%s: nothing of %s is removed: %s", location, group, reason)
    for swept in plan.swept:
        log.log(logging.WARNING if swept.problem else logging.INFO, "%s", swept)
    plan.contents = None  # not to be carried around
    if plan.error is not None and not plan.planned and plan.error.retryable:
        raise plan.error
    return plan


def publish(site: str, plans: list[PlacePlan]) -> None:
    """Leave the plan with its reasons as an artifact."""
    rows = [_row(plan, each) for plan in plans for each in plan.planned if each.action != "keep"]
    rows += [_kept(plan, tier) for plan in plans for tier in sorted({_tier(each) for each in plan.planned})]
    shown = rows[:MOST_ROWS]
    more = f"; {len(rows) - MOST_ROWS} rows are left out" if len(rows) > MOST_ROWS else ""
    create_table_artifact(
        key=f"{site}-prune",
        table=shown or [{"in": plan.location, "what": "nothing is there"} for plan in plans],
        description=f"What retention does with the backups of {site}, {names.now():%Y-%m-%d %H:%M} UTC{more}",
    )


def _row(plan: PlacePlan, each: Planned) -> dict[str, Any]:
    return {
        "in": plan.location,
        "what": each.action,
        "until": names.iso(each.until) if each.until is not None else "",
        "tier": _tier(each),
        "backup": each.item.file,
        "why": each.reason,
    }


def _kept(plan: PlacePlan, tier: str) -> dict[str, Any]:
    kept = [each for each in plan.planned if each.action == "keep" and _tier(each) == tier]
    reasons = dict.fromkeys(each.reason for each in kept)
    why = "; ".join(list(reasons)[:3]) + (f"; and {len(reasons) - 3} other reasons" if len(reasons) > 3 else "")
    return {
        "in": plan.location,
        "what": "keep",
        "until": "",
        "tier": tier,
        "backup": plural(len(kept), "backup"),
        "why": why,
    }


def _tier(each: Planned) -> str:
    return f"{each.item.source or '?'}/{each.item.tier or '?'}"
