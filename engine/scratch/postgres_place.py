"""Where a private PostgreSQL cluster stands: on this host, in a directory of its own that nobody else may enter.

A place holds one cluster. All that belongs to it lies below ``work``: ``data``, ``tablespaces/<oid>``,
``wal``, configuration, the server's log and its socket. The path is the same for whoever runs there.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from engine.errors import BackupError, ConfigError, DiskFull, ToolMissing, WrongTool
from engine.journal import Journal
from engine.processes import Command, LocalRunner, Process, Runner
from engine.scratch import leftovers
from engine.scratch.postgres_files import Member
from engine.scratch.postgres_spaces import refusal

PORT = 5432
"""Of the socket's name only: nothing listens on TCP."""
_PARENT_PATH = 55
_MODE = 0o700
_RUN = 'cd "$1" && log=$2 && shift 2 && umask 077 && exec "$@" >>"$log" 2>&1'


class Place(Protocol):
    """What a cluster needs of where it stands."""

    work: str

    def describe(self) -> str:
        """``this host``, or ``a container of postgres:17``."""
        ...

    @property
    def runner(self) -> Runner: ...

    def make(self, journal: Journal, needed: int) -> None:
        """Make it; the journal is told before, so that ``leftovers.clear`` finds all of it again.

        Args:
            needed: Bytes that will be put there.

        Raises:
            DiskFull, ToolMissing, Unreachable: see the message.
        """
        ...

    def put(self, below: str, members: Iterable[Member]) -> None:
        """Make files and directories below ``work/<below>``; private to the server's user."""
        ...

    def make_space(self, path: str) -> None:
        """Make a directory at exactly that path, in which the log is about to make a tablespace.

        Raises:
            RestoreRefused: That may be somebody else's.
        """
        ...

    def program(self, name: str) -> str:
        """Path of one of PostgreSQL's programs. Raises ToolMissing, WrongTool."""
        ...

    def command(self, name: str, *arguments: str) -> Command:
        """One of PostgreSQL's programs, run as the server's user within ``work``."""
        ...

    def open_door(self) -> None:
        """Make the server's socket, at ``work``, reachable from here; asked once it has been started."""
        ...

    def close(self) -> None:
        """Let go of connections; what was made is removed by its journal."""
        ...

    @property
    def listens(self) -> str:
        """Address that the server hears TCP on: empty, or ``127.0.0.1`` within a container of its own."""
        ...

    def settings(self) -> dict[str, Any]:
        """Fields of a ``PostgresConfig`` by which sources reach the server and its tools."""
        ...


@dataclass(frozen=True)
class Identity:
    """The user that the server runs as on this host."""

    name: str
    uid: int
    gid: int
    changes: bool

    @property
    def prefix(self) -> tuple[str, ...]:
        """Put before a command line."""
        if not self.changes:
            return ()
        return ("setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--init-groups", "--")


def identity(user: str = "postgres") -> Identity:
    """Ourselves; where we are root, which PostgreSQL refuses to run as, the user ``postgres``.

    Raises:
        ToolMissing: There is no such user.
    """
    if os.geteuid() != 0:
        own = pwd.getpwuid(os.geteuid())
        return Identity(own.pw_name, own.pw_uid, own.pw_gid, changes=False)
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise ToolMissing(
            f"There is no user {user!r} on this host for a PostgreSQL server to run as.",
            remedy="install the server: apt-get install postgresql",
        ) from None
    return Identity(user, found.pw_uid, found.pw_gid, changes=True)


def server_command(command: Command, work: str, log: str) -> Command:
    """The command with its output going to a file, started within ``work``."""
    return Command(("/bin/sh", "-c", _RUN, "sh", work, log, *command.argv), env=command.env, title=command.title)


def find_program(runner: Runner, name: str, major: int, tools_path: str | None = None, remedy: str = "") -> str:
    """A program of exactly that major version: another one refuses the data directory.

    Args:
        remedy: How it comes there; empty: by Debian's package.

    Raises:
        ToolMissing: None is there. WrongTool: only of other versions.
    """
    places = [tools_path] if tools_path else []
    candidates = [*(f"{each}/{name}" for each in places), f"/usr/lib/postgresql/{major}/bin/{name}", name]
    other = ""
    for candidate in candidates:
        path = runner.find([candidate])
        if path is None:
            continue
        words = runner.run(Command((path, "--version"))).text
        if words.partition(") ")[2].startswith(f"{major}.") or words.partition(") ")[2] == str(major):
            return path
        other = f"{path} is {words}"
    remedy = remedy or f"install PostgreSQL {major} there: apt-get install postgresql-{major}"
    if other:
        raise WrongTool(f"{name} on {runner.describe()} is not of version {major}: {other}.", remedy=remedy)
    raise ToolMissing(f"{name} of PostgreSQL {major} is not on {runner.describe()}.", remedy=remedy)


class LocalPlace:
    """A directory on this host.

    Args:
        major: Version of PostgreSQL.
        parents: Directories in which it may stand; the first is taken that the server's user can reach and
            whose path is short enough for a socket.
        tools_path: Where its programs are, when not where Debian puts them nor on PATH.
    """

    def __init__(self, major: int, parents: Iterable[Path], *, tools_path: str | None = None) -> None:
        self._major = major
        self._tools_path = tools_path
        self._path = suitable(parents, passable=identity().changes) / leftovers.new_name()
        self.work = str(self._path)
        self._runner = LocalRunner([tools_path] if tools_path else [])
        self._programs: dict[str, str] = {}

    def describe(self) -> str:
        """Where it stands, for messages."""
        return "this host"

    @property
    def runner(self) -> Runner:
        """Runs programs there."""
        return self._runner

    def make(self, journal: Journal, needed: int) -> None:
        """The directory, 0700, of the server's user."""
        self.program("postgres")
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=_MODE)
        instead = "choose another place: scratch_directory of the source in the site file"
        refuse_without_room(self._path.parent, needed, instead)
        journal.record("directory", path=self.work)
        self._path.mkdir(mode=_MODE)
        self._give_away(self._path)

    def put(self, below: str, members: Iterable[Member]) -> None:
        """Make files and directories below ``work/<below>``."""
        write_members(self._path / below, members, self._give_away)

    def make_space(self, path: str) -> None:
        """Never here: on the source's own host it is production's."""
        raise refusal(path)

    def program(self, name: str) -> str:
        """Path of one of PostgreSQL's programs."""
        if name not in self._programs:
            self._programs[name] = find_program(self._runner, name, self._major, self._tools_path)
        return self._programs[name]

    def command(self, name: str, *arguments: str) -> Command:
        """One of PostgreSQL's programs, as the server's user."""
        argv = (*identity().prefix, "/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", self.work)
        return Command((*argv, self.program(name), *arguments), env={"LC_ALL": "C", "TZ": "UTC"}, title=name)

    def open_door(self) -> None:
        """The socket is reachable as it is."""

    @property
    def listens(self) -> str:
        """Nowhere."""
        return ""

    def settings(self) -> dict[str, Any]:
        """Tools run on this host."""
        directory = str(Path(self.program("postgres")).parent)
        return {"tools_path": directory, "container": None, "service": None}

    def close(self) -> None:
        """Nothing is held."""

    def _give_away(self, path: Path) -> None:
        who = identity()
        if who.changes:
            os.chown(path, who.uid, who.gid, follow_symlinks=False)


def suitable(parents: Iterable[Path], *, passable: bool) -> Path:
    """The first directory that will do. Raises ConfigError."""
    tried = []
    for parent in parents:
        tried.append(str(parent))
        if len(str(parent)) > _PARENT_PATH:
            continue
        if not passable or all(each.stat().st_mode & 0o001 for each in (parent, *parent.parents) if each.exists()):
            return parent
    raise ConfigError(
        f"A scratch PostgreSQL can stand in none of {', '.join(tried)}: too long a path for its socket, or closed to "
        "the user that it runs as.",
        remedy=f"choose one whose path has at most {_PARENT_PATH} characters and that others may pass: "
        "scratch_directory of the source in the site file",
    )


def write_members(target: Path, members: Iterable[Member], give_away: Callable[[Path], None]) -> None:
    """Write members below a directory of ours; never through a link, never over what is there.

    Raises:
        DiskFull: No room left.
    """
    made: set[Path] = set()

    def directory(path: Path) -> None:
        missing = [each for each in (path, *path.parents) if each not in made and not each.is_dir()]
        for each in reversed(missing):
            each.mkdir(mode=_MODE)
            give_away(each)
        made.add(path)

    try:
        directory(target)
        for member in members:
            path = target / member.path
            directory(path if member.directory else path.parent)
            if member.directory:
                continue
            with path.open("xb") as file:
                os.fchmod(file.fileno(), 0o600)
                for chunk in member.chunks:
                    file.write(chunk)
            give_away(path)
    except OSError as error:
        if error.errno == 28:  # ENOSPC
            raise DiskFull(
                f"No room left in {target} for a scratch PostgreSQL.",
                kept="production and the backups were not touched",
                remedy=f"free some: df -h {target}",
            ) from None
        raise


def refuse_without_room(where: Path, needed: int, instead: str = "choose another directory") -> None:
    """Raises DiskFull, with figures in bytes."""
    free = shutil.disk_usage(where).free
    if free < needed:
        raise DiskFull(
            f"A scratch PostgreSQL needs about {needed:,} bytes in {where}; {free:,} are free.",
            kept="nothing was begun",
            remedy=f"free {needed - free:,} bytes, or {instead}",
        )


class Running:
    """A running server; a thread waits for its end."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._thread = threading.Thread(target=self._wait, name="postgres", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def end(self) -> None:
        """Wait a little for the end that was asked for, then insist."""
        self._thread.join(10)
        if self._thread.is_alive():
            with contextlib.suppress(BackupError):
                self._process.kill()
            self._thread.join(10)

    def _wait(self) -> None:
        with contextlib.suppress(BackupError):
            self._process.wait()
