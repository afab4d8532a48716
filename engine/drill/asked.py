"""The site's own verification queries: an answer held against what is expected of it. No server is spoken to here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from engine.drill.base import Piece
from engine.drill.verdict import FAILED, PROVEN, UNVERIFIED, Check
from engine.drill_config import DrillQuery
from engine.errors import BackupError, Cancelled, Unreachable

Ask = Callable[[str, float], list[tuple[Any, ...]]]
"""Runs one query in a transaction that only reads."""


def queries_for(queries: list[DrillQuery], piece: Piece, databases: list[str]) -> Iterator[tuple[DrillQuery, str]]:
    """Those that are asked in this piece's database, each with why it cannot be asked, or nothing.

    Args:
        databases: All of the source.
    """
    for query in queries:
        if query.database == piece.database or (not query.database and len(databases) == 1):
            yield query, ""
        elif not query.database and piece.database == databases[0]:
            yield query, f"the source has several databases ({', '.join(databases)}); say in which: database: NAME"
        elif query.database and query.database not in databases and piece.database == databases[0]:
            yield query, f"the source has no database {query.database!r}"


def judge_queries(asked: Iterator[tuple[DrillQuery, str]], ask: Ask) -> Iterator[Check]:
    """One check for each query."""
    for query, unclear in asked:
        what = f"query: {query.name or query.query}"
        if unclear:
            yield Check("meaning", what, UNVERIFIED, unclear)
            continue
        try:
            rows = ask(query.query, query.timeout_seconds)
        except (Cancelled, Unreachable):
            raise
        except BackupError as error:
            yield Check("meaning", what, FAILED, f"it could not be answered: {error.message.rstrip('.')}")
            continue
        problem, shown = judge(query, rows)
        yield Check("meaning", what, FAILED if problem else PROVEN, problem or f"{shown}, as expected")


def judge(query: DrillQuery, rows: list[tuple[Any, ...]]) -> tuple[str, str]:
    """What is wrong with an answer (empty: nothing), and the answer in words."""
    if len(rows) != 1 or not rows[0]:
        return f"it gave {len(rows)} rows, and must give one", ""
    value = rows[0][0]
    shown = _text(value)
    expected = _expected(query)
    if query.equals is not None and shown != query.equals:
        return f"the answer is {shown!r}, expected {expected}", shown
    if query.at_least is None and query.at_most is None:
        return "", shown
    try:
        number = Decimal(shown)
    except InvalidOperation:
        number = Decimal("nan")
    if number.is_nan():
        return f"the answer is {shown!r}, no number; expected {expected}", shown
    low = query.at_least is not None and number < Decimal(str(query.at_least))
    high = query.at_most is not None and number > Decimal(str(query.at_most))
    return (f"the answer is {shown}, expected {expected}" if low or high else ""), shown


def _expected(query: DrillQuery) -> str:
    words = [] if query.equals is None else [repr(query.equals)]
    words += [] if query.at_least is None else [f"at least {query.at_least:g}"]
    words += [] if query.at_most is None else [f"at most {query.at_most:g}"]
    return " and ".join(words)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
