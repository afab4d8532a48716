"""``backups archive``: the newest verified backups of a week or month, promoted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli import exits
from deployments.cli.making import _copy, _copy_facts
from deployments.cli.run import Outcome, Run, command
from engine.errors import BackupError, UnknownName, nearest
from engine.names import ARCHIVES, MONTHLY, iso

if TYPE_CHECKING:
    from engine.archiving import Archived


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "archive",
        stopped="what was promoted so far; run it again to finish",
        example="""backups archive -f workbench weekly
                   backups archive -f workbench monthly --json""",
    )(archive)


def archive(run: Run, tier: Annotated[str, typer.Argument(metavar="weekly|monthly")]) -> Outcome:
    """Promote the newest verified recovery point of each week or month that is over and has none yet.

    Nothing is dumped again: hard links here, copies made by the server itself at a replica, in the class that the
    site file names for archives. Old months move to cold storage, where a replica has a rule for it. Exit code 3 when
    a replica lacks copies or a database has no backup to promote.
    """
    from engine.archiving import archive as promote_missing
    from engine.cold.move import move_all

    if tier not in ARCHIVES:
        raise UnknownName(f"There is no archive {tier!r}.", remedy=nearest(tier, list(ARCHIVES)))
    with run.site(sweep=True) as site:
        with run.out.progress() as progress:
            done = promote_missing(site, tier, progress=progress, tell=run.out.tell)
        for each in done:
            run.out.say(each.verdict(), style="yellow" if each.failed else "bold green")
        if not done:
            run.out.say("Nothing has been backed up yet that could be promoted.")
        copies = _copy(run, site)
        moved = move_all(site) if tier == MONTHLY else []
    for place in moved:
        run.out.say(place.verdict())
    errors = [run.refuse(error) for each in done for error in each.problems]
    errors += [run.refuse(_lost(each)) for each in done if not each.point or each.lacking]
    cold = [error for place in moved for error in (place.error, *place.failed.values()) if error is not None]
    errors += [run.refuse(error, about="cold storage: ") for error in cold]
    partial = [copy.error for copy in copies if copy.error is not None]
    facts = {
        "periods": [_facts(each) for each in done], "copies": [_copy_facts(each) for each in copies],
        "cold": [{"location": each.location, "class": each.storage_class, "moved": each.moved} for each in moved],
    }  # fmt: skip
    broken = any(each.problems for each in done)
    code = exits.INTEGRITY if broken else exits.PARTIAL if errors or partial else exits.OK
    return Outcome(facts, code, errors + partial)


def _lost(done: Archived) -> BackupError:
    return BackupError(
        f"{done.verdict()}.",
        kept="what there is of older archives",
        remedy="find out why there is no verified backup of that time: backups list; backups status",
    )


def _facts(done: Archived) -> dict[str, Any]:
    return {
        "period": str(done.period),
        "from": iso(done.period.start),
        "until": iso(done.period.end),
        "recovery_point": done.point,
        "made": [manifest.file for _, manifest in done.made],
        "stood": [manifest.file for _, manifest in done.stood],
        "lacking": [str(each) for each in done.lacking],
        "problems": [exits.describe(each) for each in done.problems],
    }
