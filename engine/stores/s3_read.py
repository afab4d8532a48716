"""Read an object that may be cut off on the way: pick up where it broke, from the same version."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from botocore import exceptions as boto
from urllib3.exceptions import HTTPError

from engine.errors import IntegrityError, StoreError
from engine.stores.s3_errors import Place, code_of, speaking_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHUNK = 1024 * 1024
FRUITLESS = 5
"""So many cuts in a row without one new byte, and reading gives up."""

_CUT = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, HTTPError, OSError)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def read_object(
    client: S3Client, place: Place, key: str, start: int = 0, length: int | None = None, *, etag: str = ""
) -> Iterator[bytes]:
    """The object's bytes from ``start``, resumed after cuts; see ``Store.read``.

    Every further request asks for the version that the first one saw (``If-Match``), and, since some
    endpoints ignore that, the answer's ETag and place are compared as well.

    Raises:
        NotFound, IntegrityError: No such key; it was replaced while being read.
    """
    reading = _Reading(client, place, key, start, None if length is None else start + length, etag)
    with speaking_of(f"read {key}", place):
        yield from reading.chunks()


class _Reading:
    def __init__(self, client: S3Client, place: Place, key: str, start: int, end: int | None, etag: str = "") -> None:
        self._client = client
        self._place = place
        self._key = key
        self._at = start
        self._end = end
        self._etag = etag

    def chunks(self) -> Iterator[bytes]:
        fruitless = 0
        while self._end is None or self._at < self._end:
            before = self._at
            try:
                yield from self._attempt()
            except _CUT:
                # With no answer yet there is nothing to resume, and the client has retried already.
                if not self._etag or fruitless == FRUITLESS:
                    raise
            if self._at > before:
                fruitless = 0
                continue
            fruitless += 1
            if fruitless > FRUITLESS:
                raise StoreError(f"Could not read {self._key} in {self._place}: it keeps ending at byte {self._at:,}.")
            time.sleep(random.uniform(0, min(8.0, 0.25 * 2**fruitless)))

    def _attempt(self) -> Iterator[bytes]:
        try:
            answer = self._client.get_object(**self._request())
        except boto.ClientError as error:
            if code_of(error) in {"InvalidRange", "416"}:  # nothing stands at or after the start
                self._end = self._at
                return
            if code_of(error) in {"PreconditionFailed", "412"}:
                raise self._replaced() from None
            raise
        body = answer["Body"]
        try:
            self._accept(dict(answer))
            while self._end is None or self._at < self._end:
                chunk = body.read(CHUNK)
                if not chunk:
                    return
                self._at += len(chunk)
                yield chunk
        finally:
            body.close()

    def _request(self) -> Any:
        request: dict[str, Any] = {"Bucket": self._place.bucket, "Key": self._key}
        if self._at or self._end is not None:
            last = "" if self._end is None else self._end - 1
            request["Range"] = f"bytes={self._at}-{last}"
        if self._etag:
            request["IfMatch"] = self._etag
        return request

    def _accept(self, answer: dict[str, Any]) -> None:
        """Learn the object's version and end from the first answer; hold the later ones against it."""
        etag = answer.get("ETag", "")
        if self._etag and etag != self._etag:
            raise self._replaced()
        self._etag = etag
        if not answer.get("ContentRange"):
            if self._at:
                raise StoreError(f"{self._place} ignored a range request for {self._key}.")
            total = answer["ContentLength"]
        else:
            found = _RANGE.fullmatch(answer["ContentRange"])
            if not found or int(found[1]) != self._at:
                raise StoreError(f"{self._place} answered another range of {self._key} than was asked for.")
            total = int(found[2]) + 1
        self._end = total if self._end is None else min(self._end, total)

    def _replaced(self) -> IntegrityError:
        return IntegrityError(
            f"{self._key} in {self._place} was replaced while it was being read.",
            kept="nothing of it was used.",
            remedy="find out who writes there; backups are never replaced by this package.",
        )
