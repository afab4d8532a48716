"""``backups verify-vault``: everything stored is read back in turn, named where it is damaged, and healed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli import exits
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import moment, size
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.vault_check import Finding, PlaceReport


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "verify-vault",
        stopped="what was healed stands whole; bytes that waited to take a place go with a later run",
        example="""backups verify-vault -f workset --dry-run
                   backups verify-vault -f workbench --all --location spaces
                   backups verify-vault -f workset --share 0.1 --no-heal""",
    )(verify_vault)


def verify_vault(
    run: Run,
    location: Annotated[str, typer.Option(help="all, local, or a replica's name.")] = "all",
    share: Annotated[
        float | None,
        typer.Option(
            min=0.0001,
            max=1.0,
            help="Part of everything to read back, such as 0.1. Default: so much that a run every day reads all within "
            "vault.verify_within (30d), the longest unproven first.",
            show_default=False,
        ),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Read back everything.")] = False,
    heal: Annotated[
        bool, typer.Option("--heal/--no-heal", help="Put right what is damaged and stands whole in another place.")
    ] = True,
    set_aside: Annotated[
        bool,
        typer.Option("--set-aside", help="Move away files that belong to no backup, within their place."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be read; nothing is changed.")
    ] = False,
) -> Outcome:
    """Read back a share of everything stored, here and at every replica: signatures, digests, logs without holes,
    replicas complete, nothing orphaned or unfinished.

    What is damaged is named, is not counted on any more (by retention, and by "latest"), and is healed from another
    copy where one is proven good.

    Exit code 5 when there is damage that could not be healed, 3 when a place or a file could not be judged.
    """
    from engine.vault_check import Request, Share
    from engine.vault_check import verify_vault as check

    if all_ and share is not None:
        raise ConfigError("--all and --share say two things.", remedy="give one of them")
    part = 1.0 if all_ else share
    request = Request(Share(part) if part is not None else None, heal, set_aside, dry_run)
    with run.site() as site, run.out.progress() as progress:
        reports = check(site, request, location=location, progress=progress)
    errors = [run.refuse(each.error, about=f"{each.location}: ") for each in reports if each.error is not None]
    _show(run, reports)
    return Outcome({"dry_run": dry_run, "places": [each.as_dict() for each in reports]}, exit_code(reports), errors)


def exit_code(reports: list[PlaceReport]) -> int:
    """0 all that was read is whole now; 5 damage is left; 3 something could not be judged."""
    from engine.vault_check import outcome_of

    outcome = outcome_of(reports)
    if outcome == "damaged":
        return exits.INTEGRITY
    return exits.PARTIAL if outcome == "could not verify" else exits.OK


def _show(run: Run, reports: list[PlaceReport]) -> None:
    rows = [_row(each) for report in reports for each in report.findings]
    if rows:
        run.out.table(["in", "found", "file", "what is wrong", "then"], rows)
    for report in reports:
        if report.error is None:
            run.out.say(_summary(report), style="red" if report.open else "green")
    strays = [each for report in reports for each in report.of("stray", healed=False)]
    if strays:
        run.warn(f"{len(strays)} files belong to no backup; move them away with --set-aside, or look at each")


def _row(found: Finding) -> list[str]:
    then = f"healed: {found.healed}" if found.healed else found.left
    kind = found.kind if found.severity == "damage" else f"{found.kind} ({found.severity})"
    return [found.location, kind, found.file, found.words, then]


def _summary(report: PlaceReport) -> str:
    oldest = f"; the longest unproven since {moment(report.oldest)}" if report.oldest is not None else ""
    if report.dry_run:
        would = f"{report.due:,} of {report.stored:,} backups would be read"
        return f"{report.location}: {would} ({size(report.due_bytes)} of {size(report.stored_bytes)}){oldest}"
    parts = [f"{report.read:,} of {report.stored:,} backups read back ({size(report.read_bytes)})"]
    if report.contents:
        parts.append(f"{report.contents_read:,} of {report.contents:,} contents of buckets")
    if report.cold:
        parts.append(f"{report.cold:,} in cold storage: only presence and size were compared")
    healed = len(report.of("damage", healed=True))
    parts += [f"{healed:,} damaged and healed"] * bool(healed) + [f"{len(report.open):,} NOT HEALED"] * bool(
        report.open
    )
    return f"{report.location}: {', '.join(parts)}{oldest}"
