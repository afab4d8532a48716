"""The body of the archives: promote what periods lack, bring every replica up to date, tell."""

from __future__ import annotations

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from blocks import load_site
from engine import names
from engine.archiving import Archived
from engine.cold.move import Moved
from flows.backup_run import bring_up_to_date
from tasks import cold
from tasks.archives import archive, publish
from tasks.base import SiteHandle, reason
from tasks.report import Ledger
from tasks.vault import sweep
from tasks.words import plural


def make_archives(site: str, tier: str) -> State[None]:
    """Promote the newest verified recovery point of each period that is over and has none yet.

    Raises:
        UnknownName: No such site. LockHeld: a run on one of the databases does not end.
    """
    handle = SiteHandle(load_site(site))
    ledger = Ledger(handle.name, tier, swept=sweep(handle))
    done = archive(handle, tier)
    for replica in handle.config.vault.replicas:
        bring_up_to_date(handle, replica.name, ledger)
    moved = cold.move(handle) if tier == names.MONTHLY else []
    publish(handle.name, tier, done)
    text = _told(done, ledger, moved)
    if ledger.gaps or any(each.failed for each in done) or any(each.error or each.failed for each in moved):
        get_run_logger().error(text)
        return Failed(message=text)
    return Completed(message=text)


def _told(done: list[Archived], ledger: Ledger, moved: list[Moved]) -> str:
    copies = f"; {plural(len(ledger.caught_up), 'copy')} made" if ledger.caught_up else ""
    copies += "".join(f"; {each.verdict()}" for each in moved)
    for each in moved:
        problems = [*each.failed.values(), *([each.error] if each.error else [])]
        copies += "".join(f"; {each.location}: {reason(error)}" for error in problems)
    wrong = [each for each in done if each.failed]
    told = [each.verdict() for each in [*wrong, *(each for each in done if not each.failed)]]
    if not ledger.gaps:
        return ("; ".join(told) or "Nothing has been backed up yet that could be promoted") + copies
    kept = f"Kept safe: in the local vault: {'; '.join(told)}" if told else ""
    return "\n".join(each for each in (ledger.verdict(), kept) if each)
