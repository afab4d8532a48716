"""What a prune would do in each place, and why; nothing is changed here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from engine import names
from engine.buckets.sweeping import Swept
from engine.errors import BackupError
from engine.logs import LogFile
from engine.prune.contents import Contents, SignedEvidence, broken_files, contents
from engine.prune.record import last_runs
from engine.retention.brakes import TOLERANCE, LastRun, amounts, clock, group_of
from engine.retention.judge import Decision, Item, judge
from engine.site import Site

GRACE = timedelta(hours=23)
"""From being marked as expired to being removed. A little less than a day, so that it is the next daily run."""

Action = Literal["keep", "expire", "wait", "remove", "reprieve", "held", "retained", "in use"]
"""``expire``: is marked now. ``wait``: is marked, its day is not over. ``remove``: goes now. ``reprieve``: was marked,
and is kept after all. ``held``: would go, but a person has to say so. ``retained``: an object lock keeps it.
``in use``: a run works on its database; it goes with the next prune."""
ALL = "all"


@dataclass(slots=True)
class Planned:
    """What becomes of one backup.

    Attributes:
        reason: Why, in words.
        until: For ``wait`` when it goes, for ``retained`` until when it is locked.
    """

    item: Item
    action: Action
    reason: str
    until: datetime | None = None


@dataclass
class PlacePlan:
    """What becomes of everything in one place.

    Attributes:
        brake: Why nothing at all is removed here, in words; empty when that is not so.
        held: Groups of which nothing is removed, with the reason.
        error: The place could not be looked at (nothing is planned), or failed while it was worked on.
        swept: What became of the contents of buckets that no list names any more.
    """

    location: str
    now: datetime
    planned: list[Planned] = field(default_factory=list)
    brake: str = ""
    held: dict[str, str] = field(default_factory=dict)
    error: BackupError | None = None
    contents: Contents | None = None
    swept: list[Swept] = field(default_factory=list)

    def count(self, action: Action) -> int:
        return sum(each.action == action for each in self.planned)

    @property
    def changes(self) -> bool:
        """Is there anything to do, or to be told?"""
        return any(each.action != "keep" for each in self.planned)


def look(
    site: Site, *, location: str = ALL, source: str = "", confirmed: bool = False, now: datetime | None = None
) -> list[PlacePlan]:
    """Judge every place on what it holds itself.

    Args:
        location: ``all`` for the local root and every replica whose key may delete; or one of them.
        source: Only this source's backups.
        confirmed: A person has looked: neither the clock nor the amount holds anything back.
        now: For tests; the present moment.

    Raises:
        UnknownName: No such location or source. What a store raises is told in its place's plan.
    """
    if source:
        site.config.source(source)
    if location != ALL:
        site.vault.store(location)
    plans: list[PlacePlan] = []
    for name in places(site, location):
        try:
            held = contents(site.vault, name)
            plans.append(PlacePlan(name, now or names.now(), contents=held))
        except BackupError as error:
            plans.append(PlacePlan(name, now or names.now(), error=error))
    suspect = _suspect(site, plans)
    runs = last_runs(site.vault.state)
    logs: dict[str, LogFile] = {}
    for plan in plans:
        if plan.contents is None:
            continue
        held = plan.contents
        evidence = SignedEvidence(site.vault, held, suspect, logs)
        try:
            _plan(site, plan, held, evidence, source, runs.get(plan.location, LastRun()))
            if confirmed:
                plan.brake, plan.held = "", {}
            _choose(plan)
        except BackupError as error:
            plan.error, plan.planned = error, []
    return plans


def places(site: Site, location: str = ALL) -> list[str]:
    """The one that is named; else every place but those whose key may not delete: these are pruned by their name, with
    a key that may."""
    if location != ALL:
        return [location]
    kept = {replica.name for replica in site.config.vault.replicas if not replica.deletes}
    return [name for name in site.vault.locations() if name not in kept]


def _suspect(site: Site, plans: list[PlacePlan]) -> set[str]:
    """Names of what was found broken in any place: a mere copy of one is not good."""
    found = {plan.location: plan.contents.broken for plan in plans if plan.contents is not None}
    for name in site.vault.locations():
        if name not in {plan.location for plan in plans}:
            found[name] = broken_files(site.vault, name)
    return set().union(*found.values())


def _plan(site: Site, plan: PlacePlan, held: Contents, evidence: SignedEvidence, source: str, last: LastRun) -> None:
    """Judge a place, and see what would hold it back."""
    items: Iterable[Item] = held.items
    if source:
        items = [each for each in held.items if each.source == source]
    databases = {
        each.name: frozenset(names.encode(name) for name in getattr(each, "databases", ()))
        for each in site.config.sources()
    }
    policy = site.config.retention_in(plan.location)
    decisions = judge(items, policy, now=plan.now, evidence=evidence, databases=databases)
    plan.brake = clock(held.items, plan.now, last)
    plan.held = amounts(decisions, last)
    plan.planned = [Planned(each.item, "keep" if each.keep else "expire", each.reason) for each in decisions]


def _choose(plan: PlacePlan) -> None:
    """From what is judged to what is done now."""
    for each in plan.planned:
        marked = each.item.expired_at
        if each.action == "keep":
            if marked is not None and not plan.brake:
                each.action, each.reason = "reprieve", f"kept after all: {each.reason}"
            continue
        brake = plan.brake or plan.held.get(group_of(each.item), "")
        if brake:
            each.action, each.reason = "held", f"{each.reason}; held back: {brake}"
        elif marked is not None:
            each.until = marked + GRACE
            is_due = marked <= plan.now + TOLERANCE and plan.now >= each.until
            each.action = "remove" if is_due else "wait"


def decisions_of(plan: PlacePlan) -> list[Decision]:
    """What was decided, without what becomes of it today."""
    return [Decision(each.item, each.action in ("keep", "reprieve"), each.reason) for each in plan.planned]
