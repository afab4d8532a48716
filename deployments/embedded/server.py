"""What both kinds of private server share: one directory, one process, started and stopped by its id."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

READY_SECONDS = 60.0
STOP_SECONDS = 30.0


class EmbeddedError(RuntimeError):
    """A private server could not be made, started or stopped; the message ends with its log's last lines."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_running(pid: int, mentions: str) -> bool:
    """True when the process lives and its command line holds ``mentions``: ids are reused."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state != "Z" and mentions in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return False


class Server(ABC):
    """One private server.

    Args:
        directory: Its own; made when missing. Every parent must let other users pass (mode o+x), because
            the server runs as another user when we are root.
        password: Of the superuser, over TCP.
        options: Added to the server's command line.
        port: A fixed port; a free one by default.
        template: A directory that keeps a freshly initialised copy of the data, made when missing, so that
            the next server with the same template starts from a copy in a tenth of a second.

    Attributes:
        port: TCP port on 127.0.0.1; 0 before the first start.
    """

    user: ClassVar[str]
    system_user: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(
        self,
        directory: Path,
        *,
        password: str,
        options: Sequence[str] = (),
        port: int = 0,
        template: Path | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self.password = password
        self.options = tuple(options)
        self.template = template
        self.data = self.directory / "data"
        self.run_directory = self.directory / "run"
        self.log = self.directory / "server.log"
        self._state = self.directory / "server.json"
        self._child: subprocess.Popen[bytes] | None = None
        self.port = port or int(self._recorded().get("port", 0))

    host = "127.0.0.1"

    @abstractmethod
    def _initialise(self, data: Path) -> None:
        """Make an empty data directory with the superuser's password set."""

    @abstractmethod
    def _argv(self) -> list[str]:
        """The server's command line, in the foreground."""

    @abstractmethod
    def _answers(self) -> bool:
        """True when it lets clients in."""

    @property
    def pid(self) -> int:
        """Process id of the running server, 0 when it does not run."""
        pid = int(self._recorded().get("pid", 0))
        return pid if pid and is_running(pid, str(self.directory)) else 0

    def start(self) -> Self:
        """Make the data when there is none, and start. Does nothing when it runs already.

        Raises:
            EmbeddedError: It did not answer within READY_SECONDS, or ended.
        """
        if self.pid:
            return self
        self._prepare()
        chosen = self.port
        for attempt in range(3):
            self.port = chosen or free_port()
            try:
                return self._start_once()
            except EmbeddedError:
                # Somebody may have taken the free port in between.
                if chosen or attempt == 2 or "in use" not in self._last_words():
                    raise
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """Shut down cleanly, by force after STOP_SECONDS. Does nothing when it does not run."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL), and wait until it is gone."""
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        """Stop it and delete its directory."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            _require_passable(self.directory)
        self.run_directory.mkdir(exist_ok=True)
        self._give_away(self.run_directory)
        if self.data.exists():
            return
        fresh = self.directory / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        if self.template is None:
            self._initialise(fresh)
        else:
            self._fill_template(self.template)
            run(["cp", "-a", "--reflink=auto", str(self.template), str(fresh)])
        # Only a complete data directory ever has the final name.
        fresh.rename(self.data)

    def _fill_template(self, template: Path) -> None:
        if not template.exists():
            unfinished = template.with_name(f"{template.name}.{secrets.token_hex(4)}")
            self._initialise(unfinished)
            unfinished.rename(template)

    def _start_once(self) -> Self:
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._argv(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **self._identity(),
            )
        self._state.write_text(json.dumps({"pid": self._child.pid, "port": self.port}))
        deadline = time.monotonic() + READY_SECONDS
        try:
            while not self._answers():
                program, status = self._argv()[0], self._child.poll()
                if status is not None:
                    raise EmbeddedError(f"{program} ended with status {status}:\n{self._tail()}")
                if time.monotonic() > deadline:
                    raise EmbeddedError(f"{program} did not answer in {READY_SECONDS:.0f} s:\n{self._tail()}")
                time.sleep(0.05)
        except BaseException:
            self.kill()
            raise
        return self

    def _identity(self) -> dict[str, str | list[str]]:
        """Arguments for Popen that make the server run as its own user; only root can."""
        if os.geteuid() != 0:
            return {}
        return {"user": self.system_user, "group": self.system_user, "extra_groups": []}

    def _give_away(self, path: Path) -> None:
        if os.geteuid() == 0:
            shutil.chown(path, self.system_user, self.system_user)

    def _end(self, how: signal.Signals) -> None:
        pid = self.pid
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
            if not self._gone(pid, STOP_SECONDS):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                if not self._gone(pid, STOP_SECONDS):
                    raise EmbeddedError(f"process {pid} in {self.directory} does not end")
        if self._child is not None:
            self._child.wait()
            self._child = None

    def _gone(self, pid: int, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while is_running(pid, str(self.directory)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _recorded(self) -> dict[str, int]:
        try:
            recorded: dict[str, int] = json.loads(self._state.read_text())
        except (OSError, ValueError):
            return {}
        return recorded

    def _last_words(self) -> str:
        return self._tail().lower()

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-15:])


def _require_passable(directory: Path) -> None:
    for parent in (directory, *directory.parents):
        if not parent.stat().st_mode & 0o001:
            raise EmbeddedError(f"other users may not pass {parent}; use a directory elsewhere, such as /var/tmp")


def run(argv: Sequence[str], script: str | None = None, **how: Any) -> None:
    try:
        done = subprocess.run(
            argv, input=script or "", text=True, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how
        )
    except FileNotFoundError:
        raise EmbeddedError(f"{argv[0]} is not installed; run scripts/setup.sh") from None
    if done.returncode != 0:
        raise EmbeddedError(f"{argv[0]} ended with status {done.returncode}:\n{done.stdout[-2000:]}")
