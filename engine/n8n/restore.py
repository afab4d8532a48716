"""The steps of a restore of n8n: safety backup, bring in, compare, activate.

    plan = make_plan(site, N8nRequest(activate=True))
    with N8nRestore(site, plan, approved=False) as work:
        work.safety_backup()
        work.bring_in()
        work.compare()
        work.activate()

Everything comes in under its own id, so that a second run finds it as it is and changes nothing. Workflows come in
inactive; n8n's own import sees to that, and makes what it overwrites inactive before. A journal has the next run make
active again what a restore that died left so.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine import names
from engine.backup import capture, locks, verify
from engine.catalog import Entry
from engine.errors import (
    BackupError,
    ConfirmationNeeded,
    CredentialsRefused,
    IntegrityError,
    MissingGrant,
    RestoreRefused,
    Unreachable,
)
from engine.journal import Journal
from engine.n8n.instance import Instance
from engine.n8n.parts import Item, opened, same_workflow
from engine.n8n.plan import N8nPlan, find_n8n
from engine.n8n.source import N8nSource
from engine.progress import Progress, silent
from engine.site import Site, Target


@dataclass(frozen=True)
class N8nResult:
    """What a restore did."""

    into: str
    where: str
    entry: Entry
    workflows: int
    credentials: int
    same: int
    activated: list[str]
    safety: Entry | None
    notes: list[str]
    seconds: float


class N8nRestore:
    """One restore under way. Holds the source's lock from entry to exit.

    Args:
        approved: Somebody has confirmed that living things are overwritten.
    """

    def __init__(self, site: Site, plan: N8nPlan, *, approved: bool, progress: Progress = silent) -> None:
        self.site = site
        self.plan = plan
        self.notes = list(plan.notes)
        self.safety: Entry | None = None
        self.activated: list[str] = []
        self._there: dict[str, Item] = {}
        self._journal: Journal | None = None
        self.instance = Instance(find_n8n(site, plan.into), site.name)
        self._approved = approved
        self._progress = progress
        self._begun = time.monotonic()
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> N8nRestore:
        self._exit.enter_context(locks(self.site, self.plan.target))
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            if self._journal is not None and exc[0] is None:
                self._journal.close()
            elif self._journal is not None:
                self._journal.release()  # the next run's sweep ends it
        finally:
            self._exit.close()

    def safety_backup(self) -> Entry | None:
        """Back up and prove the n8n in which something is overwritten. None when nothing is.

        Raises:
            RestoreRefused: That backup is incomplete.
        """
        plan = self.plan
        if not plan.differing or not plan.request.safety_backup:
            return None
        target = Target(plan.into, plan.into)
        entry, manifest = capture(
            self.site, target, tier=names.SAFETY, label=f"safety copy before restoring {plan.manifest.file}",
            locked=target == plan.target, progress=self._progress,
            source=N8nSource(find_n8n(self.site, plan.into), site=self.site.name),
        )  # fmt: skip
        verify(self.site, entry, progress=self._progress)
        if manifest.incomplete:
            raise RestoreRefused(
                f"The safety backup {manifest.file} is incomplete: {'; '.join(manifest.incomplete[:5])}.",
                kept="nothing was changed",
                remedy="run it again when nobody works in n8n, or go on without: --no-safety-backup",
            )
        self.safety = entry
        return entry

    def bring_in(self) -> None:
        """Credentials first, then the workflows that use them; what is there as it was is left out.

        Raises:
            ConfirmationNeeded: Something is overwritten, and nobody approved it.
        """
        require_approval(self.plan, self._approved)
        if self.plan.halted:
            self._journal = Journal.create(
                self.site.journals, "n8n-restore", source=self.plan.into, database=self.plan.into,
                halted=self.plan.halted, activate=self.plan.activated,
            )  # fmt: skip
        for what, items in (("credentials", self.plan.credentials.wanted), ("workflow", self.plan.workflows.wanted)):
            if items:
                self.instance.bring_in(what, items)
        self._make_tags()

    def _make_tags(self) -> None:
        """Those that no workflow has, where they are missing. No workflow waits for one: what is refused is noted."""
        if not self.plan.tags:
            return
        try:
            there = {str(each.get("name")) for each in self.instance.pages("/tags", "tag:list")}
            for each in self.plan.tags:
                if each not in there:
                    self.instance.make_tag(each)
        except BackupError as error:
            self.notes.append(f"tags that no workflow has ({', '.join(self.plan.tags)}) were not made: {error.message}")

    def compare(self) -> int:
        """Export again: every workflow and credential is there, once, and opens with this n8n's own key.

        Raises:
            IntegrityError: One is not as in the backup. WrongKey.
        """
        plan, key, wrong = self.plan, self.instance.key(), []
        found = self._there = _by_id(self.instance.export("workflow"))
        wanted = [*plan.workflows.same, *plan.workflows.wanted]
        for each in wanted:
            there = found.get(str(each["id"]))
            if there is None or not same_workflow(each, there):
                wrong.append(f"workflow {each.get('name')!r}")
        stored = _by_id(self.instance.export("credentials"))
        credentials = [*plan.credentials.same, *plan.credentials.wanted]
        for each in credentials:
            there = stored.get(str(each["id"]))
            if there is None or opened(there, key) != opened(each, key):
                wrong.append(f"credential {each.get('name')!r}")
        if wrong:
            raise IntegrityError(
                f"In {plan.into} {', '.join(wrong[:5])} {'is' if len(wrong) == 1 else 'are'} not as in the backup.",
                kept="what was overwritten is in the safety backup" if self.safety else "",
                remedy="see whether somebody works in n8n, and run the restore again",
            )
        return len(wanted) + len(credentials)

    def activate(self) -> list[str]:
        """Make active what was, and is not. One that n8n refuses is named, and the others go on: it may wait for
        another that it calls.

        Raises:
            MissingGrant, Unreachable: asking the API at all.
        """
        if not self.plan.activated:
            return []
        names_of = {str(each["id"]): each for each in self.instance.pages("/workflows", "workflow:list")}
        waiting = [each for each in self.plan.activated if not names_of.get(each, {}).get("active")]
        failed: dict[str, BackupError] = {}
        progress = True
        while waiting and progress:
            failed = self._activate_all(waiting)
            progress = len(failed) < len(waiting)
            waiting = list(failed)
        if failed:
            raise self._inactive({each: why.message for each, why in failed.items()}, names_of)
        return self.activated

    def activate_by_command(self) -> list[str]:
        """The same by n8n's own command, once all was compared, for an n8n whose API key is not known. They are active
        from its next start on.

        Raises:
            BackupError: Some are not; the others are. ToolFailed.
        """
        waiting = [each for each in self.plan.activated if not self._there[each].get("active")]
        for each in waiting:
            self.instance.publish(each)
        there = _by_id(self.instance.export("workflow")) if waiting else self._there
        self.activated = [each for each in waiting if there.get(each, {}).get("active")]
        failed = [each for each in waiting if each not in self.activated]
        if failed:
            raise self._inactive(dict.fromkeys(failed, "its command does not say why"), there)
        return self.activated

    def _inactive(self, failed: Mapping[str, str], known: Mapping[str, Item]) -> BackupError:
        told = "; ".join(f"{known.get(id_, {}).get('name', id_)!r}: {why}" for id_, why in failed.items())
        return BackupError(
            f"{len(failed)} of {len(self.plan.activated)} workflows could not be made active: {told}",
            kept="everything is restored; the others are active",
            remedy="correct what n8n says, and run the restore again: it goes on from there",
        )

    def _activate_all(self, wanted: list[str]) -> dict[str, BackupError]:
        """Try each once; what was refused, and why."""
        failed: dict[str, BackupError] = {}
        for each in wanted:
            try:
                self.instance.activate(each)
                self.activated.append(each)
            except (CredentialsRefused, MissingGrant, Unreachable):
                raise
            except BackupError as error:
                failed[each] = error
        return failed

    def result(self) -> N8nResult:
        """What was done."""
        plan = self.plan
        return N8nResult(
            plan.into, plan.where, plan.copies[0][0], len(plan.workflows.wanted), len(plan.credentials.wanted),
            len(plan.workflows.same) + len(plan.credentials.same), self.activated, self.safety, self.notes,
            time.monotonic() - self._begun,
        )  # fmt: skip


def run(
    site: Site,
    plan: N8nPlan,
    *,
    approved: bool = False,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda line: None,
) -> N8nResult:
    """Every step of a plan, in order.

    Raises:
        ConfirmationNeeded: It overwrites something and was not approved.
    """
    require_approval(plan, approved)
    with N8nRestore(site, plan, approved=approved, progress=progress) as work:
        if work.safety_backup() is not None:
            tell(f"safety backup {work.safety.file if work.safety else ''}")
        tell(f"restoring {plan.manifest.file} into {plan.into}")
        work.bring_in()
        work.compare()
        work.activate()
        return work.result()


def require_approval(plan: N8nPlan, approved: bool) -> None:
    """Raises ConfirmationNeeded where something is overwritten and nobody approved it."""
    if plan.differing and not approved:
        raise ConfirmationNeeded(
            f"This would overwrite {plan.differing:,} in {plan.into}, such as {plan.named[0]}.",
            kept="nothing was changed",
            remedy=f"confirm with --confirm {plan.into}; or restore into another n8n: --into NAME",
        )


def _by_id(items: list[Item]) -> dict[str, Item]:
    return {str(each["id"]): each for each in items}
