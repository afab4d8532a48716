"""What stands in a bucket is overwritten only if a copy of it is kept: looked at again right before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from engine.buckets.disk_map import DiskMap
from engine.buckets.endpoint import Endpoint
from engine.buckets.record import Record, record_of
from engine.buckets.standing import Standing
from engine.config_files.source import shown
from engine.errors import RestoreRefused


class Guard:
    """Knows what the safety snapshot holds, by key; nothing where none was taken. Safe to use from several threads.

    Args:
        there: The bucket that is written to.
        under: What is put before every key of a record that is restored.
    """

    def __init__(self, there: Endpoint, under: str) -> None:
        self._there = there
        self._under = under
        self._saved = DiskMap()
        self._whole = Standing(there, self._saved, "", fill=False)
        self._part = Standing(there, self._saved, under, fill=False)

    def take(self, records: Iterable[Record]) -> None:
        """Take in the list of a safety snapshot."""
        self._saved.update((each.key, each.line()) for each in records)

    def check(self, each: Record) -> None:
        """Look at what stands where an object is about to be written.

        Raises:
            RestoreRefused: Something that is not in the safety snapshot. And what the endpoint says.
        """
        saved = self._saved.get(self._under + each.key)
        # A snapshot does not see a change of tags alone.
        how = self._part.look(each) if saved is None else self._whole.look(replace(record_of(saved), tags=None))
        if how == "differing":
            raise RestoreRefused(
                f"{shown(self._under + each.key)} in {self._there.place} was written while this restore ran: no safety "
                "snapshot has it.",
                kept="what stands there; objects that were restored so far stay",
                remedy="stop what writes there, and run it again: a new safety snapshot is taken first",
            )

    def close(self) -> None:
        """Let go of the disk."""
        self._saved.close()
