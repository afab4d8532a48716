"""Restore drill of Docker volumes: each into a scratch volume on its own engine, every file against the signed listing.

No container is stopped. The restore's own journal removes the scratch volume, at the end and after a ``kill -9``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.catalog import Entry
from engine.drill.base import Piece, SourceDrill
from engine.drill.verdict import FAILED, PROVEN, Check, plural
from engine.errors import IntegrityError
from engine.journal import Journal
from engine.manifest import Manifest
from engine.scratch import leftovers
from engine.scratch.boxed import engine_errors
from engine.volumes import tree
from engine.volumes.helper import LOSSES, Helper
from engine.volumes.plan import VolumeRequest, engine_of, make_plan
from engine.volumes.restore import RESTORE, VolumeRestore
from engine.volumes.through_engine import compare_through, facts_of


@dataclass
class ScratchVolumes:
    """What was restored, by the volume that it is a backup of. Gone when ``held`` is closed."""

    held: contextlib.ExitStack
    restored: dict[str, ScratchRestore] = field(default_factory=dict)


class ScratchRestore(VolumeRestore):
    """A restore into a volume that nobody else knows of and that is removed in the end: it takes no locks."""

    def __enter__(self) -> ScratchRestore:
        target = self.plan.target
        self.journal = Journal.create(
            self.site.journals, RESTORE, source=target.source, database=target.database, into=self.plan.into,
            backup=self.plan.manifest.file,
        )  # fmt: skip
        return self

    def look(self) -> tuple[int, str]:
        """How many members there are, each as the listing says; and what could not be compared.

        Raises:
            IntegrityError: They are not; names the first that differ.
        """
        wanted = self._wanted(self.entry, self.plan.manifest)
        if self._path is not None:
            return tree.compare(self._path, wanted), ""
        with Helper(self.engine.client, self.plan.makes, self.journal) as reading:
            return compare_through(
                reading, facts_of(wanted)
            ), f" (through the engine, but for: {'; '.join(LOSSES[:2])})"


class VolumesDrill(SourceDrill[ScratchVolumes]):
    """The volumes of one Docker engine."""

    kind = "volume"

    @contextlib.contextmanager
    def place(self) -> Iterator[ScratchVolumes]:
        config = next(each for each in self.site.config.volumes if each.name == self.source)
        with engine_errors("Looking for an engine to restore volumes on"):
            engine_of(self.site, config).client.ping()
        with contextlib.ExitStack() as held:
            yield ScratchVolumes(held)

    def describe(self, place: ScratchVolumes) -> str:
        return "scratch volumes on the source's own engine"

    def restore(self, place: ScratchVolumes, piece: Piece, entry: Entry, manifest: Manifest) -> list[str]:
        request = VolumeRequest(piece.database, self.source, manifest.file, entry.location, leftovers.new_name())
        plan = make_plan(self.site, request)
        with contextlib.ExitStack() as once:  # a restore that fails leaves no volume
            work = once.enter_context(ScratchRestore(self.site, plan, progress=self.work.progress))
            work.put()
            place.held.push(once.pop_all())
        place.restored[piece.database] = work
        return []

    def prove(self, place: ScratchVolumes, piece: Piece) -> Iterator[Check]:
        manifest = piece.manifest
        if manifest.incomplete:
            yield Check("volume", "files", FAILED, "the backup is incomplete", tuple(manifest.incomplete))
        try:
            count, lost = place.restored[piece.database].look()
        except IntegrityError as error:
            yield Check("content", "every file's digest", FAILED, error.message)
            return
        if not manifest.incomplete:
            yield Check("volume", "files", PROVEN, f"{manifest.holds}, as listed")
        said = f"{plural(count, 'member')} read again: digests, modes, owners, times{lost}"
        yield Check("content", "every file's digest", PROVEN, said)
