"""A private way to a port inside a container: what connects to our socket speaks to that port.

The stock images of PostgreSQL let nobody replicate but from inside the container. So a small shell in
there opens the connection, and its standard streams are pumped to a Unix socket in a directory that only
we may enter. The socket goes as soon as it is used. Inside, nothing outlives us: when we die the engine
closes the shell's input, which ends it, and it ends and reaps what it started.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from engine.errors import BackupError, ToolMissing
from engine.processes.base import Command, Process, Runner

_RECEIVED = 256 * 1024
_ENDING_SECONDS = 5.0
_LONGEST_TMP = 70  # a socket's path has at most 107 bytes
# Two copiers, one a direction. The first that ends ends the other: the input when we are gone, the output
# when the server has closed. The shell reaps both; an orphan killed by a signal would fall to the postmaster,
# which takes that for a crash of its own.
CARRY = r"""
exec 3<>"/dev/tcp/$1/$2" || exit 1
exec 4<&0
cat <&4 >&3 & up=$!
cat <&3 & down=$!
exec 3<&- 4<&- </dev/null >/dev/null
trap 'kill "$up" "$down" 2>/dev/null; wait; exit 143' TERM
wait -n
kill "$up" "$down" 2>/dev/null
wait
exit 0
"""


class Relay:
    """One connection from a Unix socket here to a port there. Made by ``relay``.

    Attributes:
        directory: What libpq calls the host.
        error: Why the other end was not reached or went away, once that is known.
    """

    def __init__(self, runner: Runner, host: str, port: int) -> None:
        self.error: BackupError | None = None
        short = len(tempfile.gettempdir()) <= _LONGEST_TMP
        self.directory = Path(tempfile.mkdtemp(prefix="bf-relay-", dir=None if short else "/tmp"))
        self._runner = runner
        self._command = Command(
            ("bash", "-c", CARRY, "relay", host, str(port)), feeds=True, converses=True, title="the relay (bash)"
        )
        self._process: Process | None = None
        self._ours: socket.socket | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(str(self.directory / f".s.PGSQL.{port}"))
            self._listener.listen(1)
        except BaseException:
            self.close()
            raise
        self._thread = threading.Thread(target=self._serve, name="relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the connection and what serves it, here and there."""
        self._remove()
        ours = self._ours
        if ours is not None:
            with contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)
        thread = getattr(self, "_thread", None)
        if thread is not None:
            thread.join(_ENDING_SECONDS)
        if self._process is not None:
            self._process.kill()

    def _serve(self) -> None:
        try:
            self._ours, _ = self._listener.accept()
        except OSError:
            return
        self._remove()
        try:
            with self._ours:
                self._pump(self._ours)
        except BackupError as error:
            self.error = self.error or error

    def _pump(self, ours: socket.socket) -> None:
        with self._runner.start(self._command) as process:
            self._process = process
            up = threading.Thread(target=self._upwards, args=(ours, process), name="relay-up", daemon=True)
            up.start()
            try:
                with contextlib.suppress(OSError):
                    for data in process.chunks():
                        ours.sendall(data)
                self._await_end(process)
            finally:
                with contextlib.suppress(OSError):
                    ours.shutdown(socket.SHUT_RDWR)
                up.join(_ENDING_SECONDS)

    def _await_end(self, process: Process) -> None:
        """Keep why it ended before our side learns that it did."""
        try:
            process.wait()
        except BackupError as error:
            self.error = self.error or error

    def _upwards(self, ours: socket.socket, process: Process) -> None:
        try:
            while data := ours.recv(_RECEIVED):
                process.write(data)
        except OSError:
            pass
        except BackupError as error:
            self.error = self.error or error
        process.close_input()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
        self._listener.close()
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def relay(runner: Runner, host: str, port: int) -> Iterator[Relay]:
    """Serve one libpq connection to a port as the runner's place sees it.

    Args:
        runner: Where the other end is, usually a container.
        host: As seen from there: ``127.0.0.1``.
        port: The server's; also part of the socket's name, as libpq wants it.

    Raises:
        ToolMissing: No bash there, whose network redirection this uses.
    """
    if runner.find(["bash"]) is None:
        raise ToolMissing(
            f"{runner.describe()} has no bash, through which its server's port {port} is reached from inside.",
            kept="nothing was begun",
            remedy="install bash in the image; or let this machine replicate from outside (a 'host replication' line "
            "in pg_hba.conf) and set host: instead of container: or service:",
        )
    one = Relay(runner, host, port)
    os.chmod(one.directory, 0o700)
    try:
        yield one
    finally:
        one.close()
