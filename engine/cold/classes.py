"""Cold storage of S3: which classes must be thawed before anything can be read, and how far a thaw is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

COLD_CLASSES = ("GLACIER", "DEEP_ARCHIVE")
Speed = Literal["Expedited", "Standard", "Bulk"]
_ONGOING = re.compile(r'ongoing-request="(true|false)"')
_EXPIRY = re.compile(r'expiry-date="([^"]+)"')
_WAITS = {
    ("GLACIER", "Expedited"): "1 to 5 minutes",
    ("GLACIER", "Standard"): "3 to 5 hours",
    ("GLACIER", "Bulk"): "5 to 12 hours",
    ("DEEP_ARCHIVE", "Standard"): "up to 12 hours",
    ("DEEP_ARCHIVE", "Bulk"): "up to 48 hours",
}
_COSTS = {
    "Expedited": "expedited retrieval, the dearest",
    "Standard": "standard retrieval, billed by the GB and the request",
    "Bulk": "bulk retrieval, the cheapest",
}


@dataclass(frozen=True)
class Coldness:
    """An object in a cold class.

    Attributes:
        state: ``cold``: nobody asked for it. ``thawing``: asked for, not there yet. ``thawed``: readable.
        until: How long it stays readable, UTC, where the endpoint tells.
    """

    storage_class: str
    state: Literal["cold", "thawing", "thawed"]
    until: datetime | None = None


def coldness_of(head: dict[str, Any]) -> Coldness | None:
    """What the answer to a HEAD says; None for what can be read at once. Source: HeadObject, ``x-amz-restore``."""
    storage_class = str(head.get("StorageClass") or "STANDARD")
    if storage_class not in COLD_CLASSES:
        return None
    told = str(head.get("Restore") or "")
    ongoing, expiry = _ONGOING.search(told), _EXPIRY.search(told)
    if ongoing is None:
        return Coldness(storage_class, "cold")
    if ongoing[1] == "true":
        return Coldness(storage_class, "thawing")
    until = parsedate_to_datetime(expiry[1]).astimezone(UTC) if expiry else None
    return Coldness(storage_class, "thawed", until)


def wait_of(storage_class: str, speed: Speed) -> str:
    """How long a thaw takes at AWS, in words."""
    return _WAITS.get((storage_class, speed), "hours")


def cost_of(speed: Speed) -> str:
    """What kind of cost a thaw has, in words."""
    return _COSTS[speed]
