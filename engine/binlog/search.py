"""Finding the place in shipped binary logs: for a moment, for a transaction, before an accident."""

from __future__ import annotations

import fnmatch
import glob
import re
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

from engine import names
from engine.binlog import gtids
from engine.binlog.events import Reader
from engine.binlog.stamps import believed, rivals
from engine.binlog.statements import EVERY, Change
from engine.binlog.transactions import Transaction, micros, moment, transactions
from engine.errors import ConfigError, OutsideWindow
from engine.logs import LogFile
from engine.recovery.statement import KINDS

_SECOND = 1_000_000
_APART = 60 * _SECOND
"""Times that differ by less may be those of statements that took long."""
_NAME = re.compile(r"`(?P<quoted>(?:[^`]|``)+)`|.", re.DOTALL)


@dataclass(frozen=True)
class OpenLog:
    """A log and the way to its plain bytes, which may be read more than once."""

    log: LogFile
    open: Callable[[], Iterable[bytes]]

    def reader(self) -> Reader:
        return Reader(self.open(), self.log.name, self.log.end)


@dataclass(frozen=True)
class Place:
    """Where a replay stops: everything before is applied, nothing from there on.

    Attributes:
        log, position: The log's name, and the position in it.
        last: When the last transaction before it was committed, UTC; None where the log had none before it.
        notes: What a person should know: times that clients had set, times that run backwards.
    """

    log: str
    position: int
    last: datetime | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Hit:
    """One transaction that was looked for. Recovering to ``log:position`` stops right before it.

    Attributes:
        at: When it was committed, UTC; on MariaDB the second in which its last statement began.
        client_set: Its own stamp was set by a client; ``at`` is that of the transaction before.
        changes: Those that were looked for.
        text: The beginning of its statement, where the log has it.
    """

    log: str
    position: int
    end: int
    at: datetime
    gtid: str
    changes: tuple[Change, ...]
    text: str
    client_set: bool = False


def position_for(target: datetime | str, logs: Sequence[OpenLog]) -> Place:
    """Where to stop for a moment (everything committed by then) or a GTID (the last transaction wanted).

    Args:
        logs: In order, from the one in which the replay begins.

    Raises:
        OutsideWindow: The GTID is in none of them. IntegrityError: A log is damaged.
        ConfigError: The moment has no zone, or the text is no GTID.
    """
    if isinstance(target, str):
        return position_for_gtid(target, logs)
    return position_for_time(target, logs)


def position_for_time(until: datetime, logs: Sequence[OpenLog]) -> Place:
    """Right before the first transaction that was committed later. See ``position_for``."""
    if until.tzinfo is None:
        raise ConfigError(f"The time {until} has no zone.", remedy="for example 2025-01-16T02:00:00Z")
    if not logs:
        raise OutsideWindow("There are no logs to look through.", kept="nothing was changed")
    wanted = micros(until)
    last: datetime | None = None
    notes: list[str] = []
    for number, each in enumerate(logs):
        if each.log.last_commit is None or each.log.last_commit <= until:
            last = each.log.last_commit or last
            continue
        following = logs[number + 1].log if number + 1 < len(logs) else None
        rows = _Stamps.of(each)
        notes += rows.judge(each.log, following)
        at = rows.first_after(wanted)
        rows.refuse_two_readings(each.log.name, until, at)
        last = rows.last_before(at) or last
        if at is not None:
            return Place(each.log.name, rows.starts[at], last, notes)
    return Place(logs[-1].log.name, logs[-1].log.end, last, notes)


def position_for_gtid(gtid: str, logs: Sequence[OpenLog]) -> Place:
    """Right after a transaction. See ``position_for``."""
    wanted = gtid.strip().lower()
    if not gtids.is_gtid(wanted):
        raise ConfigError(f"{gtid!r} is no GTID.", remedy="for example 0-1-1234, or uuid:1234 on MySQL")
    for number, each in enumerate(logs):
        following = logs[number + 1].log.gtids_before if number + 1 < len(logs) else ""
        if following and not gtids.holds(following, wanted):
            continue
        for one in transactions(each.reader(), changed=False):
            if one.gtid == wanted:
                return Place(each.log.name, one.end, one.stamp)
    known = f"{logs[0].log.name} to {logs[-1].log.name}" if logs else "no logs"
    raise OutsideWindow(
        f"The transaction {gtid} is not in the logs at hand ({known}).",
        kept="nothing was changed",
        remedy="backups find-event shows which transactions there are, and when",
    )


class _Stamps:
    """Times and positions of a log's transactions: sixteen bytes for each, whatever they hold."""

    def __init__(self) -> None:
        self.starts = array("Q")
        self.micros = array("q")
        self.exact = True
        self.steers: list[bool] = []
        self.rivals: list[int] = []

    @classmethod
    def of(cls, log: OpenLog) -> _Stamps:
        rows = cls()
        for each in transactions(log.reader(), changed=False):
            rows.starts.append(each.start)
            rows.micros.append(each.micros)
            rows.exact = rows.exact and each.exact
        return rows

    def judge(self, log: LogFile, following: LogFile | None) -> list[str]:
        """Decide which times steer; what to tell of the others."""
        if self.exact:
            self.steers = [True] * len(self.micros)
            back = next((n for n in range(1, len(self.micros)) if self.micros[n] < self.micros[n - 1]), None)
            return [] if back is None else [_runs_backwards(log, self.starts[back], self.micros[back])]
        low, high = written(log, following)
        self.steers = believed(self.micros, low, high)
        self.rivals = rivals(self.micros, self.steers, low, high)
        odd = [number for number, good in enumerate(self.steers) if not good]
        if not odd:
            return []
        first = odd[0]
        return [
            f"{len(odd)} transactions of {log.name} carry times that run backwards or that clients have set, the first "
            f"at position {self.starts[first]} ({names.iso(moment(self.micros[first]))}): they were placed by their "
            "neighbours. A position or a GTID is exact."
        ]

    def first_after(self, wanted: int) -> int | None:
        """The first believed transaction that was committed later."""
        pairs = enumerate(zip(self.micros, self.steers, strict=True))
        return next((number for number, (each, good) in pairs if good and each > wanted), None)

    def refuse_two_readings(self, log: str, until: datetime, at: int | None) -> None:
        """Raise ConfigError where other times, nearly as many, would stop somewhere else altogether."""
        if not self.rivals:
            return
        wanted = micros(until)
        by_then = max((number for number in self.rivals if self.micros[number] <= wanted), default=-1)
        later = (number for number in range(by_then + 1, len(self.micros)) if self.micros[number] > wanted)
        other = next(later, len(self.micros))
        here = len(self.micros) if at is None else at
        between = [self.micros[n] for n in range(min(here, other), max(here, other)) if self.steers[n]]
        if not between or max(abs(each - wanted) for each in between) <= _APART:
            return
        places = " or ".join(f"{log}:{self.starts[n]}" for n in sorted({here, other}) if n < len(self.micros))
        raise ConfigError(
            f"What was committed by {names.iso(until)} cannot be told from {log}: clients have set times "
            f"(SET timestamp), and {len(self.rivals)} of its transactions disagree with the others about that moment.",
            kept="nothing was changed",
            remedy=f"look at what happened there with backups find-event, and recover to a position: {places}",
        )

    def last_before(self, at: int | None) -> datetime | None:
        end = len(self.micros) if at is None else at
        found = next((self.micros[n] for n in range(end - 1, -1, -1) if self.steers[n]), None)
        return None if found is None else moment(found)


def written(log: LogFile, following: LogFile | None) -> tuple[int | None, int | None]:
    """Between when a log was written, microseconds since 1970, by the server's clock."""
    low = micros(log.created_at) if log.created_at else None
    ends = [each for each in (log.covers_until, following.created_at if following else None) if each]
    # a session with a time of its own may have begun the next log; what a log covers is never so
    sane = [each for each in ends if log.covers_until is None or each - log.covers_until < timedelta(days=1)]
    high = micros(max(sane)) + _SECOND if sane else None
    return low, high


def find_events(
    logs: Sequence[OpenLog],
    *,
    table: str = EVERY,
    kinds: Collection[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[Hit]:
    """Every transaction that changes a table in one of these ways, in the order of the logs.

    Args:
        table: ``users``, ``shop.users``, with ``*`` and ``?`` as wanted; without a database, in any.
        kinds: Some of ``KINDS``; empty for all.
        since, until: Committed between these, both included.

    Raises:
        ConfigError: No such kind. IntegrityError: A log is damaged.
    """
    wanted = {each.upper() for each in kinds}
    if unknown := wanted.difference(KINDS):
        raise ConfigError(f"There is no kind {', '.join(sorted(unknown))}.", remedy=f"Known: {', '.join(KINDS)}.")
    return _hits(logs, table, frozenset(wanted or KINDS), since, until)


def _hits(
    logs: Sequence[OpenLog], table: str, kinds: frozenset[str], since: datetime | None, until: datetime | None
) -> Iterator[Hit]:
    for number, each in enumerate(logs):
        log = each.log
        if since and log.covers_until and log.covers_until < since and (log.last_commit or since) <= since:
            continue
        if until and log.created_at and log.created_at > until:
            continue
        low, high = written(log, logs[number + 1].log if number + 1 < len(logs) else None)
        near = low
        for one in transactions(each.reader()):
            odd = not one.exact and ((low is not None and one.micros < low) or (high is not None and one.micros > high))
            at = moment(near if odd and near is not None else one.micros)
            near = micros(at)
            if (since and at < since) or (until and at > until):
                continue
            found = tuple(change for change in one.changes if change.kind in kinds and matches(change, table))
            if found:
                yield _hit(log.name, one, at, found, odd)


def _hit(log: str, one: Transaction, at: datetime, found: tuple[Change, ...], odd: bool) -> Hit:
    return Hit(log, one.start, one.end, at, one.gtid, found, one.text, client_set=odd)


def matches(change: Change, pattern: str) -> bool:
    """Does a change touch a table of that name? Case does not matter. A dropped database takes every table along.
    Names with dots, stars or spaces stand in backticks."""
    database, table = _globs(pattern.lower())
    if database and not fnmatch.fnmatchcase(change.database.lower(), database):
        return False
    if change.table == EVERY:
        return change.kind == "DROP" or table == EVERY
    return bool(change.table) and fnmatch.fnmatchcase(change.table.lower(), table)


@cache
def _globs(pattern: str) -> tuple[str, str]:
    """Database (empty for any) and table, to be matched by; what is in backticks stands for itself."""
    parts = [""]
    for found in _NAME.finditer(pattern):
        if found[0] == ".":
            parts.append("")
        else:
            parts[-1] += glob.escape(found["quoted"].replace("``", "`")) if found["quoted"] else found[0]
    return ".".join(parts[:-1]), parts[-1]


def _runs_backwards(log: LogFile, position: int, at: int) -> str:
    return (
        f"The server's clock was set back in {log.name}, at position {position} ({names.iso(moment(at))}): a moment "
        "after that may stand there twice. The first is meant; a position or a GTID is exact."
    )
