"""Which copies are read back by a run: the share of a day, the longest unproven first. Pure.

When a copy was last proven stands in the names of its marks, in the vault itself: no state is lost with a machine,
and a day that was missed is made up for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Share:
    """How much is read.

    Attributes:
        part: Of everything, 0 to 1: so much at least, by number and by bytes.
        within: Whatever was not proven for so long, less a day, is read in any case. None: only the part counts.
    """

    part: float
    within: timedelta | None = None

    @classmethod
    def daily(cls, within: timedelta) -> Share:
        """What a run every day reads, so that everything is read within that time."""
        return cls(min(1.0, DAY / within), within)

    @property
    def everything(self) -> bool:
        return self.part >= 1.0


Row = tuple[str, int, float]
"""A name, its size in bytes, and when it was last proven (seconds since 1970, UTC)."""


def due(rows: Iterable[Row], count: int, size: int, share: Share, now: datetime) -> Iterator[Row]:
    """Those of the rows whose turn it is.

    Args:
        rows: The longest unproven first.
        count, size: Of all rows, and their bytes.
    """
    overdue = (now - share.within + DAY).timestamp() if share.within is not None else None
    taken = taken_size = 0
    for row in rows:
        enough = taken >= share.part * count and taken_size >= share.part * size
        if not share.everything and enough and (overdue is None or row[2] > overdue):
            return
        taken, taken_size = taken + 1, taken_size + row[1]
        yield row
