"""What a source's container is like, so that a scratch one can be made after it.

Image, entry point, command and user are taken over, and what the container only reads: its configuration, its
programs. Where it may write, the scratch container has an empty volume of its own. No socket of this host is passed
on: a container engine could be told anything through it, read-only or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from docker.types import Mount

from engine.journal import Journal
from engine.scratch.boxed import Contained, ContainerServer, attributes_of, environment_of

_SOCKETS = ("/", "/run", "/var/run", "/var")


@dataclass(frozen=True)
class Likeness:
    """A container, as far as a scratch one is made after it.

    Attributes:
        environment: As it runs with; may hold secrets.
        only_read: Mounts that it cannot write to.
        written: Paths inside at which it has something that it writes to.
        ports: Ports inside, by the port of this host at which they are published.
    """

    image: str
    entry_point: tuple[str, ...]
    command: tuple[str, ...]
    user: str
    directory: str
    environment: dict[str, str] = field(repr=False)
    only_read: tuple[Mount, ...] = ()
    written: tuple[str, ...] = ()
    ports: dict[int, int] = field(default_factory=dict)

    def again(
        self, journal: Journal, docker_host: str | None, environment: Mapping[str, str], **other: Any
    ) -> ContainerServer:
        """A scratch container like it, running; see ``ContainerServer``.

        Args:
            other: What is otherwise than in the source's container.
        """
        empty = [Mount(target=path, source=None, type="volume") for path in self.written]
        given: dict[str, Any] = {
            "command": list(self.command), "entrypoint": list(self.entry_point) or None, "user": self.user or None,
            "working_dir": self.directory or None, "mounts": [*self.only_read, *empty],
            "healthcheck": {"test": ["NONE"]},
        } | other  # fmt: skip
        command = given.pop("command")
        return ContainerServer(journal, docker_host, self.image, command, environment, **given)


def likeness_of(config: Contained, site: str) -> Likeness:
    """That of a source's container, running or not.

    Raises:
        UnknownName: There is no such container any more. Unreachable: no engine answers.
    """
    attributes = attributes_of(config, site)
    settings = attributes["Config"]
    mounts = [each for each in attributes.get("Mounts") or [] if each["Type"] in ("bind", "volume")]
    return Likeness(
        str(attributes["Image"]),
        tuple(settings.get("Entrypoint") or ()),
        tuple(settings.get("Cmd") or ()),
        str(settings.get("User") or ""),
        str(settings.get("WorkingDir") or ""),
        environment_of(attributes),
        tuple(_mount(each) for each in mounts if not each.get("RW", True) and not _leads_out(each)),
        tuple(each["Destination"] for each in mounts if each.get("RW", True) and not _leads_out(each)),
        _ports(attributes),
    )


def _mount(each: Mapping[str, Any]) -> Mount:
    source = each["Name"] if each["Type"] == "volume" else each["Source"]
    return Mount(target=each["Destination"], source=source, type=each["Type"], read_only=True)


def _leads_out(each: Mapping[str, Any]) -> bool:
    """Is it a socket of the host, or a directory where one stands?"""
    source = PurePosixPath(each.get("Source") or "")
    return each["Type"] == "bind" and (source.suffix == ".sock" or str(source) in _SOCKETS)


def _ports(attributes: Mapping[str, Any]) -> dict[int, int]:
    """By what is published now, else (it is not running) by what was to be."""
    found: dict[int, int] = {}
    for known in (attributes["HostConfig"].get("PortBindings"), attributes["NetworkSettings"].get("Ports")):
        for inside, outside in (known or {}).items():
            for each in outside or []:
                if str(each.get("HostPort") or "").isdigit():
                    found[int(each["HostPort"])] = int(inside.partition("/")[0])
    return found
