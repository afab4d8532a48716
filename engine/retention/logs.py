"""Which logs are kept, and which fulls or bases they need: any second of the last days must stay within reach.

Logs are kept by age. Beyond that age a log stays while the full (base) that the window begins with is replayed
with it. That is the newest good one from before the window; it stays too, whatever the rule of its tier says.
Ages are told from when a log was shipped: what it holds is older than that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from engine import names
from engine.logs import LogFile
from engine.recovery.plan import merged
from engine.recovery.window import Anchor, windows
from engine.retention.judge import Evidence, Item, is_good
from engine.retention.policy import Rule

NEWEST_LOGS = 8
"""Never removed: shipping goes on from the newest logs in the vault (the worker's clock may have jittered)."""
RETIRED_AFTER = timedelta(days=30)
"""A database that the site does not name, and of which there was no backup for so long while others of its
server had some, is gone from the server: no logs are kept for its sake."""
LONGEST_COPY = timedelta(days=2)
"""No full and no base takes longer than this to be made."""
_ALWAYS = datetime.min.replace(tzinfo=UTC)
Start = tuple[Item, Anchor]
"""A full or base, and where in the logs its replay begins."""


@dataclass
class Judged:
    """Reasons by key. ``needed`` are fulls and bases that must stay."""

    kept: dict[str, str] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    needed: dict[str, str] = field(default_factory=dict)


def judge_logs(
    source: str,
    logs: list[Item],
    series: Mapping[str, list[Item]],
    rule: Rule,
    now: datetime,
    evidence: Evidence,
    databases: Mapping[str, frozenset[str]] | None,
    leaving: frozenset[str] = frozenset(),
) -> Judged:
    """The logs of one source in one place.

    Args:
        series: Its other backups, by database (bases apart), newest first.
        rule: Of its logs; always an age, or for ever.
        leaving: Keys of the backups that the rules of their tiers would remove.
    """
    judged = Judged()
    begins = now - rule.age if rule.age is not None else _ALWAYS
    wal = logs[0].tier == names.WAL
    shipped = None if wal else _Numbered(logs, evidence)
    starts: list[Start] = []
    for group in _live(_anchored(series, wal), (databases or {}).get(source, frozenset())):
        first = _starts(group, begins, evidence, shipped)
        starts += first
        for item, _ in [*first, *_bridges(group, first, begins, leaving, logs, evidence)]:
            judged.needed[item.key] = f"the logs that are kept for {rule.text} are replayed on it"
    newest = {each.key for each in sorted(logs, key=lambda each: (each.taken_at, each.key))[-NEWEST_LOGS:]}
    old: list[Item] = []
    for item in logs:
        if item.taken_at >= begins:
            judged.kept[item.key] = f"logs are kept for {rule.text}"
        elif item.pinned:
            judged.kept[item.key] = "pinned by a person"
        elif item.name.endswith(".history"):
            judged.kept[item.key] = "a timeline's history: small, and needed by every log after it"
        elif item.key in newest:
            judged.kept[item.key] = "among the newest logs: shipping goes on from there"
        elif not starts:
            judged.kept[item.key] = "there is no good full or base here that it could be judged by"
        else:
            old.append(item)
    facts = evidence.logs(old)
    for item in old:
        _judge_old(item, facts.get(item.key), starts, rule, now, judged)
    return judged


def _judge_old(item: Item, log: LogFile | None, starts: list[Start], rule: Rule, now: datetime, judged: Judged) -> None:
    if log is None:
        judged.kept[item.key] = "its manifest cannot be read, so nobody can tell what needs it"
        return
    user = next((full for full, anchor in starts if _needs(full, anchor, item, log)), None)
    if user is not None:
        judged.kept[item.key] = f"{user.file} is replayed with it"
        return
    days = (now - item.taken_at).total_seconds() / 86_400
    judged.gone[item.key] = f"shipped {days:.0f} days ago; logs are kept for {rule.text}, and no backup needs it"


def _needs(full: Item, anchor: Anchor, item: Item, log: LogFile) -> bool:
    """May a replay on this full or base need this log? Where that is not certain, it does."""
    if anchor.chain not in ("", log.chain) or log.number < anchor.number:
        return False
    if anchor.epoch is not None:
        return log.epoch >= anchor.epoch
    # A dump does not know how often its server's numbering began anew: a log of a higher number may be of the time
    # before. It is, if it was both shipped and finished before the dump began.
    before = item.taken_at < full.taken_at and log.covers_until is not None and log.covers_until < anchor.earliest
    return not before


def _anchored(series: Mapping[str, list[Item]], wal: bool) -> list[list[Item]]:
    """Of each database the backups on which logs may be replayed, newest first."""
    found = []
    for group in series.values():
        fitting = [
            each
            for each in group
            if each.claim != "broken" and (each.tier == names.BASE if wal else each.tier not in names.NEVER_LATEST)
        ]
        if fitting:
            found.append(fitting)
    return found


def _live(groups: list[list[Item]], named: frozenset[str]) -> list[list[Item]]:
    """Without the databases that are gone from their server."""
    newest = max((group[0].taken_at for group in groups), default=_ALWAYS)
    live = []
    for group in groups:
        first = group[0]
        if first.tier == names.BASE or first.taken_at >= newest - RETIRED_AFTER or names.encode(first.name) in named:
            live.append(group)
    return live


class _Numbered:
    """The logs of a MySQL or MariaDB server by the numbers in their names."""

    def __init__(self, logs: list[Item], evidence: Evidence) -> None:
        self._evidence = evidence
        self._logs: dict[int, list[Item]] = {}
        for item in logs:
            number = item.name.rpartition(".")[2]
            if number.isdigit():
                self._logs.setdefault(int(number), []).append(item)

    def hold(self, anchor: Anchor) -> bool:
        """Is the log there that this dump's replay begins with? Two servers, or one that began anew, may have used
        the same number."""
        near = [each for number in (anchor.number, anchor.number + 1) for each in self._logs.get(number, [])]
        return bool(windows([anchor], self._evidence.logs(near).values())[0].logs)


def _starts(group: list[Item], begins: datetime, evidence: Evidence, shipped: _Numbered | None) -> list[Start]:
    """Where recovery of this database begins: the newest good backup at or before the window's begin (and where
    the logs cannot be replayed on that one, the next on which they can). Without one, the oldest after it, and
    whatever unproven one there is before."""
    good: list[Start] = []
    unproven: list[Start] = []
    later: list[Item] = []
    for item in group:
        anchor = evidence.anchor(item) if item.taken_at <= begins else None
        if anchor is None or anchor.earliest > begins:
            later.append(item)
        elif is_good(item, evidence):
            good.append((item, anchor))
            if shipped is None or shipped.hold(anchor):
                return [good[0], good[-1]] if len(good) > 1 else good
        else:
            unproven.append((item, anchor))
    if good:
        return good[:1]
    spare: list[Start] = []
    for item in reversed(later):
        anchor = evidence.anchor(item)
        if anchor is not None and is_good(item, evidence):
            return [*unproven[:1], (item, anchor)]
        if anchor is not None:
            spare.append((item, anchor))
    return unproven[:1] or spare[:1]


def _ends_after(item: Item, begins: datetime, evidence: Evidence) -> bool:
    """Does what can be recovered from this backup begin within the window? One may take long: it is good from
    its end on."""
    if item.taken_at > begins:
        return True
    if item.taken_at < begins - LONGEST_COPY:
        return False
    anchor = evidence.anchor(item)
    return anchor is not None and anchor.earliest >= begins


def _bridges(
    group: list[Item],
    first: list[Start],
    begins: datetime,
    leaving: frozenset[str],
    logs: list[Item],
    evidence: Evidence,
) -> list[Start]:
    """Of the backups within the window that are about to leave those without which moments would be lost: logs
    are missing before them, or began anew."""
    known = {item.key for item, _ in first}
    within = [each for each in group if each.key not in known and _ends_after(each, begins, evidence)]
    going = [each for each in within if each.key in leaving and is_good(each, evidence)]
    if not going:
        return []
    anchors = {item.key: anchor for item in within if is_good(item, evidence) and (anchor := evidence.anchor(item))}
    facts = evidence.logs(logs).values()
    spans = {each.anchor: each for each in windows([*anchors.values(), *(anchor for _, anchor in first)], facts)}
    reached = [spans[anchor] for _, anchor in first]
    reached += [spans[anchor] for key, anchor in anchors.items() if key not in leaving]
    found: list[Start] = []
    for item in reversed(going):
        anchor = anchors.get(item.key)
        if anchor is None:
            continue
        own = spans[anchor]
        if own.logs and not any(one <= own.earliest and own.latest <= two for one, two in merged(reached)):
            found.append((item, anchor))
            reached.append(own)
    return found
