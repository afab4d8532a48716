"""A new, empty PostgreSQL cluster in a throwaway place, in which dumps can be loaded and nothing acts by itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from engine.config import PostgresConfig
from engine.errors import ToolFailed
from engine.postgres.pitr import pointed_at
from engine.postgres.places import scratch
from engine.scratch.postgres import Cluster
from engine.scratch.postgres_place import PORT, Place
from engine.scratch.postgres_settings import NEEDED, control_facts, harmless

_USER = "postgres"
_PATIENCE = 60.0
_NAP = 0.1
_OVERHEAD = 256 * 1024 * 1024
"""Bytes of an empty cluster and its log."""


@dataclass(frozen=True)
class Fresh:
    """A running cluster with no databases but its own.

    Attributes:
        config: With which an ordinary ``PostgresSource`` works on it.
    """

    config: PostgresConfig
    cluster: Cluster
    place: Place


@contextlib.contextmanager
def fresh_cluster(
    config: PostgresConfig,
    *,
    site: str,
    state: Path,
    major: int,
    needed: int,
    extensions: Sequence[str] = (),
) -> Iterator[Fresh]:
    """A private cluster of that major version; gone when the block is left, and if we die in it after a sweep.

    Args:
        config: The source as its site describes it; the server itself is not spoken to.
        state: The vault's state directory, for the journal.
        needed: Bytes that will be loaded.
        extensions: That will be loaded; some must be preloaded.

    Raises:
        ToolMissing, WrongTool, UnknownName, Unreachable, DiskFull, ConfigError, ToolFailed: none can be had.
    """
    with scratch(config, site=site, state=state, major=major, image="", parent=None) as (journal, place):
        place.make(journal, needed + _OVERHEAD)
        cluster = Cluster(place, major)
        try:
            locale = ("--encoding=UTF8", "--locale=C", "--auth=trust", "--no-sync", f"--username={_USER}")
            place.runner.run(place.command("initdb", "-D", cluster.data, *locale), timeout=300)
            words = place.runner.run(place.command("pg_controldata", "-D", cluster.data)).text
            cluster.control = control_facts(words)
            preload = [each for each in NEEDED if each in extensions]
            settings = harmless(place.work, major, cluster.control, preload, durable=False)
            cluster.start(settings | {"data_directory": cluster.data, "listen_addresses": place.listens})
            _wait(place, cluster)
            yield Fresh(pointed_at(place, config, _USER), cluster, place)
        finally:
            cluster.stop()


def _wait(place: Place, cluster: Cluster) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            psycopg.connect(
                host=place.work, port=PORT, user=_USER, dbname="postgres", password="", passfile="/nonexistent",
                connect_timeout=10,
            ).close()  # fmt: skip
            return
        except psycopg.OperationalError as error:
            if not cluster.running or time.monotonic() > deadline:
                last = "\n".join(cluster.log().splitlines()[-15:])
                where = place.describe()
                raise ToolFailed(f"The scratch PostgreSQL on {where} does not answer: {error}\n{last}") from None
        time.sleep(_NAP)
