"""What does not add up by its names: data without a manifest, a manifest without data, marks of nothing."""

from __future__ import annotations

from datetime import datetime

from engine import marks, names
from engine.catalog import Entry
from engine.errors import BackupError, NotFound
from engine.vault_check.census import Census, Group, groups
from engine.vault_check.findings import Finding
from engine.vault_check.heal import set_aside
from engine.vault_check.treat import again, is_foreign, try_to_heal
from engine.vault_check.work import YOUNG, Work, why


def settle_suspects(work: Work, census: Census) -> None:
    """Look again at each: a backup that was published or pruned meanwhile is whole, or gone."""
    suspects = [each for each in census.suspects() if not work.under_way(each[0])]
    if suspects:
        work.wait()
    for key, _, modified in suspects:
        _settle(work, census, key, modified)


def _settle(work: Work, census: Census, key: str, modified: datetime) -> None:
    entry = work.entry(key)
    here = _group(work, key)
    file = key.rsplit("/", 1)[-1]
    marked = any(True for _ in marks.named(work.store, work.layout, key))
    if marked and entry is not None and "{site}" not in work.layout.template:  # sites may share the folder
        marked = bool(marks.judge(work.store, work.layout, work.vault.keys, entry)[0])
    has_manifest = file + names.MANIFEST_SUFFIX in here.files
    if (file in here.files and has_manifest) or not (here.files or marked) or work.under_way(key):
        if entry is not None and has_manifest:
            again(work, census, entry)
        return
    if entry is None:
        _stray(work, here, key, modified)
    elif has_manifest:
        _without_data(work, entry, here, marked=marked, expired=census.expired(key))
    elif here.files:
        _without_manifest(work, entry, here, modified, marked=marked, expired=census.expired(key))
    else:
        _marks_alone(work, entry, expired=census.expired(key))


def _without_data(work: Work, entry: Entry, here: Group, *, marked: bool, expired: bool) -> None:
    try:
        work.vault.catalog(work.location).load(entry)
        ours = True
    except NotFound:
        return
    except BackupError as error:
        if is_foreign(work, entry, error):
            return
        ours = marked
    found = work.find("lost", entry.key, "its manifest stands there, its data does not")
    if _expired(found, expired) or try_to_heal(work, entry, found):
        return
    if not ours:
        found.kind, found.severity, found.words = "orphan", "stray", "a manifest that is not ours speaks of nothing"
        _aside(work, found, [here.key(file) for file in here.files])


def _without_manifest(
    work: Work, entry: Entry, here: Group, modified: datetime, *, marked: bool, expired: bool
) -> None:
    if not marked and work.now - modified < YOUNG:
        return  # on its way in
    found = work.find("no manifest", entry.key, "its manifest is missing")
    if _expired(found, expired) or try_to_heal(work, entry, found):
        return
    if not marked:
        _stray(work, here, entry.key, modified, found)


def _stray(work: Work, here: Group, key: str, modified: datetime, found: Finding | None = None) -> None:
    if work.now - modified < YOUNG:
        return
    found = found or work.find("orphan", key, "", "stray")
    found.kind, found.severity = "orphan", "stray"
    found.words = f"{_count(here)} without a manifest, here and everywhere"
    found.left = "nobody can say what it is; take it in with backups adopt, move it away with --set-aside, or delete it"
    _aside(work, found, [here.key(file) for file in here.files])


def _marks_alone(work: Work, entry: Entry, *, expired: bool) -> None:
    """Marks are removed last: where they stand alone and nothing was to go, a backup was lost."""
    words, _ = marks.judge(work.store, work.layout, work.vault.keys, entry)
    if not words and "{site}" not in work.layout.template:
        return  # another site's, in a folder that sites share
    if expired:
        found = work.find("expired", entry.key, "its removal was broken off: marks of it are left", "note")
        if work.request.heal:
            marks.remove(work.store, work.layout, entry.key)
            found.healed = "they were removed"
        return
    found = work.find("lost", entry.key, "only marks of it are left")
    if not try_to_heal(work, entry, found):
        keys = [info.key for info in work.store.list(work.layout.marks_prefix(entry.key))]
        _aside(work, found, keys)


def _expired(found: Finding, expired: bool) -> bool:
    if expired:
        found.severity, found.left = "note", "it has expired, and goes with the next prune"
    return expired


def _aside(work: Work, found: Finding, keys: list[str]) -> None:
    if not work.request.set_aside:
        return
    try:
        moved = [set_aside(work, key) for key in keys]
        found.healed, found.left = f"moved to {moved[0]}" if moved else "", ""
    except BackupError as error:
        found.left = why(error)


def _group(work: Work, key: str) -> Group:
    folder, _, file = key.rpartition("/")
    name = names.parse_file(file)
    stem = file.removesuffix(f".{name.ext}") if name is not None else file
    below = f"{folder}/{stem}." if folder else f"{stem}."
    return next(iter(groups(work.store, work.layout, below)), Group(folder, stem))


def _count(here: Group) -> str:
    return f"{len(here.files)} files" if len(here.files) != 1 else "a file"
