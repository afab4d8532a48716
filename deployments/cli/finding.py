"""``backups find-event``: the moment right before something went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.options import Location, Source
from deployments.cli.run import Outcome, Run, command
from engine import names

if TYPE_CHECKING:
    from engine.moments import Answer, Moment


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "find-event",
        stopped="nothing was changed",
        example="""
        backups find-event -f workset --table users --kind drop --kind delete
        backups find-event -f workset --table 'workset.*' --since 2025-01-16T00:00:00Z
        backups find-event -f workbench --around 2025-01-16T14:31:00Z""",
    )(find_event)


def find_event(
    run: Run,
    source: Source = None,
    table: Annotated[str, typer.Option(help="users, workset.users; * and ? allowed. MySQL and MariaDB.")] = "*",
    kind: Annotated[
        list[str] | None,
        typer.Option(help="drop, truncate, alter, delete, update, insert...; may be repeated. Default: all."),
    ] = None,
    since: Annotated[str, typer.Option(help="From this time, with its zone. Default: a day ago.")] = "",
    until: Annotated[str, typer.Option(help="Up to this time, with its zone.")] = "",
    around: Annotated[str, typer.Option(help="PostgreSQL: the commits nearest to this time, with its zone.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many, the newest.")] = 50,
    location: Location = "auto",
) -> Outcome:
    """Look through the shipped logs for what happened to a table, and give the place right before it.

    What is shown as «--to» goes to: backups restore --to. Restoring there stops right before the statement;
    for PostgreSQL, whose log holds no statements, it keeps the commit that is shown and nothing later.

    Where there was only one such statement: backups restore --to 'before DROP TABLE users' looks by itself.
    """
    from engine.moments import Question, look

    question = Question(
        source=source or "",
        table=table,
        kinds=tuple(kind or ()),
        since=names.parse_moment(since) if since else None,
        until=names.parse_moment(until) if until else None,
        around=names.parse_moment(around) if around else None,
        location=location,
        limit=limit,
    )
    with run.site() as site, run.out.progress() as progress:
        answer = look(site, question, progress=progress)
    _show(run, answer)
    found = [each.facts() | {"text": each.text} for each in answer.found]
    return Outcome({"source": answer.source, "found": found, "total": answer.total})


def _show(run: Run, answer: Answer) -> None:
    if not answer.found:
        run.out.say("Nothing of the kind is in the shipped logs of that time.")
        return
    keeps = answer.found[0].keeps
    column = "--to (keeps it, nothing later)" if keeps else "--to (stops right before it)"
    run.out.table(["committed", column, "what"], [_cells(each) for each in answer.found])
    if answer.total > len(answer.found):
        run.out.say(f"{answer.total - len(answer.found):,} earlier ones are not shown; see --limit and --since.")
    for note in answer.notes:
        run.warn(note)


def _cells(each: Moment) -> list[str]:
    text = f"{each.what}: {each.text}" if each.text else each.what
    return [names.both_zones(each.at), each.target, text if len(text) <= 100 else text[:99] + "…"]
