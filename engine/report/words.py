"""Figures for people who do not read figures all day."""

from __future__ import annotations

from datetime import datetime

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
GIB = 2**30
"""What a price is of."""


def size(count: float | None) -> str:
    """``1.4 GB`` (powers of 1000)."""
    if count is None:
        return "–"
    for unit in _UNITS:
        if count < 999.95 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def rate(count: float | None) -> str:
    """``85.2 MB/s``."""
    return "–" if count is None else f"{size(count)}/s"


def span(seconds: float | None) -> str:
    """Roughly how long: ``0.4 s``, ``12 s``, ``3 min``, ``4 h``, ``3 days``."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for limit, unit, step in ((100, "s", 1), (100 * 60, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / step:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def ago(at: datetime | None, now: datetime) -> str:
    """``4 h ago``, ``never``."""
    if at is None:
        return "never"
    seconds = (now - at).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 0 else f"dated {span(-seconds)} ahead"


def moment(at: datetime | None) -> str:
    """``2026-11-22 02:00``, UTC."""
    return f"{at:%Y-%m-%d %H:%M}" if at else "–"


def day(at: datetime | None) -> str:
    """``22 Nov 2026``, UTC."""
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}" if at else "–"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def money(amount: float | None, currency: str) -> str:
    """``12.40 USD``."""
    if amount is None:
        return "–"
    return f"{amount:,.2f} {currency}" if amount >= 0.005 or amount == 0 else f"below 0.01 {currency}"


def plural(count: int, word: str) -> str:
    """``1 source``, ``2 sources``, ``3 copies``."""
    if count == 1:
        return f"1 {word}"
    ends_in_ies = word.endswith("y") and word[-2] not in "aeiou"
    return f"{count:,} {word[:-1]}ies" if ends_in_ies else f"{count:,} {word}s"


def named(words: list[str], most: int = 3) -> str:
    """The first few, and how many more there are."""
    more = f"; and {len(words) - most} more" if len(words) > most else ""
    return "; ".join(words[:most]) + more


def upper(text: str) -> str:
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]
