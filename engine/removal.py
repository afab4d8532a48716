"""Removing a backup for good: its manifest first, so that it is none any more, then what it described.

A journal is written before the first step. Whoever dies on the way leaves data without a manifest, which no
listing shows, and the next sweep removes the rest. Never the other way round: a manifest without data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from engine import marks, names
from engine.errors import BackupError, Retained
from engine.journal import Journal, abandoned
from engine.layout import Layout
from engine.stores.base import Store
from engine.stores.local_errors import speaking_of

KIND = "removal"


def remove(journals: Path, store: Store, layout: Layout, key: str, parts: list[str]) -> None:
    """Remove one backup: manifest, data, companions, marks.

    Args:
        key: Of its data.
        parts: Keys of all its files but the manifest, the data first.

    Raises:
        Retained: An object lock keeps its manifest; nothing was removed. And what the store raises: what is
            left then goes with the next sweep.
    """
    with speaking_of("write to", journals, journals):
        journal = Journal.create(journals, KIND, location=store.name, key=key, parts=parts)
    try:
        try:
            store.delete(key + names.MANIFEST_SUFFIX)
        except Retained:
            journal.close()
            raise
        _remove_rest(store, layout, key, parts)
        journal.close()
    finally:
        journal.release()


def finish_abandoned(
    journals: Path, store_of: Callable[[str], Store], layout_of: Callable[[str], Layout]
) -> Iterator[str]:
    """Finish the removals of dead runs; says what went. One whose manifest still stands was not begun."""
    for journal in abandoned(journals, KIND):
        location, key = str(journal.facts["location"]), str(journal.facts["key"])
        try:
            store = store_of(location)
            if store.stat(key + names.MANIFEST_SUFFIX) is None:
                _remove_rest(store, layout_of(location), key, [str(part) for part in journal.facts["parts"]])
                yield f"{location}: {key} (its removal was broken off)"
            journal.close()
        except BackupError as error:
            journal.release()
            yield f"{location}: could not finish removing {key} yet: {error.message}"


def _remove_rest(store: Store, layout: Layout, key: str, parts: list[str]) -> None:
    for part in parts:
        store.delete(part)
    marks.remove(store, layout, key)
