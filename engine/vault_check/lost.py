"""Backups that went from the local root with all that belonged to them: nothing here tells, but a replica does.

Said only where nothing else explains it. A signed word at the replica says that the backup came from here; the local
root's own retention keeps it still; and an older one of the same series stands here, which retention would have taken
first, and which shows that this root is not younger than what it lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache

from engine import marks, names
from engine.catalog import Entry
from engine.copying import is_lacking
from engine.errors import BackupError
from engine.layout import Pair
from engine.manifest import Manifest
from engine.prune.contents import COPIED, EXPIRED, claims_of
from engine.retention.policy import MANUAL, PRE_DEPLOYMENT
from engine.vault import LOCAL
from engine.vault_check.census import Census, entry_at, groups
from engine.vault_check.copies import keys_at
from engine.vault_check.treat import try_to_heal
from engine.vault_check.work import Work

_OTHERWISE = frozenset((*names.LOGS, names.IMAGE, PRE_DEPLOYMENT, MANUAL))
"""Logs are looked at by their numbers. Images and snapshots go by what leans on them, and by words that a replica may
not have heard; manual backups by a person's hand."""
_ANEW = timedelta(days=1)
"""What was encrypted anew has the name of a few seconds later."""


def check_lost(work: Work, census: Census) -> None:
    """Bring back what is gone from the local root and stands at a replica."""
    if work.location != LOCAL:
        return
    lost: dict[str, tuple[Entry, str]] = {}
    oldest = cache(lambda: _oldest(work))
    with work.vault.catalog(LOCAL).listed_once():
        for place in work.others:
            try:
                for there in _only_there(work, census, place):
                    series = {(*pair, there.name.name) for pair in _pairs(work, there)}
                    if all(oldest().get(each, there.name.taken_at) >= there.name.taken_at for each in series):
                        continue
                    here = _lost(work, census, there)
                    if here is not None:
                        lost.setdefault(here.key, (here, place))
            except BackupError:
                continue  # that place tells of itself
    if lost:
        work.wait()
    for entry, place in lost.values():
        if not _stands(work, entry):
            found = work.find("lost", entry.key, f"it is gone with all that belonged to it, and stands in {place}")
            try_to_heal(work, entry, found)


def _only_there(work: Work, census: Census, place: str) -> Iterator[Entry]:
    """Backups of a replica that by their names are not here, and so young that they may have to be."""
    layout = work.vault.layout(place)
    for group in groups(work.vault.store(place), layout):
        for data in group.manifests:
            entry = entry_at(place, layout, group.key(data)) if data in group.files else None
            pairs = _pairs(work, entry) if entry is not None else ()
            if entry is None or not is_lacking(entry, pairs, work.layout, census):
                continue
            if any(_is_kept(work, source, tier, entry) for source, tier in pairs):
                yield entry


def _pairs(work: Work, entry: Entry) -> tuple[Pair, ...]:
    """The sources and tiers that it may be of."""
    place = work.vault.layout(entry.location).place(entry.key)
    return place.pairs if place is not None else ()


def _oldest(work: Work) -> dict[tuple[str, str, str], datetime]:
    """When the oldest backup of each series here was taken, by source, tier and name; from names alone."""
    found: dict[tuple[str, str, str], datetime] = {}
    for group in groups(work.store, work.layout):
        for data in group.manifests:
            entry = work.entry(group.key(data)) if data in group.files else None
            if entry is None:
                continue
            for pair in _pairs(work, entry):
                series, taken_at = (*pair, entry.name.name), entry.name.taken_at
                found[series] = min(taken_at, found.get(series, taken_at))
    return found


def _is_kept(work: Work, source: str, tier: str, entry: Entry, newer: int = 0) -> bool:
    """Does the local root's retention keep it, whatever leans on it?

    Args:
        newer: How many of its series here are newer.
    """
    if tier in _OTHERWISE:
        return False
    rule = work.site.config.retention_in(LOCAL).of(source, tier)
    young = rule.age is not None and work.now - entry.name.taken_at <= rule.age
    return rule.forever or young or newer < rule.count


def _lost(work: Work, census: Census, there: Entry) -> Entry | None:
    """The backup as it should stand here; None where it should not, or where that cannot be told."""
    try:
        manifest = work.vault.catalog(there.location).load(there)
    except BackupError:
        return None  # it is told in its own place
    key = work.layout.key(manifest.source, manifest.tier, manifest.taken_at, manifest.file)
    here = work.entry(key)
    if here is None or census.expired(key) or work.told_of(key) or work.under_way(key) or _stands(work, here):
        return None
    said = claims_of(work.vault, there)
    if said.expired == EXPIRED or said.superseded or said.limited or not _came_from_here(work, there):
        return None
    catalog = work.vault.catalog(LOCAL)
    every = catalog.entries(source=manifest.source, tier=manifest.tier)
    series = [each for each in every if each.name.name == here.name.name]
    newer = sum(each.name.taken_at > here.name.taken_at for each in series)
    if not _is_kept(work, manifest.source, manifest.tier, here, newer):
        return None
    near = [each for each in series if abs(each.name.taken_at - here.name.taken_at) < _ANEW]
    if any(_is_anew(work, each, manifest) for each in near):
        return None
    older = (each for each in reversed(series) if each.name.taken_at < here.name.taken_at)
    return here if any(_shows_that_root_stood(work, each, manifest) for each in older) else None


def _came_from_here(work: Work, there: Entry) -> bool:
    words, _ = marks.judge(
        work.vault.store(there.location), work.vault.layout(there.location), work.vault.keys, there
    )  # fmt: skip
    return any(word["kind"] == COPIED and word["facts"].get("origin") == LOCAL for word in words)


def _is_anew(work: Work, entry: Entry, old: Manifest) -> bool:
    """Is this what the other was encrypted anew as? Then that one was removed rightly."""
    manifest = _manifest(work, entry)
    return manifest is not None and manifest.origin is not None and bool(manifest.origin.key_id) and (
        manifest.origin.file == old.file
    )  # fmt: skip


def _shows_that_root_stood(work: Work, older: Entry, lost: Manifest) -> bool:
    """Was this older backup of the series made here in its time, from the same server, and does no word alone keep it?
    An adopted one was not made here; and with another server's, the replica may be shared with another machine."""
    manifest, said = _manifest(work, older), claims_of(work.vault, older)
    if said.pinned or said.limited:
        return False
    if manifest is None or manifest.adopted or (manifest.source, manifest.tier) != (lost.source, lost.tier):
        return False
    servers = {each.server.uuid for each in (manifest, lost) if each.server is not None}
    return len(servers - {""}) < 2


def _manifest(work: Work, entry: Entry) -> Manifest | None:
    """The manifest of a local backup; where it does not hold, that of a copy elsewhere."""
    for each in [entry, *(there for place in work.others for there in keys_at(work.vault, place, entry))]:
        try:
            return work.vault.catalog(each.location).load(each)
        except BackupError:
            continue
    return None


def _stands(work: Work, entry: Entry) -> bool:
    """Is anything of it here?"""
    return any(work.store.stat(key) is not None for key in (entry.manifest_key, entry.key))
