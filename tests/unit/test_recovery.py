"""Recovery planning: windows and plans against an independent, slow and simple reading of the same logs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.binlog.search import matches
from engine.binlog.statements import Change
from engine.errors import ConfigError, OutsideWindow
from engine.logs import LogFile
from engine.recovery import Anchor, Statement, Target, holes, make_plan, merged, parse_target, windows
from engine.recovery.fit import is_told

ZERO = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
NOW = ZERO + timedelta(days=30)


def at(minutes: float) -> datetime:
    return ZERO + timedelta(minutes=minutes)


def log(number: int, *, chain: str = "uuid", epoch: int = 0, minutes: float | None = None, end: int = 1000) -> LogFile:
    """The log written from minute 5n to 5n+5."""
    begun = 5.0 * number if minutes is None else minutes
    return LogFile(
        name=f"mysql-bin.{number:06}", number=number, chain=chain, epoch=epoch, end=end,
        created_at=at(begun), covers_until=at(begun + 5), last_commit=at(begun + 4),
    )  # fmt: skip


def full(number: int, minutes: float, *, position: int = 500, chain: str = "uuid") -> Anchor:
    return Anchor(f"app_{number}_{minutes:g}.sql.gz.enc", chain, number, position, at(minutes))


def plan_of(anchors: list[Anchor], logs: list[LogFile], target: Target):  # type: ignore[no-untyped-def]
    return make_plan(windows(anchors, logs), target, now=NOW)


def moment(minutes: float) -> Target:
    return Target("time", at(minutes))


def test_the_newest_full_before_the_moment_and_just_the_logs_to_it() -> None:
    logs = [log(number) for number in range(1, 20)]
    plan = plan_of([full(2, 12), full(10, 52)], logs, moment(63))
    assert plan.anchor.number == 10
    assert [each.number for each in plan.logs] == [10, 11, 12]


def test_a_moment_in_an_idle_hour_is_reached_through_the_log_that_covers_it() -> None:
    late = log(3).model_copy(update={"covers_until": at(90)})
    plan = plan_of([full(2, 12)], [log(2), late], moment(75))
    assert [each.number for each in plan.logs] == [2, 3]


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(5, "before the oldest"), (33, "hole"), (500, "the logs reach to"), (60 * 24 * 40, "in the future")],
)
def test_a_moment_outside_is_refused_with_the_windows_in_both_zones(minutes: float, words: str) -> None:
    logs = [log(number) for number in (2, 3, 4, 8, 9)]
    with pytest.raises(OutsideWindow, match=words) as error:
        plan_of([full(2, 12), full(8, 42)], logs, moment(minutes))
    assert "UTC" in error.value.remedy and "12:12:00 UTC" in error.value.remedy
    if words == "hole":
        assert "log after mysql-bin.000004 is missing" in error.value.message
        assert "latest moment before it: 2026-11-20 12:25:00 UTC" in error.value.remedy


def test_without_any_full_the_remedy_is_to_make_one() -> None:
    with pytest.raises(OutsideWindow, match="no full or base") as error:
        plan_of([], [log(1)], moment(7))
    assert "make a full" in error.value.remedy


def test_logs_that_began_anew_serve_only_the_fulls_of_their_time() -> None:
    old = [log(number) for number in (1, 2, 3)]
    new = [log(number, epoch=1, minutes=100 + 5 * number) for number in (1, 2, 3)]
    found = windows([full(2, 12), full(2, 113)], old + new)
    assert [(each.earliest, each.latest, {log.epoch for log in each.logs}) for each in found] == [
        (at(113), at(120), {1}),
        (at(12), at(20), {0}),
    ]


def test_where_a_restore_replaced_a_database_its_windows_end_and_begin_again_with_the_next_full() -> None:
    logs = [log(number) for number in (2, 3, 5, 6)]
    logs.insert(2, log(4).model_copy(update={"swapped": {"app": 120}}))
    before, same_log, after = full(2, 12), full(4, 21, position=120), full(4, 23, position=121)
    found = {each.anchor: each for each in windows([before, same_log, after], logs, "app")}
    assert [each.number for each in found[before].logs] == [2, 3] and found[before].latest == at(20)
    assert found[before].left and "a restore replaced app in mysql-bin.000004" in found[before].ends
    assert found[same_log].logs == () and "a restore replaced app" in found[same_log].ends
    assert [each.number for each in found[after].logs] == [4, 5, 6]
    assert windows([before], logs, "other")[0].latest == at(35), "another database goes on"


def test_a_full_of_another_server_takes_no_logs_of_this_one() -> None:
    found = windows([full(2, 12, chain="other")], [log(2), log(3)])
    assert found[0].logs == () and found[0].latest == found[0].earliest


def test_a_position_beyond_the_log_that_is_named_does_not_fit() -> None:
    assert windows([full(2, 12, position=5000)], [log(2)])[0].logs == ()


def test_latest_takes_every_log_of_the_newest_window() -> None:
    plan = plan_of([full(2, 12), full(4, 22)], [log(number) for number in (2, 3, 4, 5)], Target("latest"))
    assert plan.anchor.number == 4 and [each.number for each in plan.logs] == [4, 5]


def test_a_position_is_planned_to_its_own_log() -> None:
    logs = [log(number) for number in (2, 3, 4)]
    plan = plan_of([full(2, 12)], logs, parse_target("mysql-bin.000003:77"))
    assert [each.number for each in plan.logs] == [2, 3]
    with pytest.raises(OutsideWindow):
        plan_of([full(2, 12)], logs, parse_target("mysql-bin.000002:499"))  # before the full
    with pytest.raises(OutsideWindow):
        plan_of([full(2, 12)], logs, parse_target("mysql-bin.000003:77777"))


def test_an_lsn_is_planned_to_its_segment() -> None:
    size = 16 << 20
    segments = [
        LogFile(
            name=f"{number:024X}", number=number, chain="sys", epoch=1, start=number * size, end=(number + 1) * size
        )
        for number in range(1, 5)
    ]
    base = Anchor("base.tar", "sys", 1, size + 40, at(0), epoch=1)
    plan = plan_of([base], segments, parse_target("lsn 0/2000100"))
    assert [each.number for each in plan.logs] == [1, 2]
    with pytest.raises(OutsideWindow):
        plan_of([base], segments, parse_target("0/1000010"))


def test_a_log_shipped_twice_counts_once_and_the_longer_one_stands() -> None:
    found = windows([full(2, 12, position=900)], [log(2, end=800), log(2), log(2, end=800), log(3)])
    assert [each.end for each in found[0].logs] == [1000, 1000]


def test_holes_are_named() -> None:
    found = holes([log(number) for number in (1, 2, 5, 6, 8)])
    assert [str(each) for each in found] == [
        "2 logs are missing between mysql-bin.000002 and mysql-bin.000005",
        "one log is missing between mysql-bin.000006 and mysql-bin.000008",
    ]


@pytest.mark.parametrize("text", ["2026-11-20 12:00:00", "yesterday", "mysql-bin.000003", "", "gtid"])
def test_what_is_no_target_says_what_one_looks_like(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_target(text)
    assert "2025-01-16T02:00:00Z" in error.value.remedy and "mysql-bin.000042:1234" in error.value.remedy


def test_every_form_of_target_is_read() -> None:
    assert parse_target("Latest") == Target("latest")
    assert parse_target("2026-11-20T13:00:00.123456+01:00").moment == at(0) + timedelta(microseconds=123456)
    assert parse_target("gtid 0-1-77").gtid == "0-1-77"
    assert parse_target("16/B374D848").position == 0x16B374D848


@pytest.mark.parametrize(
    ("text", "meant", "pattern"),
    [
        ("before DROP TABLE users", Statement("DROP", "users", "table"), "shop.users"),
        ("Before drop table if exists `users`;", Statement("DROP", "users", "table"), "shop.users"),
        ("before DROP users", Statement("DROP", "users"), "shop.users"),
        ("before DROP DATABASE", Statement("DROP", of="database"), "shop.*"),
        ("before drop schema `other`", Statement("DROP", "other", "database"), "other.*"),
        ("before delete FROM other.us*", Statement("DELETE", "other.us*"), "other.us*"),
        ("before TRUNCATE", Statement("TRUNCATE"), "shop.*"),
        ("before first UPDATE users", Statement("UPDATE", "users", which="first"), "shop.users"),
        (
            "before last DELETE users, since 2026-11-20T12:01:00Z, until 2026-11-20T13:02:00+01:00",
            Statement("DELETE", "users", which="last", since=at(1), until=at(2)),
            "shop.users",
        ),
        ("before DROP TABLE `a.b`", Statement("DROP", "`a.b`", "table"), "shop.`a.b`"),
        (
            "before DROP TABLE other.`we ``ird, x`",
            Statement("DROP", "other.`we ``ird, x`", "table"),
            "other.`we ``ird, x`",
        ),
        ("before DROP SCHEMA `my.db`", Statement("DROP", "`my.db`", "database"), "`my.db`.*"),
        ("before DELETE since 2026-11-20 12:01:00 UTC", Statement("DELETE", since=at(1)), "shop.*"),
        ("before DELETE since until 2026-11-20T12:02:00Z", Statement("DELETE", "since", until=at(2)), "shop.since"),
    ],
)
def test_a_statement_to_stop_before_is_read_and_means_the_database_that_is_restored(
    text: str, meant: Statement, pattern: str
) -> None:
    target = parse_target(text)
    assert (target.kind, target.statement) == ("statement", meant)
    assert meant.pattern("shop") == pattern
    assert parse_target(str(meant)) == target  # as a plan shows it, it can be given back


@pytest.mark.parametrize(
    ("pattern", "database", "table", "meant"),
    [
        ("shop.`a.b`", "shop", "a.b", True),
        ("shop.`a.b`", "shop.a", "b", False),
        ("`a.b`.c", "a.b", "c", True),
        ("`a*`", "x", "A*", True),
        ("`a*`", "x", "ab", False),
        ("shop.us*", "shop", "users", True),
        ("`we``ird t`", "shop", "we`ird t", True),
    ],
)
def test_a_name_in_backticks_stands_for_itself(pattern: str, database: str, table: str, meant: bool) -> None:
    assert matches(Change("DROP", database, table), pattern) is meant


GTIDS = "9ea5ebb0-0000-0000-0000-000000000001"


@pytest.mark.parametrize(
    ("before", "last", "executed", "fits"),
    [
        (f"{GTIDS}:1-5", f"{GTIDS}:7", f"{GTIDS}:1-7", True),
        (f"{GTIDS}:1-5", f"{GTIDS}:7", f"{GTIDS}:1-6", False),
        (f"{GTIDS}:1-5", f"{GTIDS}:7", "", False),
        (f"{GTIDS}:1-5:shop:1-2", f"{GTIDS}:shop:3", f"{GTIDS}:1-5:shop:1-3", True),
        (f"{GTIDS}:1-5:shop:1-2", f"{GTIDS}:shop:3", f"{GTIDS}:1-5:shop:1-2", False),
        ("0-1-5,1-1-2", "0-1-9", "1-1-2,0-1-9", True),
        ("0-1-5,1-1-2", "0-1-9", "0-1-9", False),
        ("0-1-5", "0-2-9", "0-2-3,0-1-8", False),
        ("", "", "0-1-1", True),
    ],
)
def test_a_window_ends_where_a_log_does_not_follow_the_one_before_it(
    before: str, last: str, executed: str, fits: bool
) -> None:
    one = log(2).model_copy(update={"gtids_before": before, "gtid_last": last})
    other = log(3).model_copy(update={"gtids_before": executed})
    window = windows([full(2, 12)], [one, other])[0]
    assert [each.number for each in window.logs] == ([2, 3] if fits else [2])
    assert ("mysql-bin.000003 began without" in window.ends, window.left) == (not fits, not fits)
    if not fits:
        with pytest.raises(OutsideWindow, match="mysql-bin.000003 began without"):
            plan_of([full(2, 12)], [one, other], moment(18))


@pytest.mark.parametrize(("begun", "executed", "fits"), [(15, "0-1-9", True), (16, "0-1-9", False), (15, "", False)])
def test_the_log_after_another_is_the_one_that_was_seen_then_and_no_other(
    begun: int, executed: str, fits: bool
) -> None:
    one = log(2).model_copy(update={"gtid_last": "0-1-9", "next_created_at": at(15), "next_gtids": "0-1-9"})
    other = log(3).model_copy(update={"created_at": at(begun), "gtids_before": executed})
    window = windows([full(2, 12)], [one, other])[0]
    assert len(window.logs) == (2 if fits else 1)
    assert ("is another log than the one that followed" in window.ends) is not fits


def test_without_gtids_only_the_log_that_was_seen_to_follow_tells_anything() -> None:
    bare = log(2)
    assert not is_told(bare, "mysql-bin.000003")
    seen = bare.model_copy(update={"next_created_at": at(15)})
    assert is_told(seen, "mysql-bin.000003") and not is_told(seen, "mysql-bin.000004")
    assert is_told(bare.model_copy(update={"gtid_last": "0-1-1"}), "mysql-bin.000004")


def test_a_full_made_after_a_reset_does_not_begin_in_the_log_of_the_time_before() -> None:
    old = log(2).model_copy(update={"next_created_at": at(15)})
    assert windows([full(2, 113)], [old])[0].logs == ()
    assert windows([full(2, 14)], [old])[0].logs == (old,)


def test_latest_says_that_a_new_numbering_began_after_it() -> None:
    logs = [log(2), log(3), log(1, epoch=1, minutes=100)]
    plan = plan_of([full(2, 12)], logs, Target("latest"))
    assert plan.window.left and plan.logs[-1].number == 3
    assert "began anew with mysql-bin.000001 of 2026-11-20 13:40:00 UTC" in plan.notes[0] and "full" in plan.notes[0]
    assert plan_of([full(2, 12)], logs, moment(17)).notes == []
    assert plan_of([full(2, 12), full(1, 102)], logs, Target("latest")).notes == []


@pytest.mark.parametrize("refused", [True, False])
def test_latest_says_that_the_server_went_to_another_timeline(refused: bool) -> None:
    size = 16 << 20
    segments = [
        LogFile(name=f"{line:08X}{0:08X}{number:08X}", number=number, chain="sys", epoch=line,
                start=number * size, end=(number + 1) * size, covers_until=at(5 * number))
        for number, line in ((1, 1), (2, 1), (2, 2), (3, 2)) if line == 1 or not refused
    ]  # fmt: skip
    history = LogFile(name="00000002.history", number=0, chain="sys", epoch=2, start=0, end=42, created_at=at(11))
    other = history.model_copy(update={"chain": "another"})
    base = Anchor("base.tar", "sys", 1, size + 40, at(1), epoch=1)
    plan = plan_of([base], [*segments, history], Target("latest"))
    assert "went to timeline 2" in plan.window.ends and "went to timeline 2" in plan.notes[0]
    assert "2026-11-20 12:11:00 UTC" in plan.notes[0] and "base backup" in plan.notes[0]
    assert plan_of([base], [*segments[:2], other], Target("latest")).notes == []


@pytest.mark.parametrize(
    "text",
    [
        "before",
        "before 2026-11-20T12:00:00Z",
        "before VANISH users",
        "before DELETE FROM users WHERE id = 3",
        "before DELETE users until noon",
        "before DELETE users until 2026-11-20T12:00:00",
        "before DELETE users, since 2026-11-20T12:02:00Z, until 2026-11-20T12:01:00Z",
    ],
)
def test_what_names_no_statement_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_target(text)
    assert (
        "users" in error.value.remedy or "2025-01-16T02:00:00Z" in error.value.remedy or "since" in error.value.remedy
    )


def test_a_day_before_the_end_is_looked_through_unless_it_is_said_otherwise() -> None:
    assert Statement("DROP").span(at(5)) == (at(5 - 24 * 60), None)
    assert Statement("DROP", until=at(3)).span(at(5)) == (at(3 - 24 * 60), at(3))
    assert Statement("DROP", since=at(1)).span(at(5)) == (at(1), None)


def test_a_position_that_stands_in_two_numberings_is_refused() -> None:
    old, new = [log(2), log(3)], [log(2, epoch=1, minutes=110), log(3, epoch=1, minutes=115)]
    with pytest.raises(OutsideWindow, match="two places"):
        plan_of([full(2, 12), full(2, 113)], old + new, parse_target("mysql-bin.000003:77"))
    assert plan_of([full(2, 12)], old, parse_target("mysql-bin.000003:77")).logs[-1].number == 3


@given(
    present=st.sets(st.integers(1, 12)),
    anchors=st.lists(st.tuples(st.integers(1, 12), st.floats(0.1, 4.9)), max_size=4),
    minutes=st.floats(0, 70),
)
def test_a_plan_exists_exactly_where_a_full_and_unbroken_logs_reach(
    present: set[int], anchors: list[tuple[int, float]], minutes: float
) -> None:
    fulls = [full(number, 5 * number + offset) for number, offset in anchors]
    logs = [log(number) for number in present]
    wanted = at(minutes)
    # the slow reading: walk from every full, minute by minute of logs
    possible = []
    for anchor in fulls:
        reach, number = anchor.earliest, anchor.number
        while number in present:
            reach = max(reach, at(5 * number + 5))
            number += 1
        if anchor.earliest <= wanted <= reach:
            possible.append(anchor)
    found = windows(fulls, logs)
    assert any(low <= wanted <= high for low, high in merged(found)) == bool(possible)
    if not possible:
        with pytest.raises(OutsideWindow):
            make_plan(found, Target("time", wanted), now=NOW)
        return
    plan = make_plan(found, Target("time", wanted), now=NOW)
    assert plan.anchor.earliest <= wanted
    assert plan.anchor.earliest == max(each.earliest for each in possible)
    numbers = [each.number for each in plan.logs]
    assert numbers == list(range(plan.anchor.number, plan.anchor.number + len(numbers)))
    assert set(numbers) <= present
    assert not numbers or plan.logs[-1].covers_until >= wanted or wanted == plan.anchor.earliest
    assert all(each.covers_until < wanted for each in plan.logs[:-1])
