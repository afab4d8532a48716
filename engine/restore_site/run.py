"""Carrying out the restore of a machine, step by step; what was done is remembered, and not done twice.

plan = make_plan(site, SiteRequest())
require_readable(site, plan)
with MachineRestore(site, plan) as work:
    report = work.carry_out(work.do)
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from engine.errors import BackupError, Cancelled, ConfirmationNeeded, Lacking, Thawing
from engine.progress import Progress, silent
from engine.restore_site.plan import SitePlan, request_facts
from engine.restore_site.state import Done, State
from engine.restore_site.work import Step, Work
from engine.site import Site


@dataclass
class SiteResult:
    """What came of it.

    Attributes:
        done: What each step came to, in their order, those of earlier runs too.
        failures: What did not work; the steps after these were not begun, unless all came back but what is lost.
        later: Steps of the restore that were not asked for this time and are still to be done, by their keys.
        state: The file that says all this; of a finished restore it has another name.
    """

    done: dict[str, Done] = field(default_factory=dict)
    failures: dict[str, BackupError] = field(default_factory=dict)
    skipped: list[Step] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    state: Path | None = None
    seconds: float = 0.0

    @property
    def worked(self) -> bool:
        """Was all done that was asked for?"""
        return not self.failures and not self.skipped

    @property
    def finished(self) -> bool:
        """... and nothing is left of the restore?"""
        return self.worked and not self.later


class MachineRestore:
    """One restore under way. Holds a lock from entry to exit, so that there is one at a time."""

    def __init__(
        self, site: Site, plan: SitePlan, *, progress: Progress = silent,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:  # fmt: skip
        self.site = site
        self.plan = plan
        self.result = SiteResult()
        self._progress = progress
        self._tell = tell
        self._begun = time.monotonic()
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> MachineRestore:
        with contextlib.ExitStack() as held:
            self.site.vault.check()
            held.enter_context(self.site.vault.lock("restore-site", self.site.name))
            folder = self.site.vault.state
            state = State.open(folder) if self.plan.state is not None else None  # another run may have done some of it
            state = state or State.begin(
                folder, site=self.site.name, point=self.plan.point.id, request=request_facts(self.plan.request)
            )
            self.work = Work(
                self.site, self.plan.request, self.plan.point, state, progress=self._progress, tell=self._tell
            )
            held.callback(self.work.close)
            self.result.state = state.path
            self._exit = held.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self.result.seconds = time.monotonic() - self._begun
        self._exit.close()

    def carry_out(self, do: Callable[[Step], object]) -> SiteResult:
        """The steps that are still to be done, stage by stage: all of a stage are tried, and none after a stage in
        which one failed. A step that brought back everything but what is in no backup any more fails too, and the
        stages after it are gone on with: nothing would come of waiting.

        Args:
            do: Does one, by way of ``MachineRestore.do``.

        Raises:
            Cancelled: The run was stopped. Thawing: a backup has to be waited for. What is done stays done.
        """
        for _, steps in groupby(self.plan.steps, key=lambda step: step.stage):
            wanted = [step for step in steps if self._before(step) is None]
            if any(not isinstance(error, Lacking) for error in self.result.failures.values()):
                self.result.skipped += wanted
                continue
            for step in wanted:
                try:
                    do(step)
                except (Cancelled, Thawing):
                    raise
                except BackupError as error:
                    self.result.failures[step.key] = error
        return self._finish()

    def do(self, step: Step) -> Done:
        """One step; remembered when it is done.

        Raises:
            What the step raises; the next try begins it again.
        """
        state = self.work.state
        self.work.key = step.key
        self._tell(step.title)
        state.record(step.key)
        done = step.do(self.work)
        state.finish(step.key, done)
        self.result.done[step.key] = done
        return done

    def _finish(self) -> SiteResult:
        """What came of it. When all is done, the next restore begins anew."""
        self.result.seconds = time.monotonic() - self._begun
        self.result.later = [each.key for each in self.plan.later if self.work.state.done(each.key) is None]
        if self.result.finished:
            self.result.state = self.work.state.close()
        return self.result

    def _before(self, step: Step) -> Done | None:
        """What the step came to in an earlier run."""
        done = self.work.state.done(step.key)
        if done is not None:
            self.result.done.setdefault(step.key, done)
        return done


def run(
    site: Site,
    plan: SitePlan,
    *,
    approved: bool = False,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda line: None,
) -> SiteResult:
    """Every step that is still to be done, in order.

    Raises:
        ConfirmationNeeded: It was not approved. LockHeld: another restore of this machine is at work.
    """
    if not approved:
        raise ConfirmationNeeded(
            f"This would restore the machine {plan.site} here."
            + (f" It is in use: {'; '.join(plan.living[:5])}." if plan.living else ""),
            kept="nothing was changed",
            remedy=f"look at the plan (--dry-run), then approve it once: --confirm {plan.confirmation!r}",
        )
    with MachineRestore(site, plan, progress=progress, tell=tell) as work:
        return work.carry_out(work.do)


def require_readable(site: Site, plan: SitePlan) -> None:
    """See that no step has to wait for cold storage: ask at once for the thaw of everything that stands there alone.

    Raises:
        Thawing: It was asked for; the same again helps once all is there. Cold: the vault asks for no thaws.
    """
    pieces = {str(target): piece for target, piece in plan.point.pieces.items()}
    waits: list[Thawing] = []
    for step in plan.steps:
        piece = pieces.get(step.key)
        if piece is None or plan.is_done(step):
            continue
        try:
            site.vault.require_readable(piece.entry, piece.manifest)  # what can be read stands first
        except Thawing as error:
            waits.append(error)
    if waits:
        more = f" {len(waits) - 1} more of this recovery point have to be waited for as well." if len(waits) > 1 else ""
        raise Thawing(f"{waits[0].message}{more}", kept=waits[0].kept, remedy=waits[0].remedy)
