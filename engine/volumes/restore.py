"""The steps of a restore of a volume: make, put, compare, and for a replacement exchange.

    plan = make_plan(site, VolumeRequest(volume="notebooks", replace=True))
    with VolumeRestore(site, plan) as work:
        work.put()
        work.compare()
        work.exchange()

Nothing that is there is touched before what was restored beside it has been compared. A replacement stops the
containers that use the volume, exchanges the files of both in one atomic step, and starts the containers again. A
journal has whatever interrupts this end with production whole and its containers running.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engine.archive import member as kinds
from engine.archive.member import Member
from engine.archive.place import Placer
from engine.archive.read import members
from engine.backup import locks
from engine.catalog import Entry
from engine.config_files.source import shown
from engine.errors import BackupError, ConfirmationNeeded, DiskFull, IntegrityError, RestoreRefused
from engine.fallback import first_whole
from engine.journal import Journal
from engine.manifest import Manifest
from engine.progress import Progress, silent
from engine.scratch.boxed import engine_errors
from engine.services import check_running, halt, lives, reserved, resume, using
from engine.site import Site
from engine.volumes import exchange, tree
from engine.volumes.docker_engine import Volume
from engine.volumes.helper import LOSSES, Helper
from engine.volumes.plan import VolumePlan, by_hand, engine_of, listing
from engine.volumes.through_engine import compare_through, facts_of, first_in

RESTORE = "volume-restore"
"""Kind of the journal that a restore keeps."""
_MARGIN = 64 * 1024 * 1024


@dataclass(frozen=True)
class VolumeResult:
    """What a restore did.

    Attributes:
        into: The volume that holds it.
        kept_as: The volume that holds what it replaced; empty where it replaced nothing.
        members: Files, directories and links, each compared with the listing.
        stopped_seconds: How long containers stood still; services: what became of them.
    """

    into: str
    kept_as: str
    entry: Entry
    members: int
    stopped_seconds: float
    services: list[str]
    notes: list[str]
    seconds: float


class VolumeRestore:
    """One restore under way. Holds the source's lock and a journal from entry to exit."""

    def __init__(self, site: Site, plan: VolumePlan, *, progress: Progress = silent) -> None:
        self.site = site
        self.plan = plan
        self.notes = list(plan.notes)
        self.entry = plan.copies[0][0]
        self.config = next(each for each in site.config.volumes if each.name == plan.target.source)
        self.engine = engine_of(site, self.config)
        self._progress = progress
        self._begun = time.monotonic()
        self._compared = 0
        self._stopped = 0.0
        self._services: list[str] = []
        self._path: Path | None = None
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> VolumeRestore:
        with contextlib.ExitStack() as held:  # let go again if the journal cannot be begun
            held.enter_context(locks(self.site, self.plan.target))
            self.journal = Journal.create(
                self.site.journals,
                RESTORE,
                source=self.plan.target.source,
                database=self.plan.target.database,
                into=self.plan.into,
                backup=self.plan.manifest.file,
            )
            self._exit = held.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            done = self.site.any_source(self.plan.target.source).recover(self.journal)
            self.notes += [each for each in done if kind is not None or not each.startswith("removed container")]
        except (BackupError, OSError):
            self.journal.release()  # the next run's sweep ends it
            if kind is None:
                raise
        finally:
            self._exit.close()

    def put(self) -> None:
        """Make the new volume and fill it, from the first copy that proves whole.

        Raises:
            IntegrityError: No copy is whole. RestoreRefused: a volume of that name has appeared, or the new one is not
                empty. DiskFull.
        """

        def fill(entry: Entry, manifest: Manifest) -> None:
            self.entry = entry
            if self._path is not None:
                self._put_files(entry, manifest, self._path)
            else:
                self._put_through(entry, manifest, volume)

        try:
            volume = self._make()
            first_whole(self.plan.copies, fill, self.notes, before_next=lambda: self._clear(volume))
        except BackupError as error:
            device = self.plan.options.get("device", "")
            if "no such file or directory" in error.message.lower() and device.startswith("/"):
                error.remedy = error.remedy or f"make the directory that it stands in: mkdir -p {device}"
            raise

    def compare(self) -> int:
        """Read everything that was restored again, and hold it against the listing; how many members there are.

        Raises:
            IntegrityError: It is not what was to be restored.
        """
        manifest = self.plan.manifest
        wanted = self._wanted(self.entry, manifest)
        if self._path is not None:
            self._compared = tree.compare(self._path, wanted)
        else:
            with Helper(self.engine.client, self.plan.makes, self.journal) as reading:
                self._compared = compare_through(reading, facts_of(wanted))
            self.notes.append(f"it was written through the engine; compared but for: {'; '.join(LOSSES[:2])}")
        if not self.plan.replaces:
            self.journal.record("done")
        return self._compared

    def exchange(self) -> list[str]:
        """Stop whoever uses the volume, exchange what was restored with what it holds, start them again and see that
        they run. Says what became of them.

        Raises:
            RestoreRefused: A container came to use it meanwhile; all is as it was. ToolFailed: one does not run
                afterwards.
        """
        plan, client = self.plan, self.engine.client
        volume = self.engine.find(plan.into)
        production, _ = self.engine.path_of(volume)
        side = self._path
        assert production is not None and side is not None and plan.replaces
        paths = plan.chosen.paths or (kinds.ROOT,)
        exchange.pairs(production, side, paths)
        exchange.check_possible(side)
        exchange.sync(side)
        users = using(client, volume.name)
        with reserved(users, self.site.vault.state / "locks"):
            begun = time.monotonic()
            halted = halt([(each, "stop") for each in users], self.journal, self.config.stop_seconds)
            self._refuse_users(volume)
            self._lead_there(production)
            self._exchange(production, side, volume, paths)
            resume(client, self.journal)
            if halted:
                self._stopped = time.monotonic() - begun
            self._services = self._check_services()
        return self._services

    def result(self) -> VolumeResult:
        """What was done, once ``compare`` (and ``exchange``) have been."""
        return VolumeResult(
            self.plan.into, self.plan.kept_as, self.entry, self._compared, self._stopped, self._services, self.notes,
            time.monotonic() - self._begun,
        )  # fmt: skip

    def _make(self) -> Volume:
        plan, name = self.plan, self.plan.makes
        if self.engine.get(name) is not None:
            raise RestoreRefused(f"A volume {name!r} has appeared meanwhile.", kept="it was not touched")
        self.journal.record("make", name=name)
        with engine_errors(f"Making volume {name!r}"):
            self.engine.client.volumes.create(name, driver=plan.driver, driver_opts=plan.options, labels=plan.labels)
        volume = self.engine.find(name)
        self._path, _ = self.engine.path_of(volume)
        self._refuse_filled(volume)
        self.journal.record("made", name=name)
        if self._path is not None:
            self._refuse_full(self._path)
        return volume

    def _refuse_filled(self, volume: Volume) -> None:
        """A new volume whose files stand elsewhere holds what is there, such as a share that outlived the machine."""
        first, where = "", f"in {self._path}"
        if self._path is not None:
            first = next((each.name for each in self._path.iterdir()), "")
        elif volume.outlived:
            where = f"elsewhere ({volume.stands})"
            with Helper(self.engine.client, volume.name, self.journal) as reading:
                first = first_in(reading)
        if first:
            raise RestoreRefused(
                f"The new volume {volume.name!r} is not empty: by its options its files stand {where}, and "
                f"{shown(first)} is there already.",
                kept="nothing was written there",
                remedy="see what is there; if it is only what a restore that broke off had put there, remove it and "
                f"restore again. Else {by_hand(volume.name)}",
            )

    def _refuse_full(self, path: Path) -> None:
        found = os.statvfs(path)
        free, needed = found.f_bavail * found.f_frsize, min(self.plan.chosen.bytes, self.plan.manifest.data.plain_size)
        if free < needed + _MARGIN:
            raise DiskFull(
                f"{path} has {free:,} bytes free; the restore needs {needed:,} and some room.",
                kept="nothing was replaced",
            )

    def _put_files(self, entry: Entry, manifest: Manifest, base: Path) -> None:
        placer = Placer(base, secrets.token_hex(8), durable=False)
        try:
            for member in self._wanted(entry, manifest):
                if member.type == kinds.DIRECTORY:
                    placer.directory(replace(member, above=False))
            for member, content in self._contents(entry, manifest):
                if member.type != kinds.DIRECTORY:
                    placer.put(member, content)
            placer.finish()
        finally:
            placer.close()
        self.notes += placer.notes
        exchange.sync(base)

    def _put_through(self, entry: Entry, manifest: Manifest, volume: Volume) -> None:
        def every() -> Iterator[tuple[Member, Iterator[bytes]]]:
            for member in self._wanted(entry, manifest):
                if member.type == kinds.DIRECTORY:
                    yield member, iter(())
            for member, content in self._contents(entry, manifest):
                if member.type != kinds.DIRECTORY:
                    yield member, content

        with Helper(self.engine.client, volume.name, self.journal, writable=True) as writing:
            writing.write(every())

    def _wanted(self, entry: Entry, manifest: Manifest) -> Iterator[Member]:
        for each in listing(self.site, entry, manifest):
            made = self.plan.chosen.of(each)
            if made is not None:
                yield made

    def _contents(self, entry: Entry, manifest: Manifest) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Wanted members with their content from the tar. What they are comes from the signed listing alone."""
        chunks = self.site.vault.read_part(entry, manifest, "data", self._progress)
        with contextlib.closing(chunks):
            listed = listing(self.site, entry, manifest)
            for info, content in members(chunks, manifest.file):
                member = next(listed, None)
                if member is None or member.path != info.name:
                    raise IntegrityError(f"{manifest.file} and its listing differ at {info.name!r}.")
                made = self.plan.chosen.of(member)
                if made is not None:
                    yield made, content
            missing = next(listed, None)
            if missing is not None:
                raise IntegrityError(f"{manifest.file} lacks {missing.path!r}, which its listing names.")
            for _ in chunks:  # the digest of what was decrypted is known at its end
                pass

    def _clear(self, volume: Volume) -> None:
        """An empty volume again, for the next copy."""
        with engine_errors(f"Making volume {volume.name!r} anew"):
            self.engine.client.volumes.get(volume.name).remove()
            self.engine.client.volumes.create(
                volume.name, driver=self.plan.driver, driver_opts=self.plan.options, labels=self.plan.labels
            )

    def _refuse_users(self, volume: Volume) -> None:
        still = [str(each.name) for each in using(self.engine.client, volume.name) if lives(each)]
        if still:
            raise RestoreRefused(
                f"{', '.join(still)} began to use volume {volume.name!r} while it was to be replaced.",
                kept="its data was not touched; what was stopped runs again",
                remedy="stop what starts it, and run the restore again",
            )

    def _lead_there(self, production: Path) -> None:
        """The directories that what was asked for stands in, where production lacks them."""
        if not self.plan.chosen.above:
            return
        placer = Placer(production, secrets.token_hex(8))
        try:
            for path in sorted(self.plan.chosen.above, key=lambda each: each.count("/")):
                if path != kinds.ROOT:
                    placer.directory(replace(self.plan.chosen.above[path], above=True))
            placer.finish()
        finally:
            placer.close()

    def _exchange(self, production: Path, side: Path, volume: Volume, paths: tuple[str, ...]) -> None:
        pairs = exchange.pairs(production, side, paths)
        self.journal.record(
            "exchange",
            volume=volume.name,
            kept_as=self.plan.kept_as,
            production=os.fsencode(production).hex(),
            side=os.fsencode(side).hex(),
            pairs=[each.as_dict() for each in pairs],
        )
        for pair in pairs:
            exchange.exchange(production, side, pair)
        self.journal.record("done")

    def _check_services(self) -> list[str]:
        try:
            return check_running(self.engine.client, self.journal)
        except BackupError as error:
            error.kept = error.kept or (
                f"volume {self.plan.into} holds what was restored, its previous data is in volume {self.plan.kept_as}"
            )
            raise


def run(
    site: Site,
    plan: VolumePlan,
    *,
    approved: bool = False,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda line: None,
) -> VolumeResult:
    """Every step of a plan, in order.

    Raises:
        ConfirmationNeeded: It replaces a volume and was not approved.
    """
    if plan.replaces and not approved:
        raise ConfirmationNeeded(
            f"This would replace what volume {plan.into} holds.",
            kept="nothing was changed",
            remedy=f"confirm with --confirm {plan.into}",
        )
    with VolumeRestore(site, plan, progress=progress) as work:
        tell(f"restoring {plan.manifest.file} into volume {plan.makes}")
        work.put()
        tell("comparing it with the listing")
        work.compare()
        if plan.replaces:
            tell(f"putting it in place of what volume {plan.into} holds")
            work.exchange()
        return work.result()
