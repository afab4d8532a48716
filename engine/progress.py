"""How long work tells how far it is: a callable, so that a terminal, a Prefect artifact or nobody listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called often (several times a second at most) from the thread that does the work."""

    def __call__(self, step: str, done: int, total: int | None = None) -> None:
        """``step`` is what is being done; ``done`` and ``total`` are bytes, total None if unknown."""
        ...


def silent(step: str, done: int, total: int | None = None) -> None:
    """Tells nobody."""
