"""One bucket that is backed up or restored into, as the S3 API shows it. Decides nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from engine.config import BucketsConfig, ObjectStoreConfig
from engine.errors import BackupError, StoreError, UnknownName, nearest
from engine.names import iso
from engine.stores.s3_client import make_client, place_of
from engine.stores.s3_errors import Place, code_of, in_words, speaking_of, status_of

HEADERS = ("ContentType", "ContentEncoding", "ContentDisposition", "ContentLanguage", "CacheControl")
"""What is kept of an object's own headers."""
_UNABLE = {"NotImplemented", "501", "MethodNotAllowed", "405", "XNotImplemented", "MethodNotSupported"}
_NONE = {"NoSuchBucketPolicy", "NoSuchCORSConfiguration", "NoSuchTagSet"}
_CLOCKS = timedelta(minutes=15)
"""How far S3 lets the clocks of both ends be apart."""


class Absent(Exception):
    """That is not set."""


class Unable(Exception):
    """The endpoint has no such feature; the text names it."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing shows it; ``modified`` in UTC."""

    key: str
    size: int
    etag: str
    modified: str
    storage_class: str = ""


@dataclass
class Settings:
    """How a bucket is set up. None: it has none, or ``unread`` says why that is not known."""

    versioning: str | None = None
    policy: Any = None
    cors: Any = None
    unread: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {"versioning": self.versioning, "policy": self.policy, "cors": self.cors}


class Endpoint:
    """A bucket at an endpoint. Safe to use from several threads."""

    def __init__(self, config: ObjectStoreConfig, role: str, connections: int = 16) -> None:
        found = place_of(config)
        self.place = Place(found.replica, found.bucket, found.endpoint, role)
        self.bucket = config.bucket
        self.client: Any = make_client(config, connections)
        self._region = config.region
        self._is_aws = not config.endpoint_url
        self._overhears: bool | None = None
        self._asking = threading.Lock()

    @classmethod
    def of(cls, config: BucketsConfig, bucket: str) -> Endpoint:
        """One bucket of a source."""
        return cls(store_config(config, bucket), "source", config.threads + 4)

    @contextmanager
    def speaking(self, action: str) -> Iterator[None]:
        """Errors in words; a missing bucket is named with the nearest that there is."""
        try:
            with speaking_of(action, self.place):
                yield
        except BackupError as error:
            if "there is no such bucket" in error.message:
                raise self._no_bucket() from None
            raise

    def reach(self) -> None:
        """Ask for one key. Raises UnknownName, CredentialsRefused, Unreachable."""
        with self.speaking("list the objects"):
            self.client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)

    def exists(self) -> bool:
        """Is there such a bucket? Raises CredentialsRefused, Unreachable."""
        try:
            self.reach()
        except UnknownName:
            return False
        return True

    def objects(self, prefix: str = "") -> Iterator[Listed]:
        """Every object, page by page. A listing that breaks off raises; it never ends early."""
        more: dict[str, str] = {}
        while True:
            with self.speaking("list the objects"):
                answer = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, **more)
            for item in answer.get("Contents", []):
                kind = str(item.get("StorageClass") or "")
                yield Listed(
                    item["Key"], int(item["Size"]), item.get("ETag", "").strip('"'), iso(item["LastModified"]),
                    "" if kind == "STANDARD" else kind,
                )  # fmt: skip
            if not answer.get("IsTruncated"):
                return
            token = answer.get("NextContinuationToken")
            if not token or token == more.get("ContinuationToken"):
                raise StoreError(f"{self.place} broke off its listing part way.")
            more = {"ContinuationToken": token}

    def tags(self, key: str) -> dict[str, str]:
        """An object's tags. Raises Unable, and in words.

        An endpoint that answered another question than its settings is not asked: it would send the object.
        """
        with self._asking:
            if self._overhears is None:
                self.settings()
        if self._overhears:
            raise Unable("object tags")
        try:
            with self._feature("object tags", f"read the tags of {key!r}"):
                found = self.client.get_object_tagging(Bucket=self.bucket, Key=key).get("TagSet") or []
                return {str(each["Key"]): str(each["Value"]) for each in found}
        except Absent:
            return {}

    def settings(self) -> Settings:
        """Versioning, policy and CORS."""
        found = Settings()
        found.versioning = self._setting(found, "versioning", lambda: self.client.get_bucket_versioning(
            Bucket=self.bucket).get("Status"))  # fmt: skip
        found.policy = self._setting(found, "policy", lambda: json.loads(self.client.get_bucket_policy(
            Bucket=self.bucket)["Policy"]))  # fmt: skip
        found.cors = self._setting(found, "CORS", lambda: self.client.get_bucket_cors(
            Bucket=self.bucket)["CORSRules"])  # fmt: skip
        self._overhears = bool(self._overhears)
        return found

    def create(self) -> None:
        """Make the bucket."""
        where = {"CreateBucketConfiguration": {"LocationConstraint": self._region}}
        with self.speaking("make the bucket"):
            self.client.create_bucket(
                Bucket=self.bucket, **(where if self._is_aws and self._region != "us-east-1" else {})
            )

    def unfinished(self, key: str, at: datetime) -> list[str]:
        """Ids of the uploads in parts of an object that were begun by then, as whichever clock had it."""
        try:
            found = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=key).get("Uploads") or []
        except (boto.ClientError, boto.BotoCoreError) as error:
            if isinstance(error, boto.ClientError) and status_of(error) == 404:  # some say so that there are none
                return []
            raise in_words(error, f"list the unfinished uploads of {key!r}", self.place) from None
        return [str(each["UploadId"]) for each in found if each["Key"] == key and each["Initiated"] < at + _CLOCKS]

    def abandon(self, key: str, upload: str) -> bool:
        """Drop an unfinished upload; False where there is none any more. Raises what the endpoint says, in words."""
        try:
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)
        except (boto.ClientError, boto.BotoCoreError) as error:
            if isinstance(error, boto.ClientError) and status_of(error) == 404:
                return False
            raise in_words(error, f"abandon the upload of {key!r}", self.place) from None
        return True

    def _setting(self, found: Settings, what: str, ask: Any) -> Any:
        try:
            with self._feature(what, f"read its {what}"):
                return ask()
        except Absent:
            pass
        except Unable:
            found.unread.append(f"its {what}: {self.place.endpoint} keeps none")
        except (ValueError, KeyError):  # it took the question for another: a listing, an object
            self._overhears = True
            found.unread.append(f"its {what}: {self.place.endpoint} keeps none")
        except BackupError as error:
            found.unread.append(f"its {what}: {error.message.rstrip('.')}")
        return None

    @contextmanager
    def _feature(self, what: str, action: str) -> Iterator[None]:
        try:
            yield
        except boto.ClientError as error:
            if code_of(error) in _NONE:
                raise Absent from None
            if code_of(error) in _UNABLE or status_of(error) in (405, 501):
                raise Unable(what) from None
            raise in_words(error, action, self.place) from None
        except ResponseParserError:
            raise Unable(what) from None
        except (boto.BotoCoreError, OSError) as error:
            raise in_words(error, action, self.place) from None

    def _no_bucket(self) -> UnknownName:
        try:
            known = [each["Name"] for each in self.client.list_buckets().get("Buckets", [])]
        except (boto.BotoCoreError, boto.ClientError, OSError):
            known = []
        hint = nearest(self.bucket, known) if known else "Which there are could not be asked."
        return UnknownName(
            f"{self.place.endpoint} has no bucket {self.bucket!r}.", kept="nothing was changed", remedy=hint
        )


def store_config(config: BucketsConfig, bucket: str) -> ObjectStoreConfig:
    """A bucket of a source, as the client takes it."""
    fields = {name: getattr(config, name) for name in ("name", "endpoint_url", "region", "access_key", "secret_key",
              "addressing", "verify_tls")}  # fmt: skip
    return ObjectStoreConfig.model_validate(
        {**fields, "bucket": bucket, "threads": min(config.threads, 16), "checksums": "when_required"}
    )


__all__ = ["HEADERS", "Endpoint", "Listed", "Settings", "Unable", "store_config"]
