"""``backups drill``: every source restored in a throwaway place, and proven there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli import exits
from deployments.cli.options import Database, Location, Source
from deployments.cli.run import Outcome, Run, command
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.drill.verdict import Check, DrillResult, SourceResult, Verdict


Which = Annotated[
    str,
    typer.Option(
        "--backup",
        help="latest; oldest: the oldest kept; cold: the newest in cold storage, which is thawed; a file name, or "
        "'before TIME' with its zone.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "drill",
        stopped="production was not touched; what is left of the scratch servers goes with the next run, or: "
        "backups sweep",
        example="""backups drill -f workset
                   backups drill -f workbench --source postgres --thorough --junit drill.xml
                   backups drill -f workset --database workset --backup 'before 2025-01-16T02:00:00Z'
                   backups drill -f workbench --backup cold --wait""",
        waits=True,
    )(drill)


def drill(
    run: Run,
    source: Source = None,
    database: Database = None,
    backup: Which = "latest",
    location: Location = "auto",
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough", help="Compare the rows of every table, and recover every database through its logs."
        ),
    ] = False,
    point_in_time: Annotated[
        bool,
        typer.Option(
            "--point-in-time/--no-point-in-time", help="Recover to a second drawn by lot, too, where logs are kept."
        ),
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Draw what the drill drew that said this number.")] = 0,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the checks as JUnit XML, too.", show_default=False)
    ] = None,
) -> Outcome:
    """Restore the newest backup of every source into a throwaway place, and prove it: it loads, has every definition,
    as many rows as the server counted, the same rows as its dump, the answers that the site expects.

    Production is not touched: databases are loaded on scratch servers of the source's own version, files into a
    scratch directory, objects and workflows into a scratch S3 server (or bucket) and n8n, where these can be had. The
    real times are measured and compared with the targets of the site file. The signed record stays in the vault, below
    drills/.

    Exit code 5 when something is not as it must be, 1 when it could not be verified or a target (RTO, RPO) was missed.
    """
    from engine.drill.record import keep
    from engine.drill.run import DrillRequest, begin, drill_source, finish

    request = DrillRequest(source or "", database or "", backup, location, thorough, point_in_time, seed)
    if junit is not None and not junit.absolute().parent.is_dir():
        raise ConfigError(f"There is no directory {junit.absolute().parent} to write {junit.name} into.")
    with run.site(sweep=True, thaw=True) as site:
        site.vault.check()
        begun = begin(site, request)
        run.out.tell(f"drill {begun.id}, seed {begun.seed}: {', '.join(begun.sources)}")
        with run.out.progress() as progress:
            sources = [drill_source(site, begun, name, progress=progress) for name in begun.sources]
        result = finish(site, begun, sources)
        key = keep(site, result)
    if junit is not None:
        from engine.drill.junit import junit as as_xml

        junit.write_bytes(as_xml(result))
    _show(run, result, key)
    return Outcome({"drill": result.as_dict(), "record": key}, exit_code(result))


def exit_code(result: DrillResult) -> int:
    """0 proven; 5 a backup is not what it must be; 1 nobody knows, or only a target was missed."""
    from engine.drill.verdict import FAILED, PROVEN

    if result.verdict == PROVEN:
        return exits.OK
    wrong = any(check.verdict == FAILED and check.rung != "target" for _, check in result.trouble())
    return exits.INTEGRITY if wrong else exits.FAILED


def _show(run: Run, result: DrillResult, key: str) -> None:
    rows = [row for source in result.sources for row in _rows(source)]
    rows += [[result.site, check.rung, check.what, check.verdict, check.words] for check in result.checks]
    run.out.table(["what", "rung", "check", "verdict", "said"], rows)
    for source in result.sources:
        for note in [*source.notes, *(f"{piece}: {note}" for piece in source.pieces for note in piece.notes)]:
            run.out.say(f"Note: {note}")
    for note in result.notes:
        run.warn(note)
    run.out.say(_upper(result.sentence()) + ".", style=_STYLE[result.verdict])
    run.out.say(f"Drill {result.id}, seed {result.seed}; signed record: {key}")


_STYLE: dict[Verdict, str] = {"proven": "bold green", "failed": "bold red", "could not verify": "bold yellow"}


def _rows(source: SourceResult) -> list[list[str]]:
    found = [_row(f"{piece} {piece.file}", check) for piece in source.pieces for check in piece.checks]
    return found + [_row(source.source, check) for check in source.checks]


def _row(about: str, check: Check) -> list[str]:
    return [about, check.rung, check.what, check.verdict, check.words]


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
