"""The steps of a restore of config files: safety backup, put, swap, compare.

    plan = make_plan(site, ConfigRequest(into="/"))
    with ConfigRestore(site, plan) as work:
        work.safety_backup()
        work.put()
        work.swap()
        work.compare()

Everything is written beside and compared with the signed listing first. Into a directory: it is renamed at the end, so
that it is there whole or not at all. In place: each file is renamed over the one that stands there, which is kept under
another name. A journal has whatever interrupts this end with all files as restored, or all as they were.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from engine import names
from engine.archive import member as kinds
from engine.archive.member import Member
from engine.archive.place import Placer
from engine.archive.read import members
from engine.backup import capture, locks, verify
from engine.catalog import Entry
from engine.config_files.beside import Beside, wrong_ones
from engine.config_files.diff import Difference, difference
from engine.config_files.plan import ConfigPlan, members_by_archive_name
from engine.config_files.recovery import carry_out, finish
from engine.config_files.source import RESTORE, ConfigFilesSource, shown
from engine.config_files.swap import OLD
from engine.errors import BackupError, ConfirmationNeeded, IntegrityError, RestoreRefused
from engine.fallback import first_whole
from engine.journal import Journal
from engine.manifest import Manifest
from engine.progress import Progress, silent
from engine.site import Site


@dataclass(frozen=True)
class ConfigResult:
    """What a restore did.

    Attributes:
        written: How many members were put in place; altered: how many only got mode, owner or time back.
        kept: Directories that hold what was replaced, one for each file system.
    """

    into: str
    entry: Entry
    written: int
    altered: int
    equal: int
    safety: Entry | None
    kept: list[str]
    notes: list[str]
    seconds: float

    @property
    def how_back(self) -> list[str]:
        """How what was replaced is put back by hand: a command for each directory."""
        return [f"cp -a --remove-destination {shlex.quote(each)}/{OLD}/. /" for each in self.kept]


class ConfigRestore:
    """One restore under way. Holds the source's lock and a journal from entry to exit."""

    def __init__(self, site: Site, plan: ConfigPlan, *, progress: Progress = silent) -> None:
        self.site = site
        self.plan = plan
        self.notes = list(plan.notes)
        self.entry = plan.copies[0][0]
        self.safety: Entry | None = None
        self._progress = progress
        self._begun = time.monotonic()
        self._token = secrets.token_hex(8)
        self._base = Path(plan.into)
        self._staging: Path | None = None
        if not plan.in_place:
            self._staging = self._base.with_name(f".{self._base.name[:200]}.{self._token}")
        self._beside: Beside | None = None
        self._kept: list[str] = []
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> ConfigRestore:
        with contextlib.ExitStack() as held:  # let go again if the journal cannot be begun
            held.enter_context(locks(self.site, self.plan.target))
            self.journal = Journal.create(
                self.site.journals,
                RESTORE,
                source=self.plan.target.source,
                database=self.plan.target.database,
                into=shown(self.plan.into),
                staging=os.fsencode(self._staging or "").hex(),
                token=self._token,
                backup=self.plan.manifest.file,
            )
            self._exit = held.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            self.notes += self.site.any_source(self.plan.target.source).recover(self.journal)
        except (BackupError, OSError):
            self.journal.release()  # the next run's sweep ends it
            if kind is None:
                raise
        finally:
            self._exit.close()

    def safety_backup(self) -> Entry | None:
        """Back up what stands where files will be put, and prove that backup. None when nothing stands there.

        Raises:
            RestoreRefused: Some of it could not be read.
        """
        plan = self.plan
        there = [path for path in plan.roots if os.path.lexists(path)]
        if not plan.request.safety_backup or not plan.in_place or not there or not plan.changes:
            return None
        config = next(each for each in self.site.config.config if each.name == plan.target.source)
        now = config.model_copy(update={"paths": there, "exclude": plan.manifest.contents.get("exclude", [])})
        entry, manifest = capture(
            self.site,
            plan.target,
            tier=names.SAFETY,
            label=f"safety copy before restoring {plan.manifest.file}",
            locked=True,
            progress=self._progress,
            source=ConfigFilesSource(now, vault=self.site.vault.root),
        )
        verify(self.site, entry, progress=self._progress)
        if manifest.incomplete:
            raise RestoreRefused(
                f"The safety backup {manifest.file} is incomplete: {'; '.join(manifest.incomplete[:5])}.",
                kept="nothing was changed",
                remedy="make these files readable, or go on without it: --no-safety-backup",
            )
        self.safety = entry
        return entry

    def put(self) -> None:
        """Write what is to be restored, from the first copy that proves whole: into its directory, or for a restore in
        place beside what stands there, of which nothing is touched.

        Raises:
            IntegrityError: No copy is whole. RestoreRefused: something is in the way. DiskFull.
        """
        if self.plan.in_place:
            self._beside = Beside(self.plan, self.site.vault.root, self._token, self.journal)
            self._beside.make()
        first_whole(self.plan.copies, self._put_from, self.notes)

    def swap(self) -> list[str]:
        """For a restore in place: put what was written beside in the place of what stands there. Says in which
        directories that is kept.

        Raises:
            RestoreRefused, DiskFull: A file cannot be put; all are as they were. ToolFailed: nor could that be had.
        """
        if self._beside is not None:
            swap = self._beside.swap()
            self.journal.record("swap", **swap.as_dict())
            self.notes += carry_out(self.journal, swap)
            self._kept = [str(each) for each in finish(self.journal)]
        return self._kept

    def compare(self) -> Difference:
        """Look at what stands there now.

        Raises:
            IntegrityError: It is not what was to be restored.
        """
        plan = self.plan
        base = str(self._base)
        found = difference(plan.members, base, [], [])
        wrong = wrong_ones(found.changes)
        if wrong or found.blocked:
            told = [shown(str(each)) for each in wrong[:5]] + [shown(each) for each in found.blocked[:5]]
            raise IntegrityError(
                f"What was restored into {shown(plan.into)} is not what the backup holds: {'; '.join(told)}.",
                kept=f"what was replaced is in {', '.join(self._kept)}" if self._kept else "",
                remedy="see whether something else writes there, and run the restore again",
            )
        return found

    def result(self) -> ConfigResult:
        """What was done, once ``compare`` has been."""
        found = self.plan.difference
        written = len(found.whole) if found else len(self.plan.members)
        return ConfigResult(
            self.plan.into, self.entry, written, len(found.dress) if found else 0, found.same if found else 0,
            self.safety, self._kept, self.notes, time.monotonic() - self._begun,
        )  # fmt: skip

    def _put_from(self, entry: Entry, manifest: Manifest) -> None:
        self.entry = entry
        if self._beside is not None:
            self._beside.fill(lambda wanted, put: self._contents(entry, manifest, wanted, put))
            self.notes += self._beside.notes
        elif self._staging is not None:
            self._put_into(entry, manifest, self._new_staging(self._staging))
            self._base.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.rename(self._staging, self._base)

    def _put_into(self, entry: Entry, manifest: Manifest, base: Path) -> None:
        placer = Placer(base, self._token)
        try:
            for member in self.plan.members:  # every directory first: what is in it needs it
                if member.type == kinds.DIRECTORY:
                    placer.directory(member)
            others = {each.path: each for each in self.plan.members if each.type != kinds.DIRECTORY}
            if others:
                self._contents(entry, manifest, others, placer.put)
            placer.finish()
        finally:
            placer.close()
        self.notes += placer.notes

    def _contents(
        self, entry: Entry, manifest: Manifest, wanted: dict[str, Member],
        put: Callable[[Member, Iterable[bytes]], None],
    ) -> None:  # fmt: skip
        """Hand members over that are no directories. What one is comes from the signed listing, only its content from
        the tar."""
        waiting = dict(members_by_archive_name(self.plan, wanted))
        chunks = self.site.vault.read_part(entry, manifest, "data", self._progress)
        with contextlib.closing(chunks):
            for info, content in members(chunks, manifest.file):
                member = waiting.pop(info.name, None)
                if member is not None:
                    put(member, content)
            for _ in chunks:  # the digest of what was decrypted is known at its end
                pass
        if waiting:
            raise IntegrityError(f"{manifest.file} lacks {next(iter(waiting))!r}, which its listing names.")

    def _new_staging(self, staging: Path) -> Path:
        staging.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if staging.exists():  # from a copy that was not whole
            shutil.rmtree(staging)
        staging.mkdir(mode=0o700)
        return staging


def run(
    site: Site,
    plan: ConfigPlan,
    *,
    approved: bool = False,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda line: None,
) -> ConfigResult:
    """Every step of a plan, in order.

    Raises:
        ConfirmationNeeded: It replaces files and was not approved.
    """
    if plan.in_place and plan.changes and not approved:
        raise ConfirmationNeeded(
            f"This would put {plan.target.source} back in place, below /: {plan.changes:,} to write or alter.",
            kept="nothing was changed",
            remedy=f"confirm with --confirm {plan.target.source}",
        )
    with ConfigRestore(site, plan, progress=progress) as work:
        if plan.in_place and work.safety_backup() is not None:
            tell(f"safety backup {work.safety.file if work.safety else ''}")
        tell(f"restoring {plan.manifest.file} into {shown(plan.into)}")
        work.put()
        if plan.in_place:
            tell("putting it in place of what stands there")
            work.swap()
        work.compare()
        return work.result()
