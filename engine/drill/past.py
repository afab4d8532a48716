"""The part of a drill that goes through the logs: a moment drawn by lot, recovered away from production."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from engine import names
from engine.drill.base import Copies, Piece, Work
from engine.drill.verdict import FAILED, PROVEN, UNVERIFIED, Check, SourceResult, plural
from engine.durations import in_words
from engine.errors import BackupError, IntegrityError
from engine.manifest import Manifest
from engine.point_in_time import PastPlan
from engine.recoverable import Recoverable, recoverable
from engine.recovery import Window, make_plan, parse_target
from engine.source import DatabaseState

_WHAT = "recovery to a second"


@dataclass
class PastMoment:
    """A moment to recover to; or, without a plan, the check that says why there is none.

    Attributes:
        database: Empty for a whole server.
    """

    database: str
    at: datetime
    plan: PastPlan | None = None
    check: Check | None = None
    seconds: float = 0.0
    _begun: float = field(default=0.0, repr=False)

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Names the moment in what goes wrong."""
        self._begun = time.monotonic()
        try:
            yield
        except BackupError as error:
            error.message = f"recovery to {names.both_zones(self.at)} (drawn by lot): {error.message}"
            raise

    def done(self, result: SourceResult) -> None:
        """The database is back as it was at that moment."""
        self.seconds = time.monotonic() - self._begun
        result.past_seconds = (result.past_seconds or 0.0) + self.seconds


def past_moments(work: Work, source: str, databases: list[str]) -> Iterator[PastMoment]:
    """A moment for each database of which logs are kept. Where none are, though the source is to be recovered to any
    second, nobody knows that it can be; where it is not to be, nothing.

    Raises:
        What the stores raise.
    """
    for database in databases:
        found = recoverable(work.site, source, database)
        if found.logs:
            yield _drawn(work, found)
        elif work.site.config.server(source).point_in_time:
            about = f"{source}/{database}" if database else source
            remedy = f"ship them: backups ship --source {source}; or set point_in_time of {source} to false"
            said = f"no logs of {about} are kept (next: {remedy})"
            check = Check("point in time", _WHAT, UNVERIFIED, said, tuple(found.notes))
            yield PastMoment(database, names.now(), None, check)


def _drawn(work: Work, found: Recoverable) -> PastMoment:
    windows = [window for window in found.windows if window.logs]
    if not windows:
        said = "logs are kept, and there is no backup that they can be replayed on; make one"
        problems = (*map(str, found.holes), *found.notes)
        check = Check("point in time", _WHAT, FAILED, said, problems)
        return PastMoment(found.database, names.now(), None, check)
    at = draw(work.lots(f"{found.source}/{found.database}/second"), windows)
    when = names.iso(at) if not at.microsecond else at.isoformat()
    plan = make_plan(found.windows, parse_target(when), now=names.now())
    return PastMoment(found.database, at, PastPlan(work.site.name, found, plan, when, plan.notes))


def draw(lots: random.Random, windows: list[Window]) -> datetime:
    """A whole second of one of the windows, each as likely as it is long; a window's beginning where it holds none."""
    lengths = [(each.latest - each.earliest) / timedelta(seconds=1) for each in windows]
    window = lots.choices(windows, [length + 1e-6 for length in lengths])[0]
    at = window.earliest + timedelta(seconds=lots.uniform(0, (window.latest - window.earliest).total_seconds()))
    whole = at.replace(microsecond=0)
    return whole if whole >= window.earliest else window.earliest


@dataclass(frozen=True)
class Joint:
    """Where the logs lead from one full right to the place at which a later one was taken.

    The later full's row counts and rows are then a truth about the logs that neither they nor the older full know;
    and the other way round.
    """

    plan: PastPlan
    copies: Copies

    @property
    def later(self) -> Manifest:
        """The later full."""
        return self.copies[0][1]


def joint(work: Work, source: str, database: str) -> Joint | None:
    """The newest such place, from the full right before it; None where logs join no two fulls."""
    found = recoverable(work.site, source, database)
    for later in (window for window in found.windows if window.logs):
        first = later.logs[0]
        older = [each for each in found.windows if each.earliest < later.earliest and first in each.logs]
        if not older:
            continue
        nearest = max(older, key=lambda each: each.earliest)
        when = f"{first.name}:{later.anchor.position}"
        plan = make_plan([nearest], parse_target(when), now=names.now())
        return Joint(PastPlan(work.site.name, found, plan, when, plan.notes), found.anchors[later.anchor.file])
    return None


def recovery_checks(
    moment: PastMoment, states: dict[str, DatabaseState], pieces: list[Piece], notes: list[str]
) -> Iterator[Check]:
    """What was recovered stands, and every table of it could be read.

    Args:
        states: What stands in each database, its rows counted.
        pieces: Its backups, which know what is to be there.

    Raises:
        IntegrityError: Nothing is in a database that has tables in a backup from before that moment.
    """
    assert moment.plan is not None
    plan = moment.plan.plan
    what = f"{moment.plan.found.source}/{moment.database}" if moment.database else moment.plan.found.source
    if plan.window.earliest > moment.at:
        raise IntegrityError(f"{plan.anchor.file} is younger than {names.both_zones(moment.at)}.")
    empty = [piece for piece in pieces if piece.copies and piece.database in states
             and not states[piece.database].tables]  # fmt: skip
    for piece in empty:
        yield from _lacks_all(moment, piece)
    tables = sum(state.tables for state in states.values())
    rows = sum(sum(state.rows.values()) for state in states.values())
    logs = f"{len(plan.logs)} log{'s' if len(plan.logs) != 1 else ''} on {moment.plan.manifest.file}"
    said = (
        f"{what} as it was at {names.both_zones(moment.at)} (drawn by lot) from {logs} in "
        f"{in_words(moment.seconds)}: {plural(tables, 'table')}, {plural(rows, 'row')}, all readable"
    )
    warned = tuple(note for note in notes if note.startswith("WARNING"))
    yield Check("point in time", _WHAT, PROVEN, said + "".join(f"; {each}" for each in warned), seconds=moment.seconds)


def _lacks_all(moment: PastMoment, piece: Piece) -> Iterator[Check]:
    """A database without any table is as it was only where its backups have none either. Raises IntegrityError."""
    assert moment.plan is not None
    known = [each for each in (moment.plan.manifest, piece.manifest) if each.rows or each.uncounted]
    for each in known:
        count = plural(len({*each.rows, *each.uncounted}), "table")
        told = f"{piece.database} has no table there; {each.file} has {count}"
        if each.taken_at <= moment.at:
            raise IntegrityError(f"{told}, and was taken before that.")
        said = f"at {names.both_zones(moment.at)} {told}, and was taken after that: nothing of it could be looked at"
        again = "if it was filled in between, drill again: another second is drawn"
        yield Check("point in time", "every table", UNVERIFIED, f"{said} (next: {again})")
