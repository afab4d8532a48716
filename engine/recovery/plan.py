"""From a target to a plan: which full or base, which logs, from where to where.

A target is a moment with its zone, ``latest``, a binlog position (``mysql-bin.000042:1234``), a GTID
(``gtid 0-1-1234``), an LSN (``lsn 0/3000148``), or a statement to stop right before (``before DROP TABLE users``),
which is a position once it was looked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from engine import names
from engine.errors import ConfigError, OutsideWindow
from engine.logs import LogFile
from engine.recovery.statement import Statement, is_statement, parse_statement
from engine.recovery.window import Anchor, Window

Kind = Literal["time", "latest", "position", "gtid", "lsn", "statement"]

_POSITION = re.compile(r"^(?P<log>\S+\.(?P<number>\d{6,})):(?P<position>\d+)$")
_GTID = re.compile(r"^gtid\s+(?P<gtid>\S+)$", re.IGNORECASE)
_LSN = re.compile(r"^(?:lsn\s+)?(?P<high>[0-9A-Fa-f]{1,8})/(?P<low>[0-9A-Fa-f]{1,8})$", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """To where a recovery goes.

    Attributes:
        moment: For ``time``: everything committed by then, that microsecond included.
        log, position: For ``position``: the log's name, and where in it to stop (before what begins there).
            For ``lsn`` the position alone.
        gtid: For ``gtid``: the last transaction that is wanted.
        statement: For ``statement``: what is not wanted any more. No plan can be made until it was found.
    """

    kind: Kind
    moment: datetime | None = None
    log: str = ""
    position: int = 0
    gtid: str = ""
    statement: Statement | None = None

    def __str__(self) -> str:
        if self.statement is not None:
            return str(self.statement)
        if self.moment is not None:
            return names.both_zones(self.moment)
        if self.kind == "position":
            return f"{self.log}:{self.position}"
        if self.kind == "lsn":
            return f"LSN {self.position >> 32:X}/{self.position & 0xFFFFFFFF:X}"
        return f"GTID {self.gtid}" if self.kind == "gtid" else "the end of the logs"


@dataclass(frozen=True)
class RecoveryPlan:
    """What a recovery takes: the anchor, and the logs from the one that holds its position to the one in
    which the target lies (or may lie: for a time, the first log that has a commit after it, too)."""

    target: Target
    window: Window
    logs: tuple[LogFile, ...]

    @property
    def anchor(self) -> Anchor:
        return self.window.anchor

    @property
    def notes(self) -> list[str]:
        """What a person should know of the target: the end of the logs is not the newest that the server had."""
        if self.target.kind != "latest":
            return []
        if not self.window.logs:
            return [f"nothing that was committed after {names.both_zones(self.window.latest)}: {self.window.ends}"]
        if not self.window.left:
            return []
        return [f"this is not the newest state of the server: {self.window.ends}"]


def parse_target(text: str) -> Target:
    """What a person wrote.

    Raises:
        ConfigError: It is none of the forms; a time has no zone.
    """
    text = text.strip()
    if text.lower() == "latest":
        return Target("latest")
    if found := _POSITION.match(text):
        return Target("position", log=found["log"], position=int(found["position"]))
    if found := _GTID.match(text):
        return Target("gtid", gtid=found["gtid"])
    if found := _LSN.match(text):
        return Target("lsn", position=(int(found["high"], 16) << 32) | int(found["low"], 16))
    if is_statement(text):
        return Target("statement", statement=parse_statement(text))
    try:
        return Target("time", moment=names.parse_moment(text))
    except ConfigError as error:
        raise ConfigError(
            error.message,
            remedy=f"{error.remedy}; or latest, a position (mysql-bin.000042:1234), a GTID (gtid 0-1-1234), "
            "an LSN (lsn 0/3000148), or a statement (before DROP TABLE users)",
        ) from None


def make_plan(found: Sequence[Window], target: Target, *, now: datetime) -> RecoveryPlan:
    """The plan that needs the fewest logs.

    Args:
        found: The windows of the source.
        now: The present moment; a target after it is refused as such.
        target: Not a ``statement``: that is looked for first.

    Raises:
        OutsideWindow: No window holds the target; says which moments can be had, in UTC and local time.
    """
    if target.moment is not None and target.moment > now:
        raise OutsideWindow(
            f"{target} is in the future.", kept="nothing was changed", remedy=_offer(found, target.moment)
        )
    _refuse_twice(found, target)
    fitting = [each for each in found if _fits(each, target)]
    if target.kind == "latest":
        newest = max((each.latest for each in fitting), default=None)
        fitting = [each for each in fitting if each.latest == newest]
    if not fitting:
        raise OutsideWindow(
            f"{target} cannot be recovered{_why_not(found, target)}.",
            kept="nothing was changed",
            remedy=_offer(found, target.moment),
        )
    if target.kind == "position" and len({each.logs[0].row for each in fitting}) > 1:
        raise OutsideWindow(
            f"{target} stands for two places: the server's numbering of its logs began anew.",
            kept="nothing was changed",
            remedy="give a time, or the statement (before DROP TABLE users, since TIME, until TIME)",
        )
    # the newest anchor leaves the least to replay
    window = max(fitting, key=lambda each: (each.anchor.number, each.anchor.position, each.earliest))
    return RecoveryPlan(target, window, _needed(window, target))


def _refuse_twice(found: Sequence[Window], target: Target) -> None:
    """Where the server's clock was set back, a time is no place in the logs. Raises OutsideWindow."""
    moment = target.moment
    spans = {log.twice for window in found for log in window.logs if log.twice}
    here = [(low, high) for low, high in spans if moment is not None and low <= moment < high]
    if here:
        low, high = min(one for one, _ in here), max(two for _, two in here)
        raise OutsideWindow(
            f"{target} may have come twice: the server's clock was set back, and what was committed between "
            f"{names.both_zones(low)} and {names.both_zones(high)} cannot be told apart by times.",
            kept="nothing was changed",
            remedy="give a place in the logs instead of a time: a position (mysql-bin.000042:1234), a GTID "
            "(gtid 0-1-1234) or an LSN (lsn 0/3000148); backups find-event shows them. Or a time outside of these",
        )


def _fits(window: Window, target: Target) -> bool:
    if target.moment is not None:
        return window.holds(target.moment)
    if target.kind == "latest":
        return True
    if not window.logs:
        return False
    anchor = window.anchor
    if target.kind == "lsn":
        return anchor.position <= target.position <= window.logs[-1].end
    if target.kind == "position":
        log = next((each for each in window.logs if each.name == target.log), None)
        if log is None or not log.start <= target.position <= log.end:
            return False
        return (log.number, target.position) >= (anchor.number, anchor.position)
    return True  # a GTID is looked for in the logs themselves


def _needed(window: Window, target: Target) -> tuple[LogFile, ...]:
    """The logs up to the one that the target lies in. For a time, all of which may hold a commit by then and
    the first that is certain to begin after it are looked at by the search; here the certain ones end."""
    logs = window.logs
    if target.kind == "position":
        last = next(number for number, each in enumerate(logs) if each.name == target.log)
        return logs[: last + 1]
    if target.kind == "lsn":
        return tuple(each for each in logs if each.start < target.position or each is logs[0])
    if target.moment is not None:
        for number, each in enumerate(logs):
            # where stamps are whole seconds, one second may be in two logs: it is wanted to its end
            wanted = _second_after(target.moment) if each.whole_seconds else target.moment
            if each.covers_until is not None and each.covers_until >= wanted:
                return logs[: number + 1]
    return logs


def _second_after(moment: datetime) -> datetime:
    return moment.replace(microsecond=0) + timedelta(seconds=1)


def _why_not(found: Sequence[Window], target: Target) -> str:
    moment = target.moment
    if not found:
        return ": there is no full or base backup to begin from"
    if moment is None:
        return ": no full or base with unbroken logs reaches it"
    before = [each for each in found if each.latest < moment]
    if not any(each.earliest <= moment for each in found):
        return ": it is before the oldest full or base that can be rolled forward"
    if len(before) == len(found):
        newest = max(found, key=lambda each: each.latest)
        return f": the logs reach to {names.both_zones(newest.latest)} ({newest.ends})"
    last = max(before, key=lambda each: each.latest)
    return f": it lies in a hole ({last.ends})"


def _offer(found: Sequence[Window], moment: datetime | None) -> str:
    """What can be had instead."""
    ranges = merged(found)
    if not ranges:
        return "make a full (MySQL) or base backup (PostgreSQL) now, and let the logs be shipped"
    shown = "; ".join(f"{names.both_zones(one)} to {names.both_zones(two)}" for one, two in ranges[-5:])
    safe = [two for _, two in ranges if moment is not None and two < moment]
    nearest = f". The latest moment before it: {names.both_zones(max(safe))}" if safe else ""
    return f"what can be recovered: {shown}{nearest}"


def merged(found: Sequence[Window]) -> list[tuple[datetime, datetime]]:
    """The moments that can be had, as ranges that do not touch, oldest first."""
    ranges: list[tuple[datetime, datetime]] = []
    for one, two in sorted((each.earliest, each.latest) for each in found):
        if ranges and one <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], two))
        else:
            ranges.append((one, two))
    return ranges
