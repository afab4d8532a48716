"""Clearing up after writers that died while they published or copied a backup.

Such a writer keeps a journal of the keys it is about to make visible, with sizes and digests. What
stands there afterwards without a manifest is no backup; it goes, if it is really that writer's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from engine import names
from engine.errors import CopyUnderWay, NotFound, in_words
from engine.journal import Journal, abandoned
from engine.manifest import StoredFile
from engine.stores.base import Store


def begin_publishing(journal: Journal, location: str, key: str, parts: Iterable[tuple[str, StoredFile]]) -> None:
    """Write down what is about to become visible: the data's key and every part's key, size and digest."""
    journal.record(
        "publishing", location=location, data=key,
        parts=[{"key": part_key, "size": part.size, "sha256": part.sha256} for part_key, part in parts],
    )  # fmt: skip


def withdraw(journal: Journal, store: Store) -> list[str]:
    """Remove what this journal's writer made visible, unless its manifest stands: then it is a backup.

    Returns:
        The keys that went.
    """
    step = journal.reached("publishing")
    if step is None or store.stat(step["data"] + names.MANIFEST_SUFFIX) is not None:
        return []
    gone = []
    for part in reversed(step["parts"]):
        if _is_that(store, part):
            store.delete(part["key"])
            gone.append(str(part["key"]))
    return gone


def withdraw_abandoned(
    journals: Path, store_of: Callable[[str], Store], turn: Callable[[str, str], AbstractContextManager[None]]
) -> Iterator[str]:
    """End the journals of dead writers; says what went. One whose store cannot be reached stays; so does one of a copy
    that a living run makes again just now: what stands there is that run's.

    Args:
        turn: Holds the turn to copy to that place the backup of that file name, or raises CopyUnderWay.
    """
    for journal in abandoned(journals):
        step = journal.reached("publishing")
        if step is None:
            journal.close()
            continue
        location = str(step["location"])
        try:
            with turn(location, str(step["data"]).rpartition("/")[2]):
                gone = withdraw(journal, store_of(location))
            journal.close()
            yield from (f"{location}: {key} (a writer died before its manifest)" for key in gone)
        except CopyUnderWay:
            journal.release()
        except Exception as failure:
            error = in_words(failure, "Clearing it")
            journal.release()
            yield f"{location}: could not clear {step['data']} yet: {error.message}"


def _is_that(store: Store, part: dict[str, Any]) -> bool:
    """Does the very file of the journal stand there? Anything else is somebody else's."""
    info = store.stat(part["key"])
    if info is None or info.size != part["size"]:
        return False
    digest = hashlib.sha256()
    try:
        for chunk in store.read(part["key"]):
            digest.update(chunk)
    except NotFound:
        return False
    return digest.hexdigest() == str(part["sha256"])
