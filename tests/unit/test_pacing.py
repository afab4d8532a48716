"""No faster than so many bytes a second."""

from __future__ import annotations

import pytest

from engine.pacing import Pace, rate_of


class Clock:
    """Time that passes only by sleeping, or when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_bytes_take_the_time_that_they_are_due() -> None:
    clock = Clock()
    pace = Pace(1000, lambda: clock.now, clock.sleep)
    chunks = list(pace.of(iter([b"x" * 500] * 20)))
    assert len(chunks) == 20 and 9.5 <= clock.now - 100 <= 10
    clock.now += 3600
    begun = clock.now
    for _ in range(20):
        pace.spend(500)
    assert clock.now - begun >= 9.5, "a pause is not saved up"


def test_no_rate_never_waits() -> None:
    clock = Clock()
    list(Pace(0, lambda: clock.now, clock.sleep).of(iter([b"x" * 10**6] * 5)))
    assert clock.now == 100


def test_rates_are_read_as_people_write_them() -> None:
    assert [rate_of(text) for text in ("500kB", "10 MB", "1GB")] == [500_000, 10_000_000, 10**9]
    for text in ("0MB", "10", "10 Mbit", "-1MB", ""):
        with pytest.raises(ValueError, match="write it as"):
            rate_of(text)
