"""The parts of one recovery point (databases, files of one run) stay and go together."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import timedelta

from engine.retention.judge import Evidence, Item
from engine.retention.policy import PERIODS, Policy

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
    for tier in PERIODS:
        staying = sorted(
            (each for each in items if each.tier == tier and each.key in by_rule), key=lambda each: each.taken_at
        )
        times = [each.taken_at for each in staying]
        for item in items:
            if item.tier != tier or item.key not in gone:
                continue
            first, end = bisect_left(times, item.taken_at - ONE_RUN), bisect_right(times, item.taken_at + ONE_RUN)
            others = [each for each in staying[first:end] if _same_rule(policy, each, item)]
            point = evidence.point(item) if others else ""
            other = next((each for each in others if point and evidence.point(each) == point), None)
            if other is not None:
                kept[item.key] = f"part of the recovery point {point}, of which {other.file} stays"
    return kept


def _same_rule(policy: Policy, one: Item, other: Item) -> bool:
    if (one.source, one.name) == (other.source, other.name):
        return False  # two backups of one thing are parts of two recovery points
    return policy.of(str(one.source), str(one.tier)) == policy.of(str(other.source), str(other.tier))
