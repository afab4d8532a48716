"""Find the moment: statements in shipped binary logs, commits in shipped WAL, for a person who looks for where
to recover to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from engine import names
from engine.config import MySQLConfig
from engine.errors import ConfigError
from engine.logs import LogFile
from engine.recoverable import Recoverable, recoverable
from engine.site import Site

DEFAULT_SPAN = timedelta(days=1)
COMMITS = 10


@dataclass(frozen=True)
class Moment:
    """A place in the logs right before something happened.

    Attributes:
        at: When that was committed (UTC).
        target: What ``--to`` takes to stop right before it.
        what: What it was, in words.
        note: What a person should know about ``at``.
    """

    at: datetime
    target: str
    what: str
    note: str = ""


def find_events(
    site: Site,
    source: str,
    *,
    table: str = "*",
    kinds: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    location: str = "auto",
) -> Iterator[Moment]:
    """Every transaction in the shipped binary logs that changes a table in one of these ways, oldest first.

    Args:
        table: ``users``, ``shop.users``; ``*`` and ``?`` allowed.
        kinds: DROP, TRUNCATE, ALTER, DELETE...; empty for all.
        since: A day ago when left out.

    Raises:
        ConfigError: The source is no MySQL or MariaDB server, or there is no such kind.
        IntegrityError: A log is damaged.
    """
    from engine.binlog.search import OpenLog
    from engine.binlog.search import find_events as search

    if not isinstance(site.config.source(source), MySQLConfig):
        raise ConfigError(
            f"{source!r} is no MySQL or MariaDB server: WAL does not hold statements.",
            remedy="look for commits around a time instead: backups find-event --around TIME",
        )
    found = recoverable(site, source, "", location=location)
    begin = since or names.now() - DEFAULT_SPAN
    logs = [OpenLog(log, _opener(site, found, log)) for log in _in_order(found)]
    for hit in search(logs, table=table, kinds=kinds, since=begin, until=until):
        what = ", ".join(dict.fromkeys(f"{each.kind} {each.database}.{each.table}" for each in hit.changes))
        note = (
            "its time was set by the client; the one shown is that of the transaction before" if hit.client_set else ""
        )
        yield Moment(hit.at, f"{hit.log}:{hit.position}", f"{what}: {hit.text}" if hit.text else what, note)


def commits_around(
    site: Site, source: str, moment: datetime, *, count: int = COMMITS, location: str = "auto"
) -> list[Moment]:
    """The commits in shipped WAL nearest to a time, oldest first.

    Raises:
        ConfigError: The source is no PostgreSQL server. LogGap: no WAL was shipped of that time.
    """
    from engine.postgres.commits import commits_near
    from engine.scratch.postgres_files import WalFile

    config = site.config.source(source)
    if isinstance(config, MySQLConfig):
        raise ConfigError(
            f"{source!r} is no PostgreSQL server.", remedy="look for statements: backups find-event --table NAME"
        )
    found = recoverable(site, source, "", location=location)
    wanted = _around(_in_order(found), moment)
    wal = [WalFile(log.name, _opener(site, found, log)) for log in wanted]
    majors = [copies[0][1].server for copies in found.anchors.values()]
    major = next((int(server.version.split(".")[0]) for server in majors if server is not None), 0)
    before, after = commits_near(
        config, site=site.name, state=site.vault.state, major=major, wal=wal, moment=moment, count=count
    )
    return [Moment(each.at, f"lsn {each.lsn}", f"transaction {each.transaction}") for each in [*before, *after]]


def _in_order(found: Recoverable) -> list[LogFile]:
    from engine.logs import facts_of

    logs = [facts_of(copies[0][1]) for copies in found.logs.values()]
    newest = max((log.row for log in logs), default=None, key=lambda row: max(
        (each.created_at or each.covers_until or _EVER) for each in logs if each.row == row))  # fmt: skip
    return sorted((log for log in logs if log.row == newest), key=lambda log: log.number)


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


def _opener(site: Site, found: Recoverable, log: LogFile) -> Callable[[], Iterator[bytes]]:
    entry, manifest = found.copies(log)[0]
    return partial(site.vault.read_part, entry, manifest)
