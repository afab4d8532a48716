"""A bucket's list encrypted anew: every content that another key wrote is stored again with the current one, and the
lines say so.

A content gets another name with another key, so the old one stands beside it until no list names it. Contents that an
earlier list, or a run that died, stored with the current key are not stored again. Called with the bucket's lock held,
so that no sweep and no snapshot is at work there.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

from engine import names
from engine.buckets import record
from engine.buckets.contents import Keeper
from engine.buckets.record import Content, Record
from engine.buckets.snapshot import Basis
from engine.catalog import Entry
from engine.errors import Cancelled, IntegrityError, NotFound, WrongKey
from engine.manifest import Manifest
from engine.progress import Progress
from engine.prune.contents import claims_of
from engine.vault import Vault

_AT_ONCE = 4
_IN_WINDOW = 64
_LEANT_ON = 2
"""So many lists of the current key are taken in, the nearest in time: their contents need not be read again."""


class Anew:
    """One list of a bucket on its way to the current key, in the place where it stands.

    Attributes:
        facts: What its new manifest says of its contents; whole when ``lines`` has ended.
    """

    def __init__(self, vault: Vault, location: str, manifest: Manifest, progress: Progress) -> None:
        self._vault = vault
        self._location = location
        self._manifest = manifest
        self._progress = progress
        self._contents = vault.contents(location, manifest.source, manifest.database)
        self._stopped = threading.Event()
        self.facts: dict[str, Any] = dict(manifest.contents)

    def lines(self, plain: Iterable[bytes]) -> Generator[bytes, None, None]:
        """The new list, from the old one's plain bytes.

        Raises:
            IntegrityError, NotFound, WrongKey: A content is damaged, gone, or its key is; with the object that has it.
        """
        old = self._manifest
        begun = names.iso(names.now().replace(microsecond=0))
        keys: set[str] = set()
        objects = size = 0
        yield record.header(str(old.contents["bucket"]), str(old.contents["endpoint"])).encode()
        with closing(Basis(opens=self._is_current)) as basis:
            self._lean(basis)
            keeper = Keeper(self._contents, basis.contents, basis.present, self._vault.iterations)
            for each in self._rewritten(record.records(plain, old.file), keeper):
                objects, size = objects + 1, size + each.size
                keys.add(each.content.key_id)
                yield each.line().encode()
                self._progress(f"re-encrypt contents of {old.file}", size)
        stated = int(old.contents["objects"]), int(old.contents["bytes"])
        if (objects, size) != stated:
            raise IntegrityError(
                f"{old.file} lists {objects:,} objects of {size:,} bytes, its manifest says {stated[0]:,} "
                f"of {stated[1]:,}."
            )
        self.facts |= {"keys": sorted(keys), record.REWRITTEN: begun}

    def _is_current(self, content: Content) -> bool:
        return content.key_id == self._vault.keys.current

    def _lean(self, basis: Basis) -> None:
        """Take in what stands there, and which of it lists of the current key have proven."""
        basis.present.update((each.name, each.state) for each in self._contents.listing())
        catalog, old = self._vault.catalog(self._location), self._manifest
        taken = 0
        for entry in self._nearest(list(catalog.entries(source=old.source, database=old.database))):
            if taken == _LEANT_ON:
                return
            try:
                manifest = catalog.load(entry)
                if manifest.key_ids != {self._vault.keys.current} or claims_of(self._vault, entry).claim != "good":
                    continue
                with closing(self._vault.read_part(entry, manifest)) as plain:
                    basis.take(record.lines(plain, manifest.file), manifest.file)
                taken += 1
            except (IntegrityError, NotFound, WrongKey):
                continue  # it costs time: what it names is read

    def _nearest(self, entries: list[Entry]) -> Iterator[Entry]:
        """Lists from the one that is nearest in time on: that shares most contents with this one."""
        moment = self._manifest.taken_at
        yield from sorted(entries, key=lambda each: abs(each.name.taken_at - moment))

    def _rewritten(self, records: Iterable[Record], keeper: Keeper) -> Iterator[Record]:
        """Every record with a content of the current key, in order; some are under way at a time."""
        window: deque[Record | Future[Record]] = deque()
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="anew") as pool:
            try:
                for each in records:
                    window.append(each if self._is_current(each.content) else pool.submit(self._one, each, keeper))
                    while len(window) > _IN_WINDOW:
                        yield _settled(window.popleft())
                while window:
                    yield _settled(window.popleft())
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _one(self, each: Record, keeper: Keeper) -> Record:
        try:
            content = keeper.keep_as(each.sha256, each.size, lambda: self._read(each))
        except (IntegrityError, NotFound) as error:
            raise IntegrityError(
                f"The content of {each.key!r} cannot be encrypted anew: {error.message}",
                kept="the snapshot stays as it was, with its old keys",
                remedy="verify it, and use another copy of it (--location): backups verify",
            ) from error
        return replace(each, content=content)

    def _read(self, each: Record) -> Iterator[bytes]:
        for chunk in self._contents.read(each.content, each.sha256, each.size):
            if self._stopped.is_set():
                raise Cancelled(
                    "Stopped: the re-encryption of an object.", kept="nothing of its snapshot was published"
                )
            yield chunk


def _settled(given: Record | Future[Record]) -> Record:
    return given.result() if isinstance(given, Future) else given


__all__ = ["Anew"]
