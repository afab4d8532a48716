"""Copies to one replica: how many at a time, and what one that fails means for the others."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from engine import names
from engine.catalog import Entry
from engine.errors import (
    BackupError,
    Cancelled,
    CredentialsRefused,
    DiskFull,
    IntegrityError,
    StoreRefused,
    Unreachable,
)
from engine.names import BackupName
from engine.replicas import IN_A_ROW, Brought, bring
from engine.stores.base import Stored


def entries(count: int, ext: str = "sql.gz.enc", name: str = "app") -> list[Entry]:
    day = names.parse_moment("2026-03-01T02:00:00Z")
    found = [BackupName(day.replace(day=1 + number), name, ext) for number in range(count)]
    return [Entry("local", f"daily/{each.file}", each, "mysql", "daily", 1) for each in found]


def stored(entry: Entry) -> Stored:
    return Stored(entry.key, 1, "0" * 64, "read-back")


def failing(errors: dict[int, BackupError], tried: list[Entry]) -> Callable[[Entry], Stored]:
    """A copy that fails for the numbers of some tries."""

    def copy(entry: Entry) -> Stored:
        tried.append(entry)
        if len(tried) - 1 in errors:
            raise errors[len(tried) - 1]
        return stored(entry)

    return copy


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_so_many_are_under_way_at_a_time_and_never_more(at_once: int) -> None:
    meeting = threading.Barrier(at_once, timeout=60)
    under_way: list[int] = []
    most: list[int] = []

    def copy(entry: Entry) -> Stored:
        under_way.append(1)
        most.append(len(under_way))
        meeting.wait()  # breaks unless as many are under way as may be
        under_way.pop()
        return stored(entry)

    given = entries(6)
    brought = bring(given, copy, at_once)
    assert [entry for entry, _ in brought.copied] == given and max(most) == at_once
    assert not brought.missing and brought.error is None


def test_lists_of_one_bucket_go_one_after_another_and_those_of_two_side_by_side() -> None:
    meeting = threading.Barrier(2, timeout=60)
    under_way: list[str] = []
    order: list[Entry] = []

    def copy(entry: Entry) -> Stored:
        assert entry.name.name not in under_way, "they share their contents"
        under_way.append(entry.name.name)
        meeting.wait()
        under_way.remove(entry.name.name)
        order.append(entry)
        return stored(entry)

    one, two = entries(3, "jsonl.gz.enc", "uploads"), entries(3, "jsonl.gz.enc", "media")
    given = [each for pair in zip(one, two, strict=True) for each in pair]
    assert [entry for entry, _ in bring(given, copy, 4).copied] == given
    assert [each for each in order if each in one] == one


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_is_wrong_with_one_backup_stops_no_other(at_once: int) -> None:
    tried: list[Entry] = []
    given = entries(8)
    damaged = IntegrityError("our copy is damaged")
    brought = bring(given, failing(dict.fromkeys(range(5), damaged), tried), at_once)
    assert len(tried) == 8 and len(brought.copied) == 3 and brought.missing == [each for each, _ in brought.failed]
    assert len(brought.failed) == 5 and (brought.error, brought.over) == (damaged, None)


@pytest.mark.parametrize("error", [CredentialsRefused("unknown key"), DiskFull("no room")])
def test_what_the_place_says_to_all_alike_ends_its_turn_at_once(error: BackupError) -> None:
    tried: list[Entry] = []
    given = entries(8)
    brought = bring(given, failing({1: error}, tried), 1)
    assert tried == given[:2] and [entry for entry, _ in brought.copied] == given[:1]
    assert brought.left == given[2:] and brought.missing == given[1:] and brought.over is brought.error is error
    tried.clear()
    brought = bring(given, failing(dict.fromkeys(range(8), error), tried), 2)
    assert len(tried) <= 2, "but those that were under way"
    assert sorted(brought.missing, key=given.index) == given


@pytest.mark.parametrize("error", [Unreachable("no answer"), StoreRefused("no such bucket")])
def test_a_place_that_fails_a_few_in_a_row_is_not_asked_for_more_and_a_copy_between_them_starts_anew(
    error: BackupError,
) -> None:
    tried: list[Entry] = []
    given = entries(20)
    brought = bring(given, failing(dict.fromkeys([0, 1, 3, 4, 6, 7, 8], error), tried), 1)
    assert IN_A_ROW == 3 and len(tried) == 9 and len(brought.copied) == 2 and brought.left == given[9:]
    assert brought.over is error


def test_a_stop_is_no_failure_of_a_copy() -> None:
    with pytest.raises(Cancelled):
        bring(entries(3), failing({0: Cancelled("stopped")}, []), 1)
    assert Brought().error is None
