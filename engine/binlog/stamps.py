"""Which commit times of a MariaDB log can be believed. Pure.

MariaDB stamps a transaction with the time its session saw when its last statement began, in whole seconds, and
a client may set that time. So a stamp outside of the time in which the log was written is a client's; and of
stamps that run backwards, those that lie on no longest row of stamps in order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

_FEWEST = 3
"""So many stamps in a row of their own are more than chance."""


def believed(stamps: Sequence[int], low: int | None, high: int | None) -> list[bool]:
    """For each stamp, in the log's order, if it says when its transaction was committed.

    Where stamps run backwards there are two readings: one was set ahead, or the other began long before it was
    committed. The reading that keeps more stamps is taken, and where both keep as many, every stamp of either.

    Args:
        low, high: The log was written between these, by the server's clock; None where it is not known.
    """
    inside = [(low is None or each >= low) and (high is None or each <= high) for each in stamps]
    kept = [each for each, good in zip(stamps, inside, strict=True) if good]
    if all(one <= two for one, two in pairwise(kept)):
        return inside
    ahead = _lengths(kept)
    behind = _lengths([-each for each in reversed(kept)])[::-1]
    longest = max(ahead)
    judged = iter([one + two - 1 == longest for one, two in zip(ahead, behind, strict=True)])
    return [good and next(judged) for good in inside]


def rivals(stamps: Sequence[int], steers: Sequence[bool], low: int | None, high: int | None) -> list[int]:
    """The numbers of stamps that are not believed although they make a row in order of their own, at least a third as
    long as what is believed: little but their number speaks against them."""
    odd = [
        number for number, (each, good) in enumerate(zip(stamps, steers, strict=True))
        if not good and (low is None or each >= low) and (high is None or each <= high)
    ]  # fmt: skip
    if len(odd) < _FEWEST:
        return []
    row = believed([stamps[number] for number in odd], None, None)
    chain = [number for number, good in zip(odd, row, strict=True) if good]
    return chain if len(chain) >= _FEWEST and 3 * len(chain) >= sum(steers) else []


def _lengths(row: Sequence[int]) -> list[int]:
    """For each number, the length of the longest row in order that ends with it."""
    tails: list[int] = []
    found = []
    for each in row:
        place = bisect_right(tails, each)
        tails[place : place + 1] = [each]
        found.append(place + 1)
    return found
