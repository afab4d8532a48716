"""WAL by name and number, and the decisions of shipping: pure."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import IntegrityError, LogChainBroken, LogGap
from engine.logs import LogFile
from engine.postgres.base_facts import BaseFacts
from engine.postgres.slots import ServerState, slot_name
from engine.postgres.wal import (
    Segment,
    check_segment,
    ends_segment,
    lsn,
    named,
    parse_history,
    parse_lsn,
    parse_segment,
    segment_at,
)
from engine.postgres.wal_plan import Last, must_switch, starts, tail_of, unanchored, went_back

MB = 1 << 20
SIZE = 16 * MB
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
sizes = st.sampled_from([1 * MB, 16 * MB, 64 * MB, 1024 * MB])


def state(position: int, timeline: int = 1, system: str = "7", size: int = SIZE) -> ServerState:
    return ServerState(system, timeline, position, size, -1, "")


def last(number: int, timeline: int = 1, system: str = "7", activity: str = "1:1:") -> Last:
    segment = Segment(timeline, number, SIZE)
    log = LogFile(name=segment.name, number=number, chain=system, epoch=timeline, start=segment.start,
                  end=segment.end, covers_until=NOW)  # fmt: skip
    return Last(log, activity)


def base(start: int, timeline: int = 1, system: str = "7") -> BaseFacts:
    return BaseFacts(system_id=system, timeline=timeline, start=start, stop=start + 100, segment_size=SIZE,
                     started_at=NOW, consistent_at=NOW, version_num=150000)  # fmt: skip


def row(*numbers: int, timeline: int = 1) -> list[Segment]:
    return [Segment(timeline, number, SIZE) for number in numbers]


@given(st.integers(0, 2**64 - 1))
def test_a_position_is_read_as_it_is_written(position: int) -> None:
    assert parse_lsn(lsn(position)) == position


@given(st.integers(1, 2**32 - 1), st.integers(0, 2**40), sizes)
def test_a_segments_name_is_taken_apart_as_it_was_put_together(timeline: int, number: int, size: int) -> None:
    segment = Segment(timeline, number % (2**64 // size), size)
    assert parse_segment(segment.name, size) == segment
    assert segment_at(timeline, segment.start, size) == segment == segment_at(timeline, segment.end - 1, size)
    assert ends_segment(segment.start + 1, size) == segment.end == ends_segment(segment.end, size)


def test_names_are_those_of_postgresql() -> None:
    # SELECT pg_walfile_name('1A/2B000028') on timeline 3, 16 MB segments
    assert segment_at(3, parse_lsn("1A/2B000028"), SIZE).name == "000000030000001A0000002B"
    assert parse_segment("00000002.history", SIZE) is None
    assert named(1, 3, 4, SIZE) == "000000010000000000000003"
    assert named(1, 3, 9, SIZE).endswith("000000010000000000000008 (6 segments)")


def test_a_history_is_read_with_its_comments() -> None:
    text = "1\t0/3000028\tno recovery target specified\n\n# a note\n2\tA/4000000\tbefore 2026-01-01\n"
    assert parse_history(text) == [(1, 0x3000028), (2, 0xA04000000)]


def test_a_segment_of_another_place_server_or_size_is_refused() -> None:
    def head(address: int, system: int = 7, size: int = SIZE, timeline: int = 1, info: int = 2) -> bytes:
        return struct.pack("<HHIQI4xQII", 0xD110, info, timeline, address, 0, system, size, 8192)

    segment = Segment(2, 5, SIZE)
    check_segment(head(segment.start), segment, "7")
    check_segment(head(segment.start, timeline=2), segment, "7")
    wrong = [head(0), head(segment.start, 8), head(segment.start, size=MB), head(segment.start, timeline=3)]
    for each in [*wrong, head(segment.start, info=0), b"\0" * 40, head(segment.start)[:39]]:
        with pytest.raises(IntegrityError):
            check_segment(each, segment, "7")


def test_a_slots_name_says_whose_it_is_and_no_two_sources_share_one() -> None:
    assert slot_name("workbench", "postgres") == "backup_flows_workbench_postgres"
    pairs = [("a", "b_c"), ("a-b", "c"), ("a", "b-c"), ("a", "b.c"), ("a", "B_c"), ("a" * 60, "b"), ("a" * 60, "c")]
    found = {slot_name(*pair) for pair in pairs}
    assert len(found) == len(pairs)
    assert all(len(each) <= 63 and set(each) <= set("abcdefghijklmnopqrstuvwxyz0123456789_") for each in found)


def test_a_new_segment_is_begun_only_after_activity_or_an_hour() -> None:
    server = state(9 * SIZE)
    assert not must_switch(last(8), server, "1:1:", NOW + timedelta(minutes=59), HOUR)
    assert must_switch(last(8), server, "1:2:", NOW, HOUR)
    assert must_switch(last(8), server, "1:1:", NOW + timedelta(hours=1), HOUR)
    assert must_switch(last(8), server, "1:1:", NOW + HOUR / 6, HOUR / 8)
    assert must_switch(last(8, activity=""), server, "1:1:", NOW, HOUR)  # closed by a run that died
    assert must_switch(None, server, "1:1:", NOW, HOUR)
    assert must_switch(last(8, timeline=2), server, "1:1:", NOW, HOUR)


def test_shipping_goes_on_where_the_vault_ends_and_else_where_the_slot_keeps() -> None:
    assert starts(last(8), state(12 * SIZE), 9 * SIZE, 0) == [9 * SIZE]
    assert starts(last(8), state(12 * SIZE), 3 * SIZE + 77, 0) == [9 * SIZE]
    assert starts(last(8), state(12 * SIZE), 10 * SIZE + 5, 0) == [9 * SIZE, 10 * SIZE]
    assert starts(None, state(12 * SIZE), 10 * SIZE + 5, 0) == [10 * SIZE]
    assert starts(last(8), state(12 * SIZE, timeline=2), 5 * SIZE, 11 * SIZE + 9) == [11 * SIZE]
    assert starts(last(8), state(3 * SIZE, system="8"), 2 * SIZE + 9, 0) == [2 * SIZE]


def test_a_server_behind_the_vault_on_the_same_timeline_was_put_back() -> None:
    assert isinstance(went_back(last(8), state(9 * SIZE - 1)), LogChainBroken)
    for fine in (state(9 * SIZE), state(5, timeline=2), state(5, system="8")):
        assert went_back(last(8), fine) is None
    assert went_back(None, state(5)) is None


@given(st.lists(st.integers(1, 30), min_size=1, max_size=25))
def test_the_tail_is_the_longest_unbroken_row_at_the_end(numbers: list[int]) -> None:
    tail = tail_of(row(*numbers))
    assert tail is not None and tail.last.number == numbers[-1]
    assert set(range(tail.first.number, numbers[-1] + 1)) <= set(numbers)
    if tail.before is None:
        assert tail.first.number == min(numbers)
    else:
        assert tail.before.number in numbers and tail.before.number not in (tail.first.number, tail.first.number - 1)


@pytest.mark.parametrize(
    ("segments", "newest", "verdict", "words"),
    [
        (row(3, 4, 5), base(3 * SIZE + 9), None, ""),
        (row(3, 4, 5), base(9 * SIZE), None, ""),  # made after what was shipped
        (row(3, 4, 5), None, str, "no base backup yet"),
        (row(3, 4, 7, 8), base(3 * SIZE), LogGap, "000000010000000000000005, 000000010000000000000006"),
        (row(3, 4, 7, 8), None, LogGap, "000000010000000000000005"),
        (row(3, 4, 7, 8), base(7 * SIZE + 1), None, ""),
        (row(3, 4, 5), base(2 * SIZE), LogGap, "000000010000000000000002"),
        (row(3, 4, 5), base(3 * SIZE, system="8"), LogChainBroken, "another server"),
        (row(3, 4) + row(4, 5, timeline=2), base(3 * SIZE), LogChainBroken, "timeline"),
        (row(3, 4) + row(4, 5, timeline=2), None, LogChainBroken, "timeline"),
        ([], None, None, ""),
    ],
)
def test_a_base_backup_is_demanded_until_one_carries_what_is_shipped(
    segments: list[Segment], newest: BaseFacts | None, verdict: type | None, words: str
) -> None:
    found = unanchored(tail_of(segments), newest, state(99 * SIZE, timeline=segments[-1].timeline if segments else 1))
    assert isinstance(found, verdict) if verdict else found is None
    assert words in str(found)
