"""A server's clock that was set back is noticed, whatever ours did; one that runs on, or leaps ahead, is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clocks import Reading, set_back
from engine.errors import OutsideWindow
from engine.logs import LogFile
from engine.recovery import Anchor, make_plan, parse_target, windows

THEN = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)
BEFORE = Reading(THEN, THEN, "this life", 1000.0)
SECOND = timedelta(seconds=1)


def later(passed: float, server: float, here: float | None = None, boot: str = "this life") -> Reading:
    """After so many seconds, when the clocks show so many more."""
    return Reading(THEN + server * SECOND, THEN + (passed if here is None else here) * SECOND, boot, 1000.0 + passed)


@given(passed=st.floats(0, 1e6), back=st.floats(0, 1e6), ours=st.floats(-1e6, 1e6))
def test_a_leap_back_is_noticed_and_its_moments_lie_between(passed: float, back: float, ours: float) -> None:
    now = later(passed, passed - back, ours)
    found = set_back(BEFORE, now)
    if back > 2.1 + passed * 0.0011:
        assert found is not None
        low, high = found
        # whenever it happened: what was shown right before and right after lies between
        assert low <= THEN - (back - 0.1) * SECOND and THEN + (passed - 0.1) * SECOND <= high
    elif back < 1.9:
        assert found is None


@given(passed=st.floats(0, 1e6), ahead=st.floats(0, 1e6))
def test_a_clock_that_runs_on_or_leaps_ahead_is_not(passed: float, ahead: float) -> None:
    assert set_back(BEFORE, later(passed, passed + ahead, here=-5000)) is None


def test_another_machine_goes_by_its_clock() -> None:
    assert set_back(BEFORE, later(7.0, 300, here=300, boot="another life")) is None
    assert set_back(BEFORE, later(7.0, -300, here=300, boot="another life")) == (
        THEN - 600 * SECOND,
        THEN + 300 * SECOND,
    )
    assert set_back(BEFORE, later(7.0, -300, here=-9000, boot="another life")) == (THEN - 300 * SECOND, THEN)
    assert set_back(None, BEFORE) is None


def test_a_reading_survives_its_manifest() -> None:
    assert Reading.of({"clock": BEFORE.document()}) == BEFORE
    assert Reading.of({}) is None
    now = Reading.beside(THEN)
    assert now.server == THEN and now.up > 0


def test_a_moment_that_came_twice_is_refused_and_a_position_is_not() -> None:
    def log(number: int, twice: tuple[datetime, datetime] | None = None) -> LogFile:
        minutes = timedelta(minutes=number)
        return LogFile(name=f"bin.{number:06d}", number=number, chain="c", end=900, created_at=THEN + minutes,
                       covers_until=THEN + minutes + timedelta(minutes=1), twice=twice)  # fmt: skip

    span = (THEN + timedelta(minutes=1), THEN + timedelta(minutes=3))
    found = windows([Anchor("full", "c", 1, 4, THEN + timedelta(minutes=1))], [log(1), log(2), log(3, span), log(4)])
    now = THEN + timedelta(days=1)
    with pytest.raises(OutsideWindow, match="twice") as told:
        make_plan(found, parse_target("2026-10-25T01:02:00Z"), now=now)
    assert "position" in told.value.remedy
    assert make_plan(found, parse_target("bin.000002:4"), now=now).logs
    assert len(make_plan(found, parse_target("2026-10-25T01:03:00Z"), now=now).logs) == 2
    loaded = LogFile.model_validate(log(3, span).model_dump(mode="json"))
    assert loaded.twice == span


def test_a_second_that_is_in_two_logs_is_wanted_to_its_end_where_stamps_are_whole_seconds() -> None:
    def log(number: int, chain: str) -> LogFile:
        begun = THEN + timedelta(seconds=0.4 * number)
        return LogFile(name=f"bin.{number:06d}", number=number, chain=chain, end=900, created_at=begun,
                       covers_until=begun + timedelta(seconds=0.4))  # fmt: skip

    now = THEN + timedelta(days=1)
    for chain, logs in (("mariadb-1-x", 4), ("uuid", 3)):  # the third covers until 1.6 s, the fourth until 2.0 s
        found = windows([Anchor("full", "", 1, 4, THEN)], [log(number, chain) for number in range(1, 9)])
        plan = make_plan(found, parse_target("2026-10-25T01:00:01.5Z"), now=now)
        assert len(plan.logs) == logs
        safe = plan.logs[-1].safe_until
        assert safe is not None
        assert make_plan(found, parse_target(safe.isoformat()), now=now).logs == plan.logs
