"""``backups find-event``: the moment right before something went wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.options import Location, Source
from deployments.cli.run import Outcome, Run, command
from engine import names
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.moments import Moment
    from engine.site import Site


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

    What is shown as «--to» goes to: backups restore --to. Restoring there stops right before the statement.
    """
    from engine.moments import commits_around, find_events

    with run.site() as site:
        name = _source(site, source, postgres=bool(around))
        if around:
            found = commits_around(site, name, names.parse_moment(around), location=location)
        else:
            found = list(
                find_events(
                    site,
                    name,
                    table=table,
                    kinds=kind or (),
                    since=names.parse_moment(since) if since else None,
                    until=names.parse_moment(until) if until else None,
                    location=location,
                )
            )
    shown = found if around else found[-limit:]
    if not shown:
        run.out.say("Nothing of the kind is in the shipped logs of that time.")
    else:
        run.out.table(["committed", "--to", "what"], [_cells(each) for each in shown])
    if len(found) > len(shown):
        run.out.say(f"{len(found) - len(shown):,} earlier ones are not shown; see --limit and --since.")
    for note in {each.note for each in shown if each.note}:
        run.warn(note)
    return Outcome({"found": [_facts(each) for each in shown], "total": len(found)})


def _source(site: Site, source: str | None, *, postgres: bool) -> str:
    if source is not None:
        return site.config.source(source).name
    known = [each.name for each in (site.config.postgres if postgres else site.config.mysql)]
    if len(known) == 1:
        return known[0]
    raise ConfigError("Which server's logs?", remedy=f"add --source; the site has: {', '.join(known) or 'none'}")


def _cells(each: Moment) -> list[str]:
    text = each.what if len(each.what) <= 100 else each.what[:99] + "…"
    return [names.both_zones(each.at), each.target, text]


def _facts(each: Moment) -> dict[str, str]:
    return {
        "at": names.iso(each.at),
        "second_before": names.iso(each.at.replace(microsecond=0) - timedelta(seconds=1)),
        "to": each.target,
        "what": each.what,
        "note": each.note,
    }
