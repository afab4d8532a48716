"""Backups that were deleted or overwritten in a versioned bucket stand again: after an attack, or a mistake.

A manifest's version counts by its signature, its data's by size, and by digest where several have that size: what an
attacker wrote over them is passed over. With a bucket's list come the contents that it names, whenever they were
deleted; sealed site files count by their signature. Every step copies an old version on top, so that nothing is lost by
it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from engine import manifest as manifests
from engine import names
from engine.buckets import record
from engine.buckets.hidden import List, bring_back_contents
from engine.errors import BackupError, ConfigError, IntegrityError, WrongKey
from engine.manifest import Manifest
from engine.progress import Progress, silent
from engine.sealed import Sealed, folder_of, of_key, open_sealed
from engine.stores import S3Store
from engine.stores.s3_bucket import Bucket
from engine.stores.s3_versions import Version, bring_back, never_versioned, read, versions
from engine.vault import Vault


@dataclass
class Undeleted:
    """What was found.

    Attributes:
        back: Backups (by the data's key) of which something stands again, or would.
        objects: How many objects that took.
        contents: How many of these are contents that bucket lists name.
        site_files: Keys of sealed site files that stand again, or would.
        lost: Backups whose manifest is there and whose data is not, in no version.
        lacking: By list, how many of the contents that it names are there in no version; one that several lists name is
            counted for the newest.
        failed: By key, why it could not be brought back.
    """

    back: list[str] = field(default_factory=list)
    objects: int = 0
    contents: int = 0
    site_files: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    lacking: dict[str, int] = field(default_factory=dict)
    failed: dict[str, BackupError] = field(default_factory=dict)


def undelete(
    vault: Vault, location: str, *, since: datetime | None = None, dry_run: bool = False, progress: Progress = silent
) -> Undeleted:
    """Bring back what was deleted or overwritten in a replica.

    Args:
        since: Only what was deleted or overwritten at that time or later; without it also what retention removed.

    Raises:
        ConfigError: It is no bucket, or one that never kept versions. And what the endpoint raises.
    """
    store = vault.store(location)
    if not isinstance(store, S3Store):
        raise ConfigError(f"{location} keeps no versions.", remedy="name a replica in a versioned bucket")
    work = _Work(vault, location, store.bucket, since, dry_run)
    work.read_versions()
    if never_versioned(store.bucket) and not work.has_old_versions:
        raise ConfigError(
            f"{location} keeps no versions: {store.describe()} was never versioned; what was deleted there is gone.",
            kept="nothing was changed",
            remedy="look at the other places: backups list; and have a bucket keep versions from now on: docs/locks.md",
        )
    for number, key in enumerate(sorted(work.manifest_keys())):
        progress(f"look at versions in {location}", number)
        try:
            work.restore(key)
        except BackupError as error:
            work.done.failed[key] = error
    for restore in (work.restore_contents, work.restore_site_files):
        progress(f"look at versions in {location}", len(work.done.back))
        restore()
    return work.done


class _Work:
    def __init__(self, vault: Vault, location: str, bucket: Bucket, since: datetime | None, dry_run: bool) -> None:
        self.done = Undeleted()
        self._vault = vault
        self._location = location
        self._layout = vault.layout(location)
        self._bucket = bucket
        self._since = since
        self._dry_run = dry_run
        self._versions: dict[str, list[Version]] = {}
        self._families: dict[str, list[list[Version]]] = {}

    def read_versions(self) -> None:
        prefixes = [*self._layout.prefixes(), self._layout.marks_prefix("").rstrip("."), folder_of(self._layout)]
        contents = self._layout.contents_folder
        seen: set[tuple[str, str]] = set()
        for prefix in dict.fromkeys(prefixes):
            for each in versions(self._bucket, prefix):
                if (each.key, each.id) not in seen and not each.key.startswith(contents):  # these are too many
                    seen.add((each.key, each.id))
                    self._versions.setdefault(each.key, []).append(each)
        for known in self._versions.values():
            known.sort(key=lambda each: (each.latest, each.written_at), reverse=True)
        for key, known in self._versions.items():
            self._families.setdefault(_family(key), []).append(known)

    @property
    def has_old_versions(self) -> bool:
        return any(len(known) > 1 or known[0].deleted for known in self._versions.values())

    def manifest_keys(self) -> Iterable[str]:
        for key in self._versions:
            data = key.removesuffix(names.MANIFEST_SUFFIX)
            if data != key and self._layout.place(data) is not None and self._is_touched(data):
                yield data

    def _is_touched(self, data: str) -> bool:
        """Was any of its files deleted or overwritten, and late enough?"""
        return any(self._is_changed(known) for known in self._families[_family(data)])

    def _is_changed(self, known: list[Version]) -> bool:
        changed = len(known) > 1 or known[0].deleted
        return changed and (self._since is None or known[0].written_at >= self._since)

    def restore(self, data: str) -> None:
        """Manifest last, as when a backup is made."""
        found = self._manifest(data)
        if found is None:
            return
        version, manifest = found
        folder = data.rpartition("/")[0]
        wanted: list[Version] = []
        for part in manifest.files:
            key = f"{folder}/{part.file}" if folder else part.file
            whole = self._part(key, part.size, part.sha256)
            if whole is None:
                self.done.lost.append(data)
                return
            wanted.append(whole)
        marks = [known for key, known in self._versions.items() if key.startswith(self._layout.marks_prefix(data))]
        hidden = [next((each for each in known if not each.deleted), known[0]) for known in marks if known[0].deleted]
        todo = [each for each in (*reversed(wanted), version, *hidden) if not each.latest and not each.deleted]
        if not todo:
            return
        for each in todo:
            if not self._dry_run:
                bring_back(self._bucket, each)
        self.done.back.append(data)
        self.done.objects += len(todo)

    def restore_contents(self) -> None:
        """What the lists name that stand now."""
        lists: dict[tuple[str, str], list[List]] = {}
        for key in self._versions:
            data = key.removesuffix(names.MANIFEST_SUFFIX)
            place = self._layout.place(data) if data != key else None
            if place is None or not place.name.ext.startswith(f"{record.EXTENSION}.") or data in self.done.failed:
                continue
            if data not in self.done.back and self._versions[key][0].deleted:
                continue
            try:
                self._take_list(data, lists)
            except BackupError as error:
                self.done.failed[data] = error
        for (source, name), found in lists.items():
            contents = self._vault.contents(self._location, source, name)
            for data, came in bring_back_contents(self._bucket, contents, found, dry_run=self._dry_run):
                self.done.contents += came.back
                self.done.objects += came.back
                if came.lost:
                    self.done.lacking[data] = came.lost
                if came.error is not None:
                    self.done.failed[data] = came.error

    def _take_list(self, data: str, lists: dict[tuple[str, str], list[List]]) -> None:
        found = self._manifest(data)
        whole = self._part(data, found[1].data.size, found[1].data.sha256) if found is not None else None
        if found is not None and whole is not None:
            manifest = found[1]
            lists.setdefault((manifest.source, manifest.database), []).append(List(data, manifest, whole))

    def restore_site_files(self) -> None:
        """Of each sealed site file the newest version whose signature holds."""
        for key in sorted(self._versions):
            found, known = of_key(key), self._versions[key]
            if found is None or found.site != self._vault.site or not self._is_changed(known):
                continue
            try:
                right = self._opening(found, [each for each in known if not each.deleted])
                if right is not None and not right.latest:
                    if not self._dry_run:
                        bring_back(self._bucket, right)
                    self.done.site_files.append(key)
                    self.done.objects += 1
            except BackupError as error:
                self.done.failed[key] = error

    def _opening(self, found: Sealed, known: list[Version]) -> Version | None:
        """Raises what the last one does, where none opens."""
        for version in known:
            try:
                open_sealed(b"".join(read(self._bucket, version)), self._vault.keys, found)
                return version
            except (IntegrityError, WrongKey):
                if version is known[-1]:
                    raise
        return None

    def _manifest(self, data: str) -> tuple[Version, Manifest] | None:
        """The newest version whose signature holds."""
        file = data.rsplit("/", 1)[-1]
        for version in self._versions[data + names.MANIFEST_SUFFIX]:
            if version.deleted:
                continue
            try:
                signed = b"".join(read(self._bucket, version))
                return version, manifests.open_signed(signed, self._vault.keys, file=file, site=self._vault.site)
            except (IntegrityError, WrongKey):
                continue
        return None

    def _part(self, key: str, size: int, sha256: str) -> Version | None:
        """The version that the manifest speaks of; read only where several have its size."""
        same = [each for each in self._versions.get(key, []) if not each.deleted and each.size == size]
        if len(same) < 2:
            return same[0] if same else None
        for version in same:
            digest = hashlib.sha256()
            for chunk in read(self._bucket, version):
                digest.update(chunk)
            if digest.hexdigest() == sha256:
                return version
        return None


def _family(key: str) -> str:
    """What the files of one backup have in common: folder, name and time."""
    folder, _, file = key.rpartition("/")
    parsed = names.parse_file(file)
    return f"{folder}/{parsed.stem}" if parsed else key


__all__ = ["Undeleted", "undelete"]
