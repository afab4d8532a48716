"""What a restore of a machine tells a person: what came back, from when, how much, and what is left to do."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from engine import names
from engine.config import SiteConfig
from engine.errors import BackupError
from engine.restore_site.plan import SitePlan
from engine.restore_site.run import SiteResult


def lines(config: SiteConfig, plan: SitePlan, result: SiteResult) -> list[str]:
    """The report in sentences."""
    told = [f"{headline(plan, result)}: recovery point {plan.point.id}, {names.both_zones(plan.point.at)}."]
    for step in plan.steps:
        if step.key in result.done:
            told.append(f"  {step.key}: {result.done[step.key].said}")
        elif step.key in result.failures:
            told.append(f"  {step.key}: FAILED. {result.failures[step.key].message}")
        else:
            told.append(f"  {step.key}: not begun")
    told += [f"Note: {key}: {note}" for key, done in result.done.items() for note in done.notes]
    told += [f"Note: {note}" for note in plan.notes]
    if result.failures:
        told.append("Run it again once that is mended: it goes on where it stopped, and does nothing twice.")
    told.append("Left for a person:")
    return told + [f"  - {each}" for each in left(config, plan, result)]


def headline(plan: SitePlan, result: SiteResult) -> str:
    """What it came to: never that the machine is back where it was a part of it."""
    if not result.worked:
        return f"The machine {plan.site} is NOT wholly back yet"
    if result.later:
        return f"What was asked for is done ({plan.selection}), the machine {plan.site} is NOT wholly back yet"
    if plan.selection:
        return f"The chosen part of the machine {plan.site} is back ({plan.selection})"
    return f"The machine {plan.site} is back"


def left(config: SiteConfig, plan: SitePlan, result: SiteResult) -> list[str]:
    """What nobody does but a person."""
    found = [each for done in result.done.values() for each in done.left] + list(plan.left)
    if result.later:
        found.insert(0, f"the restore is not finished: run it again without --only for {', '.join(result.later)}")
    if plan.request.without:
        found.append(f"what was left out is not restored: {', '.join(plan.request.without)}")
    hosts = sorted({host for each in config.health if (host := urlsplit(each.url).hostname or "") and _is_public(host)})
    found.append(f"DNS: have {', '.join(hosts) or 'the names of this machine'} lead here")
    if not any("certificate" in each for each in found):
        found.append("certificates: see that they are those of these names, and when they end")
    if not plan.request.only and not any(each.manifest.kind == "images" for each in plan.point.pieces.values()):
        found.append("containers are not in the backups (images: {} in the site file): docker compose up -d")
    found.append("what is outside of the backups: packages, users, firewall and timers of the host")
    found.append(f"backups: set Prefect up again (backups up; backups apply), and make the first one of {plan.site}")
    return list(dict.fromkeys(found))


def facts(config: SiteConfig, plan: SitePlan, result: SiteResult) -> dict[str, Any]:
    """The report for scripts."""
    return {
        "finished": result.finished,
        "recovery_point": plan.point.id,
        "taken_at": names.iso(plan.point.at),
        "steps": [_step(step.key, step.title, plan, result) for step in plan.steps],
        "left": left(config, plan, result),
        "later": result.later,
        "state": str(result.state) if result.state else None,
        "seconds": round(result.seconds, 3),
    }


def first_failure(result: SiteResult) -> BackupError | None:
    return next(iter(result.failures.values()), None)


def _step(key: str, title: str, plan: SitePlan, result: SiteResult) -> dict[str, Any]:
    done, error = result.done.get(key), result.failures.get(key)
    told: dict[str, Any] = {"key": key, "title": title, "done": done is not None}
    if done is not None:
        told |= {"said": done.said, "counts": done.counts, "notes": done.notes}
    if error is not None:
        told["error"] = error.message
    return told


def _is_public(host: str) -> bool:
    return not (host in ("localhost", "::1") or host.startswith(("127.", "10.", "192.168.")))
