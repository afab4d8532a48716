"""One bucket, as a few verbs that say what went wrong. Knows what its endpoint can do, decides nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from botocore import exceptions as boto

from engine.cold.classes import Coldness, Speed, coldness_of
from engine.config import ObjectStoreConfig
from engine.errors import Cold, CredentialsRefused, Retained, StoreRefused
from engine.retention.locks import Term
from engine.stores.base import ObjectInfo
from engine.stores.multipart import PartReader, digest_arguments
from engine.stores.s3_client import make_client, place_of, sends_sha256, state_prefix
from engine.stores.s3_errors import code_of, in_words, speaking_of, status_of
from engine.stores.s3_read import read_object
from engine.stores.uploads import Uploads

TOKEN = "backup-flows-write"
"""User metadata that tells whose write an object is, after an answer was lost."""

_NO_COPY = {"NotImplemented", "501", "MethodNotAllowed", "405", "InvalidObjectState"}
_FOR_GOOD = "COMPLIANCE"
_UNABLE = {"NotImplemented", "501", "InvalidArgument", "InvalidRequest", "MalformedPOSTRequest"}


LockedUntil = Callable[[str], datetime | None]
"""Until when an object is to be locked (UTC), by its key; None: not at all."""


def unlocked(key: str) -> datetime | None:
    """Nothing is locked."""
    return None


@dataclass(frozen=True)
class Head:
    """What stands under a key: its size and time, and the token of the write that put it there."""

    info: ObjectInfo
    token: str


class Bucket:
    """Verbs on one bucket. All raise ``engine.errors``; a client may serve several threads."""

    def __init__(
        self, config: ObjectStoreConfig, locked_until: LockedUntil = unlocked, uploads: Path | None = None
    ) -> None:
        self._locked_until = locked_until if config.lock else unlocked
        self._lock_mode = (config.lock or "").upper()
        self.place = place_of(config)
        self.state = state_prefix(config)
        self.under_way = Uploads(uploads, self.place)
        self.client: Any = make_client(config)
        self.sha256 = sends_sha256(config)
        self.threads = config.threads
        self._class = config.storage_class
        self._archive_class = config.archive_class or config.storage_class
        self._encryption = config.server_side_encryption
        self._conditional = True
        self._checks: bool | None = None

    def head(self, key: str, *, explain: bool = True) -> Head | None:
        """What stands under a key, or None.

        The answer to a HEAD has no body, so that a missing bucket looks like a missing key, and every
        refusal alike. With ``explain`` a listing is asked then, whose refusal has words.
        """
        try:
            answer = self.client.head_object(Bucket=self.place.bucket, Key=key)
        except boto.ClientError as error:
            if status_of(error) not in {403, 404}:
                raise in_words(error, f"look at {key}", self.place) from None
            if explain or status_of(error) == 403:
                self.reach()
            if status_of(error) == 404:
                return None
            raise in_words(error, f"look at {key}", self.place) from None
        except boto.BotoCoreError as error:
            raise in_words(error, f"look at {key}", self.place) from None
        # Some endpoints capitalise the names of user metadata.
        metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
        info = ObjectInfo(key, answer["ContentLength"], answer["LastModified"].astimezone(UTC))
        return Head(info, metadata.get(TOKEN, ""))

    def reach(self) -> None:
        """Make the smallest request whose refusal comes with a reason."""
        with speaking_of("list", self.place):
            self.client.list_objects_v2(Bucket=self.place.bucket, MaxKeys=1, Prefix=self.state + "/")

    def put(
        self, key: str, body: memoryview | bytes, token: str, stopped: Any, *, warm: bool, archive: bool = False,
        until: datetime | None = None,
    ) -> None:  # fmt: skip
        """Store one object whole. Raises StoreRefused when something stands there already."""
        digest = digest_arguments(body, sha256=self.sha256)

        def send(condition: dict[str, str]) -> None:
            self.client.put_object(
                **self._target(key),
                **self._made(token, warm, archive),
                **self._lock(key, until),
                **digest,
                **condition,
                Body=PartReader(memoryview(body), stopped),
            )

        self._if_absent(key, f"write {key}", send)

    def begin(
        self, key: str, token: str, *, warm: bool, archive: bool = False, storage_class: str | None = None,
        until: datetime | None = None,
    ) -> str:  # fmt: skip
        """Begin a multipart upload, in a class of its own where one is named; its id."""
        algorithm = {"ChecksumAlgorithm": "SHA256"} if self.sha256 else {}
        made = {**self._made(token, warm, archive, storage_class), **self._lock(key, until), **algorithm}
        journal = self.under_way.begin(key)
        try:
            with speaking_of(f"begin the upload of {key}", self.place):
                upload = str(self.client.create_multipart_upload(**self._target(key), **made)["UploadId"])
            self.under_way.begun(journal, upload)
        except BaseException:
            if journal is not None:
                journal.release()  # it may have begun all the same: the next sweep looks
            raise
        return upload

    def upload(self, key: str, upload: str, number: int, body: memoryview, stopped: Any) -> dict[str, Any]:
        """Send one part; its entry in the list that completes the upload."""
        digest = digest_arguments(body, sha256=self.sha256)
        with speaking_of(f"upload part {number} of {key}", self.place):
            answer = self.client.upload_part(
                **self._target(key),
                **digest,
                UploadId=upload,
                PartNumber=number,
                Body=PartReader(body, stopped),
            )
        part = {"PartNumber": number, "ETag": answer["ETag"]}
        return {**part, **digest} if self.sha256 else part

    def complete(self, key: str, upload: str, parts: list[dict[str, Any]], *, replace: bool = False) -> None:
        """Make an upload the object. Raises StoreRefused when something stands there already, unless it is to be
        replaced."""

        def send(condition: dict[str, str]) -> None:
            self.client.complete_multipart_upload(
                **self._target(key), **condition, UploadId=upload, MultipartUpload={"Parts": parts}
            )

        if replace:
            with speaking_of(f"complete the upload of {key}", self.place):
                send({})
        else:
            self._if_absent(key, f"complete the upload of {key}", send)
        self.under_way.ended(upload)

    def copy(self, key: str, to: str, token: str, *, archive: bool, version: str = "") -> bool:
        """Have the endpoint copy an object, or an old version of it; False when it cannot."""
        made = {**self._made(token, False, archive), "MetadataDirective": "REPLACE"}
        try:
            self._copy_object(to, made, self._from(key, version))
        except (boto.ClientError, boto.BotoCoreError) as error:
            if code_of(error) in _NO_COPY:
                return False
            raise in_words(error, f"copy {key} to {to}", self.place) from None
        return True

    def reclass(self, key: str, token: str, storage_class: str) -> bool:
        """Have the endpoint copy an object onto itself in another class; False when it cannot."""
        made = {**self._made(token, False, False, storage_class), "MetadataDirective": "REPLACE"}
        try:
            self._copy_object(key, made, self._target(key))
        except (boto.ClientError, boto.BotoCoreError) as error:
            if code_of(error) in _NO_COPY:
                return False
            raise in_words(error, f"move {key} to {storage_class}", self.place) from None
        return True

    def cold(self, key: str) -> Coldness | None:
        """How an object stands in cold storage; None for one that can be read at once. Some endpoints only name a
        cold class, and give the bytes all the same: one byte is asked for."""
        with speaking_of(f"look at {key}", self.place):
            how = coldness_of(dict(self.client.head_object(**self._target(key))))
        if how is None or how.state != "cold":
            return how
        try:
            self.range(key, 0, 1)
        except Cold:
            return how
        return None

    def thaw(self, key: str, days: int, speed: Speed) -> None:
        """Ask that a cold object be readable for some days; one that is asked for already is success."""
        request: Any = {"Days": days, "GlacierJobParameters": {"Tier": speed}}
        try:
            self.client.restore_object(**self._target(key), RestoreRequest=request)
        except (boto.ClientError, boto.BotoCoreError) as error:
            if code_of(error) != "RestoreAlreadyInProgress":
                raise in_words(error, f"ask for the thaw of {key}", self.place) from None

    def copy_part(
        self, key: str, to: str, upload: str, number: int, start: int, length: int, version: str = ""
    ) -> dict[str, Any] | None:
        """Have the endpoint copy a range as one part; its entry in the list that completes the upload, or None
        when it cannot."""
        try:
            answer = self.client.upload_part_copy(
                **self._target(to), UploadId=upload, PartNumber=number, CopySource=self._from(key, version),
                CopySourceRange=f"bytes={start}-{start + length - 1}",
            ).get("CopyPartResult", {})  # fmt: skip
        except (boto.ClientError, boto.BotoCoreError) as error:
            if code_of(error) in _NO_COPY:
                return None
            raise in_words(error, f"copy part {number} of {key} to {to}", self.place) from None
        if not answer.get("ETag"):  # it took the request for a part without bytes
            return None
        told = {name: answer[name] for name in ("ETag", "ChecksumSHA256") if name in answer}
        return {"PartNumber": number, **told}

    def abandon(self, key: str, upload: str) -> None:
        """Drop an unfinished upload; one that is not there is success."""
        try:
            self.client.abort_multipart_upload(**self._target(key), UploadId=upload)
        except (boto.ClientError, boto.BotoCoreError) as error:
            if code_of(error) not in {"NoSuchUpload", "404"}:
                self.under_way.left(upload)
                raise in_words(error, f"abort the upload of {key}", self.place) from None
        self.under_way.ended(upload)

    def uploads(self, prefix: str, marker: dict[str, str]) -> dict[str, Any]:
        """One page of the unfinished uploads. Some endpoints have none in other words: no such upload."""
        try:
            answer = self.client.list_multipart_uploads(Bucket=self.place.bucket, Prefix=prefix, **marker)
            return dict(answer)
        except (boto.ClientError, boto.BotoCoreError) as error:
            if code_of(error) == "NoSuchUpload":
                return {}
            raise in_words(error, "list unfinished uploads", self.place) from None

    def range(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``; fewer where the object ends."""
        return b"".join(read_object(self.client, self.place, key, start, length))

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is success."""
        try:
            self.client.delete_object(**self._target(key))
        except (boto.ClientError, boto.BotoCoreError) as error:
            if code_of(error) != "NoSuchKey":
                raise in_words(error, f"delete {key}", self.place) from None

    def discard(self, key: str) -> None:
        """Delete a probe of our own; a key that may write but not delete leaves it where it is."""
        with contextlib.suppress(CredentialsRefused, Retained):
            self.delete(key)

    def retained_until(self, key: str) -> datetime | None:
        """Until when an object lock keeps it. An endpoint that has none, or does not tell us, says None."""
        try:
            answer = self.client.head_object(**self._target(key))
        except (boto.ClientError, boto.BotoCoreError) as error:
            if status_of(error) == 404:
                return None
            raise in_words(error, f"look at {key}", self.place) from None
        if answer.get("ObjectLockLegalHoldStatus") == "ON":
            return datetime.max.replace(tzinfo=UTC)
        until = answer.get("ObjectLockRetainUntilDate")
        return until.astimezone(UTC) if until else None

    @property
    def locks(self) -> bool:
        """Is what is written here locked, by the site's settings?"""
        return bool(self._lock_mode)

    def retain(self, key: str, term: Term) -> datetime:
        """See ``Store.retain``. A lock that nobody can lift stays one."""
        with speaking_of(f"look at {key}", self.place):
            head = self.client.head_object(**self._target(key))
        until: datetime | None = head.get("ObjectLockRetainUntilDate")
        if until is not None and until >= term.least:
            return until.astimezone(UTC)
        mode = _FOR_GOOD if head.get("ObjectLockMode") == _FOR_GOOD else self._lock_mode
        retention: Any = {"Mode": mode, "RetainUntilDate": term.most}
        try:
            self.client.put_object_retention(**self._target(key), Retention=retention)
        except (boto.ClientError, boto.BotoCoreError) as error:
            if status_of(error) not in {401, 403}:
                raise in_words(error, f"lengthen the lock of {key}", self.place) from None
            raise CredentialsRefused(
                f"Could not lengthen the lock of {key} in {self.place}: the key may not do this ({code_of(error)}).",
                kept="what is there, with its locks; what needs this object longer was not copied there",
                remedy=f"let access_key of replica {self.place.replica} do s3:PutObjectRetention and "
                f"s3:GetObjectRetention on arn:aws:s3:::{self.place.bucket}/* (docs/locks.md)",
            ) from None
        return term.most

    def checks_sha256(self) -> bool:
        """Whether the endpoint really compares digests: it must refuse one that is wrong. Asked once.

        Some endpoints take the header, even send it back, and never look at it.
        """
        if self._checks is None:
            self._checks = self.sha256 and self._refuses_a_wrong_digest()
        return self._checks

    def _refuses_a_wrong_digest(self) -> bool:
        key = f"{self.state}/probe-{uuid4().hex}"
        wrong = digest_arguments(b"other bytes", sha256=True)
        try:
            self.client.put_object(**self._target(key), Body=b"probe", **wrong)
        except boto.ClientError as error:
            return status_of(error) == 400
        except boto.BotoCoreError as error:
            raise in_words(error, "try the checksums", self.place) from None
        self.discard(key)
        return False

    def _if_absent(self, key: str, action: str, send: Any) -> None:
        """Send on condition that nothing stands there.

        Some endpoints refuse the condition, others ignore it in silence: callers look first, so that
        only a race between two writers is left to it.
        """
        try:
            send({"IfNoneMatch": "*"} if self._conditional else {})
        except boto.ClientError as error:
            if status_of(error) == 412:
                raise self._exists(key) from None
            if not (self._conditional and code_of(error) in _UNABLE):
                raise in_words(error, action, self.place) from None
            self._conditional = False
            self._if_absent(key, action, send)
        except (boto.BotoCoreError, OSError) as error:
            raise in_words(error, action, self.place) from None

    def _exists(self, key: str) -> StoreRefused:
        return StoreRefused(f"{key} exists already in {self.place}.", kept="what stands there; it was not touched.")

    def _target(self, key: str) -> Any:
        return {"Bucket": self.place.bucket, "Key": key}

    def _copy_object(self, to: str, made: Any, source: Any) -> None:
        """Copy, locked at once; where the endpoint takes no lock with a copy, right after it."""
        lock = self._lock(to)
        try:
            self.client.copy_object(**self._target(to), **made, **lock, CopySource=source)
        except boto.ClientError as error:
            if not lock or code_of(error) != "MissingUploadObjectWithObjectLockHeaders":
                raise
            self.client.copy_object(**self._target(to), **made, CopySource=source)
            retention: Any = {"Mode": self._lock_mode, "RetainUntilDate": lock["ObjectLockRetainUntilDate"]}
            self.client.put_object_retention(**self._target(to), Retention=retention)

    def _from(self, key: str, version: str) -> Any:
        return {**self._target(key), **({"VersionId": version} if version else {})}

    def _lock(self, key: str, until: datetime | None = None) -> Any:
        """Arguments that lock an object, if it is to be; a lock that is over already is none."""
        until = until or self._locked_until(key)
        if not self.locks or until is None or until <= datetime.now(UTC):
            return {}
        return {"ObjectLockMode": self._lock_mode, "ObjectLockRetainUntilDate": until}

    def _made(self, token: str, warm: bool, archive: bool, named: str | None = None) -> Any:
        made: dict[str, Any] = {"Metadata": {TOKEN: token}, "ContentType": "application/octet-stream"}
        storage_class = named or (self._archive_class if archive else self._class)
        if storage_class and not warm:
            made["StorageClass"] = storage_class
        if self._encryption:
            made["ServerSideEncryption"] = self._encryption
        return made
