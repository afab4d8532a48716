"""A scratch server in a container of an image that is already on the engine, on a network with no way out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import docker.errors
import requests.exceptions

from engine.config import ServerConfig
from engine.errors import ToolFailed, UnknownName, Unreachable
from engine.journal import Journal
from engine.processes.place import PROJECT, SERVICE, docker_client
from engine.scratch import leftovers


class ContainerServer:
    """One container and one network, both journalled before they are made; never pulled, never published.

    Args:
        image: Id or name of an image on that engine.
        command: What follows the image's entry point.
        environment: Of the container; holds no secret of a real server.
        more: What else the engine is to be told of it, by the names of docker's client.
    """

    def __init__(
        self, journal: Journal, docker_host: str | None, image: str, command: Sequence[str],
        environment: Mapping[str, str], **more: Any,
    ) -> None:  # fmt: skip
        self.docker_host = docker_host
        self.name = leftovers.new_name()
        self.client = docker_client(docker_host)
        try:
            with engine_errors(f"Making the scratch container from image {image}"):
                self._make(journal, image, command, environment, more)
        except BaseException:
            self.client.close()
            raise

    def _make(
        self, journal: Journal, image: str, command: Sequence[str], environment: Mapping[str, str],
        more: Mapping[str, Any],
    ) -> None:  # fmt: skip
        labels = {leftovers.LABEL: str(journal.facts.get("source", ""))}
        journal.record("network", name=self.name, docker_host=self.docker_host)
        self.client.networks.create(self.name, internal=True, labels=labels)
        journal.record("container", name=self.name, docker_host=self.docker_host)
        self.container = self.client.containers.create(
            image, command=list(command) or None, name=self.name, environment=dict(environment), labels=labels,
            network=self.name, detach=True, **more,
        )  # fmt: skip
        self.container.start()

    @property
    def alive(self) -> bool:
        with engine_errors("Looking at the scratch container"):
            self.container.reload()
            return str(self.container.status) == "running"

    def last_words(self) -> str:
        """The end of the container's log."""
        try:
            return bytes(self.container.logs(tail=15)).decode("utf-8", "replace").strip()
        except (docker.errors.APIError, requests.exceptions.RequestException):
            return ""

    def close(self) -> None:
        self.client.close()


class Contained(Protocol):
    """A source that may run in a container."""

    @property
    def name(self) -> str: ...

    @property
    def container(self) -> str | None: ...

    @property
    def service(self) -> str | None: ...

    @property
    def project(self) -> str | None: ...

    @property
    def docker_host(self) -> str | None: ...


def image_of(config: Contained, site: str) -> tuple[str, dict[str, str]]:
    """The image of the source's container, running or not, and the environment it runs with.

    Raises:
        UnknownName: There is no such container any more. Unreachable: no engine answers.
    """
    attributes = attributes_of(config, site)
    return str(attributes["Image"]), environment_of(attributes)


def attributes_of(config: Contained, site: str) -> dict[str, Any]:
    """What the engine knows of the source's container, running or not. Raises as ``image_of``."""
    client = docker_client(config.docker_host)
    try:
        with engine_errors("Looking for the source's container"):
            labels = [f"{SERVICE}={config.service}", f"{PROJECT}={config.project or site}"]
            wanted = {"name": f"^/?{config.container}$"} if config.container else {"label": labels}
            found = client.containers.list(all=True, filters=wanted)
            found.sort(key=lambda each: each.status != "running")
            if not found:
                raise UnknownName(
                    f"The container of {config.name} is not there, so its image is not known.",
                    remedy="create it again (docker compose up --no-start will do)" + _or_an_image(config),
                )
            return dict(found[0].attrs)
    finally:
        client.close()


def _or_an_image(config: Contained) -> str:
    if not isinstance(config, ServerConfig):
        return ""
    return f", or name an image that is on this engine: scratch_image of {config.name} in the site file"


def environment_of(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The environment that a container runs with."""
    return dict(each.split("=", 1) for each in attributes["Config"].get("Env") or [] if "=" in each)


@contextlib.contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """The container engine's refusals as errors of ours."""
    try:
        yield
    except docker.errors.ImageNotFound as error:
        raise UnknownName(
            f"{doing} failed: the image is not on this engine.",
            remedy="bring it there first: docker pull (of a database server another may be named: scratch_image)",
        ) from error
    except docker.errors.APIError as error:
        raise ToolFailed(f"{doing} failed: {error.explanation or error}.") from None
    except requests.exceptions.RequestException as error:
        raise Unreachable(f"{doing} failed: {error}.") from None
