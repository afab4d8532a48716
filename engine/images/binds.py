"""Directories of the host that are bound into containers: which of them no backup has."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.config_files.source import shown
from engine.images.record import Record

_OF_THE_SYSTEM = (
    "/bin", "/boot", "/dev", "/etc/group", "/etc/hostname", "/etc/hosts", "/etc/localtime", "/etc/machine-id",
    "/etc/passwd", "/etc/resolv.conf", "/etc/ssl/certs", "/etc/timezone", "/lib", "/lib32", "/lib64", "/proc", "/run",
    "/sbin", "/sys", "/usr", "/var/lib/docker", "/var/run",
)  # fmt: skip
"""What a host has by itself, and below it. A new host has its own."""

Covered = tuple[Sequence[str], Sequence[str]]
"""What a backup of config files has: paths, and patterns of what is left out of them."""


def uncovered(record: Record, covered: Iterable[Covered], spare: Iterable[str] = ()) -> dict[str, list[str]]:
    """Paths of the host that containers have and no backup has wholly, with the containers' names.

    Args:
        spare: Directories that nobody wants backed up, with all below: the vault's own.
    """
    known = [*covered]
    left = (*_OF_THE_SYSTEM, *spare)
    found: dict[str, list[str]] = {}
    for container in record.containers:
        for path in bound(container.host):
            if path == "/" or path.endswith(".sock") or any(_below(path, each) for each in left):
                continue
            if not any(_has(paths, without, path) for paths, without in known):
                found.setdefault(path, []).append(container.name)
    return dict(sorted(found.items()))


def told(record: Record, covered: Iterable[Covered], spare: Iterable[str] = ()) -> list[str]:
    """These in words, a line each: ``/srv/media (web-1, web-2)``."""
    return [f"{shown(path)} ({', '.join(names)})" for path, names in uncovered(record, covered, spare).items()]


def bound(host: Mapping[str, Any]) -> list[str]:
    """Paths of the host that a container has, by its ``HostConfig``."""
    found = [str(each).partition(":")[0] for each in host.get("Binds") or []]
    found += [str(each["Source"]) for each in host.get("Mounts") or [] if each.get("Type") == "bind"]
    return sorted({posixpath.normpath(each) for each in found if each.startswith("/")})


def _has(paths: Sequence[str], without: Sequence[str], path: str) -> bool:
    """Is a path among those, or below one, and not left out?"""
    if not any(_below(path, each) for each in paths):
        return False
    above = [path]
    while above[-1] != "/":
        above.append(posixpath.dirname(above[-1]))
    return not any(fnmatch.fnmatchcase(name, each) for each in without for name in (*above, posixpath.basename(path)))


def _below(path: str, folder: str) -> bool:
    folder = posixpath.normpath(folder)
    return path == folder or path.startswith(folder.rstrip("/") + "/")
