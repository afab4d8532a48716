"""Work handed from thread to thread through short queues, so that stages run side by side.

Compression, digests and ciphers here give up the interpreter lock while they work, so two stages use
two cores. Memory is bounded by the queues: a fast stage waits for the slow one after it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.5


class Aborted(Exception):
    """A stage was told to stop; never leaves this package."""


class Stage(Generic[T]):
    """A thread that applies ``work`` to every item put, in order, and ``end`` after the last.

    What ``work`` raises is raised again by the next ``put`` or by ``finish``.
    """

    def __init__(self, name: str, work: Callable[[T], None], end: Callable[[], None], depth: int) -> None:
        self._work = work
        self._end = end
        self._items: queue.Queue[T | None] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand over one item, waiting while the queue is full. Raises what the thread met."""
        self._put(item)

    def finish(self) -> None:
        """No more items; returns when all is worked off. Raises what the thread met."""
        self._put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """Stop after the item in hand and forget the rest. Safe to repeat, and after ``finish``."""
        if self._error is None:
            self._error = Aborted()
        while self._thread.is_alive():
            try:
                self._items.put_nowait(None)
            except queue.Full:
                _empty(self._items)
            self._thread.join(0.02)

    def _put(self, item: T | None) -> None:
        while True:
            if self._error is not None:
                raise self._error
            try:
                return self._items.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue

    def _run(self) -> None:
        try:
            while (item := self._items.get()) is not None:
                if self._error is not None:
                    return
                self._work(item)
            if self._error is None:
                self._end()
        except BaseException as error:
            self._error = error
            _empty(self._items)


def ahead(items: Iterable[T], depth: int = 8, name: str = "ahead") -> Generator[T, None, None]:
    """The same items, fetched by a thread that runs up to ``depth`` of them ahead of the reader.

    An error on the way is raised where it stood in the order. Closing the generator stops the thread
    and closes ``items``, in that thread.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(depth)
    stop = threading.Event()

    def offer(entry: tuple[T | None, BaseException | None, bool]) -> None:
        while not stop.is_set():
            try:
                return ready.put(entry, timeout=_POLL_SECONDS)
            except queue.Full:
                continue

    def fetch() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                offer((item, None, False))
                if stop.is_set():
                    break
        except BaseException as met:
            error = met
        finally:
            _close(items)
        offer((None, error, True))

    return _handed_over(fetch, ready, stop, name)


def _handed_over(
    fetch: Callable[[], None],
    ready: queue.Queue[tuple[T | None, BaseException | None, bool]],
    stop: threading.Event,
    name: str,
) -> Generator[T, None, None]:
    thread = threading.Thread(target=fetch, name=name, daemon=True)
    thread.start()
    try:
        while True:
            item, error, last = ready.get()
            if error is not None:
                raise error
            if last:
                return
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        _empty(ready)
        thread.join()


def _close(items: Iterable[T] | Iterator[T]) -> None:
    close = getattr(items, "close", None)
    if close is not None:
        close()


def _empty(items: queue.Queue[T]) -> None:
    try:
        while True:
            items.get_nowait()
    except queue.Empty:
        return
