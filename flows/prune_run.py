"""The body of pruning: every place by itself, so that one that is down keeps nothing else from its turn."""

from __future__ import annotations

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from blocks import load_site
from engine.errors import BackupError, ConfirmationNeeded
from engine.prune import PlacePlan
from engine.prune.plan import Action
from tasks.base import SiteHandle, reason
from tasks.prune import prune, publish
from tasks.vault import sweep
from tasks.words import plural


def prune_places(site: str, *, location: str, source: str, confirm: str, dry_run: bool) -> State[None]:
    """Judge each place and carry it out.

    Raises:
        UnknownName: No such site, place or source. ConfirmationNeeded: ``confirm`` is not the site's name.
    """
    handle = SiteHandle(load_site(site))
    if confirm and confirm != handle.name:
        raise ConfirmationNeeded(
            f"The confirmation {confirm!r} is not the name of the site, {handle.name!r}.", kept="nothing was changed"
        )
    if not dry_run:
        sweep(handle)
    replicas = [each.name for each in handle.config.vault.replicas if each.deletes]
    plans: list[PlacePlan] = []
    failures: dict[str, BackupError] = {}
    for place in [location] if location != "all" else ["local", *replicas]:
        try:
            plan = prune(handle, place, source, bool(confirm), dry_run)
        except BackupError as error:
            failures[place] = error
            continue
        plans.append(plan)
        if plan.error is not None:
            failures[place] = plan.error
    publish(handle.name, plans)
    return _end(handle.name, plans, failures, dry_run)


def _end(site: str, plans: list[PlacePlan], failures: dict[str, BackupError], dry_run: bool) -> State[None]:
    done = "; ".join(f"{plan.location}: {_said(plan, dry_run)}" for plan in plans)
    held = [f"{plan.location}: {plan.brake}" for plan in plans if plan.brake]
    held += [f"{plan.location}: {group}: {why}" for plan in plans if not plan.brake for group, why in plan.held.items()]
    if not failures and not held:
        return Completed(message=done)
    reasons = [f"{place} was not pruned: {reason(error)}" for place, error in failures.items()]
    reasons += [f"held back at {each}" for each in held]
    lines = ["; ".join(reasons) + ".", f"Kept safe: everything that is held back; {done}"]
    lines += [f"Next: {error.remedy}" for error in failures.values() if error.remedy]
    if held:
        lines.append(
            f"Next: look at the artifact {site}-prune; if it is right, start prune-vault/{site} with confirm={site}"
        )
    text = "\n".join(lines)
    get_run_logger().error(text)
    return Failed(message=text)


def _said(plan: PlacePlan, dry_run: bool) -> str:
    removed, expired = plan.count("remove"), plan.count("expire")
    would = "would be " if dry_run else ""
    parts = [f"{plural(removed, 'backup')} {would}removed", f"{expired} {would}marked as expired"]
    parts += [f"{plan.count(action)} {word}" for action, word in _ALSO if plan.count(action)]
    return ", ".join(parts) + f", {plan.count('keep') + plan.count('reprieve')} kept"


_ALSO: tuple[tuple[Action, str], ...] = (
    ("wait", "to go after their day"), ("retained", "retained by an object lock"), ("in use", "in use"),
    ("reprieve", "kept after all"),
)  # fmt: skip
