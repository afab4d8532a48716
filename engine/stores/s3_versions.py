"""Old versions in a versioned bucket: what was deleted or overwritten is still there, and can stand again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from engine.errors import BackupError, StoreError
from engine.stores.s3_bucket import Bucket
from engine.stores.s3_copy import CopySizes, copy_version
from engine.stores.s3_errors import speaking_of


@dataclass(frozen=True)
class Version:
    """One version of an object; ``deleted``: only a mark that it was deleted.

    Attributes:
        id: As the endpoint calls it.
        written_at: UTC.
        latest: It is what a plain read sees.
    """

    key: str
    id: str
    size: int
    written_at: datetime
    latest: bool
    deleted: bool


def versions(bucket: Bucket, prefix: str) -> Iterator[Version]:
    """Every version and mark of deletion below a prefix, in no order. Raises what the endpoint does."""
    more: dict[str, Any] = {}
    while True:
        with speaking_of(f"list the versions of {prefix!r}", bucket.place):
            answer = bucket.client.list_object_versions(Bucket=bucket.place.bucket, Prefix=prefix, **more)
        for each in answer.get("Versions", []):
            yield _version(each, deleted=False)
        for each in answer.get("DeleteMarkers", []):
            yield _version(each, deleted=True)
        if not answer.get("IsTruncated"):
            return
        following = {
            "KeyMarker": answer.get("NextKeyMarker", ""), "VersionIdMarker": answer.get("NextVersionIdMarker", ""),
        }  # fmt: skip
        if following == more or not following["KeyMarker"]:
            raise StoreError(f"{bucket.place} broke off its listing of versions part way.")
        more = following


def never_versioned(bucket: Bucket) -> bool:
    """Has it never kept a version? False also where the endpoint or the key does not let that be asked."""
    try:
        with speaking_of("ask for the versioning", bucket.place):
            return not bucket.client.get_bucket_versioning(Bucket=bucket.place.bucket).get("Status")
    except BackupError:
        return False


def read(bucket: Bucket, version: Version) -> Iterator[bytes]:
    """The bytes of one version."""
    with speaking_of(f"read an old version of {version.key}", bucket.place):
        answer = bucket.client.get_object(Bucket=bucket.place.bucket, Key=version.key, VersionId=version.id)
        yield from answer["Body"].iter_chunks(1024 * 1024)


def bring_back(bucket: Bucket, version: Version, sizes: CopySizes = CopySizes()) -> None:
    """Have a version stand again, as a new one on top of the others: that takes no right to delete.

    Raises:
        StoreError: The endpoint cannot. And what it raises.
    """
    if not copy_version(bucket, version.key, version.id, version.size, uuid4().hex, sizes):
        raise StoreError(f"{bucket.place} does not copy versions by itself.")


def _version(told: Any, *, deleted: bool) -> Version:
    written = told["LastModified"].astimezone(UTC)
    return Version(told["Key"], str(told["VersionId"]), told.get("Size", 0), written, bool(told["IsLatest"]), deleted)
