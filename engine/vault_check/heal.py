"""Putting a damaged backup right from copies that are proven good.

Nothing is taken away before all that is needed stands beside it, proven. What a copy elsewhere is worth is shown by
its own signature and digests, read now; its place in the list of copies says nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from engine import marks, names
from engine.catalog import Entry
from engine.errors import BackupError, Cold, IntegrityError, NotFound, Retained, StoreRefused, Unreadable
from engine.layout import Layout
from engine.manifest import Manifest, StoredFile
from engine.prune.contents import CARRIED
from engine.stores.base import Store
from engine.vault_check.copies import keys_at, part_wrong
from engine.vault_check.work import YOUNG, Work, why

FOLDER = "healing"
"""Where good bytes wait beside the site's backups until they take their place."""
ASIDE = "set-aside"
"""Where what belongs to nothing is moved."""


@dataclass(frozen=True)
class _Known:
    """A manifest that holds, and where it was found."""

    entry: Entry
    signed: bytes
    manifest: Manifest


def heal(work: Work, entry: Entry) -> str:
    """Put one backup right; says from where.

    Raises:
        IntegrityError: No place has what it takes; says what each lacks. And what the stores raise.
    """
    reasons: list[str] = []
    known = list(_manifests(work, entry, reasons))
    for each in known:
        try:
            return _as(work, entry, each, [other for other in known if other.entry.location != work.location])
        except (IntegrityError, NotFound, Unreadable, Cold) as error:
            reasons.append(why(error))
    told = "; ".join(dict.fromkeys(reasons))
    raise IntegrityError(f"no good copy is known{f': {told}' if told else ''}.")


def _manifests(work: Work, entry: Entry, reasons: list[str]) -> Iterator[_Known]:
    """Every manifest of this backup that holds: its own first, then those of the other places."""
    seen: set[bytes] = set()
    for location in (work.location, *work.others):
        for there in [entry] if location == work.location else keys_at(work.vault, location, entry):
            try:
                signed, manifest = work.vault.catalog(location).opened(there)
            except NotFound:
                continue
            except BackupError as error:
                if location != work.location:
                    reasons.append(why(error))
                continue
            if work.layout.key(manifest.source, manifest.tier, manifest.taken_at, manifest.file) != entry.key:
                reasons.append(f"the copy in {location} is of {manifest.source}/{manifest.tier}")
            elif location != work.location or signed not in seen:
                seen.add(signed)
                yield _Known(there, signed, manifest)


def _as(work: Work, entry: Entry, known: _Known, copies: list[_Known]) -> str:
    """Make the backup what that manifest says. Every part is proven beside before the first takes its place."""
    came_from: dict[str, None] = {}
    with contextlib.ExitStack() as waiting:
        ready = []
        for part in reversed(known.manifest.files):  # companions, then data
            cold: list[str] = []
            if not part_wrong(work, entry, part, cold):
                continue
            temporary, place = _fetched(work, part, copies)
            came_from[place] = None
            waiting.callback(_discard, work.store, temporary)
            ready.append((temporary, entry.beside(part.file), part))
        for temporary, key, part in ready:
            swap(work.store, temporary, key, part.size, part.sha256)
        if not _stands(work.store, entry.manifest_key, known.signed):
            work.store.delete(entry.manifest_key)
            work.store.put(entry.manifest_key, known.signed)
            came_from[known.entry.location] = None
    if not came_from:
        return "a second look found it whole"
    for each in copies:
        if each.entry.location in came_from:
            _carry_words(work, each.entry, entry)
    return f"from {' and '.join(came_from)}"


def _fetched(work: Work, part: StoredFile, copies: list[_Known]) -> tuple[str, str]:
    """A part's bytes, proven, under a name beside; and the place they came from."""
    reasons = []
    for each in copies:
        place = each.entry.location
        try:
            read = partial(work.paced, work.vault.store(place), each.entry.beside(part.file))
            return beside(work.store, work.layout, read, part.size, part.sha256), place
        except (IntegrityError, NotFound, Unreadable, Cold) as error:
            reasons.append(f"{place}: {why(error)}")
    raise IntegrityError(f"{part.file} stands whole nowhere else ({'; '.join(reasons) or 'there is no other copy'}).")


def beside(store: Store, layout: Layout, read: Callable[[], Iterator[bytes]], size: int, sha256: str) -> str:
    """Write bytes under a name of their own, and read them again; the key.

    Raises:
        IntegrityError: They are not those that are wanted; nothing is left behind.
    """
    key = f"{healing_folder(layout)}{uuid4().hex}.enc"
    with store.stage(key) as staged:
        digest, count = hashlib.sha256(), 0
        for chunk in read():
            digest.update(chunk)
            count += len(chunk)
            staged.write(chunk)
        if (count, digest.hexdigest()) != (size, sha256):
            raise IntegrityError("it is damaged there, too")
        done = staged.commit()
    if done.proof != "read-back" and not is_that(store, key, size, sha256):
        _discard(store, key)
        raise IntegrityError(f"{store.describe()} gave back other bytes than were written to it.")
    return key


def swap(store: Store, temporary: str, key: str, size: int, sha256: str) -> None:
    """Have proven bytes take their place; what stood there goes.

    Raises:
        Retained: An object lock keeps what stands there. StoreRefused: Another run was faster, with other bytes.
    """
    store.delete(key)
    try:
        if not store.duplicate(temporary, key):
            with store.stage(key) as staged:
                for chunk in store.read(temporary):
                    staged.write(chunk)
                staged.commit()
    except Retained:
        raise
    except StoreRefused:
        if not is_that(store, key, size, sha256):
            raise
        return
    if not is_that(store, key, size, sha256):
        raise IntegrityError(f"{key} in {store.describe()} is not what was put there.")


def is_that(store: Store, key: str, size: int, sha256: str) -> bool:
    """Do these very bytes stand there? All of them are read."""
    digest, count = hashlib.sha256(), 0
    try:
        for chunk in store.read(key):
            digest.update(chunk)
            count += len(chunk)
    except (NotFound, Unreadable):
        return False
    return (count, digest.hexdigest()) == (size, sha256)


def stands_whole(work: Work, place: str, entry: Entry) -> bool:
    """Is the copy in another place what its own manifest says? Where not, it is found there."""
    store = work.vault.store(place)
    for there in keys_at(work.vault, place, entry):
        try:
            manifest = work.vault.catalog(place).load(there)
            return all(is_that(store, there.beside(part.file), part.size, part.sha256) for part in manifest.files)
        except BackupError:
            continue
    return False


def set_aside(work: Work, key: str) -> str:
    """Move a file away from the backups, in its own place; where to."""
    base = work.layout.base
    rest = key.removeprefix(base + "/") if base else key
    day = f"{names.now():%Y%m%d}"
    to = "/".join(part for part in (base, ASIDE, work.layout.site, day, rest) if part)
    if work.store.stat(to) is not None:
        to = f"{to}.{uuid4().hex[:8]}"
    if not work.store.duplicate(key, to):
        with work.store.stage(to) as staged:
            for chunk in work.store.read(key):
                staged.write(chunk)
            staged.commit()
    work.store.delete(key)
    return to


def sweep_healing(work: Work) -> list[str]:
    """Remove what healings that were broken off left beside, a day later; the keys."""
    old = [info.key for info in work.store.list(healing_folder(work.layout)) if work.now - info.modified > YOUNG]
    for key in old:
        work.store.delete(key)
    return old


def healing_folder(layout: Layout) -> str:
    """Where good bytes wait, with a slash at its end."""
    return "/".join(part for part in (layout.base, FOLDER, layout.site) if part) + "/"


def _stands(store: Store, key: str, data: bytes) -> bool:
    try:
        return store.get(key) == data
    except (NotFound, Unreadable):
        return False


def _discard(store: Store, key: str) -> None:
    with contextlib.suppress(BackupError):  # else the next verification does it
        store.delete(key)


def _carry_words(work: Work, source: Entry, target: Entry) -> None:
    """What was said of the good copy (pinned, released, until when) and is not known here."""
    known = {mark.kind for mark in marks.named(work.store, work.layout, target.key)}
    kinds = [group for group in CARRIED if not known & set(group)]
    vault = work.vault
    with contextlib.suppress(IntegrityError, Unreadable):  # a forged mark there is found there
        places = [(vault.store(each.location), vault.layout(each.location), each) for each in (source, target)]
        marks.carry(places[0], places[1], vault.keys, kinds)
