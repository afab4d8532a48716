"""Where a backup stands in several places: what cannot be had from one copy is taken from the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from engine.catalog import Entry
from engine.errors import IntegrityError, NotFound, Unreadable
from engine.manifest import Manifest

T = TypeVar("T")


def first_whole(
    copies: Sequence[tuple[Entry, Manifest]],
    use: Callable[[Entry, Manifest], T],
    notes: list[str],
    *,
    before_next: Callable[[], None] = lambda: None,
) -> tuple[T, list[tuple[Entry, Manifest]]]:
    """What ``use`` makes of the first copy that proves whole, and the copies from that one on.

    Args:
        copies: Of one backup, the place to take it from first.
        notes: Gets a line about each copy that is not usable.
        before_next: Clears away what ``use`` made of such a copy.

    Raises:
        IntegrityError, NotFound, Unreadable: Of the last copy, when none is whole.
    """
    for index, (entry, manifest) in enumerate(copies):
        try:
            return use(entry, manifest), list(copies[index:])
        except (IntegrityError, NotFound, Unreadable) as error:
            if index + 1 == len(copies):
                raise
            notes.append(f"the copy in {entry.location} is not usable ({error.message}); used the next one")
            before_next()
    raise AssertionError("a plan has a copy")
