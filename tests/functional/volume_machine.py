"""A Docker engine with volumes for the tests, and a site that backs them up."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.backup import BackupResult, backup_one
from engine.config import SiteConfig
from engine.site import Site, Target
from engine.volumes.plan import VolumeRequest, make_plan
from engine.volumes.restore import VolumeResult, run
from tests.functional.config_machine import make_tree
from tests.functional.vault_helpers import PASSPHRASE
from tests.servers.docker import Container, DockerEngine

OBEYS = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
"""A program that ends when it is told to."""
MB = 1_000_000


class Box:
    """An engine, a vault, and volumes of a compose project of this test's own."""

    def __init__(self, engine: DockerEngine, root: Path) -> None:
        self.engine = engine
        self.client = engine.client()
        self.vault = root / "vault"
        self.project = f"bench{secrets.token_hex(3)}"
        self.document: dict[str, Any] = {"docker_host": engine.host, "project": self.project, "stop_seconds": 3}

    def __enter__(self) -> Box:
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave nothing on the engine: other tests look there for what should be gone."""
        own = {"label": f"com.docker.compose.project={self.project}"}
        for container in self.client.containers.list(all=True, filters=own):
            container.remove(force=True, v=True)
        for name in self.volumes():
            for user in self.client.containers.list(all=True, filters={"volume": name}):
                user.remove(force=True, v=True)
            self.client.volumes.get(name).remove(force=True)
        for network in self.client.networks.list(filters=own):
            network.remove()
        self.client.close()

    def volume(self, name: str, *, labels: Mapping[str, str] | None = None, **more: Any) -> Path:
        """A volume as compose makes it; where its files are."""
        own = {"com.docker.compose.project": self.project, "com.docker.compose.volume": name}
        made = self.client.volumes.create(self.real(name), labels={**own, **(labels or {})}, **more)
        self.document["volumes"] = [*self.document.get("volumes", []), name]
        return Path(made.attrs["Mountpoint"])

    def real(self, name: str) -> str:
        """A volume's own name."""
        return f"{self.project}_{name}"

    def path(self, real: str) -> Path:
        return Path(self.client.volumes.get(real).attrs["Mountpoint"])

    def service(self, service: str, volume: str, command: list[str] | None = None) -> Container:
        """A running service that has a volume at /data."""
        return self.engine.service(
            self.project, service, "busybox", command=command or OBEYS,
            volumes={self.real(volume): {"bind": "/data", "mode": "rw"}},
        )  # fmt: skip

    def config(self, **more: Any) -> SiteConfig:
        body = {
            "site": "workbench",
            "vault": {"root": str(self.vault), "keys": {"current": "main", "keys": {"main": PASSPHRASE}}},
            "volumes": {**self.document, **more},
        }
        return SiteConfig.model_validate(body)

    def open(self, **more: Any) -> Site:
        return Site(self.config(**more))

    def back_up(self, name: str, progress: Any = None, **more: Any) -> BackupResult:
        extra = {"progress": progress} if progress else {}
        with self.open(**more) as site:
            return backup_one(site, Target("volumes", name), tier="daily", **extra)

    def restore(self, name: str, settings: Mapping[str, Any] | None = None, **request: Any) -> VolumeResult:
        with self.open(**(settings or {})) as site:
            return run(site, make_plan(site, VolumeRequest(volume=name, **request)), approved=True)

    def state(self, container: Container) -> str:
        container.reload()
        return str(container.status)

    def volumes(self) -> set[str]:
        """Of this test's project."""
        return {each.name for each in self.client.volumes.list() if each.name.startswith(self.project)}

    def journals(self) -> list[Path]:
        return list((self.vault / ".backup-flows").rglob("journals/*.jsonl"))


def fill(root: Path) -> None:
    """All that is odd: what config trees have, and holes, sockets, attributes of links and directories."""
    make_tree(root)
    (root / "very/deep").mkdir(parents=True)
    with open(root / "holes", "wb") as file:
        file.write(b"head")
        file.seek(20 * MB)
        file.write(os.urandom(70_000))
        file.truncate(40 * MB)
    with open(root / "nothing but a hole", "wb") as file:
        file.truncate(3 * MB)
    with open(root / "zeros on disk", "wb") as file:
        file.write(bytes(100_000))
    held = socket.socket(socket.AF_UNIX)
    held.bind(os.path.relpath(root / "sock", Path.cwd()) if len(str(root)) > 90 else str(root / "sock"))
    held.close()
    os.setxattr(root / "very", "user.origin", b"of a directory")
    os.setxattr(root / "opt/app/current", "trusted.link", b"of a link", follow_symlinks=False)
    os.link(root / "holes", root / "very/deep/again")
    os.chmod(root, 0o2771)
    os.chown(root, 1000, 100)
    os.utime(root, ns=(0, 1_700_000_000_987_654_321))


def facts(root: Path) -> list[str]:
    """Everything about every file and the directory itself, as find and sha256sum tell it, with extended attributes."""
    form = r"%P\t%y\t%m\t%U:%G\t%T@\t%l"
    wanted = ["(", "-type", "s", ")", "-o", "(", "-type", "d", "-printf", form + r"\0", ")", "-o", "-printf"]
    found = _output(["find", ".", *wanted, form + r"\t%n\t%s\0"], root)
    sums = _output("find . -type f -print0 | sort -z | xargs -0 sha256sum -z", root)
    lines = [each for each in (found + sums).split(b"\0") if each]
    return sorted([*(each.decode("utf-8", "backslashreplace") for each in lines), *_attributes(root)])


def _attributes(root: Path) -> list[str]:
    """Extended attributes, ACLs among them, of everything."""
    found = []
    for folder, folders, files in os.walk(os.fsencode(root)):
        for path in (folder, *(os.path.join(folder, name) for name in folders + files)):
            for name in os.listxattr(path, follow_symlinks=False):
                value = os.getxattr(path, name, follow_symlinks=False)
                found.append(f"{os.path.relpath(path, os.fsencode(root))!r} {name} {value.hex()}")
    return found


def on_disk(path: Path) -> int:
    """Bytes that a file takes, as du counts."""
    return int(_output(["du", "-B1", "--", str(path)], path.parent).split()[0])


def _output(command: list[str] | str, where: Path) -> bytes:
    done = subprocess.run(command, cwd=where, shell=isinstance(command, str), capture_output=True, check=True)
    return done.stdout
