"""Spans of time as people write them: ``90s``, ``15m``, ``4h``, ``8d``, ``2w``."""

from __future__ import annotations

import re

SYNTAX = "write it as 90s, 15m, 4h, 8d or 2w"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_FORM = re.compile(r"^([1-9]\d{0,6})\s*([smhdw])$")


def seconds_of(text: str) -> float:
    """A span in seconds.

    Raises:
        ValueError: It is none; says what one looks like.
    """
    found = _FORM.match(text.strip())
    if not found:
        raise ValueError(f"is no span of time: {SYNTAX}")
    return float(int(found[1]) * _SECONDS[found[2]])


def in_words(seconds: float) -> str:
    """``4.2 s``, ``3 min 20 s``, ``1 h 4 min``, ``3 days 2 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


def roughly(seconds: float) -> str:
    """How old a thing is: ``70 min``, ``30 h``, ``3 days``."""
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
