"""The parts of one recovery point (databases, files of one run) stay and go together."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import timedelta

from engine import names
from engine.retention.judge import Evidence, Item, is_good
from engine.retention.policy import PERIODS, PRE_DEPLOYMENT, Policy

ONE_RUN = timedelta(days=1)
"""The parts of one recovery point were begun within less than this."""


def keep_together(
    items: list[Item], policy: Policy, evidence: Evidence, by_rule: set[str], gone: frozenset[str]
) -> dict[str, str]:
    """Of what would go those that belong to a recovery point of which a rule keeps another part, with the reason.

    Only parts that go by the same rule: where a site keeps one source for longer, it means that source alone.

    Args:
        by_rule: Keys of what a rule of the policy keeps.
        gone: Keys of what would go.
    """
    kept: dict[str, str] = {}
    for tier in (*PERIODS, PRE_DEPLOYMENT):
        staying = sorted(
            (each for each in items if each.tier == tier and each.key in by_rule), key=lambda each: each.taken_at
        )
        times = [each.taken_at for each in staying]
        for item in items:
            if item.tier != tier or item.key not in gone:
                continue
            first, end = bisect_left(times, item.taken_at - ONE_RUN), bisect_right(times, item.taken_at + ONE_RUN)
            others = [each for each in staying[first:end] if _same_rule(policy, each, item)]
            if tier == PRE_DEPLOYMENT and others and not evidence.parts(item):
                continue  # made by an earlier release: each of its parts is judged by itself
            point = evidence.point(item) if others else ""
            other = next((each for each in others if point and evidence.point(each) == point), None)
            if other is not None:
                kept[item.key] = f"part of the recovery point {point}, of which {other.file} stays"
    return kept


def is_whole(item: Item, snapshots: list[Item], evidence: Evidence) -> bool:
    """Is every part here, and good, of the snapshot that this one is a part of? Where nobody says which parts it was to
    have, it is.

    Args:
        snapshots: Every part of a snapshot that is here.
    """
    wanted = evidence.parts(item)
    if not wanted:
        return True
    point = evidence.point(item)
    near = [each for each in snapshots if abs(each.taken_at - item.taken_at) <= ONE_RUN and is_good(each, evidence)]
    return wanted <= {(str(each.source), names.encode(each.name)) for each in near if evidence.point(each) == point}


def _same_rule(policy: Policy, one: Item, other: Item) -> bool:
    if (one.source, one.name) == (other.source, other.name):
        return False  # two backups of one thing are parts of two recovery points
    return policy.of(str(one.source), str(one.tier)) == policy.of(str(other.source), str(other.tier))
