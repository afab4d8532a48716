"""Restore drill of containers and images: the record is read, and every image that it needs to its last layer.

Nothing is loaded into an engine: an image that was there already would prove nothing, and taking one away that is in
use is not for a drill. An image is what its digests say: every layer that hashes to what its configuration names is the
one that was stored, so reading proves the content. It says nothing of the time that a restore takes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from engine.catalog import Entry
from engine.drill.base import OnlyRead, Piece, SourceDrill
from engine.drill.verdict import FAILED, PROVEN, Check, plural
from engine.errors import IntegrityError
from engine.images import saved
from engine.images.load import copies_of, needed, open_record
from engine.images.record import Record
from engine.manifest import Manifest


class ImagesDrill(SourceDrill[dict[str, Record]]):
    """The containers of one engine."""

    kind = "images"

    @contextlib.contextmanager
    def place(self) -> Iterator[dict[str, Record]]:
        yield {}

    def describe(self, place: dict[str, Record]) -> str:
        return "read through on this host"

    def only_read(self, place: dict[str, Record]) -> OnlyRead:
        return OnlyRead("every stored layer against its digest")

    def restore(self, place: dict[str, Record], piece: Piece, entry: Entry, manifest: Manifest) -> list[str]:
        place[piece.database] = open_record(self.site, entry, manifest)
        return []

    def prove(self, place: dict[str, Record], piece: Piece) -> Iterator[Check]:
        record, incomplete = place[piece.database], tuple(piece.manifest.incomplete)
        known = {each.id for each in record.images}
        missing = tuple(f"{each.name}: its image is not named" for each in record.containers if each.image not in known)
        if missing or incomplete:
            yield Check("structure", "containers", FAILED, "the record lacks some", (*missing, *incomplete))
        else:
            yield Check("structure", "containers", PROVEN, f"{piece.manifest.holds}, each with its image")
        stored = [each for each in needed(record) if each.saved]
        problems, layers = [], 0
        for image in stored:
            try:
                layers += self._read(image.name)
            except IntegrityError as error:
                problems.append(f"{image.shown}: {error.message}")
        if problems:
            yield Check("content", "every layer's digest", FAILED, "stored images cannot be loaded", tuple(problems))
        else:
            yield Check("content", "every layer's digest", PROVEN, _told(layers, len(stored), record))

    def _read(self, image: str) -> int:
        copies = copies_of(self.site, self.source, image)
        if not copies:
            raise IntegrityError("it stands in no place of the vault")
        entry, manifest = copies[0]
        return saved.verify(manifest, lambda role: self.site.vault.read_part(entry, manifest, role))


def _told(layers: int, stored: int, record: Record) -> str:
    said = f"{plural(layers, 'layer')} of {plural(stored, 'stored image')} read layer by layer against its digests"
    others = [each.shown for each in needed(record) if not each.saved]
    return f"{said}; not stored, as a registry has them: {', '.join(others)}" if others else said
