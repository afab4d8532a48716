"""What happened to a table, and the place in the logs to go back to: for `point_in_time` of the restores."""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from blocks import load_site
from engine import names
from engine.moments import LIMIT, Answer, Question
from flows.outcome import outcome
from flows.parameters import Count, Names, SiteName, Source
from tasks import logs
from tasks.base import SiteHandle
from tasks.words import plural


def _run_name() -> str:
    given = runtime.flow_run.parameters
    if around := given.get("around"):
        return f"find the commits of {given.get('site')} around {around}"
    return (
        f"find {'/'.join(given.get('kinds') or ()) or 'what happened'} on {given.get('table')} of {given.get('site')}"
    )


@flow(name="find-event", flow_run_name=_run_name, persist_result=False)
def find_event(
    site: SiteName,
    source: Source = "",
    table: str = "*",
    kinds: Names = [],  # noqa: B006 - a form's default; never changed
    since: str = "",
    until: str = "",
    around: str = "",
    location: str = "auto",
    limit: Count = LIMIT,
) -> State[Any]:
    """Look through the shipped logs for the moment to go back to. Changes nothing.

    The table under Artifacts says what to give as point_in_time. Where there was only one such statement,
    point_in_time="before DROP TABLE users" of restore-database looks by itself.

    Args:
        site: Name of the site block, such as workset.
        source: The server of the site, such as mysql. May be empty where the site has only one of its kind.
        table: MySQL, MariaDB: users, or shop.users; * and ? allowed.
        kinds: MySQL, MariaDB: drop, truncate, alter, rename, create, delete, update, insert. Empty: all.
        since: From this time, with its zone. Empty: a day ago.
        until: Up to this time, with its zone. Empty: to the end of what was shipped.
        around: PostgreSQL, whose log holds no statements: the commits nearest to this time, with its zone.
        location: auto (local first, then the replicas), local, or a replica's name.
        limit: Show at most so many, the newest.
    """
    return outcome(_find, site, source, table, tuple(kinds), (since, until, around), location, limit)


def _find(
    site: str,
    source: str,
    table: str,
    kinds: tuple[str, ...],
    times: tuple[str, str, str],
    location: str,
    limit: int,
) -> State[None]:
    since, until, around = (names.parse_moment(each) if each.strip() else None for each in times)
    question = Question(source, table, kinds, since, until, around, location, limit)
    answer = logs.look(SiteHandle(load_site(site)), question)
    create_table_artifact(
        key=f"{site}-events", table=_rows(answer), description=f"What was found in the logs of {site}/{answer.source}"
    )
    return Completed(message=_verdict(answer))


def _rows(answer: Answer) -> list[dict[str, str]]:
    """No text of a statement: it may hold data, and artifacts are kept."""
    effect = {True: "keeps it and nothing later", False: "stops right before it"}
    return [
        {
            "committed (UTC)": names.iso(each.at),
            "local time": f"{each.at.astimezone():%Y-%m-%d %H:%M:%S %Z}",
            "what": each.what,
            "point_in_time": each.target,
            "which": effect[each.keeps],
            "note": each.note,
        }
        for each in answer.found
    ]


def _verdict(answer: Answer) -> str:
    if not answer.found:
        return f"Nothing of the kind is in the shipped logs of {answer.source} of that time."
    if answer.found[0].keeps:
        return f"{plural(len(answer.found), 'commit')} of {answer.source}; see the table under Artifacts."
    last = answer.found[-1]
    return (
        f"{plural(answer.total, 'transaction')} in the logs of {answer.source}; the newest: {last.what} at "
        f"{names.both_zones(last.at)}. Right before it: point_in_time={last.target}"
    )
