"""``backups report``: what is protected and proven, what went wrong, what it costs; as a page for a phone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli import exits
from deployments.cli.run import Outcome, Run, command
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.report.gather import Report


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "report",
        example="""backups report -f workset
                   backups report -f workset --out report.html
                   backups report -f workbench --out report.md --days 30 --weeks 52""",
    )(report)


def report(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write it there: a page (.html), or the short text (.md); printed when left out.",
            show_default=False,
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=366, help="How far back incidents are told.")] = 7,
    weeks: Annotated[int, typer.Option(min=1, max=260, help="How far back sizes, times and drills go.")] = 13,
) -> Outcome:
    """The report of the week: which sources are protected and proven, and which are not; incidents, recovery windows,
    drills against their targets, sizes and times, storage and its cost.

    The page holds its plots and needs nothing else: no address outside, no script. Cost is told by the prices of the
    site file alone. Everything is read from the vault and its copies; no database server and no Prefect is asked.

    Exit code 3 when a place could not be asked; the report says so.
    """
    from engine.report.gather import gather

    kind = out.suffix.lower() if out is not None else ""
    if out is not None and kind not in (".html", ".htm", ".md"):
        raise ConfigError(
            f"{out.name} is no name of a report.", remedy="end it in .html for the page, .md for the text"
        )
    if out is not None and not out.absolute().parent.is_dir():
        raise ConfigError(f"There is no directory {out.absolute().parent} to write {out.name} into.")
    with run.site() as site:
        found = gather(site, days=days, weeks=weeks)
    for place, why in found.unseen.items():
        run.warn(f"{place} could not be asked: {why}")
    if out is not None:
        _write(out, found, whole=kind != ".md")
        run.out.say(f"{found.verdict.said}.")
        run.out.say(f"Report: {out}")
    elif not run.json:
        _print(run, found)
    return Outcome({"report": found.as_dict()}, exits.PARTIAL if found.unseen else exits.OK)


def _write(out: Path, found: Report, *, whole: bool) -> None:
    from engine.report.keep import write
    from engine.report.page import page
    from engine.report.text import text

    write(out, page(found) if whole else text(found))


def _print(run: Run, found: Report) -> None:
    """The verdict and the tables, as a terminal shows them."""
    from engine.report import tables
    from engine.report.text import CHAPTERS

    run.out.say(f"{found.verdict.said}.", style=tables.STYLES[found.verdict.level])
    for title, make in CHAPTERS:
        table = make(found)
        if table.rows:
            run.out.say(f"\n{title}", style="bold")
            columns, rows, right = tables.plain(table)
            run.out.table(columns, rows, right=right)
