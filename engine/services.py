"""Containers and compose services by name: stopped or paused for a while, and always started again.

Everything is in a journal before it is done. Whoever dies in between leaves the journal, and the next run's sweep
starts what was running (``resume``). Two runs never halt the same container at the same time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import docker.errors
import requests.exceptions

from engine import names, stopping
from engine.errors import BackupError, ConfigError, LockHeld, ToolFailed, UnknownName, nearest
from engine.journal import Journal
from engine.locks import held
from engine.processes.place import PROJECT, SERVICE
from engine.scratch.boxed import engine_errors

How = Literal["stop", "pause"]
_STEADY = 1.0
"""Seconds that a started container must go on running to count as running."""
_HEALTHY = 120.0
"""Seconds that a container with a health check of its own may take to be healthy."""
_LATE = 5.0
"""Seconds beyond its time to stop after which a stop that was asked for has certainly happened, or never will."""


def find(client: Any, name: str, project: str) -> list[Any]:
    """The container of that name, or every container of that compose service; running or not.

    Raises:
        UnknownName: None such; the nearest name is suggested. Unreachable, ToolFailed: asking the engine.
    """
    with engine_errors(f"Looking for the container or service {name!r}"):
        every = client.containers.list(all=True, ignore_removed=True)
    found = [each for each in every if each.name == name]
    found = found or [
        each for each in every if each.labels.get(SERVICE) == name and each.labels.get(PROJECT) == project
    ]
    if not found:
        known = {str(each.name) for each in every}
        known |= {str(each.labels[SERVICE]) for each in every if each.labels.get(PROJECT) == project}
        raise UnknownName(
            f"There is no container {name!r}, nor a service {name!r} in the compose project {project!r}.",
            remedy=nearest(name, sorted(known)),
        )
    return found


def using(client: Any, volume: str) -> list[Any]:
    """Every container that has this volume, running or not."""
    with engine_errors(f"Looking for the containers that use volume {volume!r}"):
        found: list[Any] = client.containers.list(all=True, filters={"volume": volume}, ignore_removed=True)
        # the engine matches by name or by path inside, and by parts of these
        return [each for each in found if volume in volumes_of(each)]


def volumes_of(container: Any) -> set[str]:
    """Names of the volumes that a container has."""
    return {str(mount["Name"]) for mount in container.attrs.get("Mounts") or [] if mount.get("Type") == "volume"}


def is_running(container: Any) -> bool:
    """Does anything in it run now? One that is paused does not."""
    state = container.attrs["State"]
    return bool((state["Running"] or state.get("Restarting")) and not state.get("Paused"))


def lives(container: Any) -> bool:
    """Is it running, paused or between two starts: can it come to write again by itself?"""
    state = container.attrs["State"]
    return bool(state["Running"] or state.get("Restarting"))


@contextlib.contextmanager
def reserved(containers: Iterable[Any], locks: Path) -> Iterator[None]:
    """Wait until no other run has halted one of these containers, and keep others from it."""
    with contextlib.ExitStack() as stack:
        for identity, container in sorted({str(each.id): each for each in containers}.items()):
            while True:
                stopping.check("waiting for another run that has stopped the same container")
                locks.mkdir(parents=True, exist_ok=True, mode=0o700)
                try:
                    stack.enter_context(held(lock_of(container, locks), f"container {identity[:12]}"))
                    break
                except LockHeld:
                    time.sleep(0.2)
        yield


def lock_of(container: Any, locks: Path) -> Path:
    """What a run holds that has halted this container."""
    return locks / f"container-{str(container.id)[:24]}.lock"


def halt(containers: Sequence[tuple[Any, How]], journal: Journal, seconds: int) -> list[Any]:
    """Stop or pause containers; one that does not run is left alone. ``resume`` with the same journal undoes it.

    Args:
        seconds: How long one may take to stop before it is killed.

    Returns:
        Those that were halted.

    Raises:
        ConfigError: One would be removed by stopping it; nothing was stopped. ToolFailed, Unreachable.
    """
    done = []
    with engine_errors("Stopping containers"):
        for container, how in containers:
            container.reload()
            if how == "stop" and lives(container) and container.attrs["HostConfig"].get("AutoRemove"):
                raise ConfigError(
                    f"Container {container.name} was started with --rm: it would be gone once it is stopped.",
                    kept="nothing was stopped",
                    remedy=f"stop it yourself, or have it paused: pause: [{container.name}]",
                )
        for container, how in containers:
            container.reload()
            if not (lives(container) if how == "stop" else is_running(container)):
                continue
            paused = bool(container.attrs["State"].get("Paused"))
            journal.record("halt", how=how, id=container.id, name=container.name, paused=paused, seconds=seconds)
            if how == "pause":
                container.pause()
            else:
                if paused:
                    container.unpause()  # a frozen process does not hear that it is to stop
                container.stop(timeout=seconds)
            journal.record("halted", id=container.id)
            done.append(container)
    return done


def resume(client: Any, journal: Journal) -> list[str]:
    """Have everything run again that ``halt`` halted with this journal, the last first; says what was done.

    Raises:
        ToolFailed: A container does not start; every other one was started. Unreachable: the engine is away.
    """
    done: list[str] = []
    failed: list[str] = []
    reached = {step["id"] for step in journal.steps if step["step"] == "halted"}
    for step in reversed([step for step in journal.steps if step["step"] == "halt"]):
        try:
            with engine_errors(f"Starting container {step['name']}"):
                done += _resume(client, step, certain=step["id"] in reached)
        except BackupError as error:
            failed.append(f"{step['name']} ({error.message})")
    if failed:
        raise ToolFailed(
            f"Not started again: {'; '.join(failed)}.",
            kept="every other container that was stopped runs again",
            remedy="look why with docker logs; backups sweep tries again, or: docker start NAME",
        )
    return done


def _resume(client: Any, step: dict[str, Any], *, certain: bool) -> list[str]:
    try:
        container = client.containers.get(step["id"])
        if step["how"] == "stop" and not certain:
            _await_stop(container, step)
    except docker.errors.NotFound:
        return [f"container {step['name']}, which was to be started again, is gone"]
    state = container.attrs["State"]
    if state.get("Paused"):
        if step["how"] == "pause":
            container.unpause()
            return [f"unpaused container {step['name']}"]
        return []
    if lives(container):
        return []
    container.start()
    if step["paused"]:
        container.pause()
    return [f"started container {step['name']}"]


def _await_stop(container: Any, step: dict[str, Any]) -> None:
    """The engine goes on with a stop when whoever asked for it dies: what still runs may be about to end."""
    asked = datetime.fromisoformat(step["at"])
    while lives(container) and (names.now() - asked).total_seconds() < step["seconds"] + _LATE:
        time.sleep(0.2)
        container.reload()


def check_running(client: Any, journal: Journal) -> list[str]:
    """Do the containers that were started again go on running, and are those healthy that know about it? Says what
    was found.

    Raises:
        ToolFailed: One ended again, or is not healthy.
    """
    found = []
    for step in (step for step in journal.steps if step["step"] == "halt" and step["how"] == "stop"):
        with engine_errors(f"Looking at container {step['name']}"):
            try:
                container = client.containers.get(step["id"])
            except docker.errors.NotFound:
                continue
            found.append(f"{step['name']} {fate(container)}")
    return found


def fate(container: Any) -> str:
    """What a container that was started comes to: ``runs``, or ``is healthy`` where it knows that itself.

    Raises:
        ToolFailed: It ended again, or is not healthy.
    """
    restarts = container.attrs.get("RestartCount", 0)
    begun = time.monotonic()
    while True:
        container.reload()
        state = container.attrs["State"]
        health = (state.get("Health") or {}).get("Status", "none")
        if not state["Running"] or state.get("Restarting") or container.attrs.get("RestartCount", 0) != restarts:
            raise ToolFailed(
                f"Container {container.name} ended again after it was started (exit code {state.get('ExitCode')}): "
                f"{_last_words(container)}",
                remedy=f"look why with: docker logs {container.name}",
            )
        elapsed = time.monotonic() - begun
        if elapsed >= _STEADY and health in ("none", "healthy"):
            return "runs" if health == "none" else "is healthy"
        if health == "unhealthy" or elapsed > _HEALTHY:
            raise ToolFailed(
                f"Container {container.name} runs, but its health check says {health}.",
                remedy=f"look why with: docker logs {container.name}",
            )
        time.sleep(0.2)


def _last_words(container: Any) -> str:
    try:
        words = bytes(container.logs(tail=3)).decode("utf-8", "replace").strip().replace("\n", " / ")
        return words or "it said nothing"
    except (docker.errors.APIError, requests.exceptions.RequestException):
        return "its log cannot be read"
