"""One snapshot of a bucket: its objects listed, the changed ones copied side by side, the list written in order.

Memory is bounded whatever the bucket holds: the listing comes in pages, what is known of the last snapshot is on disk,
and only so many objects are under way as there is room for in the window.
"""

from __future__ import annotations

import fnmatch
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from engine.buckets.disk_map import DiskMap
from engine.buckets.endpoint import Endpoint, Listed
from engine.buckets.fetch import Fetcher, Unread
from engine.buckets.record import Content, Record, header, record_of
from engine.codec.threads import ahead
from engine.errors import BackupError
from engine.progress import Progress
from engine.source import Sink

_IN_WINDOW = 16
"""Objects under way for each thread: a large one holds up the list, not the other threads."""
_LISTED_AHEAD = 2000
_BATCH = 2000
MOST_NAMED = 200
"""Unreadable objects that are named one by one."""


@dataclass
class Basis:
    """What the last snapshot knows, and what stands in the vault.

    Attributes:
        objects: Lines of the last list, by key.
        contents: The contents that may be leant on, by name.
        present: States of all contents that stand in the vault, by name.
        opens: Whether the ring has the key that wrote a content.
    """

    objects: DiskMap = field(default_factory=DiskMap)
    contents: DiskMap = field(default_factory=DiskMap)
    present: DiskMap = field(default_factory=DiskMap)
    file: str = ""
    opens: Callable[[Content], bool] = lambda content: True

    def take(self, lines: Iterable[bytes], what: str) -> None:
        """Take in the last list: only objects whose content stands in the vault unharmed, and opens with the ring."""
        self.objects.update(self._usable(lines, what))

    def _usable(self, lines: Iterable[bytes], what: str) -> Iterator[tuple[str, str]]:
        batch: list[tuple[str, str]] = []
        for line in lines:
            record = record_of(line, what)
            content = record.content
            if self.present.get(content.stored) == str(content.stored_size) and self.opens(content):
                # A name with a random end stands for the one without it, which is not to be used.
                batch.append((content.stored[:64], content.text()))
                yield record.key, line.decode()
            if len(batch) >= _BATCH:
                self.contents.update(batch)
                batch = []
        self.contents.update(batch)

    def close(self) -> None:
        """Let go of the disk."""
        for each in (self.objects, self.contents, self.present):
            each.__exit__()


@dataclass
class Totals:
    """What a snapshot came to; sizes in bytes."""

    objects: int = 0
    bytes: int = 0
    copied: int = 0
    copied_bytes: int = 0
    excluded: int = 0
    unread: list[Unread] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    first: BackupError | None = None
    missed: int = 0


_Known = tuple[Record, str]
"""An object that has not changed, and its line."""


class Snapshot:
    """A snapshot being made.

    Args:
        exclude: Patterns of keys that are left out.
        threads: How many objects are copied side by side.
    """

    def __init__(self, endpoint: Endpoint, fetcher: Fetcher, basis: Basis, exclude: list[str], threads: int) -> None:
        self._endpoint = endpoint
        self._fetcher = fetcher
        self._basis = basis
        self._exclude = exclude
        self._threads = threads

    def write(self, sink: Sink, progress: Progress) -> Totals:
        """List, copy, and write the list into ``sink``.

        Raises:
            What the first object raised that is not about that object alone.
        """
        totals = Totals()
        step = f"copy {self._endpoint.bucket}"
        sink.write(header(self._endpoint.bucket, self._endpoint.place.endpoint).encode())
        window: deque[_Known | Future[Record | Unread]] = deque()
        limit = self._threads * _IN_WINDOW
        listing = ahead(self._wanted(totals), _LISTED_AHEAD, "list objects")
        with ThreadPoolExecutor(self._threads, thread_name_prefix="object") as pool:
            try:
                for listed in listing:
                    window.append(self._unchanged(listed) or pool.submit(self._fetcher.fetch, listed))
                    while window and (len(window) > limit or isinstance(window[0], tuple) or window[0].done()):
                        self._settle(window.popleft(), sink, totals)
                    progress(step, totals.bytes)
                while window:
                    self._settle(window.popleft(), sink, totals)
                    progress(step, totals.bytes)
            except BaseException:
                self._fetcher.stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            finally:
                listing.close()
        return totals

    def _wanted(self, totals: Totals) -> Iterator[Listed]:
        for listed in self._endpoint.objects():
            if any(fnmatch.fnmatchcase(listed.key, pattern) for pattern in self._exclude):
                totals.excluded += 1
                continue
            yield listed

    def _unchanged(self, listed: Listed) -> _Known | None:
        """What the last list says of an object that is still the same."""
        line = self._basis.objects.get(listed.key)
        if line is None:
            return None
        known = record_of(line)
        if (known.etag, known.size, known.modified) != (listed.etag, listed.size, listed.modified):
            return None
        if known.storage_class != listed.storage_class or (known.tags is None and self._fetcher.tags):
            return None
        return known, line

    def _settle(self, done: _Known | Future[Record | Unread], sink: Sink, totals: Totals) -> None:
        if isinstance(done, tuple):
            known, line = done[0], done[1].rstrip("\n") + "\n"
        else:
            result = done.result()
            if isinstance(result, Unread):
                totals.missed += 1
                totals.first = totals.first or result.error
                if len(totals.unread) < MOST_NAMED:
                    totals.unread.append(result)
                return
            known, line = result, result.line()
            totals.copied += 1
            totals.copied_bytes += known.size
        totals.objects += 1
        totals.bytes += known.size
        totals.keys.add(known.content.key_id)
        sink.write(line.encode())
