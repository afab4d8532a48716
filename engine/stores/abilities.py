"""What an endpoint and a bucket can do, found out by trying it on small objects of our own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

from botocore import exceptions as boto

from engine import names
from engine.cold.classes import COLD_CLASSES
from engine.errors import BackupError, Cold, CredentialsRefused
from engine.store_config import ObjectStoreConfig
from engine.stores.lease_object import bare
from engine.stores.multipart import digest_arguments
from engine.stores.s3_bucket import Bucket
from engine.stores.s3_errors import code_of, in_words, status_of

_BODY = b"written by a probe of this vault; may be deleted\n"
_LOCKED_FOR = timedelta(seconds=15)
Known = Literal["yes", "no", "unknown"]
_APART: dict[Known, str] = {
    "yes": "yes, by a lease",
    "no": "no: only runs of one host are kept apart, so let no two hosts work in this bucket at a time",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Abilities:
    """One endpoint, as it answered.

    Attributes:
        at: When it was asked, UTC.
        conditional_put: ``yes``; ``no``: it refuses the condition, or ignores it in silence.
        conditional_replace: Does it replace an object only if that has the ETag that is named? As above.
        versioning: Is the bucket versioned?
        object_lock: Was the bucket made with object lock, and does it lock an object when asked?
        default_lock: The bucket's own rule, in words; empty for none.
        checksums: Does it refuse bytes that do not have the SHA-256 that came with them?
        deletes: May this key delete?
        classes: Of each class that the site names for it ``yes``, or why not.
        place: The bucket and its endpoint, as messages name them.
    """

    at: datetime
    conditional_put: Known = "unknown"
    conditional_replace: Known = "unknown"
    versioning: Known = "unknown"
    object_lock: Known = "unknown"
    default_lock: str = ""
    checksums: Known = "unknown"
    deletes: Known = "unknown"
    classes: dict[str, str] = field(default_factory=dict)
    place: str = ""

    @property
    def leases(self) -> Known:
        """Can the runs of several hosts be kept apart there?"""
        return both(self.conditional_put, self.conditional_replace)

    def lines(self) -> list[str]:
        """For people."""
        told = [
            f"never replaces by itself (If-None-Match): {self.conditional_put}",
            f"replaces only what is named (If-Match): {self.conditional_replace}",
            f"keeps runs of several hosts apart: {_APART[self.leases]}",
            f"versioned: {self.versioning}",
            f"object lock: {self.object_lock}" + (f" ({self.default_lock})" if self.default_lock else ""),
            f"checks SHA-256: {self.checksums}",
            f"this key may delete: {self.deletes}",
        ]
        return told + [f"class {name}: {answer}" for name, answer in self.classes.items()]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "at": names.iso(self.at)}


def probe(config: ObjectStoreConfig) -> Abilities:
    """Try everything that the configuration may lean on.

    Leaves nothing behind where the key may delete; else some bytes below ``.backup-flows/`` of the configured path. A
    bucket that locks keeps one of them for some seconds.

    Raises:
        CredentialsRefused, StoreRefused, Unreachable: It cannot even be listed or written.
    """
    bucket = Bucket(config)
    bucket.reach()
    probing = _Probing(bucket, config)
    try:
        conditional = probing.conditional_put()
        replace = probing.conditional_replace()
        lock, rule = probing.object_lock()
        return Abilities(
            at=names.now(),
            conditional_put=conditional,
            conditional_replace=replace,
            versioning=probing.versioning(),
            object_lock=lock,
            default_lock=rule,
            checksums=probing.checksums(),
            deletes=probing.deletes(),
            classes={name: probing.storage_class(name) for name in _named(config)},
            place=str(bucket.place),
        )
    finally:
        probing.clear()


def probe_conditions(config: ObjectStoreConfig) -> tuple[Known, Known]:
    """Only ``conditional_put`` and ``conditional_replace``; leaves behind and raises what ``probe`` does."""
    probing = _Probing(Bucket(config), config)
    try:
        return probing.conditional_put(), probing.conditional_replace()
    finally:
        probing.clear()


def both(one: Known, other: Known) -> Known:
    """``yes`` where both are, ``no`` where one is not."""
    if "no" in (one, other):
        return "no"
    return "yes" if (one, other) == ("yes", "yes") else "unknown"


def unmet(config: ObjectStoreConfig, found: Abilities) -> list[str]:
    """What the configuration asks for and the endpoint cannot do, in words."""
    told = [
        f"replica {config.name}: the class {name} {answer}" for name, answer in found.classes.items() if answer != "yes"
    ]
    if config.lock and found.object_lock == "no":
        missing = "is not versioned, and has" if found.versioning == "no" else "has"
        told.append(
            f"replica {config.name}: the bucket {config.bucket} {missing} no object lock, so lock: {config.lock} "
            "cannot be kept; make a bucket with it (aws s3api create-bucket --object-lock-enabled-for-bucket), or "
            "leave lock empty"
        )
    if config.checksums == "sha256" and found.checksums == "no":
        told.append(
            f"replica {config.name}: the endpoint takes SHA-256 checksums and does not look at them; leave it at "
            "checksums: auto"
        )
    return told


def _named(config: ObjectStoreConfig) -> list[str]:
    classes = (config.storage_class, config.archive_class, config.cold_class)
    return list(dict.fromkeys(each for each in classes if each))


def _cannot(error: boto.ClientError) -> Known:
    """What a refusal other than the one that was asked for says: trouble that may pass says nothing."""
    status = status_of(error)
    return "unknown" if status in (408, 409, 429) or (status >= 500 and status != 501) else "no"


class _Probing:
    """Objects of one probe."""

    def __init__(self, bucket: Bucket, config: ObjectStoreConfig) -> None:
        self._bucket = bucket
        self._config = config
        self._client = bucket.client
        self._key = f"{bucket.state}/abilities-{uuid4().hex}"
        self._written: list[tuple[str, str]] = []

    def conditional_put(self) -> Known:
        """A second put of the same key, if nothing stands there, must be refused."""
        try:
            self._put(self._key)
        except boto.ClientError as error:
            raise in_words(error, f"write {self._key}", self._bucket.place) from None
        return self._is_refused(IfNoneMatch="*")

    def conditional_replace(self) -> Known:
        """A put that names what stands there must be taken, and one that names what stood there before refused; with
        quotes, as the ETag is told, else without."""
        try:
            before = self._put(self._key, _BODY + b"2")
        except boto.ClientError as error:
            return _cannot(error)
        for named in (before, bare(before)):
            try:
                self._put(self._key, _BODY + b"3", IfMatch=named)
            except boto.ClientError as error:
                if status_of(error) != 412:
                    return _cannot(error)
            else:
                return self._is_refused(IfMatch=named)
        return "no"

    def _is_refused(self, **condition: Any) -> Known:
        try:
            self._put(self._key, **condition)
        except boto.ClientError as error:
            return "yes" if status_of(error) == 412 else _cannot(error)
        return "no"

    def versioning(self) -> Known:
        with self._asked() as answer:
            answer["said"] = self._client.get_bucket_versioning(Bucket=self._config.bucket).get("Status", "")
        if "said" not in answer:
            return "unknown"
        return "yes" if answer["said"] == "Enabled" else "no"

    def object_lock(self) -> tuple[Known, str]:
        """Whether an object can be locked, tried for some seconds; and the bucket's own rule."""
        rule = ""
        with self._asked() as answer:
            found = self._client.get_object_lock_configuration(Bucket=self._config.bucket)
            kept = found.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
            days = kept.get("Days") or kept.get("Years", 0) * 365
            rule = f"{str(kept.get('Mode', '')).lower()}, {days} days for every object" if days else ""
            answer["said"] = True
        key = f"{self._key}-lock"
        until = datetime.now(UTC) + _LOCKED_FOR
        try:
            self._put(key, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until)
        except boto.ClientError as error:
            denied = status_of(error) == 403
            return ("unknown" if denied and "said" in answer else "no"), rule
        return self._holds(key, self._written[-1][1]), rule

    def _holds(self, key: str, version: str) -> Known:
        """Some endpoints note a lock and do not hold it: the locked version must not go."""
        if not version:
            return "no"
        try:
            self._client.delete_object(Bucket=self._config.bucket, Key=key, VersionId=version)
        except boto.ClientError:
            with contextlib.suppress(BackupError):
                return "yes" if self._bucket.retained_until(key) is not None else "no"
            return "unknown"
        return "no"

    def checksums(self) -> Known:
        wrong: dict[str, Any] = dict(digest_arguments(b"other bytes", sha256=True))
        try:
            self._put(f"{self._key}-digest", **wrong)
        except boto.ClientError as error:
            return "yes" if status_of(error) == 400 else "unknown"
        return "no"

    def storage_class(self, name: str) -> str:
        """``yes``, or why not."""
        key = f"{self._key}-{name.lower()}"
        try:
            self._put(key, StorageClass=name)
        except boto.ClientError as error:
            return f"is refused by the endpoint ({code_of(error) or status_of(error)})"
        said = self._client.head_object(Bucket=self._config.bucket, Key=key).get("StorageClass") or "STANDARD"
        if said != name:
            return f"is taken, but the object is {said}"
        if name in COLD_CLASSES:
            try:
                self._bucket.range(key, 0, 1)
            except Cold:
                return "yes"
            return "is only noted: what is in it can be read at once"
        return "yes"

    def deletes(self) -> Known:
        try:
            self._bucket.delete(self._key)
        except CredentialsRefused:
            return "no"
        except BackupError:
            return "unknown"
        return "yes"

    def clear(self) -> None:
        """Take away what was written: each version where there are any, else the object."""
        for key, version in dict.fromkeys(self._written):
            with contextlib.suppress(boto.ClientError, boto.BotoCoreError):
                which = {"VersionId": version} if version else {}
                self._client.delete_object(Bucket=self._config.bucket, Key=key, **which)

    def _put(self, key: str, body: bytes = _BODY, **more: Any) -> str:
        """Its ETag."""
        digest = {} if "ChecksumSHA256" in more else digest_arguments(body, sha256=False)
        try:
            answer = self._client.put_object(Bucket=self._config.bucket, Key=key, Body=body, **digest, **more)
        except boto.BotoCoreError as error:
            raise in_words(error, f"write {key}", self._bucket.place) from None
        self._written.append((key, str(answer.get("VersionId") or "")))
        return str(answer["ETag"])

    @contextlib.contextmanager
    def _asked(self) -> Iterator[dict[str, Any]]:
        """A question that an endpoint may not know or a key may not ask."""
        answer: dict[str, Any] = {}
        try:
            yield answer
        except (boto.ClientError, boto.BotoCoreError):
            answer.clear()


__all__ = ["Abilities", "Known", "both", "probe", "probe_conditions", "unmet"]
