"""A bucket as a store. Owns the objects it wrote; touches no other."""

from __future__ import annotations

import builtins
import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from engine.cold.classes import Coldness, Speed
from engine.config import ObjectStoreConfig
from engine.errors import BackupError, IntegrityError, StoreError, StoreRefused, Unreadable
from engine.retention.locks import Term
from engine.stores.base import ObjectInfo, Stored
from engine.stores.keys import check_key, is_visible
from engine.stores.multipart import PartSize, growing
from engine.stores.s3_bucket import Bucket, LockedUntil, unlocked
from engine.stores.s3_client import fixed_prefix
from engine.stores.s3_copy import CopySizes, duplicate, freeze
from engine.stores.s3_errors import speaking_of
from engine.stores.s3_read import read_object
from engine.stores.s3_stage import S3Stage

DATA_SUFFIX = ".enc"


class S3Store:
    """Objects of one bucket.

    Args:
        config: Endpoint, bucket and what they need; see docs/stores.md for known endpoints.
        part_size: Bytes of part n of a large object; for tests.
        page: Keys asked for at a time in listings; for tests.
        copies: From which size an object is copied in parts, and how large these are; for tests.
        locked_until: Until when an object is to be locked, by its key.
        uploads: Where uploads under way keep their journals; None: they keep none.
    """

    def __init__(
        self,
        config: ObjectStoreConfig,
        *,
        part_size: PartSize = growing,
        page: int = 1000,
        copies: CopySizes = CopySizes(),
        locked_until: LockedUntil = unlocked,
        uploads: Path | None = None,
    ) -> None:
        self.name = config.name
        self._bucket = Bucket(config, locked_until, uploads)
        self._place = self._bucket.place
        self._prefix = fixed_prefix(config)
        self._part_size = part_size
        self._page = page
        self._copies = copies

    def describe(self) -> str:
        return str(self._place)

    def check(self) -> None:
        self._bucket.reach()
        key = f"{self._bucket.state}/check-{uuid4().hex}"
        probe = b"written by a check of this vault; may be deleted\n"
        self._send(key, probe)
        try:
            if self._bucket.range(key, 0, len(probe)) != probe:
                raise StoreRefused(f"{self._place} gives back other bytes than were written.")
            self._bucket.uploads(self._bucket.state, {})
        finally:
            self._bucket.discard(key)

    @property
    def bucket(self) -> Bucket:
        """For probes and recovery of versions, which know S3."""
        return self._bucket

    def stage(self, key: str, *, warm: bool = False, archive: bool = False, until: datetime | None = None) -> S3Stage:
        return S3Stage(self._bucket, check_key(key), self._part_size, warm=warm, archive=archive, until=until)

    def duplicate(self, key: str, to: str, *, archive: bool = False) -> bool:
        return duplicate(self._bucket, check_key(key), check_key(to), self._copies, archive=archive)

    def put(self, key: str, data: bytes) -> Stored:
        check_key(key)
        try:
            if not self._bucket.head(key, explain=False):
                self._send(key, data)
        except StoreRefused:
            # Another writer, or an own try whose answer got lost, may have come first.
            if not self._bucket.head(key):
                raise
        return self._standing(key, data)

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        return self._read(check_key(key), start, length)

    def get(self, key: str, limit: int = 64 * 1024 * 1024) -> bytes:
        data = b"".join(self.read(key, 0, limit + 1))
        if len(data) > limit:
            raise Unreadable(f"{key} in {self._place} is larger than the {limit:,} bytes expected of it.")
        return data

    def stat(self, key: str) -> ObjectInfo | None:
        head = self._bucket.head(check_key(key))
        return head.info if head else None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        previous = ""
        for item in self._pages(prefix, "Contents"):
            key = item["Key"]
            if key <= previous:
                raise StoreError(f"{self._place} lists out of order: {key!r} after {previous!r}.")
            previous = key
            if is_visible(key):
                storage_class = str(item.get("StorageClass") or "")
                yield ObjectInfo(key, item["Size"], item["LastModified"].astimezone(UTC), storage_class)

    def folders(self, prefix: str = "") -> Iterator[str]:
        for item in self._pages(prefix, "CommonPrefixes", Delimiter="/"):
            name = str(item["Prefix"])[len(prefix) :].rstrip("/")
            if name and is_visible(f"{prefix}{name}/-"):  # in one whose name starts with a dot nothing is
                yield name

    def delete(self, key: str) -> None:
        self._bucket.delete(check_key(key))

    def retained_until(self, key: str) -> datetime | None:
        return self._bucket.retained_until(check_key(key))

    def retain(self, key: str, term: Term) -> datetime | None:
        return self._bucket.retain(check_key(key), term) if self._bucket.locks else None

    def cold(self, key: str) -> Coldness | None:
        return self._bucket.cold(check_key(key))

    def thaw(self, key: str, days: int, speed: Speed) -> None:
        self._bucket.thaw(check_key(key), days, speed)

    def freeze(self, key: str, storage_class: str) -> bool:
        return freeze(self._bucket, check_key(key), storage_class, self._copies)

    def sweep(self, older_than_seconds: float = 0.0) -> builtins.list[str]:
        """Abort unfinished uploads of this package: those of dead runs of this machine at once, never those of its
        living ones, and of what nothing here speaks only what is old.

        A bucket may serve others, and an upload carries no mark of its owner. By age only those go that
        stand below the fixed part of the configured path and are named like this package's data.
        """
        before = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        gone = []
        with self._bucket.under_way.found() as known:
            unfinished = builtins.list(self._uploads())
            living = known.living()  # after the listing: whatever is in it has its journal by now
            for upload in unfinished:
                key, number = upload["Key"], upload["UploadId"]
                old = key.endswith(DATA_SUFFIX) and upload["Initiated"].astimezone(UTC) <= before
                if number in known.dead or (key not in living and (old or key in known.orphaned)):
                    self._bucket.abandon(key, number)
                    gone.append(f"unfinished upload of {key}")
        return gone

    def free_bytes(self) -> int | None:
        return None

    def _send(self, key: str, data: bytes) -> None:
        self._bucket.put(key, data, uuid4().hex, threading.Event(), warm=True)

    def _standing(self, key: str, data: bytes) -> Stored:
        """Compare what stands there with ``data``, all of it: small objects can be read back whole."""
        head = self._bucket.head(key)
        if head and head.info.size == len(data) and self._same(key, data):
            return Stored(key, len(data), hashlib.sha256(data).hexdigest(), "read-back")
        if head is None:
            raise IntegrityError(f"{key} was written to {self._place}, and is not there.", remedy="run it again.")
        raise StoreRefused(
            f"{key} in {self._place} already holds something else.", kept="what stands there; it was not touched."
        )

    def _read(self, key: str, start: int, length: int | None) -> Iterator[bytes]:
        try:
            yield from read_object(self._bucket.client, self._place, key, start, length)
        except StoreError as error:
            if type(error) in (StoreError, StoreRefused) and self._answers(key):
                raise Unreadable(error.message, kept=error.kept, remedy=error.remedy) from None
            raise

    def _answers(self, key: str) -> bool:
        """Does the bucket answer anything else than this one object?"""
        try:
            next(self.list(key), None)
        except BackupError:
            return False
        return True

    def _same(self, key: str, data: bytes) -> bool:
        return not data or self._bucket.range(key, 0, len(data)) == data

    def _pages(self, prefix: str, what: str, **options: str) -> Iterator[Any]:
        """What every page of a listing holds; boto's own paginator ends quietly when a page names no next one."""
        more: dict[str, Any] = {}
        while True:
            with speaking_of(f"list {prefix!r}", self._place):
                answer = self._bucket.client.list_objects_v2(
                    Bucket=self._place.bucket, Prefix=prefix, MaxKeys=self._page, **options, **more
                )
            yield from answer.get(what, [])
            if not answer.get("IsTruncated"):
                return
            token = answer.get("NextContinuationToken")
            if not token or token == more.get("ContinuationToken"):
                raise StoreError(f"{self._place} broke off its listing of {prefix!r} part way.")
            more = {"ContinuationToken": token}

    def _uploads(self) -> Iterator[Any]:
        more: dict[str, Any] = {}
        while True:
            answer = self._bucket.uploads(self._prefix, more)
            yield from answer.get("Uploads", [])
            if not answer.get("IsTruncated"):
                return
            following = {
                "KeyMarker": answer.get("NextKeyMarker", ""),
                "UploadIdMarker": answer.get("NextUploadIdMarker", ""),
            }
            if following == more or not following["KeyMarker"]:
                raise StoreError(f"{self._place} broke off its listing of unfinished uploads part way.")
            more = following
