"""An object on its way into a bucket: parts travel while it is written, nothing shows before it is whole."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

from engine.errors import BackupError, IntegrityError, StoreError, StoreRefused, Unreachable
from engine.stores.base import Stored
from engine.stores.multipart import BASE_PART, MOST_PARTS, Lanes, PartSize
from engine.stores.s3_bucket import Bucket
from engine.stores.sample import SampledRange, Sampler

log = logging.getLogger(__name__)


class S3Stage:
    """One staged write of an ``S3Store``; see ``StagedWrite`` for what it promises.

    What fits into one part is sent as a single put, at ``commit``. Memory: the part being filled, and
    those on their way (``threads`` of the first size; larger ones go one at a time).
    """

    def __init__(
        self, bucket: Bucket, key: str, part_size: PartSize, *, warm: bool, archive: bool = False,
        until: datetime | None = None,
    ) -> None:  # fmt: skip
        self._bucket = bucket
        self._key = key
        self._part_size = part_size
        self._made: Any = {"warm": warm, "archive": archive, "until": until}
        self._token = uuid4().hex
        self._digest = hashlib.sha256()
        self._sampler = Sampler()
        self._size = 0
        self._buffer = bytearray(part_size(1))
        self._filled = 0
        self._number = 1
        self._upload = ""
        self._parts: dict[int, dict[str, Any]] = {}
        self._sent = 0
        self._stopped = threading.Event()
        self._lanes = Lanes(bucket.threads, bucket.threads * max(part_size(1), BASE_PART))
        self._open = True

    def write(self, data: bytes | memoryview) -> None:
        self._must_be_open()
        rest = memoryview(data)
        self._digest.update(rest)
        self._size += len(rest)
        try:
            while rest:
                if self._filled == len(self._buffer):
                    self._send_part()
                    self._buffer = bytearray(self._part_size(self._number))
                taken = min(len(rest), len(self._buffer) - self._filled)
                self._buffer[self._filled : self._filled + taken] = rest[:taken]
                self._filled += taken
                rest = rest[taken:]
        except BaseException:
            self.abort()
            raise

    def commit(self) -> Stored:
        self._must_be_open()
        try:
            if self._bucket.head(self._key, explain=False):
                raise StoreRefused(
                    f"{self._key} exists already in {self._bucket.place}.",
                    kept="what stands there; it was not touched.",
                )
            if self._upload:
                self._finish_parts()
            else:
                self._send_whole()
            proof = self._prove()
        finally:
            self.abort()
        return Stored(self._key, self._size, self._digest.hexdigest(), proof)

    def abort(self) -> None:
        if not self._open:
            return
        self._open = False
        self._stopped.set()
        self._buffer = bytearray()
        self._lanes.close()
        if self._upload:
            # After the last part has ended: one that arrives later would bring the upload back.
            try:
                self._bucket.abandon(self._key, self._upload)
            except BackupError as error:
                log.warning("An unfinished upload stays until the next sweep. %s", error.message)

    def __enter__(self) -> S3Stage:
        return self

    def __exit__(self, *exc: object) -> None:
        self.abort()

    def _must_be_open(self) -> None:
        if not self._open:
            raise StoreError(f"The write of {self._key} to {self._bucket.place} has ended already.")

    def _take_part(self) -> memoryview:
        """What the buffer holds, counted into the sample; an empty buffer takes its place."""
        body = memoryview(self._buffer)[: self._filled]
        self._sampler.feed(self._sent, body)
        self._sent += self._filled
        self._buffer = bytearray()
        self._filled = 0
        return body

    def _send_part(self) -> None:
        if not self._upload:
            self._upload = self._bucket.begin(self._key, self._token, **self._made)
        number = self._number
        if number > MOST_PARTS:
            raise StoreRefused(
                f"{self._key} is too large for {self._bucket.place}: S3 takes {MOST_PARTS:,} parts, "
                f"{self._sent:,} bytes have gone.",
                remedy="back up single databases or schemas, or use a local vault for this one.",
            )
        body = self._take_part()
        self._lanes.submit(self._sender(number, body), len(body))
        self._number += 1

    def _sender(self, number: int, body: memoryview) -> Callable[[], None]:
        def send() -> None:
            self._parts[number] = self._bucket.upload(self._key, self._upload, number, body, self._stopped)

        return send

    def _finish_parts(self) -> None:
        self._send_part()
        self._lanes.drain()
        parts = [self._parts[number] for number in sorted(self._parts)]
        try:
            self._bucket.complete(self._key, self._upload, parts)
        except (StoreError, Unreachable):
            if not self._is_ours():
                raise
            self._bucket.under_way.ended(self._upload)
        self._upload = ""

    def _send_whole(self) -> None:
        body = self._take_part()
        try:
            self._bucket.put(self._key, body, self._token, self._stopped, **self._made)
        except (StoreError, Unreachable):
            if not self._is_ours():
                raise

    def _is_ours(self) -> bool:
        """Whether what stands there is this very write: an answer may get lost after the deed."""
        try:
            head = self._bucket.head(self._key)
        except BackupError:
            return False
        return head is not None and head.token == self._token

    def _prove(self) -> str:
        try:
            return self._compare()
        except BackupError:
            self._withdraw()
            raise

    def _compare(self) -> str:
        """Compare what stands there with what was written; how that was done."""
        head = self._bucket.head(self._key)
        found = head.info.size if head else 0
        if not head or found != self._size:
            raise self._differs(f"it holds {found:,} bytes of {self._size:,}")
        if self._bucket.checks_sha256():
            return "server-sha256"
        if self._number == 1:
            data = self._bucket.range(self._key, 0, self._size) if self._size else b""
            if hashlib.sha256(data).digest() != self._digest.digest():
                raise self._differs("it gives back other bytes than were written")
            return "read-back"
        wrong: SampledRange | None = self._sampler.mismatch(lambda at, size: self._bucket.range(self._key, at, size))
        if wrong:
            raise self._differs(f"bytes {wrong.start:,} to {wrong.start + wrong.length:,} are not what was written")
        return "size+sample"

    def _differs(self, how: str) -> IntegrityError:
        return IntegrityError(
            f"{self._key} in {self._bucket.place} is not what was sent: {how}.",
            kept="the local copy; the damaged one was removed.",
            remedy="run it again; if it comes back, the endpoint or a proxy before it damages data.",
        )

    def _withdraw(self) -> None:
        """Take back what was published but could not be proven."""
        try:
            if self._is_ours():
                self._bucket.delete(self._key)
        except BackupError as error:
            log.warning("An object that could not be proven stays in place. %s", error.message)
