"""A limit for what an address may take: clients limit each read, and one that answers drop by drop has no end."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any


def within(seconds: float, do: Callable[[], Any]) -> Any:
    """What ``do`` gives, waited for so many seconds. It goes on by itself then, and its outcome is nobody's.

    Raises:
        TimeoutError: It took longer. And what it raises.
    """
    outcome: list[tuple[bool, Any]] = []
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome.append((True, context.run(do)))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run, name="limited", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no end after {seconds:.0f} s")
    well, given = outcome[0]
    if not well:
        raise given
    return given
