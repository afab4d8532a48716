"""What is kept of the containers of a machine: enough to make each anew, and the images that they ran on.

A record is one JSON document, stored encrypted: it holds the containers' environments, and so passwords. The
manifest beside it names containers, images and digests only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.errors import IntegrityError
from engine.manifest import Manifest

DUMP_FORMAT = "containers"
KIND = "images"
FORMAT = 1
_MOST = 256 * 1024 * 1024


@dataclass(frozen=True)
class Image:
    """An image that a container ran on.

    Attributes:
        id: ``sha256:...``, as the engine has it.
        tags, digests: Names it goes by here (``app:1``), and in registries (``app@sha256:...``).
        size: Bytes on disk.
        saved: Is it stored in the vault?
    """

    id: str
    tags: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    size: int = 0
    saved: bool = False

    @property
    def name(self) -> str:
        """What it is called in the vault: the id's own digits."""
        return self.id.rpartition(":")[2]

    @property
    def shown(self) -> str:
        return self.tags[0] if self.tags else self.digests[0] if self.digests else self.id[:19]


@dataclass(frozen=True)
class Container:
    """A container as its engine describes it.

    Attributes:
        image: Id of its image; ``image_name`` as its maker called it.
        created: As the engine tells it: compose makes what others depend on first.
        running: Was it to run? One that a backup had stopped for the moment counts as running.
        config, host, networks: ``Config``, ``HostConfig`` and ``NetworkSettings.Networks`` of the engine's API.
        volumes: Names of the volumes it has, by where they are inside.
    """

    name: str
    id: str
    service: str
    image: str
    image_name: str
    created: str
    running: bool
    config: dict[str, Any]
    host: dict[str, Any]
    networks: dict[str, Any] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What its programs see."""
        pairs = (str(each).partition("=") for each in self.config.get("Env") or [])
        return {name: value for name, found, value in pairs if found}


@dataclass(frozen=True)
class Record:
    """The containers of one compose project at one moment.

    Attributes:
        networks, volumes: As the engine's API describes those that the containers use.
    """

    project: str
    recorded_at: str
    containers: list[Container]
    images: list[Image]
    networks: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)

    def image(self, identity: str) -> Image | None:
        return next((each for each in self.images if each.id == identity), None)

    def to_bytes(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True).encode() + b"\n"

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it; no secrets."""
        ran = []
        for each in self.containers:
            image = self.image(each.image)
            digests = image.digests if image else []
            ran.append({"container": each.name, "image": each.image_name, "id": each.image, "digests": digests})
        return {
            "project": self.project,
            "containers": len(self.containers),
            "images": len(self.images),
            "networks": len(self.networks),
            "ran_on": ran,
            "saved": sorted(each.name for each in self.images if each.saved),
        }


def read(chunks: Iterable[bytes], what: str) -> Record:
    """A record from its plain bytes.

    Raises:
        IntegrityError: It is none, or of a later release.
    """
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > _MOST:
            raise IntegrityError(f"{what} is too large for a record of containers.")
    try:
        body = json.loads(bytes(data))
        version = body.pop("format")
        if version != FORMAT:
            raise IntegrityError(
                f"{what} has format {version}; this release reads {FORMAT}.", remedy="upgrade backup-flows"
            )
        containers = [Container(**each) for each in body.pop("containers")]
        images = [Image(**each) for each in body.pop("images")]
        return Record(containers=containers, images=images, **body)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise IntegrityError(f"{what} is no record of containers that this release can read.") from None


def verify(manifest: Manifest, open_role: Callable[[str], Iterable[bytes]]) -> int:
    """Read a stored record to its end; how many containers it has.

    Raises:
        IntegrityError: It is none, or not what its manifest says.
    """
    found = read(open_role("data"), manifest.file)
    told = found.facts()
    differing = sorted(name for name, value in told.items() if manifest.contents.get(name) != value)
    if differing:
        raise IntegrityError(f"{manifest.file} and its manifest differ in: {', '.join(differing)}.")
    return len(found.containers)


def saved_images(manifest: Manifest) -> frozenset[str] | None:
    """The stored images that a record needs, by name; None where a manifest is not of a record."""
    if manifest.dump_format != DUMP_FORMAT:
        return None
    return frozenset(str(each) for each in manifest.contents.get("saved") or [])
