"""A way to a server inside a container that is on no network: a socket here, whose every session is carried
in by a program that runs there. Only we may use the socket; what it leads to hears nobody but that program.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

from engine.errors import BackupError
from engine.processes import Command, Process, Runner
from engine.processes.relay import CARRY

_RECEIVED = 256 * 1024
_ENDING_SECONDS = 5.0


class Door:
    """Serves a socket until it is closed.

    Args:
        runner: The container.
        directory: Private, ours; the socket is made in it.
        port: Of the server there, and part of the socket's name.
    """

    def __init__(self, runner: Runner, directory: Path, port: int) -> None:
        self._runner = runner
        self._command = Command(
            ("bash", "-c", CARRY, "carry", "127.0.0.1", str(port)),
            feeds=True,
            converses=True,
            title="a session's carrier (bash)",
        )
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / f".s.PGSQL.{port}"))
        self._listener.listen(16)
        threading.Thread(target=self._serve, name="door", daemon=True).start()

    def close(self) -> None:
        """Let nobody in any more, and end the sessions there are."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
        self._listener.close()
        with self._lock:
            for each in self._open:
                _shut(each)

    def _serve(self) -> None:
        while True:
            try:
                session, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(session)
            threading.Thread(target=self._carry, args=(session,), name="door-session", daemon=True).start()

    def _carry(self, session: socket.socket) -> None:
        # Whoever is inside sees the session end; that is all there is to say about a failure.
        with contextlib.suppress(BackupError), session, self._runner.start(self._command) as process:
            inwards = threading.Thread(target=_inwards, args=(session, process), name="door-in", daemon=True)
            inwards.start()
            try:
                with contextlib.suppress(OSError):
                    for data in process.chunks():
                        session.sendall(data)
            finally:
                _shut(session)
                inwards.join(_ENDING_SECONDS)
            process.wait()
        with self._lock:
            self._open.discard(session)


def _inwards(session: socket.socket, process: Process) -> None:
    with contextlib.suppress(OSError, BackupError):
        while data := session.recv(_RECEIVED):
            process.write(data)
    with contextlib.suppress(BackupError):
        process.close_input()


def _shut(session: socket.socket) -> None:
    with contextlib.suppress(OSError):
        session.shutdown(socket.SHUT_RDWR)
