"""Retention: every rule as a property over generated histories, each written from its sentence, not from the code.

1,000 histories in ``make test``, 10,000 in ``make soak``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from engine import names
from engine.recovery.plan import merged
from engine.recovery.window import Anchor, windows
from engine.retention.brakes import LastRun, amounts, clock, group_of
from engine.retention.judge import Decision, Item, judge
from engine.retention.policy import Policy, parse, refusals
from tests.soak import SEED, trials
from tests.unit.retention_kit import DAY, HOUR, NOW, Books, History, Shape, grow

HISTORIES = trials(400, 10_000)
AGES = {
    "hourly": timedelta(hours=24),
    "daily": timedelta(days=30),
    "weekly": timedelta(days=90),
    "safety": timedelta(days=30),
    "recovered": timedelta(days=7),
    "base": timedelta(days=7),
    "binlogs": timedelta(days=7),
    "wal": timedelta(days=7),
}
COUNTS = {"weekly": 13, "monthly": 12}
WINDOW = timedelta(days=7)
REGULAR = ("hourly", "daily", "weekly", "monthly", "pre-deployment", "manual")

chance = st.sampled_from([0.0, 0.0, 0.05, 0.3, 0.9])
shapes = st.builds(
    Shape,
    seed=st.integers(0, 10**6),
    days=st.one_of(st.integers(0, 20), st.integers(10, 45), st.integers(45, 120)),
    engine=st.sampled_from(["mysql", "postgres"]),
    databases=st.integers(1, 2),
    missed=chance,
    broken=chance,
    unproven=st.sampled_from([0.0, 0.0, 0.2]),
    forged=st.sampled_from([0.0, 0.0, 0.2]),
    holes=st.sampled_from([0.0, 0.0, 0.02, 0.2]),
    resets=st.sampled_from([0.0, 0.0, 0.01, 0.1]),
    gap=st.sampled_from([0, 0, 2, 9, 40]),
    hourly=st.booleans(),
    marked=st.sampled_from([0.0, 0.2]),
    anew=st.sampled_from([0.0, 0.0, 0.1, 0.6, 1.0]),
)


def judged(history: History) -> dict[str, Decision]:
    """Decisions by key, as of the history's now."""
    policy = Policy(history.policy)
    made = judge(history.items, policy, now=history.now, evidence=history.books, databases=history.databases)
    return {each.item.key: each for each in made}


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_rule_of_retention_holds_over_generated_histories(counted_trials: Callable[[int], None]) -> None:
    _every_rule_holds()
    counted_trials(HISTORIES)


@seed(SEED)
@settings(max_examples=HISTORIES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(shape=shapes)
def _every_rule_holds(shape: Shape) -> None:
    history = grow(shape)
    decisions = judged(history)
    for rule in RULES:
        rule(history, decisions)
    if shape.seed % 3 == 0:
        _the_same_moment_in_another_zone_decides_the_same(history, decisions)
        if not shape.resets:  # logs of a chain before, once gone, leave no doubt about whose a number was
            _a_second_look_removes_no_more(history, decisions)


def _each_decision_has_a_reason(history: History, decisions: dict[str, Decision]) -> None:
    assert set(decisions) == {each.key for each in history.items}
    assert all(each.reason.strip() for each in decisions.values())


def _the_last_good_backup_of_a_database_stays(history: History, decisions: dict[str, Decision]) -> None:
    for items in _series(history):
        good = [each for each in items if each.key in history.books.good and each.claim == "good"]
        regular = [each for each in good if each.tier in (*REGULAR, "base")]
        if regular or good:
            last = max(regular or good, key=lambda each: (each.taken_at, each.key))
            assert decisions[last.key].keep, last
        if not good:
            unbroken = [each for each in items if each.claim != "broken" and each.tier in (*REGULAR, "base")]
            if unbroken:
                assert decisions[max(unbroken, key=lambda each: (each.taken_at, each.key)).key].keep


def _what_is_younger_than_its_tier_allows_stays(history: History, decisions: dict[str, Decision]) -> None:
    for item in _not_replaced(history):
        if item.tier in AGES and item.taken_at >= NOW - AGES[str(item.tier)]:
            assert decisions[item.key].keep, item


def _the_newest_good_ones_of_a_counted_tier_stay_and_broken_ones_fill_no_count(
    history: History, decisions: dict[str, Decision]
) -> None:
    staying = history.books.good & {each.key for each in _not_replaced(history)}
    for tier, count in COUNTS.items():
        for items in _series(history):
            good = [each for each in items if each.tier == tier and each.key in staying]
            for item in sorted(good, key=lambda each: (each.taken_at, each.key))[-count:]:
                assert decisions[item.key].keep, item


def _what_a_person_made_or_pinned_stays_and_so_does_a_snapshot_until_released(
    history: History, decisions: dict[str, Decision]
) -> None:
    for item in _not_replaced(history):
        unreleased = item.tier == "pre-deployment" and item.key not in history.books.freed
        if item.tier == "manual" or item.pinned or item.source is None or unreleased:
            assert decisions[item.key].keep, item
    for items in _series(history):
        freed = [
            each
            for each in items
            if each.tier == "pre-deployment" and each.key in history.books.freed & history.books.good
        ]
        if freed:
            assert decisions[max(freed, key=lambda each: (each.taken_at, each.key)).key].keep


def _every_moment_of_the_window_stays_within_reach(history: History, decisions: dict[str, Decision]) -> None:
    """What could be recovered of the last days from good backups before, can be after."""
    facts = history.books.facts
    kept = [facts[key] for key in facts if decisions[key].keep]
    for items in _series(history):
        good = [
            each
            for each in items
            if each.key in history.books.good and each.tier in (*REGULAR, "base") and each.key in history.books.anchors
        ]
        before = windows([history.books.anchors[each.key] for each in good], facts.values())
        after = windows([history.books.anchors[each.key] for each in good if decisions[each.key].keep], kept)
        reach = merged(after)
        for window in before:
            begins = max(window.earliest, NOW - WINDOW)
            if window.logs and window.latest >= begins:
                assert any(one <= begins and window.latest <= two for one, two in reach), window


def _logs_that_no_kept_backup_can_use_go(history: History, decisions: dict[str, Decision]) -> None:
    """A log older than the window stays only for a backup that is kept, or as one of the newest eight."""
    logs = sorted(history.of("binlogs", "wal"), key=lambda each: (each.taken_at, each.key))
    anchors = [
        history.books.anchors[each.key]
        for each in history.items
        if each.key in history.books.anchors and decisions[each.key].keep and each.claim != "broken"
    ]
    for item in logs[:-8]:
        if item.taken_at < NOW - WINDOW and anchors and decisions[item.key].keep:
            log = history.books.facts[item.key]
            assert any(log.number >= each.number for each in anchors), decisions[item.key]


def _what_nothing_speaks_for_goes(history: History, decisions: dict[str, Decision]) -> None:
    """Retention also removes: an old daily, when newer good ones are there and no log needs it."""
    needed = {each.item.key for each in decisions.values() if each.keep and "replayed on it" in each.reason}
    for items in _series(history):
        good = sorted(
            (each for each in items if each.key in history.books.good and each.tier in REGULAR),
            key=lambda each: (each.taken_at, each.key),
        )
        for item in items:
            spared = item.pinned or item.key in needed or not good or good[-1] is item
            if item.tier == "daily" and item.taken_at < NOW - timedelta(days=30) and not spared:
                assert not decisions[item.key].keep, decisions[item.key]


def _what_was_encrypted_anew_goes_only_when_the_new_one_stands_here_and_is_proven(
    history: History, decisions: dict[str, Decision]
) -> None:
    """... and else it is judged as if nobody had tried."""
    books = history.books
    here = {each.key: each for each in history.items}
    for item in history.items:
        new = here.get(books.anew.get(item.key, ""))
        whole = new is not None and new.claim == "good" and new.key in books.good
        if whole and new is not None and books.origins[new.key] == item.key:
            assert not decisions[item.key].keep and decisions[item.key].replaced
            assert new.file in decisions[item.key].reason
        else:
            assert not decisions[item.key].replaced, item
    if any(each.superseded for each in history.items):
        plain = [replace(each, superseded=False) for each in _not_replaced(history)]
        untried = judge(plain, Policy(history.policy), now=NOW, evidence=books, databases=history.databases)
        assert {each.item.key: each.keep for each in untried} == {each.key: decisions[each.key].keep for each in plain}


def _the_same_moment_in_another_zone_decides_the_same(history: History, decisions: dict[str, Decision]) -> None:
    history.now = NOW.astimezone(ZoneInfo("Europe/Berlin"))
    try:
        assert {key for key, each in judged(history).items() if each.keep} == {
            key for key, each in decisions.items() if each.keep
        }
    finally:
        history.now = NOW


def _a_second_look_removes_no_more(history: History, decisions: dict[str, Decision]) -> None:
    """Once all that expired is gone, everything else stays at the same moment."""
    left = [each for each in history.items if decisions[each.key].keep]
    again = judge(left, Policy(history.policy), now=NOW, evidence=history.books, databases=history.databases)
    assert [each.item.key for each in again if not each.keep] == []


def _brakes_hold(history: History, decisions: dict[str, Decision]) -> None:
    newest = max((each.taken_at for each in history.items), default=None)
    if newest is None:
        return
    assert clock(history.items, newest - timedelta(minutes=6), LastRun())
    assert clock(history.items, newest + timedelta(days=11), LastRun())
    assert clock(history.items, newest, LastRun(newest + timedelta(minutes=6)))
    assert clock(history.items, newest, LastRun(newest - timedelta(days=36)))
    assert not clock(history.items, newest + DAY, LastRun(newest))
    held = amounts(decisions.values(), LastRun())
    groups: dict[str, list[Decision]] = {}
    for each in decisions.values():
        if each.item.source is not None and each.item.expired_at is None:
            groups.setdefault(group_of(each.item), []).append(each)
    for name, group in groups.items():
        if group[0].item.tier not in ("safety", "recovered", "pre-deployment", "image"):
            going = sum(not each.keep and not each.replaced for each in group)
            assert (name in held) == (going > len(group) / 2)


RULES: list[Callable[[History, dict[str, Decision]], None]] = [
    _each_decision_has_a_reason,
    _the_last_good_backup_of_a_database_stays,
    _what_is_younger_than_its_tier_allows_stays,
    _the_newest_good_ones_of_a_counted_tier_stay_and_broken_ones_fill_no_count,
    _what_a_person_made_or_pinned_stays_and_so_does_a_snapshot_until_released,
    _every_moment_of_the_window_stays_within_reach,
    _logs_that_no_kept_backup_can_use_go,
    _what_nothing_speaks_for_goes,
    _what_was_encrypted_anew_goes_only_when_the_new_one_stands_here_and_is_proven,
    _brakes_hold,
]


def _not_replaced(history: History) -> list[Item]:
    """All but what stands here encrypted anew, proven: nothing is lost when that goes."""
    return [each for each in history.items if not history.books.replaced(each)]


def _series(history: History) -> list[list[Item]]:
    """The backups of each database; bases are a series of their own."""
    found: dict[tuple[str, str], list[Item]] = {}
    for item in history.items:
        if item.source is not None and item.tier not in ("binlogs", "wal"):
            found.setdefault((item.source, "base" if item.tier == "base" else item.name), []).append(item)
    return list(found.values())


def test_a_policy_of_counts_and_ages_keeps_what_any_of_them_keeps() -> None:
    books = Books()
    items = []
    for number in range(40):
        item = Item(f"d{number}", "mysql", "daily", "app", NOW - number * DAY, "good")
        items.append(item)
        books.good.add(item.key)
    for text, kept in {"3": 3, "10d": 11, "3 or 10d": 11, "20, 10d": 20, "forever": 40}.items():
        made = judge(items, Policy({"daily": text}), now=NOW, evidence=books)
        assert sum(each.keep for each in made) == kept, text


def test_the_most_exact_rule_wins_and_manual_backups_are_never_meant_by_a_star() -> None:
    policy = Policy({"*": "5d", "daily": "6d", "crm/daily": "7d", "shop/*": "8d"})
    assert [policy.of(source, "daily").text for source in ("crm", "shop", "other")] == ["7d", "8d", "6d"]
    assert policy.of("other", "hourly").text == "5d"
    assert policy.of("other", "manual").forever and policy.of("shop", "pre-deployment").forever
    assert Policy({"manual": "365d"}).of("x", "manual").age == timedelta(days=365)
    assert Policy({}).of("config", "daily").text == "90d"
    assert Policy({"wal": "14d"}).of("postgres", "base").age == timedelta(days=14)
    assert Policy({}).of("x", "a-tier-of-a-later-release").forever


def test_a_place_s_own_rules_come_before_all_of_the_site_s_and_leave_the_rest() -> None:
    site = {"daily": "30d", "crm/daily": "1y", "crm/*": "14d", "wal": "14d"}
    policy = Policy(site, there={"daily": "60d", "hourly": "6h"})
    assert [policy.of(source, "daily").text for source in ("crm", "shop")] == ["60d", "60d"]
    assert [policy.of(source, "hourly").text for source in ("crm", "shop")] == ["6h", "6h"]
    assert policy.of("crm", "weekly").text == "14d" and policy.of("shop", "weekly").text == "13 or 90d"
    assert policy.of("shop", "base").text == "14d" and Policy(site, there={"wal": "9d"}).of("shop", "base").text == "9d"


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({"daily": "5d"}, "replica far: retention keeps the logs of mysql (binlogs) for 7d, but no full backup"),
        ({"binlogs": "60d"}, "Keep daily for at least 60d, or binlogs for less"),
        ({"weekly": "3d"}, "replica far: retention.weekly is 3d, but such a backup is made once in 7d"),
        ({"crm/daily": "30d"}, "names no source of this site"),
    ],
)
def test_a_place_s_own_rules_that_keep_less_than_recovery_needs_are_refused(there: dict[str, str], told: str) -> None:
    sources = [("mysql", "binlogs"), ("postgres", "wal")]
    told_all = refusals({}, sources, there, "replica far: retention")
    assert any(told in each for each in told_all), told_all
    assert refusals({"daily": "5d", "weekly": "13"}, sources, {"daily": "20d"}, "x") == []


@pytest.mark.parametrize("text", ["", "0", "0d", "soon", "7", "-3d", "3 d or", "10min", "3d or 0", "1e3d", "99999999d"])
def test_what_is_no_rule_says_what_one_looks_like(text: str) -> None:
    if text == "7":
        assert parse(text).count == 7
        return
    with pytest.raises(ValueError, match="must be an age such as 24h"):
        parse(text)


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        ({"daily": "5d"}, "keeps the logs of mysql (binlogs) for 7d, but no full backup for that long"),
        ({"base": "3d"}, "keeps the logs of postgres (wal) for 7d, but no base backup for that long"),
        ({"binlogs": "60d"}, "Keep daily for at least 60d, or binlogs for less"),
        ({"mysql/binlogs": "60d"}, "mysql"),
        ({"daily": "12h"}, "most of the time there would be none"),
        ({"weekly": "3d"}, "such a backup is made once in 7d"),
        ({"wal": "500"}, "must be an age"),
        ({"crm/daily": "30d"}, "names no source of this site"),
    ],
)
def test_a_policy_that_keeps_less_than_recovery_needs_is_refused(given_: dict[str, str], told: str) -> None:
    told_all = refusals(given_, [("mysql", "binlogs"), ("postgres", "wal")])
    assert any(told in each for each in told_all), told_all
    assert refusals({}, [("mysql", "binlogs"), ("postgres", "wal")]) == []
    assert refusals({"daily": "5d", "weekly": "13 or 90d"}, [("mysql", "binlogs")]) == []


def test_a_database_that_is_gone_from_its_server_keeps_no_logs_but_its_last_backup() -> None:
    grown = grow(Shape(1, 80, "mysql"))
    books = grown.books
    retired = Item("gone", "mysql", "daily", "gone", NOW - 60 * DAY, "good")
    first = min(books.facts.values(), key=lambda each: each.covers_until or NOW)
    books.good.add(retired.key)
    books.anchors[retired.key] = Anchor(retired.key, "uuid", first.number + 80, 5, NOW - 60 * DAY)
    for named, oldest in ((frozenset({"app0"}), 8), (frozenset(), 8), (frozenset({"app0", "gone"}), 60)):
        made = judge([*grown.items, retired], Policy(), now=NOW, evidence=books, databases={"mysql": named})
        kept = [each.item for each in made if each.keep]
        assert retired in kept
        reach = NOW - min(each.taken_at for each in kept if each.tier == "binlogs")
        assert timedelta(days=oldest - 2) <= reach <= timedelta(days=oldest + 1)


def test_the_parts_of_one_recovery_point_stay_until_the_last_of_them_may_go() -> None:
    books = Books()
    items = []
    for number in range(50):
        for minute, (source, name) in enumerate([("mysql", "a"), ("mysql", "b"), ("config", "config")]):
            item = Item(f"{name}{number}", source, "weekly", name, NOW - number * 7 * DAY - timedelta(minutes=minute))
            item = replace(item, claim="broken" if (name, number) == ("b", 3) else "good")
            items.append(item)
            books.points[item.key] = f"point{number}"
            if item.claim == "good":
                books.good.add(item.key)
    made = judge(items, Policy({"weekly": "13"}), now=NOW, evidence=books)
    kept = {each.item.key: each.reason for each in made if each.keep}
    # b's fourth is broken, so its fourteenth counts, and with it stays the whole point that it is a part of
    assert {key for key in kept if key.startswith("a")} == {f"a{number}" for number in range(14)}
    assert "recovery point point13" in kept["a13"]


def test_an_archive_of_the_whole_machine_keeps_its_configuration_files_as_long_as_its_databases() -> None:
    books, items = Books(), []
    for month in range(16):
        for source, name in (("mysql", "a"), ("config", "config")):
            item = Item(f"{name}{month}", source, "monthly", name, NOW - month * 30 * DAY - HOUR, "good")
            items.append(item)
            books.points[item.key] = f"point{month}"
            books.good.add(item.key)
    made = judge(items, Policy(), now=NOW, evidence=books)
    assert {each.item.key for each in made if each.keep} == {
        f"{name}{n}" for n in range(12) for name in ("a", "config")
    }


def test_an_image_that_no_record_needs_any_more_goes_without_a_word() -> None:
    """Each image has a name of its own: of such a group everything goes at once."""
    items = [Item(f"i{number}", "images", "image", f"sha256-{number}", NOW - 60 * DAY, "good") for number in range(4)]
    made = [Decision(item, keep=number > 0, reason="x") for number, item in enumerate(items)]
    assert amounts(made, LastRun()) == {} == amounts(made, LastRun(NOW - DAY, {group_of(items[0]): 1}))


def test_a_place_that_holds_logs_and_no_full_loses_none() -> None:
    grown = grow(Shape(2, 60, "postgres"))
    logs = grown.of("wal")
    made = judge(logs, Policy(), now=NOW, evidence=grown.books)
    assert all(each.keep for each in made)


def test_a_tier_that_piled_up_while_pruning_was_away_needs_no_word_but_a_shorter_rule_does() -> None:
    def made(going: int, staying: int) -> list[Decision]:
        items = [Item(str(number), "mysql", "hourly", "app", NOW - number * HOUR) for number in range(going + staying)]
        return [Decision(item, number < staying, "x") for number, item in enumerate(items)]

    group = "mysql/app/hourly"
    assert amounts(made(72, 25), LastRun())  # nobody knows what was here before
    assert not amounts(made(72, 25), LastRun(NOW, {group: 25}))
    assert amounts(made(90, 7), LastRun(NOW, {group: 25}))
    assert not amounts(made(24, 25), LastRun())
    assert "find out what removed the others" in amounts(made(1, 10), LastRun(NOW, {group: 31}))[group]


YEARS = 2


def test_two_years_of_the_full_schedule_end_each_day_with_what_a_plain_reading_of_the_policy_gives() -> None:
    """Two servers, every tier; pruned at 04:00, marked first and gone a day later."""
    books, world = Books(), _World()
    present: dict[str, Item] = {}
    marked: dict[str, datetime] = {}
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    last = LastRun()
    for day in range(YEARS * 366):
        for item in world.day(begin + day * DAY, books):
            present[item.key] = item
        now = begin + (day + 1) * DAY + timedelta(hours=4)
        for item in world.early(now, books):
            present[item.key] = item
        made = judge(present.values(), Policy(), now=now, evidence=books)
        expired = {each.item.key for each in made if not each.keep}
        fresh = [Decision(each.item, each.keep, each.reason) for each in made if each.item.key not in marked]
        assert not clock(present.values(), now, last) and not amounts(fresh, last)
        for key in [key for key, at in marked.items() if now - at >= timedelta(hours=23)]:
            assert key in expired, "what expired one day is not wanted back the next"
            del present[key], marked[key]
            expired.discard(key)
        marked |= {key: now for key in expired if key not in marked}
        assert set(present) - expired == world.plain_reading(now), now
        groups: dict[str, int] = {}
        for key in set(present) - expired:
            groups[group_of(present[key])] = groups.get(group_of(present[key]), 0) + 1
        last = LastRun(now, groups)


class _World:
    """The full schedule of both installations, and what the policy's sentences say is kept of it."""

    def __init__(self) -> None:
        self.made: list[Item] = []
        self.logs = {"mysql": 0, "postgres": 0}
        self.begins: dict[str, int] = {}
        self.log_of: dict[str, int] = {}
        self.released: list[str] = []

    def day(self, midnight: datetime, books: Books) -> list[Item]:
        """All but the first four hours, which belong to the day's own prune, too."""
        made: list[Item] = []
        for hour in range(4 if self.made else 0, 24):
            made += self._hour(midnight + timedelta(hours=hour), books)
        return made

    def early(self, now: datetime, books: Books) -> list[Item]:
        """What is made between midnight and the prune at four."""
        made: list[Item] = []
        midnight = now.replace(hour=0)
        for hour in range(4):
            made += self._hour(midnight + timedelta(hours=hour), books)
        return made

    def _hour(self, at: datetime, books: Books) -> list[Item]:
        from engine.logs import LogFile

        new = []
        if at.hour % 6 == 0:
            for source, tier in (("mysql", "binlogs"), ("postgres", "wal")):
                self.logs[source] += 1
                number = self.logs[source]
                item = self._put(source, tier, f"log.{number:06}", at, None)
                books.facts[item.key] = LogFile(
                    name=item.name, number=number, chain=source, start=0, end=9, created_at=at - timedelta(hours=6),
                    covers_until=at,
                )  # fmt: skip
                self.log_of[item.key] = number
                new.append(item)
        new.append(self._put("postgres", "hourly", "app", at, books))
        if at.hour == 1:
            item = self._put("postgres", "base", "base", at, books)
            books.anchors[item.key] = Anchor(item.key, "postgres", self.logs["postgres"] + 1, 5, at + HOUR, epoch=0)
            self.begins[item.key] = self.logs["postgres"] + 1
            new.append(item)
        if at.hour == 2:
            tiers = ["daily", *(["weekly"] if at.weekday() == 6 else []), *(["monthly"] if at.day == 1 else [])]
            for tier in tiers:
                for source in ("mysql", "postgres", "config"):
                    item = self._put(source, tier, "app", at, books)
                    if source == "mysql":
                        books.anchors[item.key] = Anchor(item.key, "mysql", self.logs["mysql"] + 1, 5, at)
                        self.begins[item.key] = self.logs["mysql"] + 1
                    new.append(item)
        if at.hour == 15 and at.day % 9 == 0:  # a deploy; every third one fails and is never released
            item = self._put("mysql", "pre-deployment", "app", at, books, released=at.day % 27 != 0)
            new.append(item)
            books.freed |= {each.key for each in self.made if each.released}
        if at.hour == 16 and at.day == 20:
            new.append(self._put("mysql", "manual", "app", at, books))
        return new

    def _put(
        self, source: str, tier: str, name: str, at: datetime, books: Books | None, released: bool = False
    ) -> Item:
        item = Item(f"{source}/{tier}/{name}_{at:{names.STAMP}}", source, tier, name, at, "good", released=released)
        if books is not None:
            books.good.add(item.key)
        self.made.append(item)
        return item

    def plain_reading(self, now: datetime) -> set[str]:
        """Hourly 24 h, daily 30 d, weekly 13 and no less than 90 d, monthly 12, configuration files 90 d, logs
        7 d and what the full or base before that needs, snapshots until a newer one is released, manual for good."""
        longest = {"hourly": 2, "daily": 200, "weekly": 200, "monthly": 800, "base": 20, "binlogs": 20, "wal": 20}
        self.made = [each for each in self.made if now - each.taken_at < longest.get(str(each.tier), 800) * DAY]
        kept: set[str] = set()
        spans = {"hourly": 24 * HOUR, "daily": 30 * DAY, "weekly": 90 * DAY}
        spans |= {"base": 7 * DAY, "binlogs": 7 * DAY, "wal": 7 * DAY}
        for item in self.made:
            files = item.source == "config" and item.tier not in ("weekly", "monthly")
            span = 90 * DAY if files else spans.get(str(item.tier))
            if span is not None and now - item.taken_at <= span:
                kept.add(item.key)
            if item.tier == "manual" or (item.tier == "pre-deployment" and not item.released):
                kept.add(item.key)
        for source in ("mysql", "postgres", "config"):
            for tier, count in (("weekly", 13), ("monthly", 12)):
                kept |= {each.key for each in self._newest(source, tier)[:count]}
            kept |= {
                each.key
                for each in self._newest(source, "pre-deployment")
                if each.released
                and each.key
                in {one.key for one in [x for x in self._newest(source, "pre-deployment") if x.released][:1]}
            }
        for source, tier, fulls in (
            ("mysql", "binlogs", ("daily", "weekly", "monthly", "manual")),
            ("postgres", "wal", ("base",)),
        ):
            before = [
                each
                for each in self.made
                if each.source == source
                and each.tier in fulls
                and each.key in self.begins
                and each.taken_at + (HOUR if fulls == ("base",) else timedelta(0)) <= now - 7 * DAY
            ]
            if before:
                start = max(before, key=lambda each: (each.taken_at, each.key))
                kept.add(start.key)
                first = self.begins[start.key]
                kept |= {each.key for each in self.made if each.tier == tier and self.log_of[each.key] >= first}
            else:
                kept |= {each.key for each in self.made if each.tier == tier}
        return kept

    def _newest(self, source: str, tier: str) -> list[Item]:
        mine = [each for each in self.made if (each.source, each.tier) == (source, tier)]
        return sorted(mine, key=lambda each: each.taken_at, reverse=True)
