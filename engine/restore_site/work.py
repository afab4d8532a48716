"""What every step of a machine's restore is given, and what a kind of source has to offer to take part."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.config import ImagesConfig
from engine.fallback import first_whole
from engine.images.load import open_record
from engine.images.record import Record
from engine.images.source import engine_for
from engine.progress import Progress, silent
from engine.restore_site.points import Piece, Point
from engine.restore_site.state import Done, State
from engine.site import Site
from engine.volumes.docker_engine import Engine

if TYPE_CHECKING:
    from engine.restore_site.plan import SiteRequest


class Stage(IntEnum):
    """The order of things. All steps of a stage are tried before a failure among them ends the restore."""

    IMAGES = 10
    CONFIG = 20
    VOLUMES = 30
    CONTAINERS = 40
    ACCOUNTS = 50
    DATABASES = 60
    GRANTS = 70
    BUCKETS = 80
    N8N = 90
    START = 100
    HEALTH = 110


@dataclass
class Work:
    """A restore under way.

    Attributes:
        key: Of the step that is being done: what ``state`` knows it by.
        tell: Hears a line for a person.
    """

    site: Site
    request: SiteRequest
    point: Point
    state: State
    progress: Progress = silent
    tell: Callable[[str], None] = lambda line: None
    key: str = ""
    _records: dict[str, Record] = field(default_factory=dict)
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _engines: dict[str, Engine] = field(default_factory=dict)

    def record(self, source: str) -> Record:
        """The record of containers of a source of images."""
        if source not in self._records:
            (piece,) = self.point.of(source)
            notes: list[str] = []
            self._records[source], _ = first_whole(piece.copies, partial(open_record, self.site), notes)
            for note in notes:
                self.tell(f"{piece.target}: {note}")
        return self._records[source]

    def engine(self, source: str) -> Engine:
        """The Docker engine of a source of images."""
        if source not in self._engines:
            config = self.site.config.source(source)
            assert isinstance(config, ImagesConfig)
            made = engine_for(config, self.site.name)
            self._held.callback(made.close)
            self._engines[source] = made
        return self._engines[source]

    def client(self, source: str) -> Any:
        return self.engine(source).client

    def close(self) -> None:
        self._held.close()


@dataclass(frozen=True)
class Step:
    """One step: ``do`` may be called again when it failed or was interrupted, and then goes on or begins anew."""

    key: str
    title: str
    stage: Stage
    do: Callable[[Work], Done]


@dataclass(frozen=True)
class Kind:
    """How one kind of source takes part; ``kinds.KINDS`` has one for each.

    Attributes:
        stage: When.
        restore: Bring one backup of it back. Must be safe to repeat.
        title: What it does, in words, for the plan.
    """

    stage: Stage
    restore: Callable[[Work, Piece], Done]
    title: Callable[[Piece], str]
