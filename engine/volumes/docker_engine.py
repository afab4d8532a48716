"""A Docker engine as far as volumes go: which there are, and where their files can be reached."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker.errors
import docker.tls

from engine.config import VolumesConfig
from engine.errors import ConfigError, UnknownName, nearest
from engine.manifest import Server
from engine.processes.place import PROJECT, docker_client
from engine.scratch.boxed import engine_errors

VOLUME = "com.docker.compose.volume"
_SOCKET = "unix:///var/run/docker.sock"
_SECRET = re.compile(r"(?i)\b(pass(?:word|wd)?|secret|token|key|cred(?:entials)?)=[^,]*")
_STORED = ("type", "o", "device")
"""Options of the local driver with which a volume's files stand somewhere else than in the engine's own directory."""
_MEMORY = ("tmpfs", "ramfs")


@dataclass(frozen=True)
class Volume:
    """A volume as its engine describes it.

    Attributes:
        created: As the engine tells it; a volume of the same name made later has another.
    """

    name: str
    driver: str
    mountpoint: str
    labels: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    created: str = ""

    @property
    def elsewhere(self) -> bool:
        """Do its files stand elsewhere, by its options: a bind, a network share, memory?"""
        return any(each in self.options for each in _STORED)

    @property
    def outlived(self) -> bool:
        """May its files be there without it, so that a new volume made like it is not empty?"""
        return self.driver != "local" or (self.elsewhere and self.options.get("type") not in _MEMORY)

    @property
    def stands(self) -> str:
        """Where its files stand, in words, by its options or its driver."""
        if self.driver != "local":
            return f"with the driver {self.driver!r}"
        told = [self.options[each] for each in ("type", "device") if self.options.get(each, "none") != "none"]
        return " ".join(told) or "as its options say"


class Engine:
    """A Docker engine; connected when first asked something.

    Args:
        config: Where it is.
        site: Names the compose project where the config does not.
    """

    def __init__(self, config: VolumesConfig, site: str) -> None:
        self.config = config
        self.project = config.project or site
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The SDK's client. Raises Unreachable where no engine answers."""
        if self._client is None:
            self._client = docker_client(self.config.docker_host, tls=self._tls())
        return self._client

    def server(self) -> Server:
        """The engine, as a manifest names what was backed up."""
        with engine_errors("Asking the Docker engine who it is"):
            info = self.client.info()
        return Server(flavour="docker", version=str(info["ServerVersion"]), uuid=str(info.get("ID", "")))

    def volumes(self) -> list[Volume]:
        """Every volume."""
        with engine_errors("Listing the volumes"):
            return [_volume(each.attrs) for each in self.client.volumes.list()]

    def get(self, name: str) -> Volume | None:
        """The volume of exactly that name."""
        with engine_errors(f"Looking for volume {name!r}"):
            try:
                return _volume(self.client.volumes.get(name).attrs)
            except docker.errors.NotFound:
                return None

    def find(self, name: str) -> Volume:
        """The volume of that name, or the one that the compose project calls so.

        Raises:
            UnknownName: There is none; the nearest name is suggested. ConfigError: Several. Unreachable.
        """
        every = self.volumes()
        found = [each for each in every if each.name == name]
        found = found or [
            each for each in every if each.labels.get(VOLUME) == name and each.labels.get(PROJECT) == self.project
        ]
        if len(found) > 1:
            raise ConfigError(
                f"Several volumes are called {name!r} in the compose project {self.project!r}.",
                remedy=f"name one: {', '.join(sorted(each.name for each in found))}",
            )
        if not found:
            known = {each.name for each in every}
            known |= {each.labels[VOLUME] for each in every if each.labels.get(PROJECT) == self.project}
            raise UnknownName(
                f"There is no volume {name!r} on the Docker engine at {self.config.docker_host or _SOCKET}.",
                remedy=nearest(name, sorted(known)),
            )
        return found[0]

    def path_of(self, volume: Volume) -> tuple[Path | None, str]:
        """Where this process can reach a volume's files by itself; None and why not, where it cannot.

        Raises:
            ConfigError: The site says ``read: direct``, and that cannot be.
        """
        path, why = self._path_of(volume)
        if path is None and self.config.read == "direct":
            raise ConfigError(
                f"Volume {volume.name!r} cannot be read directly: {why}.",
                remedy=f"run as root on the engine's own host, or set read: auto for {self.config.name}",
            )
        return path, why

    def left_standing(self, volume: Volume) -> str:
        """What a volume that is not there would find in its place if it were made, in words; empty for nothing. What
        cannot be looked at from here may be there."""
        if not volume.outlived:
            return ""
        place, _ = self._place_of(volume)
        if place is None:
            return f"its files stand elsewhere ({volume.stands}), and may be there still"
        return f"its files stand in {place}" if place.is_dir() and any(place.iterdir()) else ""

    def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _path_of(self, volume: Volume) -> tuple[Path | None, str]:
        place, why = self._place_of(volume)
        if place is not None and not place.is_dir():
            return None, f"{place} is not on this host"
        return place, why

    def _place_of(self, volume: Volume) -> tuple[Path | None, str]:
        """The directory of a volume's files, whether or not it is there."""
        if self.config.read == "archive":
            return None, "the site file says read: archive"
        if os.geteuid() != 0:
            return None, "this is not run as root"
        if not (self.config.docker_host or _SOCKET).startswith("unix://"):
            return None, "the engine is reached over the network"
        if volume.driver != "local":
            return None, f"its driver is {volume.driver!r}"
        place = Path(volume.mountpoint)
        if volume.elsewhere:
            # Nothing is mounted there while no container runs with it: the directory would seem empty.
            if "bind" not in volume.options.get("o", "").split(",") or not volume.options.get("device"):
                return None, f"it is a mount of the type {volume.options.get('type') or '?'!r}"
            place = Path(volume.options["device"])
        return place, ""

    def _tls(self) -> Any:
        config = self.config
        if not (config.tls_ca or config.tls_cert):
            return None
        if bool(config.tls_cert) != bool(config.tls_key):
            raise ConfigError(f"{config.name}: tls_cert and tls_key belong together.", remedy="give both, or neither")
        pair = (config.tls_cert, config.tls_key) if config.tls_cert and config.tls_key else None
        try:
            return docker.tls.TLSConfig(client_cert=pair, ca_cert=config.tls_ca, verify=True)
        except docker.errors.TLSParameterError as error:
            raise ConfigError(f"{config.name}: the TLS files cannot be used: {error.msg}.") from None


def without_secrets(options: Mapping[str, str]) -> tuple[dict[str, str], bool]:
    """Driver options as a manifest may hold them, and whether something was taken out: a share's password."""
    shown = {name: _SECRET.sub(r"\1=...", value) for name, value in options.items()}
    return shown, shown != dict(options)


def _volume(attributes: Mapping[str, Any]) -> Volume:
    return Volume(
        name=str(attributes["Name"]), driver=str(attributes["Driver"]), mountpoint=str(attributes["Mountpoint"]),
        labels=dict(attributes.get("Labels") or {}), options=dict(attributes.get("Options") or {}),
        created=str(attributes.get("CreatedAt", "")),
    )  # fmt: skip
