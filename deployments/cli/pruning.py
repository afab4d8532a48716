"""``backups prune``: what goes, what stays, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli import exits
from deployments.cli.options import Source
from deployments.cli.rows import rows
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import moment
from engine.errors import ConfirmationNeeded
from engine.names import iso

if TYPE_CHECKING:
    from engine.prune import PlacePlan, Planned

_SAID = {
    "expire": ("is marked as expired", "would be marked as expired"),
    "wait": ("goes after its day", "goes after its day"),
    "remove": ("removed", "would be removed"),
    "reprieve": ("kept after all", "would be kept after all"),
    "held": ("held back", "held back"),
    "retained": ("retained", "retained"),
    "in use": ("in use", "in use"),
    "keep": ("kept", "kept"),
}


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "prune",
        stopped="what is left of a removal is finished by the next run; everything else stands whole",
        example="""backups prune -f workset --dry-run
                   backups prune -f workbench --location spaces --source postgres""",
    )(prune)


def prune(
    run: Run,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan with its reasons, change nothing.")] = False,
    location: Annotated[str, typer.Option(help="all, local, or a replica's name.")] = "all",
    source: Source = None,
    kept: Annotated[bool, typer.Option("--kept", help="Show what is kept, too.")] = False,
    confirm: Annotated[
        str,
        typer.Option(
            metavar="SITE",
            help="The site's name, by a person who has seen the plan: neither the clock nor the amount holds "
            "anything back. The last good backup and what recovery needs stay all the same.",
            show_default=False,
        ),
    ] = "",
) -> Outcome:
    """Remove what the site's retention no longer keeps: first marked as expired, gone a day later.

    Every place is judged on what it holds itself. The last good backup of a database, and the full or base that
    the kept logs are replayed on, are never removed.

    Exit code 3 when a place could not be looked at, or something is held back until a person confirms it.
    """
    from engine.prune import look
    from engine.prune import prune as carry_out

    with run.site() as site:
        if confirm and confirm != site.name:
            raise ConfirmationNeeded(
                f"The confirmation {confirm!r} is not the name of the site, {site.name!r}.", kept="nothing was changed"
            )
        if dry_run:
            plans = look(site, location=location, source=source or "", confirmed=bool(confirm))
        else:
            with run.out.progress() as progress:
                plans = carry_out(
                    site, location=location, source=source or "", confirmed=bool(confirm), progress=progress
                )
    _show(run, plans, dry_run, kept)
    errors = [run.refuse(plan.error, about=f"{plan.location}: ") for plan in plans if plan.error is not None]
    code = exits.OK
    if errors or any(plan.brake or plan.count("held") for plan in plans):
        code = exits.PARTIAL
    if any(plan.error is not None and plan.location == "local" for plan in plans):
        code = exits.FAILED
    facts = {"dry_run": dry_run, "places": [_facts(plan) for plan in plans]}
    return Outcome(facts, code, errors)


def _show(run: Run, plans: list[PlacePlan], dry_run: bool, kept: bool) -> None:
    shown = [
        [plan.location, *_cells(each, dry_run)]
        for plan in plans
        for each in plan.planned
        if kept or each.action != "keep"
    ]
    if shown:
        run.out.table(["in", "what", "source", "tier", "file", "why"], shown)
    for plan in plans:
        if plan.error is None:
            run.out.say(f"{plan.location}: {_summary(plan, dry_run)}")
        for swept in plan.swept:
            if swept.problem:
                run.warn(str(swept))
            elif swept.removed:
                run.out.say(str(swept))
        if plan.brake:
            run.warn(f"{plan.location}: nothing is removed here: {plan.brake}. If it is right, say so: --confirm SITE")
        for group, reason in ({} if plan.brake else plan.held).items():
            run.warn(f"{plan.location}: nothing of {group} is removed: {reason}. If it is right: --confirm SITE")


def _summary(plan: PlacePlan, dry_run: bool) -> str:
    counts = [(word[dry_run], plan.count(action)) for action, word in _SAID.items() if plan.count(action)]  # type: ignore[arg-type]
    return ", ".join(f"{count:,} {word}" for word, count in counts) or "nothing is there"


def _cells(each: Planned, dry_run: bool) -> list[str]:
    said = _SAID[each.action][dry_run]
    if each.until is not None and each.action in ("wait", "retained"):
        said += f" until {moment(each.until)}" if each.until.year < 9999 else " by a legal hold"
    return [said, each.item.source or "?", each.item.tier or "?", each.item.file, each.reason]


def _facts(plan: PlacePlan) -> dict[str, Any]:
    return {
        "location": plan.location,
        "now": iso(plan.now),
        "brake": plan.brake,
        "held": plan.held,
        "error": exits.describe(plan.error) if plan.error is not None else None,
        "backups": rows(len(plan.planned), lambda: (_fact(each) for each in plan.planned)),
        "contents": [
            {"source": each.source, "bucket": each.bucket, "removed": each.removed, "kept": each.kept,
             "removed_bytes": each.removed_bytes, "problem": each.problem}
            for each in plan.swept
        ],
    }  # fmt: skip


def _fact(each: Planned) -> dict[str, Any]:
    return {
        "key": each.item.key,
        "source": each.item.source,
        "name": each.item.name,
        "tier": each.item.tier,
        "taken_at": iso(each.item.taken_at),
        "action": each.action,
        "reason": each.reason,
        "until": iso(each.until) if each.until is not None else None,
    }
