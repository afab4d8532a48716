"""Restore drill of n8n: every part read, every credential opened with the key of the backup. Nothing is imported
anywhere, and nothing is ever made active."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from engine.catalog import Entry
from engine.drill.base import Piece, SourceDrill
from engine.drill.verdict import FAILED, PROVEN, Check
from engine.manifest import Manifest
from engine.n8n.parts import verify


class N8nDrill(SourceDrill[None]):
    """One n8n."""

    kind = "n8n"

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        yield None

    def describe(self, place: None) -> str:
        return "nowhere: its parts are read as a restore reads them, and imported into no n8n"

    def restore(self, place: None, piece: Piece, entry: Entry, manifest: Manifest) -> list[str]:
        verify(manifest, lambda role: self.site.vault.read_part(entry, manifest, role))
        return []

    def prove(self, place: None, piece: Piece) -> Iterator[Check]:
        manifest = piece.manifest
        if manifest.incomplete:
            yield Check("structure", "workflows", FAILED, "the backup lacks some", tuple(manifest.incomplete))
        yield Check("volume", "workflows, credentials, tags", PROVEN, f"{manifest.holds}, as exported")
        types = ", ".join(manifest.contents.get("credential_types", [])) or "none"
        yield Check("content", "credentials", PROVEN, f"every one opened with n8n's own key: {types}")
