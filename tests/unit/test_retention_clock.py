"""Clocks that jump: nothing goes because of one, whatever is made under it; and a real outage waits for one word."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.retention.brakes import LastRun, clock
from engine.retention.judge import Item, judge
from engine.retention.policy import Policy
from tests.unit.retention_kit import DAY, HOUR, NOW, Books


def daily(at: datetime, tier: str = "daily") -> Item:
    return Item(f"shop/mysql/{tier}/app_{at:%Y%m%d_%H%M%S}.sql.gz.enc", "mysql", tier, "app", at, "good")


def nights(first: datetime, count: int, every: timedelta = DAY, tier: str = "daily") -> list[Item]:
    return [daily(first + number * every, tier) for number in range(count)]


@given(
    every=st.sampled_from([HOUR, 6 * HOUR, DAY, 7 * DAY]),
    before=st.integers(6, 200),
    jump=st.integers(15, 5000).map(lambda days: days * DAY),
    after=st.integers(1, 12),
    pruned=st.booleans(),
)
def test_a_jump_ahead_holds_back_however_much_is_made_under_it_until_a_person_has_spoken(
    every: timedelta, before: int, jump: timedelta, after: int, pruned: bool
) -> None:
    made = nights(NOW - before * every, before, every)
    if len({each.taken_at.date() for each in made}) < 7:
        return  # nobody knows their rhythm yet
    last = LastRun(made[-1].taken_at + HOUR, newest=made[-1].taken_at) if pruned else LastRun()
    assert not clock(made, NOW, last)
    here = list(made)
    for number in range(after if pruned else min(after, 35 * DAY // every)):  # where none ever ran, for 35 days
        at = NOW + jump + number * every
        here.append(daily(at))
        assert clock(here, at + HOUR / 2, last), f"under the wrong clock for {number} nights"
    # the person looked, and found an outage
    last = LastRun(here[-1].taken_at + HOUR / 2, newest=here[-1].taken_at)
    for _ in range(5):
        at = here[-1].taken_at + every
        here.append(daily(at))
        assert not clock(here, at + HOUR, last)
        last = replace(last, at=at + HOUR, newest=at)


@given(pause=st.integers(2, 10), before=st.integers(6, 40))
def test_a_shorter_outage_waits_for_nobody(pause: int, before: int) -> None:
    made = nights(NOW - before * DAY, before)
    last = LastRun(made[-1].taken_at + HOUR, newest=made[-1].taken_at)
    at = made[-1].taken_at + pause * DAY
    assert not clock([*made, daily(at)], at + HOUR, last)


@pytest.mark.parametrize("tier", ["monthly", "manual", "pre-deployment"])
def test_what_comes_once_a_month_or_as_people_want_it_is_no_outage(tier: str) -> None:
    made = nights(NOW - 400 * DAY, 8, 30 * DAY, tier)
    if tier != "monthly":
        made += nights(made[-1].taken_at, 7, DAY, tier)
    at = made[-1].taken_at + 31 * DAY
    assert not clock([*made, daily(at, tier)], at + HOUR, LastRun(made[-1].taken_at + HOUR))


def test_what_is_dated_ahead_holds_back_until_a_person_has_seen_it_and_the_next_one_does_again() -> None:
    made = [*nights(NOW - 30 * DAY, 30), daily(NOW + 300 * DAY)]
    last = LastRun(NOW - DAY, newest=NOW - DAY)
    assert "a clock is wrong" in clock(made, NOW, last)
    seen = LastRun(NOW, newest=NOW + 300 * DAY)
    tomorrow = [*made, daily(NOW + DAY)]
    assert not clock(tomorrow, NOW + DAY + HOUR, seen)
    assert "nothing new has come" in clock(made, NOW + 11 * DAY, seen), "it does not stand for what does not come"
    assert "a clock is wrong" in clock([*tomorrow, daily(NOW + 301 * DAY)], NOW + DAY + HOUR, seen)


@given(count=st.integers(1, 5), days=st.integers(31, 90), ahead=st.integers(1, 400))
def test_what_is_dated_ahead_takes_no_others_place(count: int, days: int, ahead: int) -> None:
    books = Books()
    past = nights(NOW - days * DAY - 8 * DAY, 8)
    future = [daily(NOW + ahead * DAY)]
    books.good = {each.key for each in (*past, *future)}
    for rule in (f"{count}", "30d"):
        without = judge(past, Policy({"daily": rule}), now=NOW, evidence=books)
        kept = {each.item.key for each in without if each.keep}
        made = judge([*past, *future], Policy({"daily": rule}), now=NOW, evidence=books)
        assert {each.item.key for each in made if each.keep} == kept | {future[0].key}
