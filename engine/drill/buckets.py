"""Restore drill of buckets: every object restored into a scratch S3 server or a scratch bucket, and read back there.

Where the site names neither, what a restore would send is read, checked, decrypted and unpacked to the last byte, and
goes nowhere: that it can be restored is not verified then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from engine.buckets import record
from engine.buckets.endpoint import Endpoint
from engine.buckets.plan import BucketPlan, BucketRequest
from engine.buckets.restore import BucketRestore
from engine.buckets.verify import ALL, verify
from engine.catalog import Entry
from engine.config import BucketsConfig
from engine.drill.base import OnlyRead, Piece, SourceDrill, room_needed
from engine.drill.objects import Seen, look_at_all
from engine.drill.verdict import FAILED, PROVEN, UNVERIFIED, Check, Verdict, plural
from engine.errors import BackupError, Lacking, StoreError, UnknownName
from engine.manifest import Manifest
from engine.scratch.buckets import ScratchBuckets, scratch_buckets
from engine.site import Target

_NOWHERE = "put into no bucket, as the site names neither a scratch_bucket nor the container of its S3 server"


class ScratchRestore(BucketRestore):
    """A restore to where nobody else writes and all goes again: it takes no locks and keeps no journal."""

    def __enter__(self) -> ScratchRestore:
        return self

    def _same_server(self) -> bool:
        """Is it put where it came from, or at least to software of the same kind?"""
        return super()._same_server() or not self.plan.request.under

    @contextlib.contextmanager
    def _journal(self) -> Iterator[Callable[[str, str], None]]:
        yield lambda key, upload: None


class BucketsDrill(SourceDrill[ScratchBuckets | None]):
    """One source of buckets."""

    kind = "bucket"

    @contextlib.contextmanager
    def place(self) -> Iterator[ScratchBuckets | None]:
        config = self.site.config.source(self.source)
        assert isinstance(config, BucketsConfig)
        if self.waived:
            yield None
            return
        with scratch_buckets(self.site, config) as place:
            if place is not None and place.free is not None:
                needed = sum(int(each.manifest.contents.get("bytes", 0)) for each in self.pieces if each.copies)
                room_needed(f"A drill of {self.source}", needed, place.free, place.free_in)
            yield place

    def describe(self, place: ScratchBuckets | None) -> str:
        return place.where if place else "nowhere: objects are read as a restore reads them, and put into no bucket"

    def only_read(self, place: ScratchBuckets | None) -> OnlyRead | None:
        if place is not None:
            return None
        return self.nowhere(_NOWHERE, f"set scratch_bucket of {self.source} to a bucket that holds nothing else")

    def alive(self, place: ScratchBuckets | None) -> bool:
        return place is None or place.alive()

    def judge(self, error: BackupError) -> Verdict:
        """A bucket that is not there is the scratch one: a backup's is never asked for."""
        return UNVERIFIED if isinstance(error, UnknownName) else super().judge(error)

    def restore(self, place: ScratchBuckets | None, piece: Piece, entry: Entry, manifest: Manifest) -> list[str]:
        if place is None:
            self._read(entry, manifest)
            return []
        there, under = place.endpoint(piece.database), place.prefix(piece.database)
        if not under and not there.exists():
            there.create()
        contents = manifest.contents
        plan = BucketPlan(
            BucketRequest(
                piece.database, self.source, manifest.file, entry.location, into=there.bucket, under=under,
                safety_backup=False,
            ),
            Target(self.source, piece.database), [(entry, manifest)], there.bucket, str(there.place), makes=False,
            objects=int(contents["objects"]), bytes=int(contents["bytes"]), settings=not under,
        )  # fmt: skip
        try:
            with ScratchRestore(self.site, plan, approved=False, progress=self.work.progress, there=there) as work:
                work.put()
                if work.lost.count:
                    raise work.lost.told(str(there.place), plan.objects - work.lost.count, "")
                work.settings()
                return work.notes
        except Lacking as lacking:
            self._read(entry, manifest)  # names what is damaged, and has no later snapshot lean on it
            raise StoreError(f"{lacking.message.rstrip('.')}; read again, they are whole.") from None

    def _read(self, entry: Entry, manifest: Manifest) -> None:
        vault = self.site.vault
        with contextlib.closing(vault.read_part(entry, manifest)) as plain:
            verify(vault, entry, manifest, plain, new=False, progress=self.work.progress)

    def prove(self, place: ScratchBuckets | None, piece: Piece) -> Iterator[Check]:
        manifest = piece.manifest
        if manifest.incomplete:
            yield Check("structure", "objects", FAILED, "the snapshot lacks some", tuple(manifest.incomplete))
        if place is None:
            objects = plural(int(manifest.contents["objects"]), "object")
            said = f"{objects}, {manifest.contents['bytes']:,} bytes, as listed"
            yield Check("opens", "objects and bytes", PROVEN, said)
            yield Check("opens", "every object's digest", PROVEN, f"of {objects}: {ALL}")
            return
        there, under = place.endpoint(piece.database), place.prefix(piece.database)
        with contextlib.closing(self.site.vault.read_part(piece.entry, manifest)) as plain:
            seen = look_at_all(there, under, record.records(plain, manifest.file), self.work.progress)
        yield from _judged(manifest, seen, there)
        if not under:
            yield _settings(manifest, there)


def _judged(manifest: Manifest, seen: Seen, there: Endpoint) -> Iterator[Check]:
    what = "every object and no other"
    if seen.missing or seen.surplus:
        wrong = [f"{key} is not there" for key in seen.missing] + [f"{key} is in no list" for key in seen.surplus]
        yield Check("structure", what, FAILED, "the copy has other objects than the snapshot", tuple(wrong))
    else:
        yield Check("structure", what, PROVEN, f"{plural(seen.objects, 'key')}, each once")
    stated = int(manifest.contents["objects"]), int(manifest.contents["bytes"])
    held = f"{plural(seen.objects, 'object')}, {seen.bytes:,} bytes"
    if (seen.objects, seen.bytes) != stated:
        wrong = [f"the list has {held}, the manifest says {stated[0]:,} of {stated[1]:,} bytes"]
        yield Check("volume", "objects and bytes", FAILED, "the list is not what its manifest says", tuple(wrong))
    else:
        yield Check("volume", "objects and bytes", PROVEN, f"{held}, as listed")
    what = "every object's digest"
    if seen.wrong:
        said = f"{plural(seen.count, 'object')} read back otherwise than they are in the snapshot"
        yield Check("content", what, FAILED, said, tuple(seen.wrong))
    else:
        also = ", tags" if seen.tags else ""
        said = f"{plural(seen.objects - len(seen.missing), 'object')} read back: bytes, content type, metadata{also}"
        yield Check("content", what, PROVEN, said)
    if not seen.tags and seen.tagged:
        said = f"{there.place.endpoint} keeps none; {plural(seen.tagged, 'object')} of the snapshot have some"
        yield Check("content", "tags", UNVERIFIED, said)


def _settings(manifest: Manifest, there: Endpoint) -> Check:
    """Versioning, CORS and policy of the bucket itself."""
    found = there.settings().as_dict()
    wrong = tuple(f"{name} is another" for name, now in found.items() if manifest.contents.get(name) != now)
    if wrong:
        return Check("structure", "settings", FAILED, "the scratch bucket was not set up as the source's is", wrong)
    kept = ", ".join(name for name, now in found.items() if now) or "none were set"
    return Check("structure", "settings", PROVEN, f"versioning, CORS and policy as they were: {kept}")
