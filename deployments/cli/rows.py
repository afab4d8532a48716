"""Lists that may be very long: made entry by entry while they are written, never all at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

LONG = 5_000
"""Entries with which nobody reads a document any more, and laying it out takes longer than making it."""


class Rows:
    """A list of documents that is made while it is written.

    Args:
        make: Gives its entries anew each time it is called.
    """

    def __init__(self, make: Callable[[], Iterable[dict[str, Any]]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._make())


def rows(count: int, make: Callable[[], Iterable[dict[str, Any]]]) -> list[dict[str, Any]] | Rows:
    """A plain list of what is short, ``Rows`` of what is long."""
    return list(make()) if count <= LONG else Rows(make)


def pieces(body: Any) -> Iterator[str]:
    """A JSON document in pieces: laid out for people, but for ``Rows``, which get a line an entry."""
    if not _holds_rows(body):
        yield json.dumps(body, indent=2, ensure_ascii=False, default=str)
    elif isinstance(body, Rows):
        separator = "[\n"
        for each in body:
            yield separator + json.dumps(each, ensure_ascii=False, default=str)
            separator = ",\n"
        yield "[]" if separator == "[\n" else "\n]"
    else:
        named = isinstance(body, dict)
        separator = "{" if named else "["
        for each in body:
            yield separator + (f"{json.dumps(each)}: " if named else "")
            yield from pieces(body[each] if named else each)
            separator = ",\n"
        yield "}" if named else "]"


def _holds_rows(body: Any) -> bool:
    if isinstance(body, Rows):
        return True
    inner = body.values() if isinstance(body, dict) else body if isinstance(body, list) and len(body) < LONG else ()
    return any(_holds_rows(each) for each in inner if isinstance(each, (dict, list, Rows)))
