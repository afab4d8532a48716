"""How much of a vault is read back by a run, and in which order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engine.vault_check.contents import SLICES, slices_due
from engine.vault_check.findings import Finding, PlaceReport, outcome_of
from engine.vault_check.share import DAY, Share, due

NOW = datetime(2026, 11, 22, 5, 15, tzinfo=UTC)


def copies(*ages: int, size: int = 10) -> list[tuple[str, int, float]]:
    """Copies that were last proven so many days ago, the longest first."""
    return [(f"copy {number}", size, (NOW - age * DAY).timestamp()) for number, age in enumerate(sorted(ages)[::-1])]


def chosen(rows: list[tuple[str, int, float]], share: Share) -> list[str]:
    return [row[0] for row in due(rows, len(rows), sum(row[1] for row in rows), share, NOW)]


def test_a_day_reads_a_thirtieth_the_longest_unproven_first() -> None:
    rows = copies(*range(60))
    share = Share.daily(30 * DAY)
    assert chosen(copies(*range(20)), share) == ["copy 0"]
    late = [row[0] for row in rows if row[2] <= (NOW - 29 * DAY).timestamp()]
    assert chosen(rows, share) == late, "what waits for 29 days is read however much it is"


def test_large_ones_count_by_their_bytes() -> None:
    rows = [(f"small {number}", 1, (NOW - 5 * DAY).timestamp()) for number in range(30)]
    rows.append(("large", 1_000, (NOW - 4 * DAY).timestamp()))
    assert chosen(rows, Share.daily(30 * DAY))[-1] == "large"


def test_everything_and_nothing() -> None:
    assert len(chosen(copies(*range(7)), Share(1.0))) == 7
    assert chosen([], Share.daily(30 * DAY)) == []


@given(st.lists(st.integers(1, 5_000), min_size=1, max_size=60), st.integers(2, 30), st.data())
def test_run_every_day_all_is_read_within_the_time_also_where_days_are_missed(
    sizes: list[int], within: int, data: st.DataObject
) -> None:
    share = Share.daily(within * DAY)
    proven = {f"copy {number}": NOW - timedelta(hours=number) for number in range(len(sizes))}
    size = dict(zip(proven, sizes, strict=True))
    missed = data.draw(st.sets(st.integers(0, within - 1), max_size=within // 3))
    for day in range(within + 1):
        now = NOW + day * DAY
        if day in missed and day != within:
            continue
        rows = sorted(((name, size[name], at.timestamp()) for name, at in proven.items()), key=lambda row: row[2])
        for name, _, _ in due(rows, len(rows), sum(sizes), share, now):
            proven[name] = now
    assert all(NOW + within * DAY - at < (within + 1) * DAY for at in proven.values())


def test_slices_of_contents_go_round_and_none_is_forgotten() -> None:
    known: dict[str, datetime] = {}
    share = Share.daily(30 * DAY)
    seen: set[str] = set()
    for day in range(30):
        turn = slices_due(known, share, NOW + day * DAY)
        assert 9 <= len(turn) <= 10 or day == 29
        seen |= set(turn)
        known |= dict.fromkeys(turn, NOW + day * DAY)
    assert seen == set(SLICES)
    assert set(slices_due(known, share, NOW + 90 * DAY)) == set(SLICES), "after a long break all are late"


def test_damage_that_is_left_is_worse_than_doubt_and_doubt_is_never_clean() -> None:
    def outcome(*findings: Finding) -> str:
        return outcome_of([PlaceReport("local", NOW, findings=list(findings))])

    healed = Finding("local", "damaged", "a", "is damaged", healed="from copy")
    left = Finding("local", "damaged", "b", "is damaged", left="no good copy")
    unsure = Finding("local", "unreadable", "c", "no key", "unsure")
    stray = Finding("local", "orphan", "d", "no manifest", "stray")
    assert [outcome(), outcome(stray), outcome(healed), outcome(healed, unsure), outcome(unsure, left)] == [
        "clean", "clean", "healed", "could not verify", "damaged",
    ]  # fmt: skip
