"""A small object in a bucket that is only ever written on condition: what a lease is made of.

It is hidden from every listing (a folder in its key starts with a dot), warm, and carries no lock of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore import exceptions as boto

from engine.config import ObjectStoreConfig
from engine.errors import CredentialsRefused, NotFound, Retained
from engine.stores.multipart import digest_arguments
from engine.stores.s3_client import make_client, place_of, state_prefix
from engine.stores.s3_errors import code_of, in_words, speaking_of, status_of

FOLDER = "leases"
_READ_SECONDS, _ATTEMPTS = 10, 2
"""An answer that comes later is of no use: the lease is to be renewed long before it ends."""
_MOST_BYTES = 16 * 1024
_MISSING = {"NoSuchKey", "404"}
_CANNOT = {"NotImplemented", "501", "InvalidArgument", "InvalidRequest", "MethodNotAllowed", "405"}


@dataclass(frozen=True)
class Seen:
    """What stands there.

    Attributes:
        etag: What the next write is to name.
        age: Seconds since it was written, both moments told by the store's own clock (whole seconds).
    """

    body: bytes
    etag: str
    age: float


class LeaseObject:
    """One key. Safe to use from two threads.

    Args:
        site: Whose lease; each site has a folder of its own.
        name: Of the lease; no slash.
    """

    def __init__(self, config: ObjectStoreConfig, site: str, name: str) -> None:
        self.place = place_of(config)
        self.key = f"{state_prefix(config)}/{site}/{FOLDER}/{name}.lease"
        self._client: Any = make_client(config, 2, read_seconds=_READ_SECONDS, attempts=_ATTEMPTS)
        self._at = {"Bucket": config.bucket, "Key": self.key}
        encryption = config.server_side_encryption
        self._bare = False
        self._made: dict[str, str] = {"ServerSideEncryption": encryption} if encryption else {}

    def create(self, body: bytes) -> str | None:
        """Write it where nothing stands; its ETag, or None where something does. Raises what the endpoint does."""
        return self._put(body, IfNoneMatch="*")

    def replace(self, body: bytes, etag: str) -> str | None:
        """Write it in place of what has this ETag; the new one, or None where that does not stand there any more.
        Raises what the endpoint does."""
        written = self._put(body, IfMatch=bare(etag) if self._bare else etag)
        if written is not None or self._bare:
            return written
        seen = self.look()
        if seen is None or seen.etag != etag:
            return None
        self._bare = True  # it was refused though it stands there
        return self._put(body, IfMatch=bare(etag))

    def look(self) -> Seen | None:
        """What stands there, or None. Raises what the endpoint does."""
        try:
            with speaking_of(f"read {self.key}", self.place):
                answer = self._client.get_object(**self._at)
                body = answer["Body"].read(_MOST_BYTES)
        except NotFound:
            return None
        told = dict(answer["ResponseMetadata"].get("HTTPHeaders", {})).get("date", "")
        return Seen(body, str(answer["ETag"]), _age(answer["LastModified"], told))

    def delete(self, etag: str) -> bool:
        """Remove what has this ETag; some endpoints remove whatever stands there. False where the key or the endpoint
        does not let that be done. Raises what the endpoint does."""
        try:
            self._client.delete_object(**self._at, IfMatch=bare(etag) if self._bare else etag)
        except (boto.ClientError, boto.BotoCoreError) as error:
            if status_of(error) in {404, 409, 412}:
                return True  # it is not ours any more
            told = in_words(error, f"delete {self.key}", self.place)
            if isinstance(told, CredentialsRefused | Retained) or code_of(error) in _CANNOT:
                return False
            raise told from None
        return True

    def _put(self, body: bytes, **condition: str) -> str | None:
        digest = digest_arguments(body, sha256=False)
        try:
            answer = self._client.put_object(**self._at, **self._made, **digest, **condition, Body=body)
        except (boto.ClientError, boto.BotoCoreError, OSError) as error:
            if status_of(error) in {409, 412} or code_of(error) in _MISSING:
                return None
            raise in_words(error, f"write {self.key}", self.place) from None
        return str(answer["ETag"])


def bare(etag: str) -> str:
    """Without its quotes: some endpoints know an ETag only so."""
    return etag.strip('"')


def _age(written: datetime, told: str) -> float:
    """Seconds; 0 where the store does not tell the time: then nothing ever gets old."""
    try:
        return (parsedate_to_datetime(told).astimezone(UTC) - written.astimezone(UTC)).total_seconds()
    except ValueError:
        return 0.0


__all__ = ["LeaseObject", "Seen", "bare"]
