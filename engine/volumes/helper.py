"""Files of a volume through the engine's archive API: from anywhere the engine can be reached, with a few losses.

A container of an image that is already there is created with the volume in it, and never started. The engine itself
then packs and unpacks the volume's files. Nothing is pulled.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import docker.errors
from docker.types import Mount

from engine.archive import member as kinds
from engine.archive.headers import END, header, member_of, padding
from engine.archive.member import Member
from engine.archive.read import members
from engine.errors import IntegrityError, ToolFailed
from engine.journal import Journal
from engine.scratch.boxed import engine_errors
from engine.services import using

LOSSES = (
    "times only to the second",
    "extended attributes and ACLs, but for file capabilities",
    "holes of sparse files, which are archived as zeros",
)
"""What a backup that was read this way does not hold."""
_AT = "backup-flows-volume"
_CHUNK = 1024 * 1024


class Helper:
    """A container that has a volume and never runs. Context manager; leaving it removes the container.

    Args:
        journal: Told of everything before it is made.
        writable: Is the volume to be written to?
    """

    def __init__(self, client: Any, volume: str, journal: Journal, *, writable: bool = False) -> None:
        self._client = client
        self._volume = volume
        self._name = f"backup-flows-volume-{secrets.token_hex(6)}"
        with engine_errors(f"Making a container to reach volume {volume!r} through"):
            image = self._image(journal)
            journal.record("helper", name=self._name)
            self._container = client.containers.create(
                image, entrypoint=["/never-started"], command=[], name=self._name, network_mode="none",
                mounts=[Mount(f"/{_AT}", volume, type="volume", read_only=not writable, no_copy=True)],
                labels={"backup-flows.helper": volume},
            )  # fmt: skip

    def read(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Every member of the volume with its content, the directory itself as ``.``; no digests.

        Raises:
            ToolFailed: The engine broke off. Unreachable.
        """
        with engine_errors(f"Reading volume {self._volume!r} through the engine"):
            chunks, _ = self._container.get_archive(f"/{_AT}", chunk_size=_CHUNK)
            try:
                for info, content in members(chunks, f"volume {self._volume}"):
                    yield _rerooted(member_of(info)), content
            except IntegrityError as error:
                raise ToolFailed(
                    f"The engine broke off while it packed volume {self._volume!r}: {error.message}",
                    remedy="a file may have grown meanwhile: have its writers stopped or paused, and try again",
                ) from None

    def write(self, found: Iterable[tuple[Member, Iterable[bytes]]]) -> None:
        """Put members into the volume.

        Raises:
            ToolFailed: The engine refused. Unreachable.
        """
        with engine_errors(f"Writing volume {self._volume!r} through the engine"):
            self._container.put_archive("/", _packed(found))

    def close(self) -> None:
        """Remove the container; the volume stays."""
        with contextlib.suppress(docker.errors.NotFound), engine_errors("Removing a container that was never started"):
            self._container.remove(force=True)

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _image(self, journal: Journal) -> str:
        """An image that is there, best one that is in use with this volume; else an empty one, made here."""
        for container in using(self._client, self._volume):
            return str(container.attrs["Image"])
        for image in self._client.images.list():
            return str(image.id)
        tag = f"{self._name}:empty"
        journal.record("image", name=tag)
        empty = io.BytesIO()
        tarfile.open(fileobj=empty, mode="w").close()
        self._client.api.import_image_from_data(empty.getvalue(), repository=self._name, tag="empty")
        return tag


def remove(client: Any, journal: Journal) -> list[str]:
    """Remove what helpers of a dead run left, by its journal; says what went."""
    done = []
    with engine_errors("Removing what was made to reach a volume"):
        for step in journal.steps:
            if step["step"] not in ("helper", "image"):
                continue
            try:
                if step["step"] == "helper":
                    client.containers.get(step["name"]).remove(force=True)
                    done.append(f"removed container {step['name']}")
                else:
                    client.images.remove(step["name"], force=True)
            except docker.errors.NotFound:
                continue
    return done


def _rerooted(member: Member) -> Member:
    """The engine packs the directory itself first, and everything below its name."""
    path = kinds.ROOT if member.path == _AT else member.path.removeprefix(f"{_AT}/")
    target = member.target.removeprefix(f"{_AT}/") if member.type == kinds.HARDLINK else member.target
    return replace(member, path=path, target=target, mode=stat.S_IMODE(member.mode))  # it writes the kind there too


def _packed(found: Iterable[tuple[Member, Iterable[bytes]]]) -> Iterator[bytes]:
    for member, content in found:
        path = _AT if member.path == kinds.ROOT else f"{_AT}/{member.path}"
        target = f"{_AT}/{member.target}" if member.type == kinds.HARDLINK else member.target
        yield header(replace(member, path=path, target=target, sparse=False))
        size = 0
        for chunk in content:
            size += len(chunk)
            yield chunk
        if member.type == kinds.FILE and size != member.size:
            raise IntegrityError(f"The content of {member.path!r} in the archive is not what its listing says.")
        yield padding(size)
    yield END
