"""Removing what a drill put into a scratch bucket, to the last version."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from botocore import exceptions as boto

from engine.buckets.endpoint import Endpoint
from engine.errors import RestoreRefused, StoreError
from engine.scratch import leftovers
from engine.stores.s3_errors import code_of, speaking_of, status_of

_AT_ONCE = 8
_IN_WINDOW = 256
_NULL = "null"
"""The id of what was written while the bucket kept no versions."""
_UNABLE = (405, 501)


def remove_below(there: Endpoint, prefix: str) -> int:
    """Remove every object whose key begins so, with its old versions, and every unfinished upload; how many went.

    Raises:
        RestoreRefused: The prefix is none of a drill. StoreError: Something stays. And what the endpoint says.
    """
    if leftovers.PREFIX not in prefix:
        raise RestoreRefused(f"{prefix!r} is no prefix of a drill.", kept="nothing was removed")
    for key, upload in list(_uploads(there, prefix)):
        there.abandon(key, upload)
    gone = _all(there, (each for each in _versions(there, prefix) if each[1] != _NULL))
    gone += _all(there, ((each.key, "") for each in there.objects(prefix)))
    _all(there, _versions(there, prefix))  # where versioning was suspended: what is left of that
    left = next(there.objects(prefix), None)
    if left is not None:
        raise StoreError(f"{left.key!r} is still in {there.place}: it was removed, or another was written.")
    return gone


def _all(there: Endpoint, versions: Iterator[tuple[str, str]]) -> int:
    """Delete these, some at a time."""
    waiting: deque[Future[None]] = deque()
    count = 0
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="remove") as pool:
        for key, version in versions:
            waiting.append(pool.submit(_delete, there, key, version))
            count += 1
            while len(waiting) > _IN_WINDOW:
                waiting.popleft().result()
        for each in waiting:
            each.result()
    return count


def _delete(there: Endpoint, key: str, version: str) -> None:
    with speaking_of(f"remove {key!r}", there.place):
        try:
            there.client.delete_object(Bucket=there.bucket, Key=key, **({"VersionId": version} if version else {}))
        except boto.ClientError as error:
            if code_of(error) not in ("NoSuchKey", "NoSuchVersion"):
                raise


def _versions(there: Endpoint, prefix: str) -> Iterator[tuple[str, str]]:
    """Keys and ids of all versions and marks of deletion; none where the bucket keeps none."""
    for answer in _pages(there, prefix, "list_object_versions", "the versions", "VersionIdMarker"):
        for each in (*answer.get("Versions", []), *answer.get("DeleteMarkers", [])):
            if each["Key"].startswith(prefix) and each.get("VersionId"):
                yield each["Key"], each["VersionId"]


def _uploads(there: Endpoint, prefix: str) -> Iterator[tuple[str, str]]:
    for answer in _pages(there, prefix, "list_multipart_uploads", "the unfinished uploads", "UploadIdMarker"):
        for each in answer.get("Uploads") or []:
            if each["Key"].startswith(prefix):
                yield each["Key"], str(each["UploadId"])


def _pages(there: Endpoint, prefix: str, operation: str, what: str, marker: str) -> Iterator[dict[str, Any]]:
    """Every page of a listing; none where the endpoint does not know it, or (for uploads) says so that there are none.

    Raises:
        StoreError: It broke off part way, so what is left there is not known.
    """
    more: dict[str, str] = {}
    while True:
        with speaking_of(f"list {what}", there.place):
            try:
                answer = getattr(there.client, operation)(Bucket=there.bucket, Prefix=prefix, **more)
            except boto.ClientError as error:
                none = status_of(error) == 404 and operation == "list_multipart_uploads"
                if none or status_of(error) in _UNABLE or code_of(error) == "NotImplemented":
                    return
                raise
        yield answer
        if not answer.get("IsTruncated"):
            return
        following = {"KeyMarker": answer.get("NextKeyMarker") or "", marker: answer.get(f"Next{marker}") or ""}
        if not following["KeyMarker"] or following == more:
            raise StoreError(f"{there.place} broke off its listing of {what} part way.")
        more = following
