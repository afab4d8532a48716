"""Can an image be had from a registry again, or has nobody it but this machine?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import docker.errors
import requests.exceptions

from engine.images.record import Image

_CONTAINERD = ["driver-type", "io.containerd.snapshotter.v1"]


def can_be_pulled(image: Image, info: Mapping[str, Any], has: Callable[[str], bool]) -> bool:
    """Has a registry an image?

    The classic store gives digests only to what was pulled or pushed. That of containerd gives them to what was built
    here, too: the registry has to be asked.

    Args:
        info: What the engine says of itself.
        has: Asks a registry for what a digest names (``app@sha256:...``).
    """
    if _CONTAINERD not in (info.get("DriverStatus") or []):
        return bool(image.digests)
    return any(has(each) for each in image.digests)


def registry_has(client: Any, reference: str) -> bool:
    """Does the registry say that it has exactly that? What it refuses, and one that does not answer, has not."""
    with contextlib.suppress(docker.errors.DockerException, requests.exceptions.RequestException):
        answer = client.images.get_registry_data(reference).attrs
        return str((answer.get("Descriptor") or {}).get("digest")) == reference.partition("@")[2]
    return False
