"""The containers of a compose project, read from a living engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import docker.errors

from engine import names
from engine.errors import ConfigError, LockHeld, UnknownName, nearest
from engine.images.record import Container, Image, Record
from engine.locks import held
from engine.processes.place import PROJECT, SERVICE
from engine.scratch.boxed import engine_errors
from engine.services import lives, lock_of

ONE_OFF = "com.docker.compose.oneoff"


def look(client: Any, project: str, further: list[str], locks: Path) -> tuple[Record, list[str]]:
    """The containers as they are now, and what of them could not be told.

    Args:
        further: Containers of no project, by name.
        locks: Where runs that stop containers for a while hold their locks.

    Raises:
        ConfigError: There are none. UnknownName: one that was named is not there. Unreachable.
    """
    with engine_errors("Looking at the containers"):
        found = _find(client, project, further)
        images: dict[str, Image] = {}
        missing: list[str] = []
        containers = []
        for each in found:
            containers.append(_container(each, locks))
            identity = str(each.attrs["Image"])
            if identity not in images:
                image = _image(client, identity)
                if image is None:
                    missing.append(f"{each.name}: its image {identity[:19]} is no longer on the engine")
                    image = Image(identity)
                images[identity] = image
        networks = _networks(client, containers)
        volumes = _volumes(client, containers)
    moment = names.iso(names.now())
    return Record(project, moment, containers, list(images.values()), networks, volumes), missing


def _find(client: Any, project: str, further: list[str]) -> list[Any]:
    every = client.containers.list(all=True, ignore_removed=True)
    chosen = [each for each in every if each.labels.get(PROJECT) == project and _stays(each)]
    for name in further:
        named = [each for each in every if each.name == name]
        if not named:
            raise UnknownName(f"There is no container {name!r}.", remedy=nearest(name, [str(e.name) for e in every]))
        chosen += [each for each in named if each not in chosen]
    if not chosen:
        projects = sorted({str(each.labels[PROJECT]) for each in every if PROJECT in each.labels})
        raise ConfigError(
            f"The compose project {project!r} has no containers on this Docker engine.",
            remedy=(nearest(project, projects) + " " if projects else "")
            + "Name it in the site file: images: {project: NAME}; docker compose ls shows them",
        )
    return sorted(chosen, key=lambda each: (str(each.attrs["Created"]), str(each.name)))


def _stays(container: Any) -> bool:
    """Not one that was started for one command, and goes by itself."""
    return container.labels.get(ONE_OFF) != "True" and not container.attrs["HostConfig"].get("AutoRemove")


def _container(found: Any, locks: Path) -> Container:
    attributes = found.attrs
    mounts = attributes.get("Mounts") or []
    return Container(
        name=str(found.name), id=str(found.id), service=str(found.labels.get(SERVICE, "")),
        image=str(attributes["Image"]), image_name=str(attributes["Config"].get("Image", "")),
        created=str(attributes["Created"]), running=_is_to_run(found, locks), config=dict(attributes["Config"]),
        host=dict(attributes["HostConfig"]), networks=dict(attributes["NetworkSettings"].get("Networks") or {}),
        volumes={str(each["Destination"]): str(each["Name"]) for each in mounts if each.get("Type") == "volume"},
    )  # fmt: skip


def _is_to_run(container: Any, locks: Path) -> bool:
    """Does it run, or was it stopped by a backup that will start it again?"""
    if lives(container):
        return True
    try:
        if locks.is_dir():
            with held(lock_of(container, locks), "a look at it"):
                container.reload()
    except LockHeld:
        return True
    return lives(container)


def _image(client: Any, identity: str) -> Image | None:
    try:
        found = client.api.inspect_image(identity)
    except docker.errors.NotFound:
        return None
    tags = [str(each) for each in found.get("RepoTags") or [] if each != "<none>:<none>"]
    digests = [str(each) for each in found.get("RepoDigests") or [] if not str(each).startswith("<none>@")]
    return Image(str(found["Id"]), tags, digests, int(found.get("Size") or 0))


def _networks(client: Any, containers: list[Container]) -> list[dict[str, Any]]:
    """Those that containers are in, without the engine's own."""
    wanted = {name for each in containers for name in each.networks} - {"bridge", "host", "none"}
    found = []
    for network in client.networks.list(names=sorted(wanted)) if wanted else []:
        if network.name in wanted:
            kept = ("Name", "Driver", "IPAM", "Internal", "Attachable", "EnableIPv6", "Options", "Labels")
            found.append({name: network.attrs.get(name) for name in kept})
    return sorted(found, key=lambda each: str(each["Name"]))


def _volumes(client: Any, containers: list[Container]) -> list[dict[str, Any]]:
    wanted = sorted({name for each in containers for name in each.volumes.values()})
    found = []
    for name in wanted:
        try:
            attributes = client.volumes.get(name).attrs
        except docker.errors.NotFound:
            continue
        found.append({key: attributes.get(key) for key in ("Name", "Driver", "Labels", "Options")})
    return found
