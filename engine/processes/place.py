"""Where a source's client tools run: this host, or the container that its site names."""

from __future__ import annotations

from typing import Any

import docker
import docker.errors

from engine.config import ServerConfig
from engine.errors import ConfigError, UnknownName, Unreachable, nearest
from engine.processes.base import Runner
from engine.processes.container import ContainerRunner
from engine.processes.local import LocalRunner

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"


def runner_for(config: ServerConfig, *, site: str) -> Runner:
    """The place where the tools of this server run.

    Raises:
        UnknownName: No such container or compose service. Unreachable: no Docker engine answers.
    """
    if not config.container and not config.service:
        return LocalRunner([config.tools_path] if config.tools_path else [])
    client = docker_client(config.docker_host)
    container = find_container(
        client, container=config.container, service=config.service, project=config.project or site
    )
    return ContainerRunner(client, container)


def docker_client(docker_host: str | None, tls: Any = None) -> Any:
    """A client of the Docker engine at ``docker_host`` (the standard socket when empty).

    Args:
        tls: ``docker.tls.TLSConfig``, for an engine at tcp://.
    """
    try:
        return docker.DockerClient(
            base_url=docker_host or "unix:///var/run/docker.sock", version="auto", timeout=60, tls=tls or False
        )
    except docker.errors.DockerException as error:
        raise Unreachable(
            f"No Docker engine answers at {docker_host or 'unix:///var/run/docker.sock'} ({error}).",
            remedy="is it running, and may this user use its socket?",
        ) from None


def find_container(client: Any, *, container: str | None = None, service: str | None = None, project: str = "") -> Any:
    """The running container of that name, or of that compose service (found by its labels).

    Raises:
        UnknownName: None such, or none running; the nearest name is suggested.
        ConfigError: Several containers run that service.
    """
    if container:
        found = [each for each in client.containers.list(all=True) if each.name == container]
        if not found:
            names = [str(each.name) for each in client.containers.list(all=True)]
            raise UnknownName(f"There is no container {container!r}.", remedy=nearest(container, names))
        return _running(found[0])
    labels = [f"{SERVICE}={service}", f"{PROJECT}={project}"]
    found = client.containers.list(all=True, filters={"label": labels})
    up = [each for each in found if each.status == "running"] or found
    if not up:
        known = sorted(
            {
                f"{each.labels[PROJECT]}/{each.labels[SERVICE]}"
                for each in client.containers.list(all=True)
                if SERVICE in each.labels and PROJECT in each.labels
            }
        )
        raise UnknownName(
            f"No container runs service {service!r} of compose project {project!r}.",
            remedy=nearest(f"{project}/{service}", known),
        )
    if len(up) > 1:
        raise ConfigError(
            f"{len(up)} containers run service {service!r} of project {project!r}: "
            f"{', '.join(sorted(each.name for each in up))}.",
            remedy="name one with container:",
        )
    return _running(up[0])


def address_of(container: Any) -> str:
    """An IP address at which this host reaches the container, or 127.0.0.1 for host networking.

    Raises:
        ConfigError: It has no address that this host can reach.
    """
    container.reload()
    settings = container.attrs["NetworkSettings"]
    if container.attrs["HostConfig"].get("NetworkMode") == "host":
        return "127.0.0.1"
    addresses = [net.get("IPAddress") for net in (settings.get("Networks") or {}).values()]
    for address in [settings.get("IPAddress"), *addresses]:
        if address:
            return str(address)
    raise ConfigError(
        f"Container {container.name} has no network address.",
        remedy="set host: (and port:) to where this machine reaches the server",
    )


def _running(container: Any) -> Any:
    if container.status != "running":
        raise Unreachable(
            f"Container {container.name} is {container.status}.", remedy=f"start it: docker start {container.name}"
        )
    return container
