"""Marks: what is learnt about a backup after it was made, as small signed records, append-only.

A mark stands under ``marks/`` beside the site's backups, named after the backup it speaks of:
``workset/marks/mysql/daily/<file>.verified.20250116_020512-3f9a1c20.json``. Manifests never change.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engine import names
from engine.catalog import Entry
from engine.codec import KeyRing
from engine.errors import BackupError, ConfigError, IntegrityError, NotFound, Unreadable, WrongKey
from engine.layout import MARKS, Layout
from engine.signed import seal, unseal
from engine.stores.base import Store

TYPE = "mark"
_KIND = re.compile(r"^[a-z][a-z-]*$")
_REST = re.compile(r"^[a-z][a-z-]*\.\d{8}_\d{6}-[0-9a-f]{8}\.json$")
_NAMED = re.compile(r"^(?P<of>.+)\.(?P<kind>[a-z][a-z-]*)\.(?P<stamp>\d{8}_\d{6})-[0-9a-f]{8}\.json$")


@dataclass(frozen=True, slots=True)
class Named:
    """A mark as its name tells: of which backup (its data's key), what, and when (UTC). Nothing is proven by it."""

    of: str
    kind: str
    at: datetime
    key: str


def add(
    store: Store,
    layout: Layout,
    keys: KeyRing,
    entry: Entry,
    kind: str,
    facts: Mapping[str, object],
    at: datetime | None = None,
) -> str:
    """Write one mark; its key.

    Args:
        kind: What was learnt: ``verified``, ``broken``, ``copied``, ``pinned``, ``released``...
        facts: JSON values; no secrets.
        at: When it was learnt; now when None.
    """
    if not _KIND.match(kind):
        raise ConfigError(f"{kind!r} is no kind of mark: lower-case letters and dashes.")
    at = at or names.now()
    key = f"{layout.marks_prefix(entry.key)}{kind}.{at:{names.STAMP}}-{secrets.token_hex(4)}.json"
    body = {
        "type": TYPE,
        "format": 1,
        "site": layout.site,
        "location": store.name,
        "key": entry.key,
        "kind": kind,
        "at": at.isoformat(),
        "facts": dict(facts),
    }
    store.put(key, seal(body, keys, keys.current))
    return key


def read(store: Store, layout: Layout, keys: KeyRing, entry: Entry) -> list[dict[str, Any]]:
    """The marks of one backup, oldest first: ``kind``, ``at`` (UTC) and ``facts`` of each.

    Raises:
        IntegrityError: One is damaged or forged, or was written for another backup.
        WrongKey: The ring does not hold the key of one.
    """
    prefix = layout.marks_prefix(entry.key)
    found = [
        _open(store, layout, keys, entry, info.key)
        for info in store.list(prefix)
        if _REST.match(info.key.removeprefix(prefix))
    ]
    return sorted(found, key=lambda mark: str(mark["at"]))


def judge(
    store: Store, layout: Layout, keys: KeyRing, entry: Entry, listed: Sequence[str] | None = None
) -> tuple[list[dict[str, Any]], list[tuple[str, BackupError]]]:
    """The marks of one backup that hold, oldest first; and the keys of those that do not, with the reason.

    Args:
        listed: Their keys, where they are known from a listing.
    """
    prefix = layout.marks_prefix(entry.key)
    good: list[dict[str, Any]] = []
    bad: list[tuple[str, BackupError]] = []
    for key in listed if listed is not None else [info.key for info in store.list(prefix)]:
        if not _REST.match(key.removeprefix(prefix)):
            continue
        try:
            good.append(_open(store, layout, keys, entry, key))
        except NotFound:
            continue  # removed since
        except (IntegrityError, WrongKey, Unreadable) as error:
            bad.append((key, error))
    return sorted(good, key=lambda mark: str(mark["at"])), bad


def named(store: Store, layout: Layout, key: str = "") -> Iterator[Named]:
    """Every mark of a store (or of one backup, by its data's key) by its name alone, in key order: claims that
    ``read`` proves."""
    base = f"{layout.base}/" if layout.base else ""
    folder = f"{base}{MARKS}/"
    for info in store.list(layout.marks_prefix(key) if key else folder):
        found = _NAMED.match(info.key.removeprefix(folder))
        if found is None:
            continue
        at = names.moment_of(found["stamp"])
        if at is None:
            continue
        yield Named(base + found["of"], found["kind"], at, info.key)


Spot = tuple[Store, Layout, Entry]
"""A backup at a place."""


def carry(source: Spot, target: Spot, keys: KeyRing, kinds: Sequence[Sequence[str]]) -> None:
    """Write the latest word of each group of kinds at a copy's place, too; it says whence it came. What is known there
    already, or was overruled by a later word, is not said again.

    Raises:
        IntegrityError: A mark of the original is damaged or forged. And what the stores raise.
    """
    store, layout, entry = source
    wanted = {kind for group in kinds for kind in group}
    if not any(mark.kind in wanted for mark in named(store, layout, entry.key)):
        return
    words = read(store, layout, keys, entry)
    known = list(named(target[0], target[1], target[2].key))
    for group in kinds:
        last = next((word for word in reversed(words) if word["kind"] in group), None)
        if last is not None and not _is_known(last, group, known):
            facts = {**last["facts"], "origin": store.name}
            add(target[0], target[1], keys, target[2], last["kind"], facts, datetime.fromisoformat(last["at"]))


def _is_known(word: Mapping[str, Any], group: Sequence[str], known: Sequence[Named]) -> bool:
    at = datetime.fromisoformat(word["at"]).replace(microsecond=0)  # as names tell it
    return any(each.at > at or (each.at == at and each.kind == word["kind"]) for each in known if each.kind in group)


def remove(store: Store, layout: Layout, key: str) -> None:
    """Delete every mark of a backup that is gone."""
    prefix = layout.marks_prefix(key)
    for each in [info.key for info in store.list(prefix) if _REST.match(info.key.removeprefix(prefix))]:
        store.delete(each)


def _open(store: Store, layout: Layout, keys: KeyRing, entry: Entry, key: str) -> dict[str, Any]:
    what = f"The mark {key.rsplit('/', 1)[-1]} in {store.name}"
    body = unseal(store.get(key), keys, what=what, needed_for=what)
    own = (TYPE, layout.site, store.name, entry.key)
    if (body.get("type"), body.get("site"), body.get("location"), body.get("key")) != own:
        raise IntegrityError(
            f"{what} was written for another backup: it was moved there.", remedy="delete it, and find out who moved it"
        )
    name = key.removeprefix(layout.marks_prefix(entry.key))
    if not name.startswith(f"{body['kind']}."):
        raise IntegrityError(f"{what} is called otherwise than it says: it was renamed.", remedy="delete it")
    return body
