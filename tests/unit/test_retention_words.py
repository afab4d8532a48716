"""A person's word above the rules: pins, a day to be kept until, what was said of a backup that was encrypted anew."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.retention.judge import Decision, Item, judge
from engine.retention.policy import Policy
from tests.unit.retention_kit import DAY, NOW, Books

OLD_AGE = 200 * DAY
"""Beyond every rule that is used here."""


@dataclass
class Words(Books):
    """Evidence that knows until when a backup is to be kept, and as what one was encrypted anew."""

    until: dict[str, datetime] = field(default_factory=dict)
    anew: dict[str, str] = field(default_factory=dict)

    def keep_until(self, item: Item) -> datetime | None:
        return self.until.get(item.key)

    def replaced(self, item: Item) -> str:
        return self.anew.get(item.key, "")


def backup(tier: str, age: timedelta, **said: bool) -> Item:
    at = NOW - age
    return Item(f"shop/mysql/{tier}/app_{at:%Y%m%d_%H%M%S}.sql.gz.enc", "mysql", tier, "app", at, "good", **said)


def decided(items: list[Item], books: Books, **rules: str) -> dict[str, Decision]:
    """By key, beside a new backup that is the last good one."""
    newest = backup("daily", timedelta(hours=2))
    books.good |= {each.key for each in (*items, newest)}
    made = judge([*items, newest], Policy(rules), now=NOW, evidence=books)
    return {each.item.key: each for each in made}


def anew(old: Item, **said: bool) -> Item:
    at = old.taken_at + timedelta(seconds=1)
    key = old.key.replace(f"{old.taken_at:%Y%m%d_%H%M%S}", f"{at:%Y%m%d_%H%M%S}")
    return replace(old, key=key, taken_at=at, superseded=False, expired_at=None, **said)  # type: ignore[arg-type]


@given(
    tier=st.sampled_from(["hourly", "daily", "weekly", "monthly", "manual", "pre-deployment", "safety"]),
    pinned=st.tuples(st.booleans(), st.booleans()),
    released=st.tuples(st.booleans(), st.booleans()),
    until=st.tuples(*[st.sampled_from([None, NOW - 3 * DAY, NOW + DAY, NOW + 9 * DAY])] * 2),
)
def test_what_was_encrypted_anew_goes_only_where_no_word_that_was_said_of_it_gets_lost(
    tier: str, pinned: tuple[bool, bool], released: tuple[bool, bool], until: tuple[datetime | None, datetime | None]
) -> None:
    books = Words()
    snapshot = tier == "pre-deployment"
    old = backup(
        tier, OLD_AGE, pinned=pinned[0], released=snapshot and released[0], limited=bool(until[0]), superseded=True
    )
    new = anew(old, pinned=pinned[1], limited=bool(until[1]))
    new = replace(new, released=snapshot and released[1])
    books.freed = {each.key for each in (old, new) if each.released}
    books.until = {each.key: moment for each, moment in zip((old, new), until, strict=True) if moment}
    books.anew = {old.key: new.file}
    made = decided([old, new], books, manual="30d")
    stays = [each for each in (old, new) if made[each.key].keep]
    if any(pinned):
        assert any(each.pinned for each in stays)
    if snapshot and not all(released):
        assert any(not each.released for each in stays)
    asked = [moment for moment in until if moment and moment >= NOW]
    if asked:
        assert any(books.until.get(each.key) == max(asked) for each in stays)
    if not pinned[0] and not until[0] and not (snapshot and not released[0]):
        assert made[old.key].reason == f"encrypted anew as {new.file}" and made[old.key].replaced


def test_a_pin_that_went_along_lets_the_older_file_go() -> None:
    old = backup("daily", OLD_AGE, pinned=True, superseded=True)
    new = anew(old)
    made = decided([old, new], Words(anew={old.key: new.file}))
    assert made[new.key].reason == "pinned by a person" and not made[old.key].keep


@pytest.mark.parametrize("tier", ["hourly", "daily", "weekly", "monthly", "manual", "safety", "recovered"])
@pytest.mark.parametrize("rule", ["", "10d", "forever"])
def test_a_day_that_a_person_gave_lengthens_any_rule_and_is_the_last_of_a_manual_backup(tier: str, rule: str) -> None:
    rules = {tier: rule} if rule else {}
    for age in (5 * DAY, 40 * DAY):
        for left in (-DAY, timedelta(0), DAY):
            item = backup(tier, age, limited=True)
            without = decided([replace(item, limited=False)], Words(), **rules)[item.key].keep
            made = decided([item], Words(until={item.key: NOW + left}), **rules)[item.key]
            if left >= timedelta(0):
                assert made.keep
                assert made.reason == f"to be kept until {(NOW + left):%Y-%m-%dT%H:%M:%SZ}, as whoever made it said"
            elif tier == "manual":
                assert not made.keep and "whoever made it said for how long" in made.reason
            else:
                assert made.keep == without


def test_a_day_that_was_given_and_cannot_be_read_lets_nothing_go() -> None:
    item = backup("manual", OLD_AGE, limited=True)
    assert decided([item], Words(), manual="30d")[item.key].keep
