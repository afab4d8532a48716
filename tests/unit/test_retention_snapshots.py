"""Snapshots of several databases: whatever else is there, the newest whole released one stays as a whole."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from engine.retention.judge import Item, judge
from engine.retention.policy import Policy
from tests.unit.retention_kit import DAY, NOW, Books

DATABASES = ("app", "crm", "erp")
part = st.sampled_from(["good", "good", "good", "missing", "broken", "unproven"])
snapshot = st.fixed_dictionaries(
    {
        "wanted": st.sets(st.sampled_from(DATABASES), min_size=1),
        "parts": st.tuples(part, part, part),
        "released": st.booleans(),
        "said": st.booleans(),
    }
)


@given(taken=st.lists(snapshot, max_size=6))
def test_the_newest_whole_released_snapshot_stays_and_so_does_each_that_waits(taken: list[dict[str, object]]) -> None:
    books = Books()
    items: list[Item] = []
    whole: list[set[str]] = []
    for number, each in enumerate(taken):
        at = NOW - 60 * DAY - number * DAY
        point = f"point{number}"
        wanted = [name for name in DATABASES if name in each["wanted"]]  # type: ignore[operator]
        if each["said"]:
            books.wanted[point] = frozenset(("mysql", name) for name in wanted)
        keys = set()
        for name, fate in zip(DATABASES, each["parts"], strict=True):  # type: ignore[call-overload]
            if name in wanted and fate != "missing":
                key = f"shop/mysql/pre-deployment/{name}_{at:%Y%m%d_%H%M%S}.sql.gz.enc"
                item = Item(key, "mysql", "pre-deployment", name, at, fate, released=bool(each["released"]))
                books.points[key] = point
                books.freed |= {key} if each["released"] else set()
                books.good |= {key} if fate == "good" else set()
                keys |= {key} if fate == "good" else set()
                items.append(item)
        if each["released"] and each["said"] and len(keys) == len(wanted):
            whole.append(keys)
    for name in DATABASES:  # else the last good one of each stays anyhow
        daily = Item(f"shop/mysql/daily/{name}", "mysql", "daily", name, NOW - timedelta(hours=2), "good")
        books.good.add(daily.key)
        items.append(daily)
    kept = {each.item.key for each in judge(items, Policy(), now=NOW, evidence=books) if each.keep}
    assert {each.key for each in items if each.tier == "pre-deployment" and each.key not in books.freed} <= kept
    if whole:
        newest_of_every = [
            next(keys for keys in whole if any(f"/{name}_" in key for key in keys))
            for name in DATABASES
            if any(f"/{name}_" in key for keys in whole for key in keys)
        ]
        # of each database some whole released snapshot stays, unless a newer one of it says nothing of its parts
        if all(each["said"] for each in taken):
            assert all(keys <= kept for keys in newest_of_every)


def test_half_a_snapshot_that_was_released_lets_the_whole_one_before_it_stay_and_no_older() -> None:
    books = Books()
    items = []
    for number, names in enumerate([("app",), ("app", "crm"), ("app", "crm")]):
        for name in names:
            at = NOW - (number + 40) * DAY
            item = Item(f"{name}{number}", "mysql", "pre-deployment", name, at, "good", released=True)
            books.points[item.key] = f"point{number}"
            books.wanted[f"point{number}"] = frozenset({("mysql", "app"), ("mysql", "crm")})
            items.append(item)
    books.freed = books.good = {each.key for each in items}
    made = {each.item.key: each for each in judge(items, Policy(), now=NOW, evidence=books)}
    assert {key for key, each in made.items() if each.keep} == {"app0", "app1", "crm1"}
    assert made["app1"].reason == "the newest whole snapshot whose deployment was released"
