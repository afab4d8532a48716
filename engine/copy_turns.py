"""One copy of a backup to a place is made at a time, whoever makes it.

Two runs that copied the same backup would see each other's half: one is refused because the data stands there, takes
that for its own leavings and removes it, and the other puts the manifest beside data that is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from engine.errors import CopyUnderWay, LockHeld
from engine.locks import patiently
from engine.progress import Progress, silent

PATIENCE = 60.0
"""Seconds that a copy waits for another run which is at it: most copies take less."""

Hold = Callable[[str, str], AbstractContextManager[None]]
"""Holds a lock of that name at once, or raises LockHeld; the second is what is worked on, in words."""


class CopyTurns:
    """Who copies what, by the file's name: it is the same wherever a backup stands."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold

    @contextlib.contextmanager
    def at_once(self, location: str, file: str) -> Iterator[None]:
        """Have the turn now. Raises CopyUnderWay where another run has it."""
        name = f"@copy.{location}.{hashlib.sha256(file.encode()).hexdigest()[:24]}"
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._hold(name, f"the copy of {file} to {location}"))
            except LockHeld as error:
                raise CopyUnderWay(error.message, kept=error.kept, remedy=error.remedy) from None
            yield

    @contextlib.contextmanager
    def awaited(
        self, location: str, file: str, patience: float = PATIENCE, progress: Progress = silent
    ) -> Iterator[None]:
        """Have the turn as soon as whoever has it is done. Raises CopyUnderWay when that takes longer than
        ``patience`` (seconds); Cancelled."""

        def tell(message: str) -> None:
            progress(message, 0)

        with patiently(lambda: self.at_once(location, file), patience, tell):
            yield
