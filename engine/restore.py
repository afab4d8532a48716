"""The steps of a restore: plan, load beside, compare, safety backup, swap.

    request = RestoreRequest(source="mysql", database="workset")
    plan = make_plan(site, request)
    with RestoreWork(site, plan) as work:
        work.load()
        work.compare()
        if plan.replaces:
            work.safety_backup()
            work.swap()

Nothing of production is touched before ``swap``. Leaving ``RestoreWork`` on an error undoes what is
half done; dying leaves a journal that the next run's sweep ends.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine import names
from engine.backup import capture, locks, verify
from engine.binlog import swaps
from engine.catalog import Entry
from engine.errors import BackupError, ConfirmationNeeded, IntegrityError, NotFound
from engine.fallback import first_whole
from engine.journal import Journal
from engine.logs import ledger
from engine.manifest import Manifest
from engine.progress import Progress, silent
from engine.replicas import replicate
from engine.restore_plan import RestorePlan, RestoreRequest, check_confirmation, make_plan
from engine.site import Site
from engine.source import Comparison, SwapReport
from engine.vault import LOCAL

__all__ = [
    "RestorePlan",
    "RestoreRequest",
    "RestoreResult",
    "RestoreWork",
    "check_confirmation",
    "make_plan",
    "run",
    "unconfirmed",
]

_UNTOUCHED = "production was not touched"
_ELSEWISE = "take an older backup, or what is whole of this one by hand"


@dataclass(frozen=True)
class RestoreResult:
    """What a restore did.

    Attributes:
        lacks_full: It stands, but the new full that logs from then on are replayed on could not be made, and why.
    """

    into: str
    entry: Entry
    comparison: Comparison
    swap: SwapReport | None
    safety: Entry | None
    notes: list[str]
    seconds: float
    lacks_full: BackupError | None = None

    @property
    def rows(self) -> int:
        return sum(self.comparison.found.values())

    @property
    def but(self) -> str:
        """What could not be compared, as the end of a first line; empty where all was."""
        return f", but {self.comparison.unchecked}" if self.comparison.unchecked else ""


class RestoreWork:
    """One restore under way. Holds the database's locks and a journal from entry to exit."""

    def __init__(self, site: Site, plan: RestorePlan, *, progress: Progress = silent) -> None:
        self.site = site
        self.plan = plan
        self.notes: list[str] = []
        self.entry = plan.entry
        self.manifest = plan.manifest
        self.comparison: Comparison | None = None
        self.safety: Entry | None = None
        self.report: SwapReport | None = None
        self.lacks_full: BackupError | None = None
        self._source = site.source(plan.target.source)
        self._progress = progress
        self._begun = time.monotonic()
        self._keep = False
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> RestoreWork:
        with contextlib.ExitStack() as held:  # let go again if the journal cannot be begun
            held.enter_context(locks(self.site, self.plan.target))
            self.journal = Journal.create(
                self.site.journals,
                f"{self._source.kind}-restore",
                source=self.plan.target.source,
                database=self.plan.target.database,
                side=self.plan.side,
                replaces=self.plan.replaces,
                keep_as=self.plan.keep_as,
                backup=self.plan.manifest.file,
            )
            self._exit = held.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            if kind is None or self._keep:
                self.journal.close()
            else:
                self._undo()
        finally:
            self._exit.close()

    def load(self) -> None:
        """Load the backup beside production, from the first copy that proves whole, its companions too."""
        try:
            first_whole(self.plan.copies, self._load_from, self.notes)
        except NotFound as error:
            raise _not_whole(self.manifest, error) from error
        except IntegrityError as error:
            error.kept = error.kept or _UNTOUCHED
            error.remedy = error.remedy or _ELSEWISE
            raise

    def compare(self) -> Comparison:
        """Hold the loaded copy against its manifest.

        Raises:
            IntegrityError: It differs; the copy is kept for a look, production is untouched.
        """
        plan = self.plan
        self.comparison = self._source.compare(self.manifest, plan.side, plan.request.selection)
        if not self.comparison.equal:
            self._keep = True
            shown = "; ".join([*self.comparison.problems[:5], *self.notes[:5]])
            raise IntegrityError(
                f"The restored copy of {plan.target} is not what its manifest says: {shown}.",
                kept=f"production is untouched; the copy stays as {plan.side!r} for a look",
                remedy="try an older backup, or another location",
            )
        if not plan.replaces:
            self.notes += self._source.finish_side(
                self.manifest, self._part, plan.side, plan.request.selection, self.journal, self._progress
            )
        return self.comparison

    def safety_backup(self) -> Entry | None:
        """Back up what is about to be replaced, and prove that backup. None when nothing stands there."""
        if not self.plan.request.safety_backup or not self._source.state(self.plan.target.database).exists:
            return None
        entry, _ = capture(
            self.site,
            self.plan.target,
            tier=names.SAFETY,
            locked=True,
            progress=self._progress,
            label=f"safety copy before restoring {self.manifest.file}",
        )
        verify(self.site, entry, progress=self._progress)
        self.safety = entry
        return entry

    def swap(self) -> SwapReport:
        """Put the copy in production's place; the previous data stays under the plan's ``keep_as``."""
        from engine.mysql.server import MySQLSource

        plan = self.plan
        if self.needs_new_full and isinstance(self._source, MySQLSource):
            swaps.note(self.site.vault, self._source, plan.target.database)
        self.report = self._source.swap(
            self.manifest,
            self._part,
            plan.side,
            plan.target.database,
            plan.keep_as,
            plan.request.selection,
            self.journal,
            self._progress,
        )
        return self.report

    @property
    def needs_new_full(self) -> bool:
        """Are binary logs of this server shipped, or to be?"""
        source = self.plan.target.source
        if self._source.kind != "mysql":
            return False
        wanted = self.site.config.server(source).point_in_time and self.manifest.log.binlog_file
        return bool(wanted or ledger(self.site.vault, source, names.BINLOGS))

    def new_full(self) -> Entry | None:
        """A full of what stands there now, where binary logs are shipped: these cannot be replayed across a
        swap, so no older full leads to any moment after it. A failure is told in the result: the restore is done."""
        target = self.plan.target
        if not self.needs_new_full:
            return None
        try:
            entry, _ = capture(
                self.site,
                target,
                tier="daily",
                locked=True,
                progress=self._progress,
                label=f"after restoring {self.manifest.file}",
            )
            verify(self.site, entry, progress=self._progress)
        except BackupError as error:
            self.lacks_full = BackupError(
                f"{target} is restored, but no good new full of it could be made: {error.message}",
                kept="the restore stands; logs go on being shipped, but no moment after it can be recovered",
                remedy=f"make a full: backups backup --source {target.source} --database {target.database}"
                + (f" (before that: {error.remedy})" if error.remedy else ""),
            )
            return None
        self.notes.append(f"{entry.file} is a new full, from which the logs after this restore can be replayed")
        self._copy(entry)
        return entry

    def _copy(self, entry: Entry) -> None:
        """Bring a new backup to every replica; what cannot be is a note, the next run catches it up."""
        for replica in self.site.vault.locations():
            try:
                if replica != LOCAL:
                    replicate(self.site, entry, replica, progress=self._progress)
            except BackupError as error:
                self.notes.append(f"{replica} lacks {entry.file} until the next backup run ({error.message})")

    def result(self) -> RestoreResult:
        """What was done, once ``compare`` (and for a replacement ``swap``) has been."""
        assert self.comparison is not None
        into = self.plan.target.database if self.plan.replaces else self.plan.side
        notes = [*self.notes, *self.comparison.notes, *(self.report.notes if self.report else [])]
        return RestoreResult(
            into, self.entry, self.comparison, self.report, self.safety, notes, time.monotonic() - self._begun,
            self.lacks_full,
        )  # fmt: skip

    def _load_from(self, entry: Entry, manifest: Manifest) -> None:
        plan = self.plan
        self.entry, self.manifest = entry, manifest
        for companion in manifest.files:
            if companion.role != "data":  # small: read to its end, so that size and digest are proven
                for _ in self._part(companion.role):
                    pass
        try:
            self.notes += self._source.load_beside(
                manifest, self._part, plan.side, plan.request.selection, self.journal, self._progress
            )
        except BaseException:
            with contextlib.suppress(BackupError):
                self._source.drop_side(plan.side, self.journal)
            raise

    def _part(self, role: str) -> Iterator[bytes]:
        """Plain bytes of a part; the first is only given once the stored digest has been checked."""
        chunks = self.site.vault.read_part(self.entry, self.manifest, role, self._progress)
        first = next(chunks, b"")
        return itertools.chain([first] if first else [], chunks)

    def _undo(self) -> None:
        try:
            self.notes += self._source.recover(self.journal)
            swaps.settle(self.site.vault, self.journal)
        except BackupError:
            self.journal.release()  # the next run's sweep ends it


def run(
    site: Site,
    plan: RestorePlan,
    *,
    approved: bool = False,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda line: None,
) -> RestoreResult:
    """Every step of a plan, in order.

    Raises:
        ConfirmationNeeded: It replaces a database and was not approved.
    """
    if plan.replaces and not approved:
        raise unconfirmed(plan.target.database)
    with RestoreWork(site, plan, progress=progress) as work:
        tell(f"loading {plan.manifest.file} into {plan.side}")
        work.load()
        tell("comparing with the manifest")
        work.compare()
        if plan.replaces:
            if work.safety_backup() is not None:
                tell(f"safety backup {work.safety.file if work.safety else ''}")
            tell(f"replacing {plan.target.database}")
            work.swap()
            if work.new_full() is not None:
                tell("made a new full: logs cannot be replayed across a swap")
        return work.result()


def unconfirmed(database: str) -> ConfirmationNeeded:
    """The error for a replacement that nobody approved."""
    return ConfirmationNeeded(
        f"This would replace the database {database!r}.",
        kept="nothing was changed",
        remedy=f"confirm with --confirm {database}",
    )


def _not_whole(manifest: Manifest, error: NotFound) -> IntegrityError:
    """A part that the manifest speaks of is gone, and no other copy is left: that is damage."""
    return IntegrityError(
        f"{manifest.file} is not whole: {error.message}",
        kept=error.kept or _UNTOUCHED,
        remedy=error.remedy or _ELSEWISE,
    )
