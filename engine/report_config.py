"""What the weekly report is told: where its pages go, and what storage costs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pydantic import Field, model_validator

from engine.store_config import Model

_CLASS = re.compile(r"^[A-Z][A-Z0-9_-]*$")


class ReportConfig(Model):
    """Settings of the weekly report. Without prices it tells bytes and no cost."""

    directory: str = Field(
        "", description="Where its pages are put, absolute; empty: reports/ in the vault's own state directory."
    )
    currency: str = Field("", max_length=8, description="Of the prices, as it is written: USD, EUR...")
    prices: dict[str, float] = Field(
        default_factory=dict,
        description="Of a GB (2^30 bytes) for a month: by place/class (aws/GLACIER), place (local, spaces) or class "
        "(STANDARD_IA).",
    )

    @model_validator(mode="after")
    def _can_be_used(self) -> ReportConfig:
        if self.directory and not self.directory.startswith("/"):
            raise ValueError(f"report.directory {self.directory!r} is not absolute")
        for name, price in self.prices.items():
            if not 0 <= price < 1e6:
                raise ValueError(f"report.prices.{name} is no price of a GB for a month")
        if self.prices and not self.currency:
            raise ValueError("report.prices have no currency; say which: report.currency: USD")
        return self

    def price_of(self, place: str, storage_class: str) -> float | None:
        """Of a GB (2^30 bytes) for a month; None where none is known. The most exact name wins."""
        for name in (f"{place}/{storage_class}", place, storage_class):
            if name in self.prices:
                return self.prices[name]
        return None


def misnamed(prices: Mapping[str, float], places: Iterable[str]) -> str:
    """What is wrong with the first price that is of nothing; empty where there is none.

    Args:
        places: ``local`` and the site's replicas.
    """
    known = list(places)
    for name in prices:
        place, slash, kind = name.partition("/")
        if place not in known and (slash or not _CLASS.match(place)):
            return f"report.prices.{name} names no place of the site; there are: {', '.join(known)}"
        if slash and not _CLASS.match(kind):
            return f"report.prices.{name}: {kind!r} is no storage class; one looks like STANDARD_IA"
    return ""
