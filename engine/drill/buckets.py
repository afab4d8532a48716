"""Restore drill of buckets: every object's content brought out of the vault again, and held against the list.

There is no throwaway S3 server to restore into: what a restore would send is read, checked, decrypted and unpacked to
the last byte, and goes nowhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from engine.buckets.verify import ALL, verify
from engine.catalog import Entry
from engine.drill.base import Piece, SourceDrill
from engine.drill.verdict import FAILED, PROVEN, Check, plural
from engine.manifest import Manifest


class BucketsDrill(SourceDrill[None]):
    """One source of buckets."""

    kind = "bucket"

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        yield None

    def describe(self, place: None) -> str:
        return "nowhere: objects are read as a restore reads them, and put into no bucket"

    def restore(self, place: None, piece: Piece, entry: Entry, manifest: Manifest) -> list[str]:
        vault = self.site.vault
        with contextlib.closing(vault.read_part(entry, manifest)) as plain:
            verify(vault, entry, manifest, plain, new=False, progress=self.work.progress)
        return []

    def prove(self, place: None, piece: Piece) -> Iterator[Check]:
        manifest = piece.manifest
        if manifest.incomplete:
            yield Check("structure", "objects", FAILED, "the snapshot lacks some", tuple(manifest.incomplete))
        objects = plural(int(manifest.contents["objects"]), "object")
        said = f"{objects}, {manifest.contents['bytes']:,} bytes, as listed"
        yield Check("volume", "objects and bytes", PROVEN, said)
        yield Check("content", "every object's digest", PROVEN, f"of {objects}: {ALL}")
