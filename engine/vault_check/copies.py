"""One stored backup, read back: its manifest, its marks, the digest of every part, nothing more beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from engine import marks, names
from engine.catalog import Entry
from engine.codec import check_stored
from engine.errors import BackupError, Cold, IntegrityError, NotFound, Unreadable, WrongKey
from engine.manifest import Manifest, StoredFile
from engine.spool import told
from engine.vault import Vault
from engine.vault_check.census import Known, entry_at, groups
from engine.vault_check.work import YOUNG, Work, why


@dataclass
class Look:
    """What one look at a backup saw.

    Attributes:
        signed: The bytes of its manifest; empty where there is none.
        manifest: None where it does not hold; ``unread`` says why.
        bad: By part, what is wrong with it.
        words: Its marks that hold, oldest first; ``bad_marks`` those that do not, with the reason.
        leftover: Keys beside it that its manifest does not speak of.
        differs: Places that have another signed manifest under its name.
        cold: Parts that could not be read because they are in cold storage.
    """

    entry: Entry
    signed: bytes = b""
    manifest: Manifest | None = None
    unread: BackupError | None = None
    bad: dict[str, str] = field(default_factory=dict)
    words: list[dict[str, Any]] = field(default_factory=list)
    bad_marks: list[tuple[str, BackupError]] = field(default_factory=list)
    leftover: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    cold: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Is every byte of it what its manifest says?"""
        return self.manifest is not None and not self.bad

    @property
    def well(self) -> bool:
        """Is there nothing at all to say?"""
        return self.whole and not (self.bad_marks or self.leftover or self.differs)

    @property
    def verdict(self) -> str:
        """The last signed word on it: verified, broken, copied, or nothing."""
        said = [each["kind"] for each in self.words if each["kind"] in ("verified", "broken", "copied")]
        return said[-1] if said else ""

    def problem(self) -> str:
        """What is wrong with its bytes, in words."""
        if self.unread is not None:
            return why(self.unread)
        return "; ".join(self.bad.values())


def look(work: Work, entry: Entry, known: Known | None = None) -> Look:
    """Read one backup back.

    Args:
        known: What listings tell of it; else they are asked again.

    Raises:
        NotFound: There is no manifest. And what says that the place cannot be asked.
    """
    seen = Look(entry)
    listed = known.marks if known is not None else None
    seen.words, seen.bad_marks = marks.judge(work.store, work.layout, work.vault.keys, entry, listed)
    try:
        seen.signed, seen.manifest = work.vault.catalog(work.location).opened(entry)
    except NotFound:
        raise
    except (IntegrityError, WrongKey, Unreadable) as error:
        seen.unread = error
        return seen
    for part in seen.manifest.files:
        wrong = part_wrong(work, entry, part, seen.cold)
        if wrong:
            seen.bad[part.file] = wrong
    if known is None or known.files != len(seen.manifest.files) + 1:
        seen.leftover = list(_leftover(work, entry, seen.manifest))
    seen.differs = [place for place in work.others if _other_manifest(work.vault, place, entry, seen)]
    return seen


def part_wrong(work: Work, entry: Entry, part: StoredFile, cold: list[str]) -> str:
    """What is wrong with one part, or nothing. What is in cold storage is compared in presence and size."""
    key = entry.beside(part.file)
    try:
        check_stored(told(work.store.read(key), f"read back {part.file}", part.size, work.progress), part)
    except Cold:
        cold.append(part.file)
        info = work.store.stat(key)
        if info is None:
            return f"{part.file} is missing"
        return "" if info.size == part.size else f"{part.file} has {info.size:,} bytes, not {part.size:,}"
    except NotFound:
        return f"{part.file} is missing"
    except (IntegrityError, Unreadable) as error:
        return why(error)
    return ""


def keys_at(vault: Vault, location: str, entry: Entry) -> Iterator[Entry]:
    """Where a backup would stand in another place, by its names."""
    place = vault.layout(entry.location).place(entry.key)
    layout, seen = vault.layout(location), set()
    for source, tier in place.pairs if place is not None else ():
        key = layout.key(source, tier, entry.name.taken_at, entry.file)
        there = entry_at(location, layout, key)
        if there is not None and key not in seen:
            seen.add(key)
            yield there


def _other_manifest(vault: Vault, location: str, entry: Entry, seen: Look) -> bool:
    """Has that place another manifest of this backup, and one that holds? A place that cannot be asked has none."""
    for there in keys_at(vault, location, entry):
        try:
            data, _ = vault.catalog(location).opened(there)
        except BackupError:
            continue
        if data != seen.signed:
            return True
    return False


def _leftover(work: Work, entry: Entry, manifest: Manifest) -> Iterator[str]:
    """Files of its name that no manifest beside it speaks of, and that are not on their way in."""
    stem = entry.key.removesuffix(f".{entry.name.ext}")
    known = {entry.manifest_key, *(entry.beside(part.file) for part in manifest.files)}
    for group in groups(work.store, work.layout, f"{stem}."):
        for data in group.manifests:
            if group.key(data) == entry.key:
                continue
            other = entry_at(work.location, work.layout, group.key(data))
            if other is None:
                continue
            known.add(other.manifest_key)
            try:
                known |= {other.beside(part.file) for part in work.vault.catalog(work.location).load(other).files}
            except BackupError:
                return  # it is looked at in its own turn
        for file, info in group.files.items():
            if group.key(file) not in known and work.now - info.modified > YOUNG:
                yield group.key(file)


def manifest_key(key: str) -> str:
    """Of a backup, by its data's key."""
    return key + names.MANIFEST_SUFFIX
