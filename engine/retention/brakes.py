"""When nothing is removed although the rules would: a clock that jumped, too much at once, backups that vanished.

A person's word lifts these, and only these: no rule above the policy gives way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from engine import names
from engine.retention.judge import Decision, Item
from engine.retention.policy import PRE_DEPLOYMENT

SHARE = 0.5
"""No more than this part of a tier goes at once."""
TOLERANCE = names.APART
"""Between clocks, and for a backup begun while a place was being listed."""
LONGEST_PAUSE = timedelta(days=35)
"""Between two prunes. After a longer one the clock may be what jumped."""
QUIET = timedelta(days=10)
"""Where nothing new has come for so long, nothing old goes."""
_BURSTS = frozenset((names.SAFETY, names.RECOVERED, PRE_DEPLOYMENT))
"""These come and go in bursts, or by a word of their own: a share of them says nothing."""


@dataclass(frozen=True)
class LastRun:
    """What the last prune of a place left.

    Attributes:
        at: When, UTC; None when there was none.
        left: How many backups stayed, by group.
    """

    at: datetime | None = None
    left: Mapping[str, int] = field(default_factory=dict)


def group_of(item: Item) -> str:
    """What is counted together: a tier of a database, or the logs of a server."""
    name = "*" if item.is_log else item.name
    return f"{item.source}/{name}/{item.tier}"


def clock(items: Iterable[Item], now: datetime, last: LastRun) -> str:
    """Why the clock is not to be trusted, in words; empty when it is."""
    newest = max((item.taken_at for item in items), default=None)
    if newest is None:
        return ""
    if newest > now + TOLERANCE:
        return f"the newest backup here was made at {names.iso(newest)}, and now is {names.iso(now)}: a clock is wrong"
    if last.at is not None and last.at > now + TOLERANCE:
        return f"the last prune was at {names.iso(last.at)}, and now is {names.iso(now)}: the clock went back"
    if last.at is not None and now - last.at > LONGEST_PAUSE:
        return f"the last prune was {(now - last.at).days} days ago: a long pause, or a clock that jumped"
    if now - newest > QUIET:
        return f"nothing new has come here for {(now - newest).days} days (or the clock jumped): nothing old goes"
    return ""


def amounts(decisions: Iterable[Decision], last: LastRun) -> dict[str, str]:
    """Groups of which too much would go at once, with the reason. What is marked already does not count again."""
    here: dict[str, int] = {}
    going: dict[str, int] = {}
    tiers: dict[str, str] = {}
    for decision in decisions:
        item = decision.item
        if item.source is None or item.expired_at is not None:
            continue
        group = group_of(item)
        tiers[group] = str(item.tier)
        here[group] = here.get(group, 0) + 1
        harmless = item.limited or decision.replaced  # a person said when; it stands here encrypted anew
        going[group] = going.get(group, 0) + (not decision.keep and not harmless)
    held = {}
    for group, count in here.items():
        if tiers[group] in _BURSTS or not going[group]:
            continue
        reason = _too_much(count, going[group], last.left.get(group))
        if reason:
            held[group] = reason
    return held


def _too_much(here: int, going: int, left: int | None) -> str:
    if left is not None and here < left * (1 - SHARE):
        return f"the last prune left {left} of these, and now there are {here}: find out what removed the others"
    if going <= here * SHARE:
        return ""
    if left is not None and here - going >= left * (1 - SHARE):
        return ""  # only what has piled up since
    return f"{going} of {here} would go at once, more than {SHARE:.0%}"
