"""Policies that keep nothing, or mean nothing, are refused however they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.retention.policy import PERIODS, Policy, refusals

SOURCES = [("mysql", ""), ("config", "")]
ages = st.integers(1, 400).map(lambda hours: f"{hours}h")
keys = st.sampled_from(["*", "mysql/*", "config/*", "daily", "weekly", "mysql/daily", "hourly", "monthly"])


@pytest.mark.parametrize("key", ["*", "mysql/*", "config/*"])
@pytest.mark.parametrize("rule", ["1h", "23h"])
def test_a_star_that_keeps_daily_backups_for_less_than_a_day_is_refused(key: str, rule: str) -> None:
    (told,) = refusals({key: rule}, SOURCES)
    assert told.startswith(f"vault.retention.{key} is {rule}, for backups that are made once a day")
    (told,) = refusals({}, SOURCES, {key: rule}, "replica far: retention")
    assert told.startswith(f"replica far: retention.{key} is {rule}")


@pytest.mark.parametrize(
    "given_",
    [
        {"*": "24h"},
        {"*": "1"},
        {"mysql/*": "14d"},
        {"*": "5h", "daily": "30d", "weekly": "13", "monthly": "12"},
        {"*": "5h", "mysql/*": "30d", "config/*": "30d"},
        {"hourly": "1h", "daily": "1d"},
    ],
)
def test_a_star_that_keeps_enough_or_decides_on_nothing_that_is_made_daily_is_taken(given_: dict[str, str]) -> None:
    assert refusals(given_, SOURCES) == []


@pytest.mark.parametrize("key", ["/daily", "/*", "crm/daily", "crm/*", "mysql/", "/"])
def test_a_rule_for_no_source_or_no_tier_of_the_site_is_refused(key: str) -> None:
    (told,) = refusals({key: "30d"}, SOURCES)
    assert told.startswith(f"vault.retention.{key} names no ")


@given(st.dictionaries(keys, ages, max_size=4))
def test_a_policy_that_is_taken_keeps_each_daily_backup_for_a_day_at_least(given_: dict[str, str]) -> None:
    policy = Policy(given_)
    reaches = [policy.of(source, "daily").reach(PERIODS["daily"]) for source, _ in SOURCES]
    if any(reach < PERIODS["daily"] for reach in reaches):
        assert refusals(given_, SOURCES)
