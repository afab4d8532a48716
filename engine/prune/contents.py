"""What a place holds, as retention judges it: backups and marks by their names, proof where it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from engine import marks, names
from engine.catalog import Entry
from engine.errors import BackupError, IntegrityError, NotFound, WrongKey
from engine.images.record import saved_images
from engine.logs import LogFile, load_log
from engine.manifest import Manifest
from engine.recovery.window import Anchor
from engine.retention.judge import Claim, Item
from engine.vault import Vault

EXPIRED, REPRIEVED = "expired", "reprieved"
"""Kinds of marks: to go a day later; kept after all."""
VERIFIED, BROKEN, COPIED = "verified", "broken", "copied"
PINNED, UNPINNED = "pinned", "unpinned"
RELEASED, WITHHELD = "released", "withheld"
"""Of a snapshot before a deployment: that one succeeded; it failed. The latest word counts."""
KEEP = "keep-until"
"""Until when a backup is to be kept, as a fact of the mark."""
UNTIL = "until"
SIZE_ACCEPTED = "size-accepted"
"""A person has said that this is the right size now."""
CARRIED = ((PINNED, UNPINNED), (RELEASED, WITHHELD), (KEEP,), (SIZE_ACCEPTED,))
"""What goes along with a copy: the latest word of each of these."""
SUPERSEDED = "superseded"
"""It was encrypted anew, and the new one stands in the same place."""
COOLED = "cooled"
"""It was moved to cold storage."""
_SIDE_BY_SIDE = 8
_DAMAGE = (IntegrityError, WrongKey, NotFound)
"""What says of a backup that it does not hold; anything else says that the place could not be asked."""


@dataclass(slots=True)
class Claims:
    """The latest word of the marks of one backup, by their names."""

    verdict: str = ""
    judged_at: datetime | None = None
    expired: str = ""
    expiry_at: datetime | None = None
    pinned: str = ""
    pinned_at: datetime | None = None
    release: str = ""
    release_at: datetime | None = None
    limited: bool = False
    superseded: bool = False

    def add(self, mark: marks.Named) -> None:
        if mark.kind in (VERIFIED, BROKEN, COPIED):
            if _is_later(mark, self.judged_at, wins_tie=mark.kind == BROKEN):
                self.verdict, self.judged_at = mark.kind, mark.at
        elif mark.kind in (EXPIRED, REPRIEVED):
            if _is_later(mark, self.expiry_at, wins_tie=mark.kind == REPRIEVED):
                self.expired, self.expiry_at = mark.kind, mark.at
        elif mark.kind in (PINNED, UNPINNED):
            if _is_later(mark, self.pinned_at, wins_tie=mark.kind == PINNED):
                self.pinned, self.pinned_at = mark.kind, mark.at
        elif mark.kind in (RELEASED, WITHHELD):
            if _is_later(mark, self.release_at, wins_tie=mark.kind == WITHHELD):
                self.release, self.release_at = mark.kind, mark.at
        elif mark.kind == KEEP:
            self.limited = True
        elif mark.kind == SUPERSEDED:
            self.superseded = True

    @property
    def released(self) -> bool:
        return self.release == RELEASED

    @property
    def claim(self) -> Claim:
        if self.verdict == BROKEN:
            return "broken"
        return "good" if self.verdict else "unproven"


def _is_later(mark: marks.Named, than: datetime | None, *, wins_tie: bool) -> bool:
    return than is None or mark.at > than or (mark.at == than and wins_tie)


@dataclass
class Contents:
    """One place.

    Attributes:
        entries: By the data's key.
        copied: Keys that only a copy's own proof speaks for.
        broken: Names of what was found broken here.
    """

    location: str
    entries: dict[str, Entry] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    copied: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)


def contents(vault: Vault, location: str) -> Contents:
    """Everything in one place, newest first, from two listings. Raises what the store does."""
    found = Contents(location)
    claims = all_claims(vault, location)
    found.broken = _broken(claims)
    nothing = Claims()
    for entry in vault.catalog(location).entries(settled=True):
        said = claims.get(entry.key, nothing)
        found.entries[entry.key] = entry
        found.items.append(item_of(entry, said))
        if said.verdict == COPIED:
            found.copied.add(entry.key)
    return found


def claims_of(vault: Vault, entry: Entry) -> Claims:
    """What the names of one backup's marks say."""
    said = Claims()
    for mark in marks.named(vault.store(entry.location), vault.layout(entry.location), entry.key):
        said.add(mark)
    return said


def all_claims(vault: Vault, location: str) -> dict[str, Claims]:
    """What the names of all marks of a place say, by the data's key."""
    claims: dict[str, Claims] = {}
    for mark in marks.named(vault.store(location), vault.layout(location)):
        claims.setdefault(mark.of, Claims()).add(mark)
    return claims


def broken_files(vault: Vault, location: str) -> set[str]:
    """Names of what was found broken in a place, from the names of its marks; nothing where it cannot be asked."""
    try:
        return _broken(all_claims(vault, location))
    except BackupError:
        return set()


def _broken(claims: dict[str, Claims]) -> set[str]:
    return {key.rsplit("/", 1)[-1] for key, said in claims.items() if said.claim == "broken"}


def item_of(entry: Entry, said: Claims | None = None) -> Item:
    """A backup as its names and the names of its marks tell."""
    said = said or Claims()
    return Item(
        entry.key, entry.source, entry.tier, entry.name.name, entry.name.taken_at, said.claim,
        pinned=said.pinned == PINNED, released=said.released,
        expired_at=said.expiry_at if said.expired == EXPIRED else None, limited=said.limited,
        superseded=said.superseded,
    )  # fmt: skip


class SignedEvidence:
    """The evidence of one place: what its signed manifests and marks say, each asked once.

    Args:
        suspect: Names of backups that were found broken in some place: a mere copy of one is not good.
        known_logs: Facts of logs by file name, shared between places: a copy's manifest is the same signed bytes.
    """

    def __init__(
        self, vault: Vault, held: Contents, suspect: Iterable[str] = (), known_logs: dict[str, LogFile] | None = None
    ) -> None:
        self._vault = vault
        self._held = held
        self._suspect = frozenset(suspect)
        self._known_logs = {} if known_logs is None else known_logs
        self._manifests: dict[str, Manifest | None] = {}
        self._proven: dict[str, bool] = {}
        self._by_key: dict[str, Item] | None = None

    def proven(self, item: Item) -> bool:
        """See ``Evidence.proven``."""
        if item.key not in self._proven:
            self._proven[item.key] = self._is_whole(item)
        return self._proven[item.key]

    def released(self, item: Item) -> bool:
        """See ``Evidence.released``."""
        words = [mark["kind"] for mark in self._marks(item) if mark["kind"] in (RELEASED, WITHHELD)]
        return bool(words) and words[-1] == RELEASED

    def keep_until(self, item: Item) -> datetime | None:
        """See ``Evidence.keep_until``. Words that cannot be read are none: the backup stays."""
        words = [mark["facts"].get(UNTIL) for mark in self._marks(item) if mark["kind"] == KEEP]
        try:
            return names.noted_moment(words[-1]) if words else None
        except (TypeError, ValueError):
            return None

    def replaced(self, item: Item) -> str:
        """See ``Evidence.replaced``."""
        words = [mark["facts"].get("by") for mark in self._marks(item) if mark["kind"] == SUPERSEDED]
        entry = self._held.entries[item.key]
        new = self._items().get(entry.beside(str(words[-1]))) if words else None
        if new is None or not self.proven(new):
            return ""
        manifest = self._manifest(new)
        origin = manifest.origin if manifest is not None else None
        return new.file if origin is not None and origin.key_id and origin.file == item.file else ""

    def _items(self) -> dict[str, Item]:
        if self._by_key is None:
            self._by_key = {each.key: each for each in self._held.items}
        return self._by_key

    def point(self, item: Item) -> str:
        """See ``Evidence.point``."""
        manifest = self._manifest(item)
        return manifest.recovery_point if manifest is not None else ""

    def parts(self, item: Item) -> frozenset[tuple[str, str]]:
        """See ``Evidence.parts``."""
        from engine.snapshots import wanted_of

        manifest = self._manifest(item)
        wanted = wanted_of(manifest) if manifest is not None else ()
        return frozenset((each.source, names.encode(each.database)) for each in wanted)

    def anchor(self, item: Item) -> Anchor | None:
        """See ``Evidence.anchor``."""
        from engine.recoverable import anchor_of

        manifest = self._manifest(item)
        if manifest is None:
            return None
        try:
            return anchor_of(manifest)
        except IntegrityError:
            return None

    def images(self, item: Item) -> frozenset[str] | None:
        """See ``Evidence.images``."""
        manifest = self._manifest(item)
        return saved_images(manifest) if manifest is not None else None

    def logs(self, items: list[Item]) -> Mapping[str, LogFile]:
        """See ``Evidence.logs``."""
        wanted = [each for each in items if each.file not in self._known_logs]
        with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="prune") as pool:
            for item, log in pool.map(lambda each: (each, self._log(each)), wanted):
                if log is not None:
                    self._known_logs[item.file] = log
        return {each.key: self._known_logs[each.file] for each in items if each.file in self._known_logs}

    def _log(self, item: Item) -> LogFile | None:
        try:
            return load_log(self._vault, self._held.entries[item.key])[1]
        except _DAMAGE:
            return None

    def _is_whole(self, item: Item) -> bool:
        entry, manifest = self._held.entries[item.key], self._manifest(item)
        if manifest is None or manifest.data.size != entry.size:
            return False
        if not manifest.key_ids.issubset(self._vault.keys.ids):  # a bucket's list that opens, with contents that do not
            return False
        if getattr(manifest, "incomplete", None):  # an archive of files that lacks some of them
            return False
        if item.key in self._held.copied and item.file in self._suspect:
            return False
        store = self._vault.store(self._held.location)
        for part in manifest.files[1:]:
            info = store.stat(entry.beside(part.file))
            if info is None or info.size != part.size:
                return False
        verdicts = [mark for mark in self._marks(item) if mark["kind"] in (VERIFIED, BROKEN, COPIED)]
        if not verdicts or verdicts[-1]["kind"] == BROKEN:
            return False
        return bool(verdicts[-1]["facts"].get("sha256", manifest.data.sha256) == manifest.data.sha256)

    def _manifest(self, item: Item) -> Manifest | None:
        if item.key not in self._manifests:
            try:
                entry = self._held.entries[item.key]
                self._manifests[item.key] = self._vault.catalog(self._held.location).load(entry)
            except _DAMAGE:
                self._manifests[item.key] = None
        return self._manifests[item.key]

    def _marks(self, item: Item) -> list[dict[str, Any]]:
        try:
            return self._vault.marks(self._held.entries[item.key])
        except _DAMAGE:
            return []
