"""A person's word on how long a backup stays: pinned, unpinned, to be kept until a day. Retention honours it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from engine import marks, names
from engine.catalog import Entry
from engine.errors import BackupError, ConfigError, NotFound
from engine.manifest import Manifest
from engine.prune.contents import KEEP, PINNED, SUPERSEDED, UNPINNED, UNTIL, claims_of
from engine.retention.policy import MANUAL, parse
from engine.vault import Vault

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Said:
    """What became of a word at one place.

    Attributes:
        changed: False where it had been said before, or the backup is not there.
        there: Does the backup stand there?
        error: Why it could not be said.
    """

    location: str
    changed: bool = False
    there: bool = True
    error: BackupError | None = None


def parse_keep(text: str, tier: str) -> timedelta | None:
    """``30d`` as it is given for one backup; None for an empty text.

    Raises:
        ConfigError: It is no age, or the tier has a rule of its own.
    """
    if not text.strip():
        return None
    if tier != MANUAL:
        raise ConfigError(
            f"How long {tier} backups are kept is said in the site file, not for one of them.",
            remedy=f"set vault.retention.{tier}, or back up without --tier, which makes a manual backup",
        )
    try:
        rule = parse(text)
    except ValueError as error:
        raise ConfigError(f"--keep {error}") from None
    if rule.age is None or rule.count:
        raise ConfigError(f"--keep {text} is no age.", remedy="write 30d, 12w or 6m; without it, it is kept for ever")
    return rule.age


def keep_until(vault: Vault, entry: Entry, until: datetime) -> None:
    """Say until when a backup is to be kept (UTC); a copy made later hears of it."""
    vault.mark(entry, KEEP, **{UNTIL: until.isoformat()})


def pin(vault: Vault, entry: Entry, manifest: Manifest, *, reason: str = "") -> list[Said]:
    """Keep a backup, wherever it stands, until it is unpinned. One place that fails holds up no other."""
    return everywhere(vault, entry, manifest, lambda there: _say(vault, there, PINNED, reason))


def unpin(vault: Vault, entry: Entry, manifest: Manifest, *, reason: str = "") -> list[Said]:
    """Leave a backup to the retention of its tier again, wherever it stands."""
    return everywhere(vault, entry, manifest, lambda there: _say(vault, there, UNPINNED, reason))


def everywhere(vault: Vault, entry: Entry, manifest: Manifest, say: Callable[[Entry], bool]) -> list[Said]:
    """Say something of a backup at every place that has it; ``say`` tells whether anything changed. What it was
    encrypted anew as hears of it too, and so does what it was made from: one backup until the older is gone."""
    done = []
    for location in vault.locations():
        try:
            there = entry if location == entry.location else standing(vault, location, entry, manifest)
            if there is None:
                done.append(Said(location, there=False))
                continue
            done.append(Said(location, _of_any((there, *kin(vault, there, manifest)), say)))
        except BackupError as error:
            done.append(Said(location, error=error))
    return done


def _of_any(entries: Sequence[Entry], say: Callable[[Entry], bool]) -> bool:
    """Say it of each; did it change anything? Raises NotFound where none of them stands any more."""
    changed, gone = [], []
    for entry in entries:
        try:
            changed.append(say(entry))
        except NotFound as error:
            gone.append(error)
    if not changed:
        raise gone[0]
    return any(changed)


def standing(vault: Vault, location: str, entry: Entry, manifest: Manifest) -> Entry | None:
    """The same backup at another place, or None where that does not have it."""
    key = vault.layout(location).key(manifest.source, manifest.tier, manifest.taken_at, manifest.file)
    if vault.store(location).stat(key + names.MANIFEST_SUFFIX) is None:
        return None
    return Entry(location, key, entry.name, manifest.source, manifest.tier, manifest.data.size)


def _standing_as(vault: Vault, location: str, file: str, like: Manifest) -> Entry | None:
    """A backup of the same database and tier by its file's name."""
    name = names.parse_file(file)
    if name is None:
        return None
    key = vault.layout(location).key(like.source, like.tier, name.taken_at, file)
    if vault.store(location).stat(key + names.MANIFEST_SUFFIX) is None:
        return None
    found = vault.store(location).stat(key)
    return Entry(location, key, name, like.source, like.tier, found.size if found else 0)


def kin(vault: Vault, entry: Entry, manifest: Manifest) -> list[Entry]:
    """What a backup was encrypted anew as, and what it was encrypted anew from, where it stands itself; however often.

    Raises:
        IntegrityError: A mark or a manifest of one does not hold. And what the store raises.
    """
    found = []
    older = manifest
    while older.origin is not None and older.origin.key_id:
        before = _standing_as(vault, entry.location, older.origin.file, manifest)
        if before is None:
            break
        found.append(before)
        older = vault.catalog(entry.location).load(before)
    newer: Entry | None = entry
    while newer is not None and claims_of(vault, newer).superseded:
        by = [str(mark["facts"].get("by")) for mark in vault.marks(newer) if mark["kind"] == SUPERSEDED]
        newer = _standing_as(vault, entry.location, by[-1], manifest) if by else None
        if newer is not None:
            found.append(newer)
    return found


def say(vault: Vault, entry: Entry, kind: str, facts: Mapping[str, object], after: datetime | None = None) -> None:
    """Write a mark that is later than an earlier word: their names tell whole seconds only.

    Raises:
        NotFound: The backup was removed meanwhile; nothing was said. And what the store raises.
    """
    at = names.now()
    if after is not None and at < after + _SECOND:
        at = after + _SECOND
    store = vault.store(entry.location)
    with vault.speaking():
        key = marks.add(store, vault.layout(entry.location), vault.keys, entry, kind, facts, at)
        if store.stat(entry.manifest_key) is not None:
            return
        with contextlib.suppress(BackupError):  # a word of nothing
            store.delete(key)
    raise NotFound(
        f"{entry.file} was removed from {entry.location} before it could be said that it is {kind}.",
        remedy="see where it still stands: backups list",
    )


def _say(vault: Vault, entry: Entry, kind: str, reason: str) -> bool:
    """Write the mark, unless the last one says the same."""
    said = claims_of(vault, entry)
    if said.pinned == kind or (kind == UNPINNED and not said.pinned):
        return False
    say(vault, entry, kind, {"reason": reason} if reason else {}, said.pinned_at)
    return True


__all__ = ["Said", "everywhere", "keep_until", "kin", "parse_keep", "pin", "say", "standing", "unpin"]
