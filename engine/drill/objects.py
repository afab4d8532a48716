"""Objects as the S3 API gives them, held against a snapshot's list, one by one. Nothing of the restore is used."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from engine.buckets.disk_map import DiskMap
from engine.buckets.endpoint import Endpoint, Unable
from engine.buckets.fetch import expiry
from engine.buckets.headers import meaning
from engine.buckets.record import Record
from engine.config_files.source import shown
from engine.errors import NotFound
from engine.progress import Progress
from engine.stores.s3_read import read_object

_AT_ONCE = 8
_IN_WINDOW = 64
_NAMED = 50
_ABSENT = "is not there"


@dataclass
class Seen:
    """What was found.

    Attributes:
        objects, bytes: Of the list that was compared.
        wrong: Each object that is not as listed and why, the first of them; ``count`` has how many.
        surplus: Keys that are there and in no list, the first of them.
        tagged: How many of the list have tags; ``tags`` says that the endpoint keeps some.
    """

    objects: int = 0
    bytes: int = 0
    wrong: list[str] = field(default_factory=list)
    count: int = 0
    missing: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    tagged: int = 0
    tags: bool = True

    def take(self, each: Record, problems: list[str]) -> None:
        self.objects, self.bytes = self.objects + 1, self.bytes + each.size
        self.tagged += bool(each.tags)
        if problems == [_ABSENT]:
            _some(self.missing, shown(each.key))
        elif problems:
            self.count += 1
            _some(self.wrong, f"{shown(each.key)}: {', '.join(problems)}")


def look_at_all(there: Endpoint, under: str, records: Iterable[Record], progress: Progress) -> Seen:
    """Read every object of a list, and see that there is no other.

    Raises:
        What the endpoint says, and reading the list.
    """
    seen = Seen()
    waiting: deque[tuple[Record, Future[list[str]]]] = deque()
    step = f"read the restored objects in {there.bucket}"
    with DiskMap() as listed, ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="look") as pool:
        try:
            for each in records:
                listed.add(under + each.key)
                waiting.append((each, pool.submit(_differences, there, under, each, seen)))
                while len(waiting) > _IN_WINDOW or (waiting and waiting[0][1].done()):
                    done, found = waiting.popleft()
                    seen.take(done, found.result())
                    progress(step, seen.bytes)
            for done, found in waiting:
                seen.take(done, found.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        for other in there.objects(under):
            if other.key not in listed:
                _some(seen.surplus, shown(other.key.removeprefix(under)))
    return seen


def _differences(there: Endpoint, under: str, each: Record, seen: Seen) -> list[str]:
    """What of an object is not as the list has it."""
    key = under + each.key
    digest, size = hashlib.sha256(), 0
    try:
        with there.speaking(f"look at {key!r}"):
            head = dict(there.client.head_object(Bucket=there.bucket, Key=key))
        for chunk in read_object(there.client, there.place, key):
            digest.update(chunk)
            size += len(chunk)
    except NotFound:
        return [_ABSENT]
    found = []
    if size != each.size:
        found.append(f"{size:,} bytes, {each.size:,} in the snapshot")
    elif digest.hexdigest() != each.sha256:
        found.append("other content than in the snapshot")
    found += _dress(each, head)
    if each.tags is not None and seen.tags:
        try:
            if there.tags(key) != each.tags:
                found.append("other tags")
        except Unable:
            seen.tags = False
    return found


def _dress(each: Record, head: dict[str, Any]) -> list[str]:
    """Headers and user metadata; some endpoints capitalise the names of metadata."""
    told = {**head, **expiry(head)}
    found = []
    for name, value in each.headers.items():
        there = str(told.get(name) or "")
        if meaning(there) != meaning(value):
            found.append(f"{name} is {meaning(there)!r}, {meaning(value)!r} in the snapshot")
    one, other = ({name.lower(): meaning(value) for name, value in metadata.items()}
                  for metadata in (head.get("Metadata") or {}, each.metadata))  # fmt: skip
    if one != other:
        names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
        found.append(f"other metadata ({', '.join(names)})")
    return found


def _some(names: list[str], name: str) -> None:
    if len(names) < _NAMED:
        names.append(name)
