"""When nothing is removed although the rules would: a clock that jumped, too much at once, backups that vanished.

A person's word lifts these, and only these: no rule above the policy gives way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise
from statistics import median

from engine import names
from engine.retention.judge import Decision, Item
from engine.retention.policy import PERIODS, PRE_DEPLOYMENT

SHARE = 0.5
"""No more than this part of a tier goes at once."""
TOLERANCE = names.APART
"""Between clocks, and for a backup begun while a place was being listed."""
LONGEST_PAUSE = timedelta(days=35)
"""Between two prunes. After a longer one the clock may be what jumped."""
QUIET = timedelta(days=10)
"""Where nothing new has come for so long, nothing old goes."""
_RHYTHM = 5
"""So many pauses between days with backups tell how often they come. With fewer nobody can say what a long one is."""
_RHYTHMIC = frozenset((*PERIODS, names.BASE, *names.LOGS))
"""What comes by a schedule; the rest comes when a person wants it."""
_BURSTS = frozenset((names.SAFETY, names.RECOVERED, PRE_DEPLOYMENT, names.IMAGE))
"""These come and go in bursts, or by a word of their own: a share of them says nothing. An image goes with the last
record that needs it, and for those there is a brake."""


@dataclass(frozen=True)
class LastRun:
    """What the last prune of a place left.

    Attributes:
        at: When, UTC; None when there was none.
        left: How many backups stayed, by group.
        newest: When the newest backup was made that was there, UTC. What was there is no reason to hold back again: it
            had been no reason then, or a person had said so.
    """

    at: datetime | None = None
    left: Mapping[str, int] = field(default_factory=dict)
    newest: datetime | None = None


def group_of(item: Item) -> str:
    """What is counted together: a tier of a database, or the logs of a server."""
    name = "*" if item.is_log else item.name
    return f"{item.source}/{name}/{item.tier}"


def clock(items: Iterable[Item], now: datetime, last: LastRun) -> str:
    """Why the clock is not to be trusted, in words; empty when it is."""
    every = sorted(items, key=lambda each: each.taken_at)
    if not every:
        return ""
    newest = every[-1].taken_at
    past = [each for each in every if each.taken_at <= now + TOLERANCE]
    if newest > now + TOLERANCE and (not past or last.newest is None or newest > last.newest):
        return f"the newest backup here was made at {names.iso(newest)}, and now is {names.iso(now)}: a clock is wrong"
    if last.at is not None and last.at > now + TOLERANCE:
        return f"the last prune was at {names.iso(last.at)}, and now is {names.iso(now)}: the clock went back"
    if last.at is not None and now - last.at > LONGEST_PAUSE:
        return f"the last prune was {(now - last.at).days} days ago: a long pause, or a clock that jumped"
    if now - past[-1].taken_at > QUIET:
        days = (now - past[-1].taken_at).days
        return f"nothing new has come here for {days} days (or the clock jumped): nothing old goes"
    return _gap(past, (last.at or now - LONGEST_PAUSE).date())


def _gap(items: list[Item], seen: date) -> str:
    """A jump ahead that is hidden by what was made after it: for long, by the rhythm of before, nothing came, and then
    it went on.

    Args:
        items: The oldest first.
        seen: When a prune went on for the last time: a pause that was over by then is no reason any more.
    """
    for earlier, later in pairwise(sorted({each.taken_at.date() for each in items})):
        gap = (later - earlier).days
        if gap <= QUIET.days or later <= seen:
            continue
        scheduled = sorted(
            {day for each in items if each.tier in _RHYTHMIC and (day := each.taken_at.date()) <= earlier}
        )
        before = [(two - one).days for one, two in pairwise(scheduled)][-2 * _RHYTHM :]
        if len(before) >= _RHYTHM and gap > 2 * median(before):
            return f"nothing came here for {gap} days until {later}: a long outage, or a clock that jumped ahead"
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
