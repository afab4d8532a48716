"""A scratch server on this host: a directory of its own, a process that runs as the server's own user."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from engine.errors import BackupError, ConfigError, DiskFull, ToolFailed
from engine.journal import Journal
from engine.scratch import leftovers

READY_SECONDS = 120.0
_TAIL = 15
_ELSEWHERE = (Path("/var/tmp"), Path("/tmp"))
_SBIN = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec")


class HostServer:
    """One directory and at most one process in it.

    Args:
        journal: Is told of the directory before it is made.
        parents: Where the directory may stand; the first is taken that the server's user can reach.
        user: Whom the process runs as when we are root; else it runs as we do.

    Raises:
        ConfigError: No such user here, or none of the places can be reached by it.
    """

    def __init__(self, journal: Journal, parents: Iterable[Path], user: str) -> None:
        self._owner = _account(user) if os.geteuid() == 0 else None
        self.directory = leftovers.make_directory(journal, self._place(list(parents)))
        self.give(self.directory)
        self.log = self.directory / "server.log"
        self._child: subprocess.Popen[bytes] | None = None

    def folder(self, name: str) -> Path:
        """A new folder in the directory, the server's own."""
        path = self.directory / name
        path.mkdir(mode=0o700)
        self.give(path)
        return path

    def give(self, path: Path) -> None:
        """Make the server's user the owner."""
        if self._owner is not None:
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)

    def run(self, argv: Sequence[str], *, env: dict[str, str] | None = None, timeout: float = READY_SECONDS) -> str:
        """Run a program to its end as the server's user; its output.

        Raises:
            ToolFailed: It failed; its last words are in the message.
        """
        name = Path(argv[0]).name
        try:
            done = subprocess.run(argv, **self._as_server(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=timeout)  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ToolFailed(f"{name} did not end in {timeout:.0f} s while a scratch server was made.") from None
        words = str(done.stdout.decode("utf-8", "replace"))
        if done.returncode != 0:
            lines = words.splitlines()
            last = "\n".join([line for line in lines if "ERROR" in line][-_TAIL:] or lines[-_TAIL:])
            raise ToolFailed(f"{name} ended with status {done.returncode} while a scratch server was made:\n{last}")
        return words

    def start(
        self, argv: Sequence[str], answers: Callable[[], bool], env: dict[str, str] | None = None,
        timeout: float = READY_SECONDS,
    ) -> None:  # fmt: skip
        """Start the server and wait until ``answers`` says so.

        Raises:
            ToolFailed: It ended, or does not answer in ``timeout`` seconds; the log's end is in the message.
        """
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(argv, **self._as_server(env), stdin=subprocess.DEVNULL, stdout=log,
                                           stderr=log, start_new_session=True)  # fmt: skip
        deadline = time.monotonic() + timeout
        while not answers():
            if not self.alive:
                raise ToolFailed(f"The scratch server ended while it started:\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise ToolFailed(f"The scratch server does not answer after {timeout:.0f} s:\n{self.last_words()}")
            time.sleep(0.05)

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def stop(self, how: signal.Signals = signal.SIGTERM, patience: float = 60.0) -> None:
        """End the process: politely first, then by force."""
        if self._child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(how)
        try:
            self._child.wait(patience)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None

    def kill(self) -> None:
        """End the process at once: nothing in it is worth keeping."""
        self.stop(signal.SIGKILL)

    def last_words(self) -> str:
        """The end of the server's log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-_TAIL:])

    def _as_server(self, env: dict[str, str] | None) -> dict[str, Any]:
        options: dict[str, Any] = {"cwd": "/", "env": {**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}}
        if self._owner is not None:
            options |= {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}
        return options

    def _place(self, parents: list[Path]) -> Path:
        for parent in parents:
            if self._owner is None or _passable(parent):
                return parent
        raise ConfigError(
            f"The scratch server runs as {self._owner.pw_name if self._owner else 'you'}, "
            f"who cannot reach {', '.join(map(str, parents))}.",
            remedy=f"choose one that others may pass, such as {_ELSEWHERE[0]}: scratch_directory in the site file",
        )


def parents(work_directory: Path | None, state: Path) -> list[Path]:
    """Where a scratch directory may stand: where a person said, else in the vault's state, else the temporary ones.

    Raises:
        ConfigError: What a person named is not there; its disk may not be mounted.
    """
    if work_directory is None:
        return [leftovers.journals(state), *_ELSEWHERE]
    if not work_directory.is_dir():
        raise ConfigError(
            f"There is no directory {work_directory} for scratch servers.",
            kept="production and the backups were not touched",
            remedy=f"mount its disk, or make it, so that others may pass: mkdir -p -m 755 {work_directory}",
        )
    return [work_directory]


def find_program(names: Iterable[str], tools_path: str | None = None) -> str | None:
    """The first of these programs on this host; servers are often not on PATH."""
    where = [tools_path or "", os.environ.get("PATH", ""), *_SBIN]
    search = os.pathsep.join(each for each in where if each)
    return next((path for name in names if (path := shutil.which(name, path=search))), None)


def write_file(path: Path, chunks: Iterable[bytes]) -> int:
    """Write a new private file; its size. Raises DiskFull, ToolFailed."""
    size = 0
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for chunk in chunks:
                file.write(chunk)
                size += len(chunk)
    except OSError as error:
        raise _unwritable(path, error) from error
    return size


def _unwritable(path: Path, error: OSError) -> BackupError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"No room left in {path.parent} for the scratch server's {path.name}.",
                        kept="production was not touched",
                        remedy="free some room, or choose another: scratch_directory in the site file")  # fmt: skip
    return ToolFailed(f"{path} could not be written: {error.strerror}.")


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(
            f"There is no user {user!r} here, whom a scratch server would run as.",
            remedy="install the server's package, or run as another user than root",
        ) from None


def _passable(path: Path) -> bool:
    """May other users pass every directory on the way that exists?"""
    return all(each.stat().st_mode & 0o001 for each in (path, *path.parents) if each.exists())
