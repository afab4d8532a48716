"""How a stop (Ctrl-C, SIGTERM, a cancelled run) that reached one thread is passed on to the threads it works with.

Python gives signals to the main thread only. ``engine.abreast`` sets a ``Stop`` for the threads that it starts;
what they do ends at its next report of progress, and the programs they started are killed.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable

from engine.errors import Cancelled
from engine.progress import Progress


class Stop:
    """A stop that may come, and what is to be done when it does."""

    def __init__(self) -> None:
        self._set = threading.Event()
        self._guard = threading.Lock()
        self._actions: dict[object, Callable[[], None]] = {}

    @property
    def came(self) -> bool:
        return self._set.is_set()

    def set(self) -> None:
        """Stop: everything that is registered is done now."""
        with self._guard:
            self._set.set()
            actions = list(self._actions.values())
        for action in actions:
            with contextlib.suppress(Exception):  # one program that cannot be killed does not spare the others
                action()

    def register(self, action: Callable[[], None]) -> Callable[[], None]:
        """Have something done when the stop comes; gives what takes it back. Done at once when it came before."""
        key = object()
        with self._guard:
            came = self._set.is_set()
            if not came:
                self._actions[key] = action
        if came:
            action()
        return lambda: self._forget(key)

    def _forget(self, key: object) -> None:
        with self._guard:
            self._actions.pop(key, None)


CURRENT: contextvars.ContextVar[Stop | None] = contextvars.ContextVar("stop", default=None)
"""The stop that this thread's work is part of."""


def on_stop(action: Callable[[], None]) -> Callable[[], None]:
    """Have something done when the run that this thread works for is stopped; gives what takes it back."""
    stop = CURRENT.get()
    return stop.register(action) if stop is not None else lambda: None


def check(what: str) -> None:
    """Raises Cancelled when the run was stopped."""
    stop = CURRENT.get()
    if stop is not None and stop.came:
        raise Cancelled(f"Stopped: {what}.", kept="nothing of it was published")


def heeding(progress: Progress, what: str) -> Progress:
    """The same progress, raising Cancelled when the run was stopped."""
    stop = CURRENT.get()
    if stop is None:
        return progress

    def told(step: str, done: int, total: int | None = None) -> None:
        if stop.came:
            raise Cancelled(f"Stopped: {what}.", kept="nothing of it was published")
        progress(step, done, total)

    return told
