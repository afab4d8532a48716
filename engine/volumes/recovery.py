"""What a dead run of volumes left, put right by its journal; a living one ends by the same way.

Steps of a journal, in their order: ``make``/``made`` (a volume), ``helper`` (a container to reach it through),
``halt``/``halted`` (containers), ``exchange``/``exchanged`` (files of two volumes), ``done``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import docker.errors

from engine.errors import ToolFailed
from engine.journal import Journal
from engine.scratch.boxed import engine_errors
from engine.services import lives, resume, using
from engine.volumes import exchange, helper
from engine.volumes.docker_engine import Engine
from engine.volumes.exchange import Pair


def recover(engine: Engine, journal: Journal) -> list[str]:
    """Have production whole, old or new, and its containers running; then close the journal. Says what was done.

    Raises:
        Unreachable: No engine answers. ToolFailed: a container does not start, or something would not go. The journal
            stays then.
    """
    done: list[str] = []
    step = journal.reached("exchange")
    kept = journal.reached("done") is not None
    if step is not None and not kept:
        kept = _settle(engine, step, done)
    done += resume(engine.client, journal)
    done += helper.remove(engine.client, journal)
    made = journal.reached("make")
    if made is not None and not kept:
        done += _remove(engine, journal, made)
    journal.close()
    return done


def _settle(engine: Engine, step: dict[str, Any], done: list[str]) -> bool:
    """An exchange that was begun: all of it, or nothing. True where what was restored is in place."""
    production, side = (Path(os.fsdecode(bytes.fromhex(step[each]))) for each in ("production", "side"))
    every = [Pair.of(each) for each in step["pairs"]]
    over = [pair for pair in every if exchange.is_done(production, pair)]
    if len(over) == len(every):
        done.append(f"volume {step['volume']} holds what was restored; what it held is in volume {step['kept_as']}")
        return True
    if over:
        running = [str(each.name) for each in using(engine.client, step["volume"]) if lives(each)]
        if running:
            raise ToolFailed(
                f"Volume {step['volume']} holds what was restored only in part, and {', '.join(running)} runs with it.",
                kept=f"the previous data of the other part is in volume {step['kept_as']}",
                remedy=f"docker stop {' '.join(running)}; then: backups sweep; then start them again",
            )
        for pair in reversed(over):
            exchange.exchange(production, side, pair)
        done.append(f"volume {step['volume']} is as it was: an exchange that was broken off was taken back")
    return False


def _remove(engine: Engine, journal: Journal, step: dict[str, Any]) -> list[str]:
    """The half-made volume. One that we are not sure to have made goes only if it is empty."""
    name = str(step["name"])
    volume = engine.get(name)
    if volume is None:
        return []
    # a driver may remove data with a volume; the engine's own never does where that stands elsewhere
    if journal.reached("made") is None and (volume.driver != "local" or not _is_empty(Path(volume.mountpoint))):
        return [f"volume {name} is left as it is: it may not be one that was being restored"]
    with engine_errors(f"Removing volume {name}"):
        try:
            engine.client.volumes.get(name).remove()
        except docker.errors.NotFound:
            return []
    return [f"removed volume {name}: a restore that was not finished"]


def _is_empty(place: Path) -> bool:
    try:
        return not any(place.iterdir())
    except OSError:
        return False
