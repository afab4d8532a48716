"""What stands in a bucket already, against what is to be put there."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

from botocore import exceptions as boto

from engine.buckets.disk_map import DiskMap
from engine.buckets.endpoint import HEADERS, Endpoint, Unable
from engine.buckets.headers import meaning
from engine.buckets.record import Record
from engine.errors import NotFound
from engine.stores.s3_errors import in_words, status_of
from engine.stores.s3_read import read_object

How = Literal["new", "same", "differing"]
_AT_ONCE = 8
_IN_WINDOW = 128


class Standing:
    """The objects of a bucket, below a prefix.

    Args:
        listed: Is filled with what stands there, by key.
        under: What is put before every key of a record.
        fill: False where there is no such bucket yet.
        own: Given where the records go back to the very keys that they came from: objects last modified before this
            moment (ISO 8601, UTC) with the same ETag are those very objects.
    """

    def __init__(self, there: Endpoint, listed: DiskMap, under: str, *, fill: bool, own: str = "") -> None:
        self._there = there
        self._listed = listed
        self._under = under
        self._own = own
        if fill:
            listed.update(
                (each.key, json.dumps([each.size, each.etag, each.modified])) for each in there.objects(under)
            )

    def compare(self, records: Iterable[Record]) -> Iterator[tuple[Record, How]]:
        """How each is there, in order; where a listing does not tell, objects are looked at side by side."""
        window: deque[tuple[Record, How | Future[How]]] = deque()
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="look") as pool:
            for each in records:
                known = self._by_listing(each)
                window.append((each, known or pool.submit(self.look, each)))
                while window and (len(window) > _IN_WINDOW or isinstance(window[0][1], str)):
                    yield _settled(window.popleft())
            while window:
                yield _settled(window.popleft())

    def size(self, key: str) -> int | None:
        """Of what stands under a key (``under`` and all), or None."""
        known = self._listed.get(key)
        return None if known is None else int(json.loads(known)[0])

    def _by_listing(self, each: Record) -> How | None:
        known = self._listed.get(self._under + each.key)
        if known is None:
            return "new"
        size, etag, modified = json.loads(known)
        if size != each.size:
            return "differing"
        # Untouched since the snapshot: then it is that very object, whatever belongs to it. Times have whole seconds
        # at some endpoints, so what was written right before the snapshot may have been written again right after.
        return "same" if (etag, modified) == (each.etag, each.modified) and modified < self._own else None

    def look(self, each: Record) -> How:
        """By its own words, and by its content where the ETag does not tell."""
        key = self._under + each.key
        try:
            head = self._there.client.head_object(Bucket=self._there.bucket, Key=key)
        except boto.ClientError as error:
            if status_of(error) == 404:
                return "new"
            raise in_words(error, f"look at {key!r}", self._there.place) from None
        except boto.BotoCoreError as error:
            raise in_words(error, f"look at {key!r}", self._there.place) from None
        if int(head["ContentLength"]) != each.size or not dressed_as(each, head) or not self._tagged_as(each, key):
            return "differing"
        etag = str(head.get("ETag", "")).strip('"')
        return "same" if etag == each.etag or self._digest(key) == each.sha256 else "differing"

    def _tagged_as(self, each: Record, key: str) -> bool:
        if each.tags is None:
            return True
        try:
            return self._there.tags(key) == each.tags
        except Unable:
            return True

    def _digest(self, key: str) -> str:
        digest = hashlib.sha256()
        try:
            for chunk in read_object(self._there.client, self._there.place, key):
                digest.update(chunk)
        except NotFound:
            return ""
        return digest.hexdigest()


def dressed_as(each: Record, head: dict[str, Any]) -> bool:
    """Are headers and user metadata those of the record? Some endpoints capitalise the names of metadata."""
    found = {name.lower(): meaning(value) for name, value in (head.get("Metadata") or {}).items()}
    wanted = {name.lower(): meaning(value) for name, value in each.metadata.items()}
    return found == wanted and all(
        meaning(str(head.get(name) or "")) == meaning(each.headers.get(name, ""))
        for name in HEADERS
        if name in each.headers
    )


def _settled(pair: tuple[Record, How | Future[How]]) -> tuple[Record, How]:
    each, how = pair
    return each, how if isinstance(how, str) else how.result()
