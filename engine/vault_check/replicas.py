"""A replica has every backup that it should have, and nothing that was begun and never finished."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from engine.catalog import Entry
from engine.copying import is_lacking
from engine.errors import BackupError, CopyUnderWay, IntegrityError
from engine.stopping import check as stop_if_asked
from engine.vault import LOCAL, UPLOADS_DIE_AFTER
from engine.vault_check.census import Census, entry_at, groups
from engine.vault_check.heal import sweep_healing
from engine.vault_check.work import Work, why

LATE = timedelta(hours=1)
"""After its manifest was written a backup has so long to be copied."""


def check_replica(work: Work, census: Census) -> None:
    """Copy what this replica lacks of the local root."""
    if work.location == LOCAL:
        return
    try:
        lacking = work.vault.wanted(work.location, list(_lacking(work, census)))
    except BackupError as error:
        work.find("unreadable", LOCAL, f"nobody knows what is lacking here: {why(error)}", "unsure")
        return
    for entry in lacking:
        stop_if_asked(f"verification of {work.location}")
        if work.under_way(entry.key) or work.told_of(_key_there(work, entry)):
            continue
        found = work.find("not copied", _key_there(work, entry), "it stands in the local root, and not here")
        if not work.request.heal:
            found.left = "it was not asked for"
            continue
        try:
            stored = work.vault.replicate(entry, work.location, work.progress)
            found.healed = f"copied ({stored.proof})"
        except CopyUnderWay as error:
            found.severity, found.left = "note", f"it is being copied: {why(error)}"
        except IntegrityError as error:
            found.left = f"the local copy is no good: {why(error)}"
        except BackupError as error:
            found.left = why(error)


def check_unfinished(work: Work) -> None:
    """Remove what nobody finished: staged files, uploads, healings."""
    if not work.request.heal:
        return
    age = 0.0 if work.location == LOCAL else UPLOADS_DIE_AFTER.total_seconds()
    try:
        for what in work.store.sweep(age):
            work.find("unfinished", what, "it was begun, and never finished", "note", healed="it was removed")
        for key in sweep_healing(work):
            work.find("unfinished", key, "a healing was broken off", "note", healed="it was removed")
    except BackupError as error:
        work.find("unfinished", work.location, f"unfinished uploads: {why(error)}", "unsure")


def _lacking(work: Work, census: Census) -> Iterator[Entry]:
    store, layout = work.vault.store(LOCAL), work.vault.layout(LOCAL)
    for group in groups(store, layout):
        for data in group.manifests:
            entry = entry_at(LOCAL, layout, group.key(data), group.files[data].size) if data in group.files else None
            if entry is None or work.now - group.modified < LATE:
                continue
            place = layout.place(entry.key)
            if place is not None and is_lacking(entry, place.pairs, work.layout, census):
                yield entry


def _key_there(work: Work, entry: Entry) -> str:
    place = work.vault.layout(LOCAL).place(entry.key)
    source, tier = place.pairs[0] if place is not None else ("", "")
    return work.layout.key(source, tier, entry.name.taken_at, entry.file)
