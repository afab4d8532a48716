"""The steps of a restore of config files: safety backup, put, compare.

    plan = make_plan(site, ConfigRequest(into="/"))
    with ConfigRestore(site, plan) as work:
        work.safety_backup()
        work.put()
        work.compare()

Into a directory: everything is written beside it and renamed at the end, so that it is there whole or not at all.
In place: every file is whole old or whole new at any moment; a journal tells the next run what half-written files a
dead one left.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine import names
from engine.archive import member as kinds
from engine.archive.member import Member
from engine.archive.place import Placer
from engine.archive.read import members
from engine.backup import capture, locks, verify
from engine.catalog import Entry
from engine.config_files.diff import Difference, difference
from engine.config_files.plan import ConfigPlan, members_by_archive_name
from engine.config_files.source import RESTORE, ConfigFilesSource, shown
from engine.errors import ConfirmationNeeded, IntegrityError, RestoreRefused
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
    """

    into: str
    entry: Entry
    written: int
    altered: int
    equal: int
    safety: Entry | None
    notes: list[str]
    seconds: float


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
        except OSError:
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
        """Write what is to be restored, from the first copy that proves whole.

        Raises:
            IntegrityError: No copy is whole. RestoreRefused: something is in the way. DiskFull.
        """
        first_whole(self.plan.copies, self._put_from, self.notes)

    def compare(self) -> Difference:
        """Look at what stands there now.

        Raises:
            IntegrityError: It is not what was to be restored.
        """
        plan = self.plan
        base = str(self._base)
        found = difference(plan.members, base, [], [])
        owners_given = os.geteuid() == 0
        wrong = [each for each in found.changes if owners_given or not _by_owner(each.what)]
        if wrong or found.blocked:
            told = [shown(str(each)) for each in wrong[:5]] + [shown(each) for each in found.blocked[:5]]
            raise IntegrityError(
                f"What was restored into {shown(plan.into)} is not what the backup holds: {'; '.join(told)}.",
                kept="what was replaced is in the safety backup" if self.safety else "",
                remedy="see whether something else writes there, and run the restore again",
            )
        return found

    def result(self) -> ConfigResult:
        """What was done, once ``compare`` has been."""
        found = self.plan.difference
        written = len(found.whole) if found else len(self.plan.members)
        return ConfigResult(
            self.plan.into, self.entry, written, len(found.dress) if found else 0, found.same if found else 0,
            self.safety, self.notes, time.monotonic() - self._begun,
        )  # fmt: skip

    def _put_from(self, entry: Entry, manifest: Manifest) -> None:
        self.entry = entry
        found = self.plan.difference
        whole = found.whole if found else {each.path: each for each in self.plan.members}
        base = self._base
        if self._staging is not None:
            base = self._new_staging(self._staging)
        placer = Placer(base, self._token, self._entering)
        try:
            for member in self.plan.members:  # every directory first: what is in it needs it
                if member.type == kinds.DIRECTORY and (member.path in whole or found is None):
                    placer.directory(member)
            if any(member.type != kinds.DIRECTORY for member in whole.values()):
                self._put_files(entry, manifest, whole, placer)
            for member in found.dress.values() if found else ():
                placer.touch(member)
            placer.finish()
        finally:
            placer.close()
        if self._staging is not None:
            self._base.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.rename(self._staging, self._base)
        self.notes += placer.notes

    def _put_files(self, entry: Entry, manifest: Manifest, whole: dict[str, Member], placer: Placer) -> None:
        """Everything but directories. What a file is comes from the signed listing, only its content from the tar."""
        waiting = dict(members_by_archive_name(self.plan, whole))
        chunks = self.site.vault.read_part(entry, manifest, "data", self._progress)
        with contextlib.closing(chunks):
            for info, content in members(chunks, manifest.file):
                member = waiting.pop(info.name, None)
                if member is not None and member.type != kinds.DIRECTORY:
                    placer.put(member, content)
            for _ in chunks:  # the digest of what was decrypted is known at its end
                pass
        if any(member.type != kinds.DIRECTORY for member in waiting.values()):
            raise IntegrityError(f"{manifest.file} lacks {next(iter(waiting))!r}, which its listing names.")

    def _new_staging(self, staging: Path) -> Path:
        staging.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if staging.exists():  # from a copy that was not whole
            shutil.rmtree(staging)
        staging.mkdir(mode=0o700)
        return staging

    def _entering(self, folder: str) -> None:
        if self._staging is None:
            self.journal.record("directory", path=os.fsencode(folder).hex())


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
        work.compare()
        return work.result()


def _by_owner(what: tuple[str, ...]) -> bool:
    """Does only what root alone can give differ?"""
    return all(each.startswith(("owner ", "mode ", "attributes")) for each in what)
