"""Copying one backup from store to store: companions, data, then the manifest, word for word."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine import marks, names
from engine.catalog import Catalog, Entry
from engine.errors import BackupError, IntegrityError, NotFound
from engine.journal import Journal
from engine.layout import Layout
from engine.leases import Hold
from engine.manifest import Manifest, StoredFile
from engine.pacing import Pace
from engine.progress import Progress
from engine.spool import told
from engine.stores.base import Store, Stored
from engine.stores.local_errors import speaking_of
from engine.sweeping import begin_publishing, withdraw

_SAMPLE = 64 * 1024
PRESENT = "size+sample"
COPIED_THERE = "server-copy+sample"
_WAITS = (0.2, 0.4, 0.8, 1.6)
"""Seconds between looks for data whose manifest is there: another run may be at it, or a listing lag."""


@dataclass(frozen=True)
class Copying:
    """One backup's way from one store to another.

    Attributes:
        journals: Where the journal of a copy under way stands.
        pace: How fast it may be sent.
        say: Writes down what is known of the copy, before its manifest makes a backup of it: a copy that dies in
            between is none, and the next one says it anew.
        hold: What keeps there what the backup leans on: looked at before the manifest makes a backup of it.
    """

    entry: Entry
    catalog: Catalog
    source: Store
    target: Store
    layout: Layout
    journals: Path
    progress: Progress
    pace: Pace
    say: Callable[[Stored], None] = lambda stored: None
    hold: Hold = field(default_factory=Hold)

    def run(self) -> Stored:
        """Copy what is not there yet; gives the data file as it stands in the target.

        Raises:
            IntegrityError: Our copy is damaged (nothing was sent), or something else stands there.
        """
        manifest = self.catalog.load(self.entry)
        signed = self.source.get(self.entry.manifest_key)
        key = self._key(manifest, manifest.file)
        present = self._present(key + names.MANIFEST_SUFFIX)
        if present is not None:
            if present != signed:
                raise self._differs(key + names.MANIFEST_SUFFIX)
            if self._settled(manifest):
                return self._sampled(manifest)
        return self._send(manifest, signed, key)

    def _send(self, manifest: Manifest, signed: bytes, key: str) -> Stored:
        with speaking_of("write to", self.journals, self.journals):
            journal = Journal.create(self.journals, "copy", site=manifest.site, key=key)
        try:
            parts = [(self._key(manifest, part.file), part) for part in manifest.files]
            standing = {target for target, _ in parts if self.target.stat(target) is not None}
            begin_publishing(journal, self.target.name, key, [each for each in parts if each[0] not in standing])
            for target, part in reversed(parts):  # companions, then data
                if target in standing:
                    done = self._equal(target, part)
                else:
                    done = self._copied_there(manifest, target, part) or self._upload(manifest, target, part)
            self.say(done)
            self.hold.check(f"{manifest.file} was made a backup of {self.target.name}")
            self.target.put(key + names.MANIFEST_SUFFIX, signed)
            journal.close()
            return done
        except Exception:
            with contextlib.suppress(BackupError):  # else the next sweep does it, by the journal
                withdraw(journal, self.target)
                journal.close()
            raise
        finally:
            journal.release()

    def _copied_there(self, manifest: Manifest, target: str, part: StoredFile) -> Stored | None:
        """A promoted backup's part, where the target has it under its old name: copied by the target itself, and
        compared in size and samples with ours. None when it has to be sent."""
        known = self._under_its_old_name(manifest, part)
        if known is None or not self.target.duplicate(known, target, archive=manifest.tier in names.ARCHIVES):
            return None
        info = self.target.stat(target)
        whole = info is not None and info.size == part.size
        if whole and all(ours == theirs for ours, theirs in self._samples(target, part)):
            return Stored(target, part.size, part.sha256, COPIED_THERE)
        self.target.delete(target)
        return None

    def _under_its_old_name(self, manifest: Manifest, part: StoredFile) -> str | None:
        """Key of the original's part in the target, where it stands beside its manifest and was not found broken."""
        from engine.prune.contents import Claims

        origin = manifest.origin
        if origin is None or origin.key_id:  # what was encrypted anew has other bytes
            return None
        folder = self.layout.folder(manifest.source, origin.tier, origin.taken_at)
        data = "/".join(each for each in (folder, origin.file) if each)
        key = "/".join(each for each in (folder, renamed(part.file, manifest.file, origin.file)) if each)
        info = self.target.stat(key)
        if info is None or info.size != part.size or self.target.stat(data + names.MANIFEST_SUFFIX) is None:
            return None
        said = Claims()
        for mark in marks.named(self.target, self.layout, data):
            said.add(mark)
        return None if said.claim == "broken" else key

    def _upload(self, manifest: Manifest, target: str, part: StoredFile) -> Stored:
        digest = hashlib.sha256()
        chunks = self.pace.of(self.source.read(self.entry.beside(part.file)))
        with self.target.stage(target, archive=manifest.tier in names.ARCHIVES) as staged:
            size = 0
            for chunk in told(chunks, f"copy {part.file} to {self.target.name}", part.size, self.progress):
                digest.update(chunk)
                size += len(chunk)
                staged.write(chunk)
            if (size, digest.hexdigest()) != (part.size, part.sha256):
                raise IntegrityError(
                    f"{part.file} in {self.source.describe()} is damaged: its bytes are not those of its manifest.",
                    kept=f"nothing of it was copied to {self.target.name}",
                    remedy="make a new backup; verify the others with: backups verify",
                )
            done = staged.commit()
        if (done.size, done.sha256) != (part.size, part.sha256):
            self.target.delete(target)
            raise IntegrityError(f"{self.target.name} holds other bytes of {part.file} than were sent.")
        return done

    def _equal(self, target: str, part: StoredFile) -> Stored:
        """A part that an earlier try left there, proven by reading it all."""
        digest = hashlib.sha256()
        size = 0
        for chunk in self.target.read(target):
            digest.update(chunk)
            size += len(chunk)
        if (size, digest.hexdigest()) != (part.size, part.sha256):
            raise self._differs(target)
        return Stored(target, size, part.sha256, "read-back")

    def _settled(self, manifest: Manifest) -> bool:
        """Is every part there beside its manifest, at once or a little later? False when the manifest is
        gone meanwhile, so that all is to be copied.

        Raises:
            IntegrityError: The manifest stays, and a part stays missing.
        """
        missing = self._missing(manifest)
        for seconds in _WAITS:
            if not missing:
                return True
            time.sleep(seconds)
            if self._present(self._key(manifest, manifest.file) + names.MANIFEST_SUFFIX) is None:
                return False
            missing = self._missing(manifest)
        if not missing:
            return True
        raise IntegrityError(
            f"{self.target.name} has the manifest of {manifest.file} but not {', '.join(missing)}, "
            f"{sum(_WAITS):.0f} seconds later neither.",
            kept=f"the whole backup in {self.source.name}; nothing was changed in {self.target.name}",
            remedy="copy again when no other run is copying. If it is missing then too, find out what removed it "
            "there (a person, a lifecycle rule); only then delete "
            f"{manifest.file}{names.MANIFEST_SUFFIX} in {self.target.name}, and the next run copies all of it anew",
        )

    def _missing(self, manifest: Manifest) -> list[str]:
        return [part.file for part in manifest.files if self.target.stat(self._key(manifest, part.file)) is None]

    def _sampled(self, manifest: Manifest) -> Stored:
        """The parts of a backup that is there already: their sizes, and samples against ours."""
        for part in manifest.files:
            target = self._key(manifest, part.file)
            info = self.target.stat(target)
            if info is None or info.size != part.size:
                raise self._differs(target)
            if any(ours != theirs for ours, theirs in self._samples(target, part)):
                raise self._differs(target)
        return Stored(self._key(manifest, manifest.file), manifest.data.size, manifest.data.sha256, PRESENT)

    def _samples(self, target: str, part: StoredFile) -> Iterator[tuple[bytes, bytes]]:
        for start in sorted({0, max(0, part.size // 2 - _SAMPLE), max(0, part.size - _SAMPLE)}):
            yield (
                b"".join(self.source.read(self.entry.beside(part.file), start, _SAMPLE)),
                b"".join(self.target.read(target, start, _SAMPLE)),
            )

    def _key(self, manifest: Manifest, file: str) -> str:
        return self.layout.key(manifest.source, manifest.tier, manifest.taken_at, file)

    def _present(self, key: str) -> bytes | None:
        try:
            return self.target.get(key)
        except NotFound:
            return None

    def _differs(self, key: str) -> IntegrityError:
        return IntegrityError(
            f"{self.target.describe()} holds another file as {key} than this site's {self.source.name} vault.",
            kept="both stand as they were",
            remedy="find out which is right; give two sites different folders, and move the wrong one away",
        )


def renamed(file: str, of: str, to: str) -> str:
    """The name of a part of the backup ``of`` as it is called in the backup ``to``.

    Raises:
        IntegrityError: It is not called after its backup.
    """
    one, other = names.parse_file(of), names.parse_file(to)
    if one is None or other is None or not file.startswith(one.stem + "."):
        raise IntegrityError(f"{file} is not called like a part of {of}.", kept="nothing was written")
    return other.stem + file.removeprefix(one.stem)


def is_lacking(entry: Entry, pairs: tuple[tuple[str, str], ...], layout: Layout, there: Container[str]) -> bool:
    """Does a replica have no copy of this backup under any key it could have?"""
    taken = entry.name.taken_at
    return not any(layout.key(source, tier, taken, entry.file) in there for source, tier in pairs)


__all__ = ["Copying", "is_lacking", "renamed"]
