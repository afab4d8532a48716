"""A private PostgreSQL cluster in a container of the source's own image: on no network, of nobody's data.

The image's own start-up is passed by. The container does nothing; the server in it is a program that we
run there and that ends with us. Everything it has lies on an anonymous volume, which goes with it.
"""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from docker.types import Mount

from engine.errors import ConfigError, ToolMissing
from engine.journal import Journal
from engine.processes import Command, ContainerRunner, Runner
from engine.processes.place import docker_client
from engine.scratch import leftovers, room
from engine.scratch.boxed import engine_errors
from engine.scratch.postgres_door import Door
from engine.scratch.postgres_files import Member
from engine.scratch.postgres_place import PORT, find_program, suitable

_IDLE = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"
_BLOCK = 512


class ContainerPlace:
    """A container.

    Args:
        major: Version of PostgreSQL.
        image: On that engine; never pulled.
        docker_host: The engine.
        parents: Where the directory on this host may stand that holds the way in.
        mounts: Volumes of somebody else's that it works on as well; they stay.
        user: Whom the server runs as, as the image names it; empty: the image's own, else ``postgres``.
    """

    def __init__(
        self,
        major: int,
        image: str,
        docker_host: str | None,
        parents: Iterable[Path],
        *,
        mounts: Sequence[Mount] = (),
        user: str = "",
    ) -> None:
        self._mounts, self._wanted_user = list(mounts), user
        self._major = major
        self._image = image
        self._docker_host = docker_host
        self._path = suitable(parents, passable=False) / leftovers.new_name()
        self.work = str(self._path)
        self._roots = [PurePosixPath(self.work)]
        self._name = self._path.name
        self._client = docker_client(docker_host)
        self._container: Any = None
        self._owner = (0, 0)
        self._made: set[PurePosixPath] = set()
        self._programs: dict[str, str] = {}
        self._door: Door | None = None
        self._another = (
            f"name an image of PostgreSQL {major} that is on this engine: scratch_image of the source in the site file"
        )

    def describe(self) -> str:
        """Where it stands, for messages."""
        return f"a scratch container of {self._image}"

    @property
    def runner(self) -> Runner:
        """Runs programs there, as the image's user ``postgres``."""
        return ContainerRunner(self._client, self._container)

    def make(self, journal: Journal, needed: int) -> None:
        """The container, running and idle, with room for that, and a directory on this host for the way in."""
        journal.record("directory", path=self.work)
        self._path.mkdir(mode=0o700, parents=True)
        with engine_errors(f"Making a scratch container from image {self._image}"):
            user = self._user(journal)
            journal.record("container", name=self._name, docker_host=self._docker_host)
            self._container = self._create(self._name, f"{user[0]}:{user[1]}", journal, self._mounts)
            self._owner = user
            self.put("", ())
            self._container.start()
        for program in ("postgres", "pg_ctl", "pg_controldata"):
            self.program(program)
        if self.runner.find(["bash"]) is None:
            raise ToolMissing(
                f"Image {self._image} has no bash, through which the server in it is reached.",
                kept="production and the backups were not touched",
                remedy=self._another,
            )
        self.refuse_without_room(self.work, needed)

    def refuse_without_room(self, path: str, needed: int) -> None:
        """Raises DiskFull, unless so many bytes are free at a path in the container: it is the engine's own disk."""
        what = f"A scratch PostgreSQL in {self.describe()}"
        room.refuse_without(needed, room.free_there(self.runner, path), what, "the volumes of its engine")

    def also(self, root: str) -> None:
        """Directories from here on are made, and become the server's user's, like those below ``work``."""
        self._roots.append(PurePosixPath(root))

    def put(self, below: str, members: Iterable[Member]) -> None:
        """Stream files and directories into the container, the server's user's own."""
        target = PurePosixPath(self.work) / below
        with engine_errors(f"Copying files into container {self._name}"):
            self._container.put_archive("/", self._tar(target, members))

    def make_space(self, path: str) -> None:
        """In the container: nobody else's is there."""
        self.also(path)
        self.put(path, ())

    def program(self, name: str) -> str:
        """Path of one of PostgreSQL's programs in the image."""
        if name not in self._programs:
            self._programs[name] = find_program(self.runner, name, self._major, remedy=self._another)
        return self._programs[name]

    def command(self, name: str, *arguments: str) -> Command:
        """One of PostgreSQL's programs; the container's user is the server's."""
        argv = ("/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", self.work, self.program(name), *arguments)
        return Command(argv, env={"LC_ALL": "C", "TZ": "UTC"}, title=name)

    def open_door(self) -> None:
        """The socket here, that leads to the server there."""
        if self._door is None:
            self._door = Door(self.runner, self._path, PORT)

    @property
    def listens(self) -> str:
        """What carries sessions in comes from there. Nobody else is in the container, which has no network."""
        return "127.0.0.1"

    def settings(self) -> dict[str, Any]:
        """Tools run inside."""
        return {"container": self._name, "service": None, "docker_host": self._docker_host, "tools_path": None}

    def close(self) -> None:
        """Close the door and let go of the engine."""
        if self._door is not None:
            self._door.close()
        self._client.close()

    def _create(self, name: str, user: str, journal: Journal, mounts: Sequence[Mount] = ()) -> Any:
        return self._client.containers.create(
            self._image,
            entrypoint=["/bin/sh", "-c", _IDLE],
            command=[],
            name=name,
            user=user,
            network_mode="none",
            environment={},
            labels={leftovers.LABEL: str(journal.facts.get("source", ""))},
            volumes=[self.work],
            mounts=list(mounts),
            healthcheck={"test": ["NONE"]},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
        )

    def _user(self, journal: Journal) -> tuple[int, int]:
        """Whom the image's server runs as, by the image's own list of users."""
        name = f"{self._name}-look"
        journal.record("container", name=name, docker_host=self._docker_host)
        looked = self._create(name, "0", journal)
        try:
            own = (self._client.images.get(self._image).attrs["Config"] or {}).get("User")
            wanted = self._wanted_user or str(own or "postgres")
            stream, _ = looked.get_archive("/etc/passwd")
            with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
                file = tar.extractfile("passwd")
                lines = file.read().decode("utf-8", "replace").splitlines() if file else []
        finally:
            looked.remove(force=True, v=True)
        return _account(wanted, [line.split(":") for line in lines], self._image)

    def _tar(self, target: PurePosixPath, members: Iterable[Member]) -> Iterator[bytes]:
        yield from self._directories(target)
        for member in members:
            path = target / member.path
            yield from self._directories(path if member.directory else path.parent)
            if member.directory:
                continue
            yield self._header(path, member.size, directory=False)
            size = 0
            for chunk in member.chunks:
                size += len(chunk)
                yield chunk
            yield b"\0" * (-size % _BLOCK)
        yield b"\0" * (2 * _BLOCK)

    def _directories(self, path: PurePosixPath) -> Iterator[bytes]:
        """Headers of the directories on the way from ``work`` (or another root) that were not sent yet."""
        for each in reversed([path, *path.parents]):
            if each not in self._made and any(each.is_relative_to(root) for root in self._roots):
                self._made.add(each)
                yield self._header(each, 0, directory=True)

    def _header(self, path: PurePosixPath, size: int, *, directory: bool) -> bytes:
        info = tarfile.TarInfo(str(path).lstrip("/") + ("/" if directory else ""))
        info.type = tarfile.DIRTYPE if directory else tarfile.REGTYPE
        info.size, info.mode, info.mtime = size, 0o700 if directory else 0o600, int(time.time())
        info.uid, info.gid = self._owner
        return info.tobuf(tarfile.GNU_FORMAT)


def _account(wanted: str, users: list[list[str]], image: str) -> tuple[int, int]:
    """Numbers of a user as an image names it: ``postgres``, ``1001``, ``70:70``."""
    name, _, group = wanted.partition(":")
    for fields in users:
        if len(fields) > 3 and name in (fields[0], fields[2]) and fields[2] != "0":
            return int(fields[2]), int(group) if group.isdigit() else int(fields[3])
    if name.isdigit() and name != "0":
        return int(name), int(group) if group.isdigit() else 0
    if wanted != "postgres":
        return _account("postgres", users, image)
    raise ConfigError(
        f"Image {image} has no user for a PostgreSQL server to run as.",
        kept="production and the backups were not touched",
        remedy="name an image of PostgreSQL's own kind: scratch_image of the source in the site file",
    )
