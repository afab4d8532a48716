"""Keep or expire: a decision for every backup of one place, each with its reason.

Rules above the policy, in this order: what cannot be judged is kept; the last good backup of a database is kept;
so is the full or base that the kept logs are replayed on. Broken backups count for nothing: they protect no other
and fill no count. Each place is judged on what it holds itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from engine import names
from engine.logs import LogFile
from engine.recovery.window import Anchor
from engine.retention.policy import MANUAL, PRE_DEPLOYMENT, Policy, Rule

Claim = Literal["good", "broken", "unproven"]
Sought = Literal["any", "whole", "none"]
"""Of the snapshots of a database whose deployments were released, the newest first: what is still to be kept."""

_AHEAD = timedelta(hours=1)
"""What is dated further ahead of now was dated by a wrong clock: it may be older than others, and replaces none."""


@dataclass(frozen=True, slots=True)
class Item:
    """One backup in one place, as its names tell.

    Attributes:
        source, tier: None where only a manifest could tell, and it cannot be read.
        name: The database, or the log as its server calls it.
        taken_at: UTC, by the clock of the machine that made it. Of a log: when it was shipped.
        claim: What the names of its marks say of it. Before anything leans on ``good``, the evidence is asked.
        released: A mark says that the deployment it was taken for is over.
        expired_at: When it was marked as expired, UTC; None when it is not.
        limited: A mark says until when it is to be kept.
        superseded: A mark says that it was encrypted anew, as another one of this place.
    """

    key: str
    source: str | None
    tier: str | None
    name: str
    taken_at: datetime
    claim: Claim = "unproven"
    pinned: bool = False
    released: bool = False
    expired_at: datetime | None = None
    limited: bool = False
    superseded: bool = False

    @property
    def is_log(self) -> bool:
        return self.tier in names.LOGS

    @property
    def file(self) -> str:
        return self.key.rsplit("/", 1)[-1]


class Evidence(Protocol):
    """What signed documents say, asked only where a decision leans on it."""

    def proven(self, item: Item) -> bool:
        """Its manifest holds, its parts are there, and a signed mark says that it was found whole."""
        ...

    def released(self, item: Item) -> bool:
        """A signed mark says that it was released."""
        ...

    def keep_until(self, item: Item) -> datetime | None:
        """Until when a signed mark asks to keep it, UTC; None when none does. Asked only of what is ``limited``."""
        ...

    def replaced(self, item: Item) -> str:
        """The file that it was encrypted anew as: it stands here and is proven; empty when that is not so. Asked only
        of what is ``superseded``."""
        ...

    def point(self, item: Item) -> str:
        """The recovery point that it is a part of; empty when of none, or when its manifest does not hold."""
        ...

    def parts(self, item: Item) -> frozenset[tuple[str, str]]:
        """Source and name (encoded as in file names) of every part that the snapshot of this one was to have; none
        where its manifest does not say."""
        ...

    def anchor(self, item: Item) -> Anchor | None:
        """Where logs can be replayed on it; None where they cannot, or its manifest does not hold."""
        ...

    def images(self, item: Item) -> frozenset[str] | None:
        """The saved images that a record of containers needs, by name; None when it is none, or cannot be read."""
        ...

    def logs(self, items: list[Item]) -> Mapping[str, LogFile]:
        """Facts of these logs by key; one whose manifest does not hold is left out."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """Keep or expire, and why.

    Attributes:
        replaced: It goes because it was encrypted anew: nothing is lost by that.
    """

    item: Item
    keep: bool
    reason: str
    replaced: bool = False


def judge(
    items: Iterable[Item],
    policy: Policy,
    *,
    now: datetime,
    evidence: Evidence,
    databases: Mapping[str, frozenset[str]] | None = None,
) -> list[Decision]:
    """A decision for each backup of one place, in the order given.

    Args:
        now: The present moment.
        databases: Of each source the databases that the site names (encoded as in file names); empty for all.
    """
    from engine.retention.images import judge_images
    from engine.retention.logs import judge_logs
    from engine.retention.points import keep_together

    now = now.astimezone(UTC)  # in a zone with summer time, a day less is not 24 hours less
    every = list(items)
    replaced = _replaced(every, evidence)
    items = [each for each in every if each.key not in replaced]
    unclear, images, series, logs = _by_what_decides(items)
    kept = {item.key: "its manifest cannot be read, so nobody can tell what it is" for item in unclear}
    gone: dict[str, str] = {}
    by_rule: set[str] = set()
    snapshots = [each for each in items if each.tier == PRE_DEPLOYMENT]
    for group in series.values():
        by_rule |= _judge_series(group, policy, now, evidence, kept, gone, snapshots)
    for key, reason in keep_together(items, policy, evidence, by_rule, frozenset(gone)).items():
        kept[key] = reason
        del gone[key]
    for (source, tier), shipped in logs.items():
        own = {name: group for (of, name), group in series.items() if of == source}
        rule = policy.of(source, tier)
        judged = judge_logs(source, shipped, own, rule, now, evidence, databases, frozenset(gone))
        kept |= judged.kept
        gone |= judged.gone
        for key, reason in judged.needed.items():
            if gone.pop(key, None) is not None:
                kept[key] = reason
    if images:
        records = [item for item in items if item.tier != names.IMAGE and item.key in kept]
        judged_images = judge_images(images, records, now, evidence)
        kept |= judged_images[0]
        gone |= judged_images[1]
    gone |= {key: f"encrypted anew as {file}" for key, file in replaced.items()}
    return [
        Decision(item, item.key in kept, kept.get(item.key) or gone[item.key], item.key in replaced) for item in every
    ]


def _replaced(items: list[Item], evidence: Evidence) -> dict[str, str]:
    """Keys of what was encrypted anew, and as which file: without those of which a person said what nobody said of the
    new one. Words go along; one that did not, such as a pin set by an older release, must not be lost."""
    known = {(each.source, each.tier, each.file): each for each in items}
    found = {}
    for item in items:
        file = evidence.replaced(item) if item.superseded else ""
        if file and _is_kept_by_word(item, known.get((item.source, item.tier, file)), evidence):
            file = ""
        if file:
            found[item.key] = file
    return found


def _is_kept_by_word(item: Item, new: Item | None, evidence: Evidence) -> bool:
    """Does a person's word keep it that does not keep what it was encrypted anew as?"""
    if item.pinned and not (new and new.pinned):
        return True
    if item.tier == PRE_DEPLOYMENT and not item.released and (new is None or new.released):
        return True
    if not item.limited:
        return False
    until = evidence.keep_until(item)
    after = evidence.keep_until(new) if new and new.limited else None
    return until is None or after is None or after < until


Groups = dict[tuple[str, str], list[Item]]


def _by_what_decides(items: list[Item]) -> tuple[list[Item], list[Item], Groups, Groups]:
    """What nobody can judge, images, backups by source and database, the newest first, and logs by source and tier."""
    unclear: list[Item] = []
    images: list[Item] = []
    series: Groups = {}
    logs: Groups = {}
    for item in items:
        if item.source is None or item.tier is None:
            unclear.append(item)
        elif item.tier == names.IMAGE:
            images.append(item)
        elif item.is_log:
            logs.setdefault((item.source, item.tier), []).append(item)
        else:
            name = f"/{names.BASE}" if item.tier == names.BASE else item.name
            series.setdefault((item.source, name), []).append(item)
    for group in series.values():
        group.sort(key=lambda each: (each.taken_at, each.key), reverse=True)
    return unclear, images, series, logs


def _judge_series(
    group: list[Item],
    policy: Policy,
    now: datetime,
    evidence: Evidence,
    kept: dict[str, str],
    gone: dict[str, str],
    snapshots: list[Item],
) -> set[str]:
    """The backups of one database (or the bases of one server), newest first; gives the keys that a rule keeps.

    Args:
        snapshots: Every part of a snapshot that is here, of whatever database.
    """
    by_rule: set[str] = set()
    tiers: dict[str, list[Item]] = {}
    for item in group:
        tiers.setdefault(str(item.tier), []).append(item)
    leaving: dict[str, str] = {}
    for tier, series in tiers.items():
        rule = policy.of(str(series[0].source), tier)
        counted = 0
        sought: Sought = "any"
        for item in series:
            reason = _by_policy(item, rule, now, counted, evidence)
            if reason:
                by_rule.add(item.key)
            if tier == PRE_DEPLOYMENT and (not reason or item.pinned):
                released, sought = _by_release(item, evidence, sought, snapshots)
                reason = reason or released
                by_rule |= {item.key} if released else set()
            if reason:
                kept[item.key] = reason
            else:
                leaving[item.key] = _past(item, rule, now)
            if counted < rule.count and item.taken_at <= now + _AHEAD and is_good(item, evidence):
                counted += 1
    protected = _protected(group, evidence) if leaving else {}
    real = [item for item in group if item.taken_at <= now + _AHEAD]
    if leaving and 0 < len(real) < len(group):
        protected |= _protected(real, evidence)
    for key, reason in protected.items():
        if leaving.pop(key, None) is not None:
            kept[key] = reason
    gone |= leaving
    return by_rule


def _by_policy(item: Item, rule: Rule, now: datetime, counted: int, evidence: Evidence) -> str:
    """Why the policy keeps it; empty when it does not."""
    if item.pinned:
        return "pinned by a person"
    if item.limited:
        until = evidence.keep_until(item)
        if until is None:
            return "until when it is to be kept was said, and cannot be read"
        if now <= until:
            return f"to be kept until {names.iso(until)}, as whoever made it said"
        if item.tier == MANUAL:
            return ""  # that was its last day, whatever the rule
    if item.tier == PRE_DEPLOYMENT and rule.forever:
        return ""  # kept by not being released
    if rule.forever:
        return f"{item.tier} backups are never removed by themselves"
    if rule.age is not None and now - item.taken_at <= rule.age:
        return f"{item.tier} backups are kept for {rule.text}"
    if counted < rule.count:
        return f"among the newest {rule.count} good {item.tier} backups ({rule.text})"
    return ""


def _by_release(item: Item, evidence: Evidence, sought: Sought, snapshots: list[Item]) -> tuple[str, Sought]:
    """A snapshot taken before a deployment stays until released, and the newest released one stays too; where that is
    only half of one, so does the newest whole one."""
    from engine.retention.points import is_whole

    if not item.released or not evidence.released(item):
        return "its deployment has not been released", sought
    if sought == "none" or not is_good(item, evidence):
        return "", sought
    whole = is_whole(item, snapshots, evidence)
    if sought == "any":
        return "the newest snapshot whose deployment was released", "none" if whole else "whole"
    return ("the newest whole snapshot whose deployment was released", "none") if whole else ("", sought)


def _past(item: Item, rule: Rule, now: datetime) -> str:
    if item.tier == PRE_DEPLOYMENT:
        return "released: a newer deployment succeeded"
    if item.limited and item.tier == MANUAL:
        return f"{_age(now, item.taken_at)} old; whoever made it said for how long it was to be kept"
    return f"{_age(now, item.taken_at)} old; {item.tier} backups are kept for {rule.text}"


def _protected(group: list[Item], evidence: Evidence) -> dict[str, str]:
    """What no rule takes away: the newest good backup, and where none is known to be good the newest that
    is not known to be broken, and where all are broken every one of them."""
    regular = [each for each in group if each.tier not in names.NEVER_LATEST or each.tier == names.BASE]
    aside = [each for each in group if each.tier in names.NEVER_LATEST and each.tier != names.BASE]
    what = f"{group[0].source}/{group[0].name}"
    for items in (regular, aside):
        good = next((each for each in items if is_good(each, evidence)), None)
        if good is not None:
            unsure = {} if items is regular else _newest_unproven(regular, what)
            return {good.key: f"the last good backup of {what} here", **unsure}
    unsure = _newest_unproven(regular, what) | _newest_unproven(aside, what)
    if unsure:
        return unsure
    return {each.key: f"every backup of {what} here was found broken: a person has to look" for each in group}


def _newest_unproven(items: list[Item], what: str) -> dict[str, str]:
    found = next((each for each in items if each.claim != "broken"), None)
    return {found.key: f"the newest backup of {what} here, and none is known to be good"} if found else {}


def is_good(item: Item, evidence: Evidence) -> bool:
    """Was it proven whole, by a mark that holds?"""
    return item.claim == "good" and evidence.proven(item)


def _age(now: datetime, taken_at: datetime) -> str:
    hours = (now - taken_at).total_seconds() / 3600
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} days"
