"""Networks, volumes and containers of a record, made anew as they were.

They get the labels that compose gave them: a later ``docker compose up`` knows them as its own.
"""

from __future__ import annotations

from typing import Any

import docker.errors

from engine.errors import BackupError, ToolFailed
from engine.images.record import Container, Record
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


def make_volume(client: Any, volume: dict[str, Any]) -> bool:
    """An empty volume as it was labelled; False where there is one of its name."""
    name = str(volume["Name"])
    with engine_errors(f"Making volume {name!r}"):
        try:
            client.volumes.get(name)
            return False
        except docker.errors.NotFound:
            client.volumes.create(
                name, driver=str(volume.get("Driver") or "local"), driver_opts=volume.get("Options") or {},
                labels=volume.get("Labels") or {},
            )  # fmt: skip
            return True


def make_container(client: Any, wanted: Container, record: Record) -> Any:
    """The container, not started; the one of its name where there is one.

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
            "HostConfig": _host(wanted, record),
            "NetworkingConfig": {"EndpointsConfig": {first: _endpoint(wanted, first)} if first else {}},
        }
        made = client.api.create_container_from_config(body, wanted.name)
        for name in joined:
            if name != first:
                client.api.connect_container_to_network(made["Id"], name, **_connection(wanted, name))
        return client.containers.get(made["Id"])


def start(container: Any) -> None:
    """Start a container; nothing where it runs. Raises ToolFailed, Unreachable."""
    try:
        with engine_errors(f"Starting container {container.name}"):
            container.reload()
            if container.attrs["State"].get("Paused"):
                container.unpause()
            elif not container.attrs["State"]["Running"]:
                container.start()
    except BackupError as error:
        raise ToolFailed(
            error.message, kept=error.kept, remedy=f"look why with: docker logs {container.name}"
        ) from None


def _config(wanted: Container) -> dict[str, Any]:
    """What the container was made with. Its host name is left out where the engine had chosen it."""
    config = {name: value for name, value in wanted.config.items() if name != "MacAddress"}
    if config.get("Hostname") == wanted.id[:12]:
        del config["Hostname"]
    config["Image"] = wanted.image
    return config


def _host(wanted: Container, record: Record) -> dict[str, Any]:
    """Of what names another container by its id, the name."""
    names = {each.id: each.name for each in record.containers}
    host = dict(wanted.host)
    for key in ("NetworkMode", "PidMode", "IpcMode"):
        kind, colon, identity = str(host.get(key) or "").partition(":")
        if kind == "container" and colon:
            host[key] = f"container:{names.get(identity, identity)}"
    host["VolumesFrom"] = [names.get(each.split(":")[0], each) for each in host.get("VolumesFrom") or []] or None
    return host


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
