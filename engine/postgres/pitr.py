"""PostgreSQL at a moment of its past: a private cluster recovered from a base backup and its log.

    with recover(config, site="workbench", state=vault.state, base=base, wal=files, goal=Goal(time=moment)) as one:
        source = PostgresSource(one.config, site="workbench")     # an ordinary server, at that moment

Production is not spoken to. The cluster is gone when the block is left, and if we die in it, after the next
sweep.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from engine import names
from engine.catalog import Entry
from engine.config import PostgresConfig
from engine.errors import UnknownName, nearest
from engine.manifest import Manifest
from engine.postgres import dropped
from engine.postgres.connection import translated
from engine.postgres.places import scratch
from engine.postgres.server import PostgresSource
from engine.progress import Progress, silent
from engine.scratch.postgres import Cluster, Recovered
from engine.scratch.postgres_files import SEGMENT, BaseBackup, WalFile
from engine.scratch.postgres_place import PORT, Place
from engine.scratch.postgres_settings import Goal
from engine.site import Site
from engine.source import Parts, Sink

_SEGMENT = 16 * 1024 * 1024


@dataclass(frozen=True)
class Past:
    """A recovered cluster that can be asked.

    Attributes:
        config: With which an ordinary ``PostgresSource`` works on it.
        report: What recovery came to.
        cluster: The cluster itself.
    """

    config: PostgresConfig
    report: Recovered
    cluster: Cluster


@contextlib.contextmanager
def recover(
    config: PostgresConfig,
    *,
    site: str,
    state: Path,
    base: BaseBackup,
    wal: Sequence[WalFile],
    goal: Goal,
    image: str = "",
    work_directory: Path | None = None,
    libraries: Sequence[str] = (),
    unpacked: Callable[[Cluster], None] = lambda cluster: None,
    progress: Progress = silent,
) -> Iterator[Past]:
    """A private cluster at a moment of the past; removed when the block is left.

    Args:
        config: The source as its site describes it; the server itself is not spoken to.
        state: The vault's state directory, for the journal.
        wal: The log from the base backup's start on, in any order; histories of timelines too.
        image: Image to run in, on the source's engine; empty: that of the source's container, if it has one.
        work_directory: Where a cluster on this host is to stand.
        libraries: To preload besides those that are needed for certain.
        unpacked: Looks at the cluster's files before its server is started.

    Raises:
        OutsideWindow, LogGap, IntegrityError: The goal cannot be reached from what was given.
        ToolMissing, WrongTool, UnknownName, Unreachable, DiskFull, ToolFailed: see the message.
    """

    @contextlib.contextmanager
    def once(to: Goal) -> Iterator[Past]:
        needed = base.bytes + (len(wal) + 4) * _SEGMENT
        with scratch(config, site=site, state=state, major=base.major, image=image, parent=work_directory) as (
            journal,
            place,
        ):
            place.make(journal, needed)
            cluster = Cluster(place, base.major)
            cluster.timeout_seconds = config.timeout_seconds
            try:
                cluster.fill(base, wal, progress)
                unpacked(cluster)
                report = cluster.recover(to, config.user, progress, libraries=libraries)
                yield Past(pointed_at(place, config, report.user), report, cluster)
            finally:
                cluster.stop()

    with once(goal) as first:
        gone = _without_files(first) if goal.kind == "time" else []
        if not gone:
            yield first
            return
        segments = [each.name for each in wal if SEGMENT.match(each.name)]
        earlier = dropped.right_before(first.cluster.place, segments, gone, goal)
    with once(earlier) as second:
        report = dropped.accept(first.report, second.report, gone)
        with _entered(second) as connection:
            dropped.revive(connection, gone)
        yield replace(second, report=report)


def _without_files(past: Past) -> list[dropped.Dropped]:
    with _entered(past) as connection:
        return dropped.without_files(connection)


def _entered(past: Past) -> psycopg.Connection[object]:
    """A session as the cluster's superuser, on its socket; closed with its block."""
    config = past.config
    with translated("entering the recovered cluster"):
        return psycopg.connect(
            host=config.host, port=config.port, user=config.user, dbname=config.maintenance_database, password="",
            passfile="/nonexistent", connect_timeout=10, autocommit=True,
        )  # fmt: skip


def pointed_at(place: Place, config: PostgresConfig, user: str) -> PostgresConfig:
    """The source's own configuration, but for where the server is."""
    where = {"host": place.work, "port": PORT, "socket": None, "tls_ca": None, "password": None, "user": user}
    return config.model_copy(update={**where, "maintenance_database": "postgres", **place.settings()})


def export(
    site: Site,
    past: Past,
    *,
    source: str,
    database: str,
    label: str = "",
    recovery_point: str = "",
    progress: Progress = silent,
) -> tuple[Entry, Manifest]:
    """A database of the recovered cluster as a new signed backup under its original source's name.

    It is an ordinary dump (tier ``recovered``), which the ordinary restore puts beside or in production's place.

    Args:
        label: Empty: ``as of`` the moment.

    Raises:
        UnknownName: The database was not there at that moment. And what a capture raises.
    """
    report = past.report
    if database not in report.databases:
        raise UnknownName(
            f"There was no database {database!r} at {report.goal}.",
            kept="production was not touched",
            remedy=nearest(database, report.databases),
        )
    there = PostgresSource(past.config, site=site.name)
    found = there.preflight(database)
    with site.vault.begin(
        source=source,
        kind=there.kind,
        tier=names.RECOVERED,
        database=database,
        ext=there.extension(),
        label=label or label_of(report),
        recovery_point=recovery_point,
        estimated_bytes=found.estimated_bytes,
    ) as writer:
        parts = _AsOnTheSource(writer, past.cluster)
        facts = there.capture(database, parts, progress)
        parts.finish()
        contents = {**facts.contents, "recovered": facts_of(report)}
        warnings = list(dict.fromkeys([*found.warnings, *facts.warnings, *report.notes]))
        return writer.publish(replace(facts, contents=contents, warnings=warnings))


class _AsOnTheSource:
    """Parts of a backup in which tablespaces stand where they stood on the source, not where they are here."""

    def __init__(self, parts: Parts, cluster: Cluster) -> None:
        self._parts = parts
        self._moved = cluster.moved
        self._held: list[tuple[Sink, bytearray]] = []

    def data(self) -> Sink:
        return self._parts.data()

    def companion(self, role: str, ext: str = "sql") -> Sink:
        sink = self._parts.companion(role, ext)
        if role != "globals":
            return sink
        held = _Held()
        self._held.append((sink, held.bytes))
        return held

    def finish(self) -> None:
        """Write what was held back."""
        for sink, held in self._held:
            text = bytes(held)
            for here, there in self._moved.items():
                text = text.replace(here.encode(), there.replace("'", "''").encode("utf-8", "surrogateescape"))
            sink.write(text)


class _Held:
    """Keeps what is written; for a text of a few kilobytes."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def write(self, data: bytes) -> None:
        self.bytes += data


def label_of(report: Recovered) -> str:
    """``as of 2026-11-22T10:00:00Z``: the moment asked for, or the last commit where the log's end was."""
    moment = report.goal.time or (report.last_commit if report.goal.kind == "end" else None)
    return f"as of {names.iso(moment)}" if moment else f"as of {report.goal}"


def facts_of(report: Recovered) -> dict[str, Any]:
    """What recovery came to, for a manifest. Times are UTC."""
    return {
        "goal": str(report.goal),
        "inclusive": report.goal.inclusive,
        "to_the_end": report.to_the_end,
        "last_commit": names.iso(report.last_commit) if report.last_commit else None,
        "timeline": report.timeline,
        "stopped": report.stopped,
    }
