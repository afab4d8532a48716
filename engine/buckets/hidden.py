"""Contents that were deleted or overwritten in a versioned bucket stand again, as far as lists that stand name them.

A content has no manifest: the signed list says its size and digest, and that version counts which has them. Contents
that no list names stay as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from engine.buckets import record
from engine.buckets.contents import Contents
from engine.buckets.disk_map import DiskMap
from engine.buckets.record import Content
from engine.codec import check_stored, decode
from engine.errors import BackupError
from engine.manifest import Manifest
from engine.stores.s3_bucket import Bucket
from engine.stores.s3_versions import Version, bring_back, read, versions

_AT_ONCE = 8
_IN_WINDOW = 64


@dataclass(frozen=True)
class List:
    """A list that stands: the version of its data that its manifest speaks of."""

    key: str
    manifest: Manifest
    version: Version


@dataclass
class Found:
    """What became of the contents that one list names, and no newer one.

    Attributes:
        back: How many stand again, or would.
        lost: How many are there in no version.
        error: Why not all were looked at.
    """

    back: int = 0
    lost: int = 0
    error: BackupError | None = None


def bring_back_contents(
    bucket: Bucket, contents: Contents, lists: Iterable[List], *, dry_run: bool
) -> Iterator[tuple[str, Found]]:
    """Bring back what lists of one bucket name; what became of it, by the list's key, newest first. Nothing is read
    where nothing was deleted or overwritten."""
    with DiskMap() as known, DiskMap() as met:
        search = _Search(bucket, contents, known, met, dry_run)
        if not search.take():
            return
        for each in sorted(lists, key=lambda one: one.manifest.taken_at, reverse=True):
            found = Found()
            try:
                _work(search.jobs(each, found), found)
            except BackupError as error:
                found.error = error
            yield each.key, found


@dataclass(frozen=True)
class _Search:
    """The versions of one bucket's contents, by key, and which contents were met in a list already."""

    bucket: Bucket
    contents: Contents
    known: DiskMap
    met: DiskMap
    dry_run: bool

    def take(self) -> bool:
        """Note every version. Was any content deleted or overwritten?"""
        touched = False
        for each in versions(self.bucket, self.contents.prefix):
            rows = json.loads(self.known.get(each.key) or "[]")
            rows.append([each.id, each.size, each.written_at.isoformat(), each.latest, each.deleted])
            self.known.put(each.key, json.dumps(rows))
            touched = touched or each.deleted or len(rows) > 1
        return touched

    def jobs(self, each: List, found: Found) -> Iterator[Callable[[], bool | None]]:
        """What is to be done for each content of a list that was not met yet and does not plainly stand. Each says
        whether the content stands again by it; None where it is lost."""
        for content in self._named(each):
            if not self.met.add(content.stored):
                continue
            key = self.contents.key(content.stored)
            there = [_version(key, row) for row in json.loads(self.known.get(key) or "[]")]
            whole = [one for one in there if not one.deleted and one.size == content.stored_size]
            if not whole:
                found.lost += 1
            elif len(there) > 1:
                whole.sort(key=lambda one: (one.latest, one.written_at), reverse=True)
                yield partial(_stand, self.bucket, whole, content, self.dry_run)

    def _named(self, each: List) -> Iterator[Content]:
        """Its bytes are checked before any of them is opened."""
        part = each.manifest.data
        check_stored(read(self.bucket, each.version), part)
        with closing(decode(read(self.bucket, each.version), part, self.contents.keys)) as plain:
            yield from (one.content for one in record.records(plain, part.file))


def _stand(bucket: Bucket, whole: list[Version], content: Content, dry_run: bool) -> bool | None:
    right = whole[0] if len(whole) == 1 else next((each for each in whole if _is(bucket, each, content)), None)
    if right is None:
        return None
    if right.latest:
        return False
    if not dry_run:
        bring_back(bucket, right)
    return True


def _is(bucket: Bucket, version: Version, content: Content) -> bool:
    digest = hashlib.sha256()
    for chunk in read(bucket, version):
        digest.update(chunk)
    return digest.hexdigest() == content.stored_sha256


def _work(jobs: Iterator[Callable[[], bool | None]], found: Found) -> None:
    """Side by side. What the first raises ends it."""

    def count(done: Iterable[Future[bool | None]]) -> None:
        for each in done:
            outcome = each.result()
            found.back += outcome is True
            found.lost += outcome is None

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="content") as pool:
        pending: set[Future[bool | None]] = set()
        try:
            for job in jobs:
                pending.add(pool.submit(job))
                if len(pending) >= _IN_WINDOW:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    count(done)
            count(pending)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _version(key: str, row: list[object]) -> Version:
    name, size, written, latest, deleted = row
    return Version(key, str(name), int(str(size)), datetime.fromisoformat(str(written)), bool(latest), bool(deleted))


__all__ = ["Found", "List", "bring_back_contents"]
