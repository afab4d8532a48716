"""``backups pin`` and ``unpin``: a backup that stays whatever retention says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli import exits
from deployments.cli.options import Database, Source, find
from deployments.cli.run import Outcome, Run, command

if TYPE_CHECKING:
    from engine.pins import Said

Which = Annotated[str, typer.Argument(metavar="BACKUP", help="latest, a file name, or 'before TIME' with its zone.")]
Reason = Annotated[str, typer.Option(help="Why; stands in the signed mark.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    command(
        app,
        "pin",
        stopped="what was told so far stays; run it again",
        example="""backups pin -f workset workset_20250116_020000.sql.gz.enc --reason 'before the audit'
                   backups pin -f workset latest --source mysql --database workset""",
    )(pin)
    command(
        app,
        "unpin",
        stopped="what was told so far stays; run it again",
        example="backups unpin -f workset workset_20250116_020000.sql.gz.enc",
    )(unpin)


def pin(run: Run, backup: Which, source: Source = None, database: Database = None, reason: Reason = "") -> Outcome:
    """Keep a backup, here and at every replica that has it, until it is unpinned.

    A copy that is made later is pinned as well. Exit code 3 when a replica could not be told; run it again then.
    """
    return _say(run, backup, source, database, reason, pinned=True)


def unpin(run: Run, backup: Which, source: Source = None, database: Database = None, reason: Reason = "") -> Outcome:
    """Leave a pinned backup to the retention of its tier again, here and at every replica that has it."""
    return _say(run, backup, source, database, reason, pinned=False)


def _say(run: Run, backup: str, source: str | None, database: str | None, reason: str, *, pinned: bool) -> Outcome:
    from engine import pins

    with run.site() as site:
        entry, manifest = find(site, backup, "auto", source, database)
        done = (pins.pin if pinned else pins.unpin)(site.vault, entry, manifest, reason=reason)
    word = "pinned" if pinned else "unpinned"
    places = [each.location for each in done if each.there and each.error is None]
    if places:
        run.out.say(f"{manifest.file} is {word} at {', '.join(places)}.", style="bold green")
        if not any(each.changed for each in done):
            run.out.say("It was so before; nothing changed.")
    errors = [run.refuse(each.error, about=f"{each.location} was not told: ") for each in done if each.error]
    return Outcome({"file": manifest.file, "pinned": pinned, "places": [_facts(each) for each in done]},
                   exits.OK if not errors else exits.PARTIAL if places else exits.FAILED, errors)  # fmt: skip


def _facts(said: Said) -> dict[str, object]:
    return {
        "location": said.location,
        "there": said.there,
        "changed": said.changed,
        "error": exits.describe(said.error) if said.error else None,
    }
