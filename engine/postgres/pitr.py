"""PostgreSQL at a moment of its past: a private cluster recovered from a base backup and its log.

    with recover(config, site="workbench", state=vault.state, base=base, wal=files, goal=Goal(time=moment)) as one:
        source = PostgresSource(one.config, site="workbench")     # an ordinary server, at that moment

Production is not spoken to. The cluster is gone when the block is left, and if we die in it, after the next
sweep.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.config import PostgresConfig
from engine.journal import Journal
from engine.progress import Progress, silent
from engine.scratch import boxed, here, leftovers
from engine.scratch.postgres import Cluster, Recovered
from engine.scratch.postgres_container import ContainerPlace
from engine.scratch.postgres_files import BaseBackup, WalFile
from engine.scratch.postgres_place import PORT, LocalPlace, Place
from engine.scratch.postgres_settings import Goal

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

    Raises:
        OutsideWindow, LogGap, IntegrityError: The goal cannot be reached from what was given.
        ToolMissing, WrongTool, UnknownName, Unreachable, DiskFull, ToolFailed: see the message.
    """
    needed = base.bytes + (len(wal) + 4) * _SEGMENT
    with scratch(config, site=site, state=state, major=base.major, image=image, parent=work_directory) as (
        journal,
        place,
    ):
        place.make(journal, needed)
        cluster = Cluster(place, base.major)
        try:
            cluster.fill(base, wal, progress)
            report = cluster.recover(goal, config.user, progress, libraries=libraries)
            yield Past(_pointed_at(place, config, report.user), report, cluster)
        finally:
            cluster.stop()


@contextlib.contextmanager
def scratch(
    config: PostgresConfig, *, site: str, state: Path, major: int, image: str, parent: Path | None
) -> Iterator[tuple[Journal, Place]]:
    """A place for a cluster, with its journal; cleared when the block is left, however it is left."""
    parents = here.parents(parent, state)
    journal = leftovers.begin(state, config.name, "container" if image or _in_container(config) else "host")
    with contextlib.ExitStack() as last:
        last.callback(leftovers.clear, journal)
        place: Place
        if image or _in_container(config):
            found = image or boxed.image_of(config, site)[0]
            place = ContainerPlace(major, found, config.docker_host, parents)
        else:
            place = LocalPlace(major, parents, tools_path=config.tools_path)
        last.callback(place.close)
        yield journal, place


def _in_container(config: PostgresConfig) -> bool:
    return bool(config.container or config.service)


def _pointed_at(place: Place, config: PostgresConfig, user: str) -> PostgresConfig:
    """The source's own configuration, but for where the server is."""
    where = {"host": place.work, "port": PORT, "socket": None, "tls_ca": None, "password": None, "user": user}
    return config.model_copy(update={**where, "maintenance_database": "postgres", **place.settings()})


def only_needed(wal: Iterable[WalFile]) -> list[WalFile]:
    """In the order of their names, each once."""
    return [file for _, file in sorted({file.name: file for file in wal}.items())]
