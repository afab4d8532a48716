"""The contents that a new list leans on stay locked in a place for as long as the list.

What is stored with a list is locked as it is written. What stood there already is locked until some older list let it
go: it is asked for, and lengthened where that is too early. This machine notes until when each is locked, beside the
moment at which it was last written there: of a content that somebody wrote since, or where there are no notes, the
place is asked again. Locks are lengthened far ahead (``Term.most``), so that most nights nothing is to be done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from engine import names
from engine.buckets.contents import Contents, Found
from engine.buckets.disk_map import DiskMap
from engine.retention.locks import Term
from engine.stores.local_errors import speaking_of

_BATCH = 2000
_STAMP = len("2026-01-01T00:00:00Z")


class ContentLocks:
    """The locks of one bucket's contents in one place; to be closed.

    Args:
        term: For how long they are to be locked; None: they are not.
        notes: Folder of what is noted on this machine. The caller holds ``Vault.filling``.
    """

    def __init__(self, contents: Contents, term: Term | None, notes: Path) -> None:
        self.term = term
        self._contents = contents
        self._met = DiskMap()
        self._noted = DiskMap(_file(contents, notes)) if term is not None else DiskMap()
        self._noted.drop_below(_stamp(names.now()))

    def __enter__(self) -> ContentLocks:
        return self

    def __exit__(self, *exc: object) -> None:
        self._met.close()
        self._noted.close()

    def looked(self, listing: Iterator[Found]) -> Iterator[Found]:
        """The same listing; what was written since it was noted is not known any more."""
        if self.term is None:
            yield from listing
            return
        while batch := list(islice(listing, _BATCH)):
            self._noted.update(
                (each.name, f" {written}")
                for each in batch
                if (self._noted.get(each.name) or "")[_STAMP + 1 :] != (written := _stamp(each.modified))
            )
            yield from batch

    def is_short(self, name: str) -> bool:
        """Is its lock, as far as is known, over before ``term.least``? Told once of each, and of none after ``met``."""
        if self.term is None or (self._noted.get(name) or "")[:_STAMP] >= _stamp(self.term.least):
            return False
        return self._met.add(name)

    def met(self, name: str) -> None:
        """It is seen to otherwise: written anew, with a lock."""
        self._met.add(name)

    def lengthen(self, name: str) -> None:
        """Have its lock last. Raises what the store does."""
        if self.term is None:
            return
        until = self._contents.store.retain(self._contents.key(name), self.term)
        if until is not None:
            written = (self._noted.get(name) or "").rpartition(" ")[2]
            self._noted.put(name, f"{_stamp(until)} {written}")


def _file(contents: Contents, notes: Path) -> Path:
    """One for each place: another bucket under the same name is another place."""
    with speaking_of("write to", notes, notes.parent):
        notes.mkdir(mode=0o700, exist_ok=True)
    what = f"{contents.store.name} {contents.store.describe()} {contents.prefix}"
    return notes / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.db"


def _stamp(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


__all__ = ["ContentLocks"]
