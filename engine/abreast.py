"""Groups of work side by side: each group in a thread of its own, what is in a group one after the other."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from engine.stopping import CURRENT, Stop, on_stop

T = TypeVar("T")

AT_ONCE = 3
"""How many groups run at a time, unless it is told otherwise."""


def abreast(groups: Sequence[Sequence[T]], work: Callable[[T], None], *, at_once: int = AT_ONCE) -> None:
    """Do ``work`` on everything, in no more than ``at_once`` groups at a time. What it raises ends its group; the first
    of these is raised when all have ended.

    A single group runs in the calling thread. When the calling thread is interrupted, or the run that it works for is
    stopped, nothing more is begun, what is under way is stopped (``engine.stopping``), and the interrupt goes up once
    all threads have ended.
    """
    if len(groups) < 2:
        for group in groups:
            for each in group:
                work(each)
        return
    stop = Stop()
    forget = on_stop(stop.set)

    def run(group: Sequence[T]) -> None:
        CURRENT.set(stop)
        for each in group:
            if stop.came:
                return
            work(each)

    with ThreadPoolExecutor(at_once, thread_name_prefix="abreast") as pool:
        try:
            futures = [pool.submit(contextvars.copy_context().run, run, group) for group in groups]
            wait(futures)
        except BaseException:
            stop.set()
            raise  # leaving the pool waits for the threads
        finally:
            forget()
    for future in futures:
        future.result()
