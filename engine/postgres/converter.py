"""A dump in the custom format, turned into SQL text by ``pg_restore`` while it streams."""

from __future__ import annotations

import threading
from collections.abc import Callable

from engine.errors import BackupError
from engine.postgres.tools import Tools
from engine.processes import Command


class Converter:
    """Takes a custom dump's bytes in ``write``; hands its SQL text to ``take``, in a thread of its own."""

    def __init__(self, tools: Tools, take: Callable[[bytes], object]) -> None:
        program = tools.get("pg_restore")
        command = Command((program.path, "--file=-"), feeds=True, converses=True, title="pg_restore")
        self._take = take
        self._error: BaseException | None = None
        self._process = tools.runner.start(command)
        self._thread = threading.Thread(target=self._read, name="pg_restore", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """The next bytes of the dump. Raises what ``take`` raised, or what pg_restore died of."""
        try:
            self._process.write(data)
        except BackupError:
            self._raise()
            raise

    def finish(self) -> None:
        """No more follows; every byte of text was taken when this returns."""
        self._process.close_input()
        self._thread.join()
        self._raise()
        self._process.wait()

    def close(self) -> None:
        """End it, if it has not ended. Safe to repeat."""
        self._process.kill()
        self._thread.join(5)

    def _read(self) -> None:
        try:
            for chunk in self._process.chunks():
                self._take(chunk)
        except BaseException as error:
            self._error = error
            self._process.kill()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
