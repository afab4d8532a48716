"""Restore drill of containers and images: the record is read, and every image that it needs to its last layer.

Nothing is loaded into an engine: an image that was there already would prove nothing, and taking one away that is in
use is not for a drill.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from engine.catalog import Entry
from engine.drill.base import Piece, SourceDrill
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
            said = f"{plural(layers, 'layer')} of {plural(len(stored), 'stored image')} read again"
            yield Check("content", "every layer's digest", PROVEN, said)

    def _read(self, image: str) -> int:
        copies = copies_of(self.site, self.source, image)
        if not copies:
            raise IntegrityError("it stands in no place of the vault")
        entry, manifest = copies[0]
        return saved.verify(manifest, lambda role: self.site.vault.read_part(entry, manifest, role))
