"""Where scratch clusters of a source are made: in a container of its own image if it has one, else on this host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from engine.config import PostgresConfig
from engine.journal import Journal
from engine.scratch import boxed, here, leftovers
from engine.scratch.postgres_container import ContainerPlace
from engine.scratch.postgres_place import LocalPlace, Place


@contextlib.contextmanager
def scratch(
    config: PostgresConfig, *, site: str, state: Path, major: int, image: str, parent: Path | None
) -> Iterator[tuple[Journal, Place]]:
    """A place for a cluster, with its journal; cleared when the block is left, however it is left."""
    parents, image = here.parents(parent or config.scratch_parent, state), image or config.scratch_image
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
