"""Networks, volumes and containers of a record, made anew as they were.

They get the labels that compose gave them: a later ``docker compose up`` knows them as its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import docker.errors

from engine.errors import BackupError, ToolFailed
from engine.images.binds import bound
from engine.images.record import Container, Record
from engine.processes.place import PROJECT
from engine.scratch.boxed import engine_errors


def make_network(client: Any, network: dict[str, Any], record: Record) -> list[str]:
    """A network as it was, where there is none of its name. Its addresses are only the same where a container was
    given one of them, or they would collide with what the new engine has. Notes for a person."""
    name = str(network["Name"])
    fixed = any((each.networks.get(name) or {}).get("IPAMConfig") for each in record.containers)
    with engine_errors(f"Making network {name!r}"):
        if any(each.name == name for each in client.networks.list(names=[name])):
            return []
        client.api.create_network(
            name, driver=network.get("Driver"), options=network.get("Options") or None,
            ipam=network.get("IPAM") if fixed else None, internal=bool(network.get("Internal")),
            labels=network.get("Labels") or {}, attachable=network.get("Attachable") or None,
            enable_ipv6=bool(network.get("EnableIPv6")),
        )  # fmt: skip
    return []


def has_volume(client: Any, name: str) -> bool:
    """Is there a volume of that name?"""
    with engine_errors(f"Looking for volume {name!r}"):
        try:
            client.volumes.get(name)
        except docker.errors.NotFound:
            return False
        return True


def make_volume(client: Any, volume: dict[str, Any]) -> None:
    """An empty volume as it was labelled; the one of its name where there is one."""
    name = str(volume["Name"])
    with engine_errors(f"Making volume {name!r}"):
        client.volumes.create(
            name, driver=str(volume.get("Driver") or "local"), driver_opts=volume.get("Options") or {},
            labels=volume.get("Labels") or {},
        )  # fmt: skip


def make_container(client: Any, wanted: Container, record: Record, filled: Collection[str] = ()) -> Any:
    """The container, not started; the one of its name where there is one.

    Args:
        filled: Volumes that hold what they are to hold. One of these that is empty stays empty: the engine fills any
            other empty one from the image, and gives it owner and mode of the directory there.

    Raises:
        ToolFailed: The engine refuses it. UnknownName: its image is not there. Unreachable.
    """
    with engine_errors(f"Making container {wanted.name}"):
        for each in client.containers.list(all=True, ignore_removed=True):
            if each.name == wanted.name:
                return each
        known = {str(each["Name"]) for each in record.networks}
        mode = str(wanted.host.get("NetworkMode") or "")
        joined = [name for name in wanted.networks if name in known]
        first = mode if mode in joined else joined[0] if joined else ""
        body = {
            **_config(wanted),
            "HostConfig": _host(wanted, record, filled),
            "NetworkingConfig": {"EndpointsConfig": {first: _endpoint(wanted, first)} if first else {}},
        }
        made = client.api.create_container_from_config(body, wanted.name)
        for name in joined:
            if name != first:
                client.api.connect_container_to_network(made["Id"], name, **_connection(wanted, name))
        return client.containers.get(made["Id"])


def of_name(client: Any, name: str) -> Any | None:
    """The container of that name, running or not."""
    with engine_errors(f"Looking for container {name}"):
        return next((each for each in client.containers.list(all=True, ignore_removed=True) if each.name == name), None)


def is_strange(there: Any, project: str, labels: Mapping[str, Any]) -> bool:
    """Has a container only the name of a recorded one, and is of no or another compose project?

    Args:
        project, labels: Of the recorded one.
    """
    return bool(project and labels.get(PROJECT) == project and there.labels.get(PROJECT) != project)


def differing(there: Any, wanted: Container) -> list[str]:
    """In what a container that stands there is another than the recorded one, in words."""
    config, host = there.attrs["Config"], there.attrs["HostConfig"]
    mounts = there.attrs.get("Mounts") or []
    volumes = {str(each["Destination"]): str(each["Name"]) for each in mounts if each.get("Type") == "volume"}
    pairs = {
        "image": (there.attrs["Image"], wanted.image),
        "command": [[each.get("Entrypoint"), each.get("Cmd")] for each in (config, wanted.config)],
        "environment": [sorted(each.get("Env") or []) for each in (config, wanted.config)],
        "volumes": (volumes, wanted.volumes),
        "directories of the host": [bound(each) for each in (host, wanted.host)],
        "ports": [each.get("PortBindings") or {} for each in (host, wanted.host)],
    }
    return [what for what, (now, then) in pairs.items() if now != then]


def start(container: Any) -> None:
    """Start a container, after the one whose network it lives in; nothing where it runs. Raises ToolFailed,
    Unreachable."""
    try:
        with engine_errors(f"Starting container {container.name}"):
            container.reload()
            kind, _, other = str(container.attrs["HostConfig"].get("NetworkMode") or "").partition(":")
            if kind == "container" and not container.attrs["State"]["Running"]:
                start(container.client.containers.get(other))
            if container.attrs["State"].get("Paused"):
                container.unpause()
            elif not container.attrs["State"]["Running"]:
                container.start()
    except BackupError as error:
        raise ToolFailed(
            error.message, kept=error.kept, remedy=f"look why with: docker logs {container.name}"
        ) from None


def _config(wanted: Container) -> dict[str, Any]:
    """What the container was made with. Its host name is left out where the engine had chosen it; of one in another's
    network all that it has from there, and of one with its host's name that: the engine tells them as its own, and
    takes them from nobody."""
    joined = str(wanted.host.get("NetworkMode") or "").startswith("container:")
    of_host = wanted.host.get("UTSMode") == "host"
    left_out = ["MacAddress"] + ["Hostname", "Domainname"] * (joined or of_host) + ["ExposedPorts"] * joined
    config = {name: value for name, value in wanted.config.items() if name not in left_out}
    if config.get("Hostname") == wanted.id[:12]:
        del config["Hostname"]
    config["Image"] = wanted.image
    return config


def _host(wanted: Container, record: Record, filled: Collection[str]) -> dict[str, Any]:
    """Of what names another container by its id, the name; volumes as ``make_container`` says, those too that the
    engine had named itself: they would be new ones else."""
    names = {each.id: each.name for each in record.containers}
    host = dict(wanted.host)
    for key in ("NetworkMode", "PidMode", "IpcMode"):
        kind, colon, identity = str(host.get(key) or "").partition(":")
        if kind == "container" and colon:
            host[key] = f"container:{names.get(identity, identity)}"
    host["Binds"], host["Mounts"] = binds(wanted, record, filled), mounts(wanted, filled)
    host["VolumesFrom"] = [names.get(each.split(":")[0], each) for each in host.get("VolumesFrom") or []] or None
    return host


def binds(wanted: Container, record: Record, filled: Collection[str]) -> list[str]:
    """What is bound into it, as the engine is told: directories of the host, and volumes."""
    found, inside = [], set()
    for each in wanted.host.get("Binds") or []:
        source, _, rest = str(each).partition(":")
        place, _, options = rest.partition(":")
        inside.add(place)
        found.append(_not_copied(source, place, options.split(",") if options else [], filled))
    inside |= {str(each.get("Target")) for each in wanted.host.get("Mounts") or []}
    others = {str(each).partition(":")[0] for each in wanted.host.get("VolumesFrom") or []}
    inside |= {place for each in record.containers if {each.id, each.name} & others for place in each.volumes}
    unnamed = ((name, place) for place, name in sorted(wanted.volumes.items()) if place not in inside)
    return found + [_not_copied(name, place, [], filled) for name, place in unnamed]


def _not_copied(source: str, place: str, options: list[str], filled: Collection[str]) -> str:
    if source in filled and "nocopy" not in options:
        options = [*options, "nocopy"]
    return ":".join([source, place, *([",".join(options)] if options else [])])


def mounts(wanted: Container, filled: Collection[str]) -> list[dict[str, Any]] | None:
    """What is mounted into it in the engine's newer way."""
    found = []
    for each in wanted.host.get("Mounts") or []:
        if each.get("Type") == "volume":
            source = each.get("Source") or wanted.volumes.get(str(each.get("Target")))
            kept = each.get("VolumeOptions") or {}
            options = {**kept, "NoCopy": bool(kept.get("NoCopy") or source in filled)}
            each = {**each, **({"Source": source} if source else {}), "VolumeOptions": options}
        found.append(each)
    return found or None


def _aliases(wanted: Container, network: str) -> list[str]:
    given = (wanted.networks.get(network) or {}).get("Aliases") or []
    return [str(each) for each in given if each != wanted.id[:12]]


def _endpoint(wanted: Container, network: str) -> dict[str, Any]:
    told = wanted.networks.get(network) or {}
    return {
        "Aliases": _aliases(wanted, network),
        "IPAMConfig": told.get("IPAMConfig"),
        "Links": told.get("Links"),
        "DriverOpts": told.get("DriverOpts"),
    }


def _connection(wanted: Container, network: str) -> dict[str, Any]:
    address = (wanted.networks.get(network) or {}).get("IPAMConfig") or {}
    return {
        "aliases": _aliases(wanted, network),
        "ipv4_address": address.get("IPv4Address"),
        "ipv6_address": address.get("IPv6Address"),
    }
