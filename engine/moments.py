"""Find the moment: statements in shipped binary logs, commits in shipped WAL, for a person who looks for where
to recover to. What cannot be told from the logs of one server's life is looked for in all of its lives: a server
that was reset after the accident began its logs anew."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from engine import names
from engine.config import MySQLConfig, PostgresConfig
from engine.errors import ConfigError, UnknownName
from engine.logs import LogFile, facts_of
from engine.progress import Progress, silent
from engine.recoverable import Recoverable, recoverable
from engine.recovery.statement import SPAN, Statement
from engine.site import Site

if TYPE_CHECKING:
    from engine.binlog.search import Hit, OpenLog

COMMITS = 10
LIMIT = 50
_SHOWN = 20
_DEFINING = ("DROP", "TRUNCATE", "ALTER", "RENAME", "CREATE")
Row = tuple[str, int]


@dataclass(frozen=True)
class Moment:
    """A place in the logs.

    Attributes:
        at: When what stands there was committed (UTC).
        target: What ``--to`` and ``point_in_time`` take.
        what: What it was, in words; nothing of the data.
        text: The beginning of the statement, where the log has it: it may hold data, so it is for a terminal only.
        keeps: Recovering to ``target`` keeps it and nothing later (PostgreSQL); else it stops right before it.
        note: What a person should know.
    """

    at: datetime
    target: str
    what: str
    text: str = ""
    keeps: bool = False
    note: str = ""

    def line(self) -> str:
        """When (UTC and local), where and what."""
        return f"{names.both_zones(self.at)}  {self.target}  {self.what}"

    def facts(self) -> dict[str, str | bool]:
        """For scripts."""
        return {
            "at": names.iso(self.at),
            "second_before": names.iso(self.at.replace(microsecond=0) - timedelta(seconds=1)),
            "to": self.target,
            "keeps": self.keeps,
            "what": self.what,
            "note": self.note,
        }


@dataclass(frozen=True)
class Question:
    """What is looked for.

    Attributes:
        source: May be empty where the site has one such server.
        table: ``users``, ``shop.users``; ``*`` and ``?`` allowed. MySQL and MariaDB.
        kinds: DROP, TRUNCATE, ALTER, DELETE...; empty for all.
        since: A day before ``until`` (or now) when left out.
        around: PostgreSQL: the commits nearest to this time.
        limit: The newest so many; PostgreSQL: so many before, and so many after.
    """

    source: str = ""
    table: str = "*"
    kinds: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    around: datetime | None = None
    location: str = "auto"
    limit: int = LIMIT


@dataclass(frozen=True)
class Answer:
    """What was found in the logs of one server: the newest ``limit`` of ``total``, oldest first."""

    source: str
    found: list[Moment]
    total: int

    @property
    def notes(self) -> list[str]:
        return list(dict.fromkeys(each.note for each in self.found if each.note))


def look(site: Site, question: Question, *, progress: Progress = silent) -> Answer:
    """Answer a question, whichever engine it is about.

    Raises:
        ConfigError: Several servers could be meant, or the question does not fit the server.
        LogGap: No WAL was shipped of that time. IntegrityError: a log is damaged.
    """
    source = _source(site, question)
    if not isinstance(site.config.source(source), MySQLConfig):
        around = question.around
        if around is None:
            raise no_statements(source)
        count = min(question.limit, COMMITS)
        found = commits_around(site, source, around, count=count, location=question.location)
        return Answer(source, found, len(found))
    if question.around is not None:
        raise ConfigError(
            f"{source!r} is no PostgreSQL server: its logs are looked through for statements, not around a time.",
            remedy="give --table and --kind (table, kinds), and --since or --until",
        )
    newest: deque[Moment] = deque(maxlen=question.limit)
    total = 0
    for moment in find_events(
        site, source, table=question.table, kinds=question.kinds, since=question.since, until=question.until,
        location=question.location, progress=progress,
    ):  # fmt: skip
        newest.append(moment)
        total += 1
    return Answer(source, list(newest), total)


def no_statements(source: str) -> ConfigError:
    """Why no statement can be looked for in PostgreSQL's log, and what to do instead."""
    return ConfigError(
        f"{source!r} is a PostgreSQL server: its WAL holds changed pages, not statements, so none can be looked for.",
        kept="nothing was changed",
        remedy=f"look for the commits around a time: backups find-event --source {source} --around TIME (the flow "
        "find-event with around=TIME); then recover to a time, or to the LSN of the last commit that is wanted",
    )


def find_events(
    site: Site,
    source: str,
    *,
    table: str = "*",
    kinds: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    location: str = "auto",
    progress: Progress = silent,
) -> Iterator[Moment]:
    """Every transaction in the shipped binary logs that changes a table in one of these ways, oldest first.

    Args:
        table: ``users``, ``shop.users``; ``*`` and ``?`` allowed.
        kinds: DROP, TRUNCATE, ALTER, DELETE...; empty for all.
        since: A day before ``until`` (or now) when left out.

    Raises:
        ConfigError: The source is no MySQL or MariaDB server, or there is no such kind.
        IntegrityError: A log is damaged.
    """
    if not isinstance(site.config.source(source), MySQLConfig):
        raise no_statements(source)
    found = recoverable(site, source, "", location=location)
    begin = since or (until or names.now()) - SPAN
    for row, hit in _hits(site, found, table, kinds, begin, until, progress):
        yield _moment(found, row, hit)


def right_before(
    site: Site, found: Recoverable, statement: Statement, *, now: datetime
) -> tuple[Moment, Row, list[str]]:
    """The one place that a person means by a statement.

    Args:
        found: What there is of the database that is restored.

    Returns:
        The moment, the row of its log, and what should be known of the search.

    Raises:
        UnknownName: There is no such statement. ConfigError: there are several; they are listed, to choose from.
        IntegrityError: A log is damaged.
    """
    since, until = statement.span(now)
    newest: deque[tuple[Row, Hit]] = deque(maxlen=_SHOWN)
    total = 0
    for row, hit in _hits(site, found, statement.pattern(found.database), (statement.kind,), since, until):
        if not _meant(statement, hit):
            continue
        newest.append((row, hit))
        total += 1
        if statement.which == "first":
            break
    if not newest:
        error = _none(found, statement, since, until)
        error.remedy += _others(site, found, statement, since, until)
        raise error
    if total > 1 and statement.which == "only":
        raise _several([_moment(found, *each) for each in newest], total, statement, since, until)
    row, hit = newest[-1]
    return _moment(found, row, hit, pasted=False), row, _of_search(found, total, statement, since, until)


def _meant(statement: Statement, hit: Hit) -> bool:
    """``DROP TABLE`` is no ``DROP DATABASE``, and the other way round."""
    return not statement.of or any((each.table == "*") == (statement.of == "database") for each in hit.changes)


def _none(found: Recoverable, statement: Statement, since: datetime, until: datetime | None) -> UnknownName:
    reach = _reach(found)
    shipped = f"; every commit is shipped until {names.both_zones(reach)}" if reach else "; no log is shipped"
    return UnknownName(
        f"Nothing in the shipped logs of {found.source} fits '{statement}' {_between(since, until)}{shipped}.",
        kept="nothing was changed",
        remedy="ship what happened since (backups ship, binlog-ship), look further back (, since TIME), or see what "
        f"there was: backups find-event --source {found.source} --table '{found.database}.*'",
    )


def _others(site: Site, found: Recoverable, statement: Statement, since: datetime, until: datetime | None) -> str:
    """What else was done to the table, where a name says which: a table goes by a CREATE OR REPLACE or a RENAME too."""
    if not statement.name or statement.of == "database":
        return ""
    hits = _hits(site, found, statement.pattern(found.database), _DEFINING, since, until)
    newest = deque((_moment(found, *each) for each in hits), maxlen=_SHOWN)
    return ". Other statements on it:\n" + "\n".join(f"  {each.line()}" for each in newest) if newest else ""


def _several(
    shown: Sequence[Moment], total: int, statement: Statement, since: datetime, until: datetime | None
) -> ConfigError:
    lines = "\n".join(f"  {each.line()}" for each in shown)
    newest = f" (the newest {len(shown)})" if total > len(shown) else ""
    return ConfigError(
        f"{total:,} statements fit '{statement}' {_between(since, until)}: which one is meant?",
        kept="nothing was changed",
        remedy=f"give the place of one instead, say first or last ('before last {statement.kind} ...'), or narrow it "
        f"down with since and until. They are{newest}:\n{lines}",
    )


def _of_search(
    found: Recoverable, total: int, statement: Statement, since: datetime, until: datetime | None
) -> list[str]:
    which = {"only": "one statement fits", "first": "the first that fits is taken"}.get(
        statement.which, f"{total:,} fit, the last of them is taken"
    )
    notes = [f"the shipped logs were looked through {_between(since, until)}: {which}"]
    return notes + [f"{hole}: what stood there could not be looked for" for hole in found.holes]


def _between(since: datetime, until: datetime | None) -> str:
    return f"from {names.both_zones(since)} to {names.both_zones(until) if until else 'their end'}"


def _reach(found: Recoverable) -> datetime | None:
    rows = rows_of(found)
    return max((each.covers_until for row in rows for each in row if each.covers_until), default=None)


def _hits(
    site: Site,
    found: Recoverable,
    table: str,
    kinds: Sequence[str],
    since: datetime,
    until: datetime | None,
    progress: Progress = silent,
) -> Iterator[tuple[Row, Hit]]:
    from engine.binlog.search import OpenLog
    from engine.binlog.search import find_events as search

    told = _Told(progress)
    for logs in rows_of(found):
        opened: list[OpenLog] = [OpenLog(log, told.reading(_opener(site, found, log))) for log in logs]
        for hit in search(opened, table=table, kinds=kinds, since=since, until=until):
            yield logs[0].row, hit


def _moment(found: Recoverable, row: Row, hit: Hit, *, pasted: bool = True) -> Moment:
    """``pasted``: a person will give the position back, so it must stand for one place."""
    what = ", ".join(dict.fromkeys(f"{each.kind} {each.database}.{each.table}" for each in hit.changes))
    notes = []
    if hit.client_set:
        notes.append("a time was set by the client; the one shown is that of the transaction before")
    if pasted and any(name == hit.log and other != row for other, name in _named(found)):
        notes.append(
            f"the server's numbering began anew, and {hit.log} is the name of two logs: say 'before KIND TABLE, since "
            "TIME, until TIME' or a time instead of a position"
        )
    return Moment(hit.at, f"{hit.log}:{hit.position}", what, hit.text, note="; ".join(notes))


def _named(found: Recoverable) -> Iterator[tuple[Row, str]]:
    for (chain, epoch, _), copies in found.logs.items():
        yield (chain, epoch), copies[0][0].name.name


def commits_around(
    site: Site, source: str, moment: datetime, *, count: int = COMMITS, location: str = "auto"
) -> list[Moment]:
    """The commits in shipped WAL nearest to a time, oldest first.

    Raises:
        ConfigError: The source is no PostgreSQL server. LogGap: no WAL was shipped of that time.
    """
    from engine.postgres.commits import commits_near
    from engine.scratch.postgres_files import WalFile

    config = site.config.server(source)
    if not isinstance(config, PostgresConfig):
        raise ConfigError(
            f"{source!r} is no PostgreSQL server.", remedy="look for statements: backups find-event --table NAME"
        )
    found = recoverable(site, source, "", location=location)
    rows = rows_of(found)
    row = next((each for each in rows if (each[-1].covers_until or _EVER) >= moment), rows[-1] if rows else [])
    wal = [WalFile(log.name, _opener(site, found, log)) for log in _around(row, moment)]
    majors = [copies[0][1].server for copies in found.anchors.values()]
    major = next((int(server.version.split(".")[0]) for server in majors if server is not None), 0)
    before, after = commits_near(
        config, site=site.name, state=site.vault.state, major=major, wal=wal, moment=moment, count=count
    )
    return [
        Moment(each.at, f"lsn {each.lsn}", f"transaction {each.transaction}", keeps=True) for each in [*before, *after]
    ]


def rows_of(found: Recoverable) -> list[list[LogFile]]:
    """The logs of each life of the server, in order; the life that was written last comes last."""
    logs = sorted((facts_of(copies[0][1]) for copies in found.logs.values()), key=lambda log: (log.row, log.number))
    rows = [list(row) for _, row in itertools.groupby(logs, key=lambda log: log.row)]
    return sorted(rows, key=lambda row: max(each.covers_until or each.created_at or _EVER for each in row))


_EVER = names.from_timestamp(0)


def _around(logs: Sequence[LogFile], moment: datetime, more: int = 2) -> Sequence[LogFile]:
    """The log that covers a moment and a few neighbours, without a hole."""
    if not logs:
        return []
    at = next((number for number, log in enumerate(logs) if log.covers_until and log.covers_until >= moment), None)
    middle = len(logs) - 1 if at is None else at
    chosen = [logs[middle]]
    for log in logs[middle + 1 : middle + 1 + more]:
        if log.number == chosen[-1].number + 1:
            chosen.append(log)
    for log in reversed(logs[max(0, middle - more) : middle]):
        if log.number == chosen[0].number - 1:
            chosen.insert(0, log)
    return chosen


def _source(site: Site, question: Question) -> str:
    if question.source:
        return site.config.source(question.source).name
    postgres = question.around is not None
    known = [each.name for each in (site.config.postgres if postgres else site.config.mysql)]
    if len(known) == 1:
        return known[0]
    others = [each.name for each in [*site.config.mysql, *site.config.postgres]]
    if not known and not postgres and len(others) == 1:
        return others[0]  # whose answer says what can be asked of it
    raise ConfigError(
        "Which server's logs?", remedy=f"name one with --source (source); the site has: {', '.join(others) or 'none'}"
    )


def _opener(site: Site, found: Recoverable, log: LogFile) -> Callable[[], Iterator[bytes]]:
    entry, manifest = found.copies(log)[0]
    return partial(site.vault.read_part, entry, manifest)


class _Told:
    """Counts what is read of all logs together, for one line of progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._done = progress, 0

    def reading(self, opener: Callable[[], Iterator[bytes]]) -> Callable[[], Iterator[bytes]]:
        def read() -> Iterator[bytes]:
            for chunk in opener():
                self._done += len(chunk)
                self._progress("look through the logs", self._done, None)
                yield chunk

        return read
