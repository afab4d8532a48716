"""Where a whole restored server may come to stand: an empty directory on this host, or the empty volume of a
container that was created and never started. Looking at one changes nothing.

A directory that a restore died in holds the file ``backup-flows-unfinished``; it counts as empty, and the next
restore into it begins anew. Nothing else is ever taken away.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Protocol

import docker.errors
from docker.types import Mount

from engine.config import PostgresConfig
from engine.errors import RestoreRefused, ToolMissing, UnknownName, WrongTool, nearest
from engine.journal import Journal
from engine.processes import LocalRunner
from engine.processes.place import PROJECT, SERVICE, docker_client
from engine.scratch import here
from engine.scratch.boxed import engine_errors
from engine.scratch.postgres_container import ContainerPlace
from engine.scratch.postgres_place import LocalPlace, Place, find_program, identity, refuse_without_room

UNFINISHED = "backup-flows-unfinished"
"""Stands in every directory of a restored server until all of it is there."""
KEPT = "nothing that stood there was touched"
_WINS = ("archive_mode", "archive_command", "config_file", "hba_file", "data_directory", "restore_command")
_HEAD = 1 << 20


class Ground(Protocol):
    """Where a restored server is to stand."""

    kind: str
    data: str

    def describe(self) -> str:
        """For a person, and the name of its lock."""
        ...

    def spaces(self, old: Mapping[str, str]) -> dict[str, str]:
        """Where tablespaces go, by oid, given where they stood."""
        ...

    def check(self, major: int, spaces: Mapping[str, str], needed: int = 0) -> None:
        """Look whether it can be put there.

        Args:
            spaces: New places of tablespaces.
            needed: Bytes.

        Raises:
            RestoreRefused: Not empty, not to be reached, in use. WrongTool, ToolMissing: no server of that
                version. DiskFull. UnknownName, Unreachable: no such container or engine.
        """
        ...

    def check_space(self, path: str) -> None:
        """Look whether a tablespace can be put there. Raises RestoreRefused."""
        ...

    def open(self, major: int, spaces: Mapping[str, str]) -> Place:
        """A place that works on it. Not made yet."""
        ...

    def adopt(self, place: Place, path: str) -> None:
        """Make a directory of it the server's own; others are kept out."""
        ...

    def starting(self) -> list[str]:
        """How a person starts it, and what to look at before."""
        ...


class HostGround:
    """An absent or empty directory on this host.

    Args:
        config: The source; its ``tools_path`` may say where PostgreSQL's programs are.
        data: Absolute.
        tablespaces: Directory below which they are put, one a folder by oid; None: where they stood.
        parents: Where what is needed meanwhile may stand.
    """

    kind = "host"

    def __init__(self, config: PostgresConfig, data: Path, tablespaces: Path | None, parents: Sequence[Path]) -> None:
        self.data = str(data)
        self._config, self._tablespaces, self._parents = config, tablespaces, list(parents)

    @classmethod
    def of(
        cls, config: PostgresConfig, data: Path, state: Path, *, tablespaces: Path | None = None,
        work_directory: Path | None = None,
    ) -> HostGround:  # fmt: skip
        """With the usual places for what is needed meanwhile."""
        return cls(config, data, tablespaces, here.parents(work_directory, state))

    def describe(self) -> str:
        return f"{self.data} on this host"

    def spaces(self, old: Mapping[str, str]) -> dict[str, str]:
        return {oid: str(self._tablespaces / oid) if self._tablespaces else path for oid, path in old.items()}

    def check(self, major: int, spaces: Mapping[str, str], needed: int = 0) -> None:
        _refuse_full(Path(self.data), "The data directory")
        for path in spaces.values():
            self.check_space(path)
        find_program(LocalRunner(self._tools), "postgres", major, self._config.tools_path)
        if needed:
            refuse_without_room(next(each for each in Path(self.data).parents if each.exists()), needed)

    def check_space(self, path: str) -> None:
        _refuse_full(Path(path), "The directory of a tablespace")
        _refuse_within(path, self.data)

    @property
    def _tools(self) -> list[str]:
        return [self._config.tools_path] if self._config.tools_path else []

    def open(self, major: int, spaces: Mapping[str, str]) -> Place:
        return LocalPlace(major, self._parents, tools_path=self._config.tools_path)

    def adopt(self, place: Place, path: str) -> None:
        directory = Path(path)
        for parent in reversed([each for each in directory.parents if not each.exists()]):
            parent.mkdir()
            parent.chmod(0o755)  # whatever our umask: the server's user must come through
        directory.mkdir(exist_ok=True)
        who = identity()
        if who.changes:
            os.chown(directory, who.uid, who.gid)
        directory.chmod(0o700)

    def starting(self) -> list[str]:
        return [f"Start it as the owner of {self.data}: pg_ctl -D {self.data} start (or by its service)."]


class ContainerGround:
    """The data volume of a container that was created and is not running; it is never started here.

    Args:
        container: Its name.
        docker_host: Its engine; the standard socket when empty.
        tablespaces: Directory in the container below which they are put; None: where they stood.

    Raises:
        UnknownName: There is none of that name. Unreachable: no engine answers. RestoreRefused: it says
            nowhere where its data is.
    """

    kind = "container"

    def __init__(
        self, container: str, docker_host: str | None, tablespaces: PurePath | None, parents: Sequence[Path]
    ) -> None:
        self.name, self._docker_host = container, docker_host
        self._tablespaces, self._parents = tablespaces, list(parents)
        self._needed = 0
        self._client = docker_client(docker_host)
        self._target = self._find()
        settings = self._target.attrs["Config"]
        self._environment = dict(each.split("=", 1) for each in settings.get("Env") or [] if "=" in each)
        self.data = self._environment.get("PGDATA", "").rstrip("/")
        if not PurePosixPath(self.data).is_absolute():
            raise RestoreRefused(
                f"Container {container} does not say where its data is: PGDATA is {self.data!r}.",
                kept=KEPT,
                remedy="create it from an image of PostgreSQL's own kind, or with -e PGDATA=/var/lib/postgresql/data",
            )

    def describe(self) -> str:
        return f"{self.data} of container {self.name}"

    def spaces(self, old: Mapping[str, str]) -> dict[str, str]:
        return {oid: str(self._tablespaces / oid) if self._tablespaces else path for oid, path in old.items()}

    def check(self, major: int, spaces: Mapping[str, str], needed: int = 0) -> None:
        self._needed = needed  # nothing runs there that could tell the room; the helper does, before it is used
        with engine_errors(f"Looking at container {self.name}"):
            self._target.reload()
            self._refuse_running()
            mounts = self._mounts([self.data, *spaces.values()])
            self._refuse_shared(mounts)
            said = self._environment.get("PG_MAJOR", str(major))
            if said != str(major):
                raise self._wrong(major, f"it is of {said}")
            self._refuse_full(self.data, "The data directory")
            for path in spaces.values():
                self.check_space(path)

    def check_space(self, path: str) -> None:
        self._mount_of(path)
        self._refuse_full(path, "The directory of a tablespace")
        _refuse_within(path, self.data)

    def open(self, major: int, spaces: Mapping[str, str]) -> Place:
        attributes = self._target.attrs
        # every volume, for the log may make a tablespace on another; of directories of the host, only what is needed
        needed = self._mounts([self.data, *spaces.values()])
        needed += [each for each in attributes["Mounts"] if each["Type"] == "volume" and each.get("RW", True)]
        mounts = {str(each["Destination"]): each for each in needed}
        return _Helper(
            self._wrong,
            (str(self._mount_of(self.data)["Destination"]), self._needed),
            major,
            str(attributes["Image"]),
            self._docker_host,
            self._parents,
            mounts=[_mount(each) for each in mounts.values()],
            user=str(attributes["Config"].get("User") or ""),
        )

    def adopt(self, place: Place, path: str) -> None:
        assert isinstance(place, ContainerPlace)
        mount = PurePosixPath(str(self._mount_of(path)["Destination"]))
        below = PurePosixPath(path).relative_to(mount).parts
        place.also(str(mount / below[0]) if below else path)
        place.put(path, ())

    def starting(self) -> list[str]:
        labels = self._target.labels
        service = f" (docker compose up -d {labels[SERVICE]}, in project {labels.get(PROJECT, '')})"
        steps = [f"Start it: docker start {self.name}{service if SERVICE in labels else ''}. It was not started here."]
        said = [str(each) for each in self._target.attrs["Config"].get("Cmd") or []]
        wins = [each for each in said if any(each.startswith(name) for name in _WINS)]
        if wins:
            steps.insert(
                0, f"Its command line sets {', '.join(wins)}: that wins over what is restored; look at it first."
            )
        return steps

    def close(self) -> None:
        """Let go of the engine."""
        self._client.close()

    def _find(self) -> Any:
        with engine_errors(f"Looking for container {self.name}"):
            try:
                return self._client.containers.get(self.name)
            except docker.errors.NotFound:
                known = [str(each.name) for each in self._client.containers.list(all=True)]
        raise UnknownName(
            f"There is no container {self.name!r}.",
            kept="nothing was changed",
            remedy=f"{nearest(self.name, known)} Create one, and do not start it: docker create ...",
        )

    def _refuse_running(self) -> None:
        if self._target.status not in ("created", "exited"):
            raise RestoreRefused(
                f"Container {self.name} is {self._target.status}: what runs in it would write into what is restored.",
                kept=KEPT,
                remedy="stop it, or better: create a new one with a new volume, and do not start it",
            )

    def _mounts(self, paths: Sequence[str]) -> list[dict[str, Any]]:
        return [self._mount_of(path) for path in paths]

    def _mount_of(self, path: str) -> dict[str, Any]:
        """The volume that a path lies on. Raises RestoreRefused."""
        wanted = PurePosixPath(path)
        found = [each for each in self._target.attrs["Mounts"] if wanted.is_relative_to(str(each["Destination"]))]
        best: dict[str, Any] | None = max(found, key=lambda each: len(str(each["Destination"])), default=None)
        if best is None or best["Type"] not in ("volume", "bind") or not best.get("RW", True):
            raise RestoreRefused(
                f"{path} of container {self.name} is on no volume that can be written and that stays.",
                kept=KEPT,
                remedy=f"create it with one: docker create -v NAME:{path} ..."
                + ("" if path == self.data else ", or choose a directory on a volume for tablespaces (--tablespaces)"),
            )
        return best

    def _refuse_shared(self, mounts: Sequence[Mapping[str, Any]]) -> None:
        sources = {str(each["Source"]) for each in mounts}
        for other in self._client.containers.list():
            if any(str(each.get("Source")) in sources for each in other.attrs["Mounts"]):
                raise RestoreRefused(
                    f"The volume of container {self.name} is in use by {other.name}, which runs.",
                    kept=KEPT,
                    remedy="create the container with a volume of its own",
                )

    def _refuse_full(self, path: str, what: str) -> None:
        found = self._first_of(path)
        if found is not None:
            raise RestoreRefused(
                f"{what} {path} of container {self.name} is not empty: it holds {found}.",
                kept=KEPT,
                remedy="create a container with a new volume, and do not start it before it is filled",
            )

    def _first_of(self, path: str) -> str | None:
        """Something that is in a directory of the container; None: nothing, or what a dead restore left."""
        first = next(self._entries(path), None)
        return None if first is None or self._has(f"{path}/{UNFINISHED}") else first

    def _entries(self, path: str) -> Iterator[str]:
        """The first few names in a directory: its archive is not read to the end."""
        try:
            stream, _ = self._target.get_archive(path)
        except docker.errors.NotFound:
            return
        head = b""
        with contextlib.closing(stream):
            for chunk in stream:
                head += chunk
                if len(head) >= _HEAD:
                    break
        yield from _names(head)

    def _has(self, path: str) -> bool:
        try:
            stream, _ = self._target.get_archive(path)
        except docker.errors.NotFound:
            return False
        stream.close()
        return True

    def _wrong(self, major: int, why: str) -> WrongTool:
        return WrongTool(
            f"The image of container {self.name} is not one of PostgreSQL {major}, which the base backup is of: {why}.",
            kept=KEPT,
            remedy=f"create the container from an image of PostgreSQL {major}; a base backup fits no other version",
        )


class _Helper(ContainerPlace):
    """A container of the same image on the same volumes, on no network, in which the log is applied."""

    def __init__(
        self, wrong: Callable[[int, str], WrongTool], room: tuple[str, int], major: int, *where: Any, **more: Any
    ) -> None:
        super().__init__(major, *where, **more)
        self._wrong, self._room = wrong, room

    def make(self, journal: Journal, needed: int) -> None:
        """Both are on the engine's disk as a rule: what the volume gets, and what is needed meanwhile."""
        super().make(journal, needed)
        volume, bytes_there = self._room
        self.refuse_without_room(volume, needed + bytes_there)

    def program(self, name: str) -> str:
        try:
            return super().program(name)
        except (ToolMissing, WrongTool) as error:
            raise self._wrong(self._major, error.message) from None


def _refuse_full(path: Path, what: str) -> None:
    if not path.is_absolute():
        raise RestoreRefused(f"{what} {path} is not an absolute path.", kept=KEPT, remedy="write it from the start")
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise RestoreRefused(f"{what} {path} is no directory.", kept=KEPT, remedy="name an empty one")
    for parent in path.parents:
        if parent.exists() and not _passable(parent):
            raise RestoreRefused(
                f"{what} {path} cannot be reached by the user {identity().name}, whom the server runs as: {parent} is "
                "closed to others.",
                kept=KEPT,
                remedy=f"chmod o+x {parent}, or name a directory elsewhere",
            )
    if not path.is_dir() or (path / UNFINISHED).is_file():
        return
    if (found := next(path.iterdir(), None)) is not None:
        raise RestoreRefused(
            f"{what} {path} is not empty: it holds {found.name}.",
            kept=KEPT,
            remedy="stop what runs there and move it away, or name an empty directory",
        )


def _passable(directory: Path) -> bool:
    """May the user that the server runs as go through it?"""
    who, found = identity(), directory.stat()
    mine = (found.st_uid == who.uid and found.st_mode & 0o100) or (found.st_gid == who.gid and found.st_mode & 0o010)
    return not who.changes or bool(found.st_mode & 0o001 or mine)


def _refuse_within(path: str, data: str) -> None:
    if PurePosixPath(path).is_relative_to(data):
        raise RestoreRefused(
            f"The directory of a tablespace, {path}, lies within the data directory {data}.",
            kept=KEPT,
            remedy="choose another place for tablespaces: --tablespaces DIRECTORY",
        )


def _mount(mount: Mapping[str, Any]) -> Mount:
    """The same volume, for another container: what it holds is not touched by mounting it."""
    if mount["Type"] == "bind":
        return Mount(str(mount["Destination"]), str(mount["Source"]), type="bind")
    return Mount(str(mount["Destination"]), str(mount["Name"]), type="volume", no_copy=True)


def _names(head: bytes) -> Iterator[str]:
    """Names directly below the first directory of the beginning of a tar."""
    try:
        with tarfile.open(fileobj=io.BytesIO(head), mode="r|") as tar:
            for entry in tar:
                parts = PurePosixPath(entry.name).parts
                if len(parts) > 1:
                    yield parts[1]
    except tarfile.TarError:
        return
