"""A second object of the same bytes, made by the endpoint itself: nothing travels."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from engine.errors import BackupError, NotFound, StoreError, StoreRefused, Unreachable
from engine.stores.multipart import MIB, MOST_PARTS
from engine.stores.s3_bucket import Bucket


@dataclass(frozen=True)
class CopySizes:
    """Bytes.

    Attributes:
        limit: What is larger cannot be copied by one request (S3: 5 GB).
        part: Of the parts in which it then is.
    """

    limit: int = 5_000_000_000
    part: int = 512 * MIB

    def ranges(self, size: int) -> Iterator[tuple[int, int, int]]:
        """Number, start and length of each part."""
        length = max(self.part, -(-size // MOST_PARTS))
        for number, start in enumerate(range(0, size, length), 1):
            yield number, start, min(length, size - start)


def duplicate(bucket: Bucket, key: str, to: str, sizes: CopySizes, *, archive: bool) -> bool:
    """See ``Store.duplicate``."""
    found = bucket.head(key)
    if found is None:
        raise NotFound(f"{key} is not in {bucket.place}.")
    if bucket.head(to, explain=False):
        raise StoreRefused(f"{to} exists already in {bucket.place}.", kept="what stands there; it was not touched.")
    token = uuid4().hex
    size = found.info.size
    try:
        if size <= sizes.limit:
            return bucket.copy(key, to, token, archive=archive)
        return _in_parts(bucket, key, to, token, list(sizes.ranges(size)), archive)
    except (StoreError, Unreachable):
        if not _is_ours(bucket, to, token):
            raise
    return True


def copy_version(bucket: Bucket, key: str, version: str, size: int, token: str, sizes: CopySizes) -> bool:
    """Have an old version of an object stand on top of the others; False when the endpoint cannot."""
    if size <= sizes.limit:
        return bucket.copy(key, key, token, archive=False, version=version)
    return _in_parts(bucket, key, key, token, list(sizes.ranges(size)), False, version=version)


def freeze(bucket: Bucket, key: str, storage_class: str, sizes: CopySizes) -> bool:
    """See ``Store.freeze``. A large object is copied in parts onto itself: whole, or as it was."""
    found = bucket.head(key)
    if found is None:
        raise NotFound(f"{key} is not in {bucket.place}.")
    token = uuid4().hex
    if found.info.size <= sizes.limit:
        return bucket.reclass(key, token, storage_class)
    return _in_parts(bucket, key, key, token, list(sizes.ranges(found.info.size)), False, storage_class)


def _in_parts(
    bucket: Bucket, key: str, to: str, token: str, ranges: list[tuple[int, int, int]], archive: bool,
    storage_class: str | None = None, version: str = "",
) -> bool:  # fmt: skip
    upload = bucket.begin(to, token, warm=False, archive=archive, storage_class=storage_class)
    completed = False
    try:
        with ThreadPoolExecutor(bucket.threads, thread_name_prefix="copy") as pool:

            def copy(part: tuple[int, int, int]) -> dict[str, Any] | None:
                return bucket.copy_part(key, to, upload, *part, version)

            try:
                parts = list(pool.map(copy, ranges))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        done = [part for part in parts if part is not None]
        if len(done) < len(parts):
            return False
        bucket.complete(to, upload, done, replace=key == to)
        completed = True
        return True
    finally:
        if not completed:
            _abandon(bucket, to, upload)


def _abandon(bucket: Bucket, key: str, upload: str) -> None:
    try:
        bucket.abandon(key, upload)
    except BackupError:
        pass  # the next sweep drops it


def _is_ours(bucket: Bucket, key: str, token: str) -> bool:
    """Whether what stands there is this very copy: an answer may get lost after the deed."""
    try:
        head = bucket.head(key)
    except BackupError:
        return False
    return head is not None and head.token == token
