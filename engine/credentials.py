"""What somebody who stole a replica's key could destroy, told by harmless requests and objects of our own.

Nothing that is there is touched. A right over the bucket itself (lifecycle, policy, versioning, lock) is asked by
setting what is set already, and only if that is wanted; where nothing is set it is not asked: that would be a change.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

from botocore import exceptions as boto

from engine import names
from engine.config import ObjectStoreConfig
from engine.layout import Layout
from engine.stores.multipart import digest_arguments
from engine.stores.s3_bucket import Bucket
from engine.stores.s3_errors import code_of, in_words, status_of

Answer = Literal["yes", "no", "unknown"]
_BODY = b"written by check-credentials; may be deleted\n"
_LOCKED_FOR = timedelta(seconds=60)
_NOTHING_SET = {
    "NoSuchLifecycleConfiguration", "NoSuchBucketPolicy", "ObjectLockConfigurationNotFoundError", "NotImplemented",
}  # fmt: skip


@dataclass(frozen=True)
class Right:
    """One thing that a key may or may not do.

    Attributes:
        dangerous: It lets backups be destroyed.
        why: Why it is not known; or what it means.
    """

    what: str
    answer: Answer
    dangerous: bool = True
    why: str = ""


@dataclass
class Rights:
    """What a key may do in a replica.

    Attributes:
        versioned: Does a plain delete leave the old version?
        locked: Are backups there locked, by the site's settings or the bucket's own rule?
        compliance: ... by a lock that nobody can lift.
    """

    location: str
    rights: list[Right] = field(default_factory=list)
    versioned: bool = False
    locked: bool = False
    compliance: bool = False

    def of(self, what: str) -> Answer:
        return next((each.answer for each in self.rights if each.what == what), "unknown")

    def verdict(self) -> str:
        """What a thief could do, in words; and where locks cannot be kept up, that."""
        return f"{self._danger()}{_SHORT if self.locked and self.of(LENGTHEN) == 'no' else ''}"

    def _danger(self) -> str:
        over = [what for what in (LIFECYCLE, POLICY, VERSIONING) if self.of(what) == "yes"]
        if self.locked and self.compliance:
            return f"{_HIDES}, but not destroy it before its lock ends: {_BACK}."
        if self.locked and self.of(BYPASS) != "yes" and POLICY not in over:
            return f"{_HIDES}, but not destroy it before its lock ends: {_BACK}.{self._unsure(POLICY)}"
        if over and not self.locked:
            return f"{_DESTROYS}: it may {' and '.join(over)}."
        if self.of(DELETE) == "no" and self.of(OVERWRITE) == "no" and not over:
            return f"A thief of this key can destroy nothing that is there.{self._unsure(LIFECYCLE, POLICY)}"
        if self.versioned and self.of(DELETE_VERSION) == "no" and not over:
            return f"{_HIDES}; old versions stay: {_BACK}.{self._unsure(LIFECYCLE, POLICY, VERSIONING)}"
        if self.locked:
            how = "change the bucket's policy, and with it " if self.of(BYPASS) != "yes" else ""
            return f"{_DESTROYS}: it may {how}lift the lock."
        return f"{_DESTROYS}."

    def _unsure(self, *rights: str) -> str:
        """What was not asked, or could not be, that would change the verdict."""
        open_ = [what for what in rights if self.of(what) == "unknown"]
        if not open_:
            return ""
        asked = any(each.what in open_ for each in self.rights)
        how = "it was not set there, so it was not tried" if asked else "ask with --settings"
        return f" Unless it may {' or '.join(open_)}, which is not known ({how})."


_HIDES = "A thief of this key can hide what is there"
_DESTROYS = "A thief of this key can destroy everything here"
_BACK = "backups undelete brings it back"
WRITE, READ, LIST = "write a new object", "read an object", "list"
OVERWRITE = "overwrite an object"
DELETE, DELETE_VERSION = "delete an object", "delete a version for good"
BYPASS = "lift a governance lock"
LENGTHEN = "lengthen a lock"
_SHORT = (
    " This key may not lengthen a lock (s3:PutObjectRetention): bucket lists and records of containers that lean on "
    "what is there already are refused and not copied, and a run with such a replica fails."
)
ABORT = "abort an upload"
LIFECYCLE, POLICY, VERSIONING, LOCK_RULE = (
    "change the bucket's lifecycle", "change the bucket's policy", "suspend versioning", "change the bucket's lock",
)  # fmt: skip


def check(config: ObjectStoreConfig, layout: Layout, source: str, *, settings: bool = False) -> Rights:
    """Try the rights of a replica's key, where its backups stand.

    Args:
        settings: Also ask for rights over the bucket itself, by setting what is set already.

    Raises:
        CredentialsRefused, StoreRefused, Unreachable: It cannot be listed or written at all.
    """
    bucket = Bucket(config)
    bucket.reach()
    folder = layout.folder(source, "daily", names.now())
    trial = _Trial(
        bucket, config, settings, "/".join(each for each in (folder, f"check-credentials-{uuid4().hex}") if each)
    )
    try:
        return trial.run()
    finally:
        trial.clear()


class _Trial:
    def __init__(self, bucket: Bucket, config: ObjectStoreConfig, settings: bool, key: str) -> None:
        self._settings = settings
        self._config = config
        self._bucket = bucket
        self._client = bucket.client
        self._at = {"Bucket": config.bucket}
        self._key = key
        self._written: list[tuple[str, str]] = []

    def run(self) -> Rights:
        found = Rights(self._bucket.place.replica)
        try:
            self._put(self._key)
        except boto.ClientError as error:
            raise in_words(error, f"write {self._key}", self._bucket.place) from None
        versioning = self._said(lambda: self._client.get_bucket_versioning(**self._at).get("Status", ""))
        found.versioned = versioning == "Enabled" or bool(self._written[0][1])
        add = found.rights.append
        add(Right(LIST, "yes", dangerous=False))
        add(Right(WRITE, "yes", dangerous=False))
        add(Right(READ, self._may(lambda: self._client.get_object(**self._at, Key=self._key)), dangerous=False))
        add(Right(OVERWRITE, self._may(lambda: self._put(self._key)), why=self._shielded(found)))
        add(Right(ABORT, self._abort(), dangerous=False))
        found.locked, lengthen, bypass = self._lock()
        found.locked = found.locked and (bool(self._config.lock) or self._bucket.retained_until(self._key) is not None)
        found.compliance = self._config.lock == "compliance"
        add(Right(DELETE, self._may(lambda: self._delete(self._key)), why=self._shielded(found)))
        add(self._delete_version(found))
        keeps_up = found.locked and bool(self._config.lock)
        add(Right(LENGTHEN, lengthen, False) if keeps_up else Right(LENGTHEN, "unknown", False, "not needed: no lock"))
        add(Right(BYPASS, bypass) if found.locked else Right(BYPASS, "unknown", False, "nothing is locked there"))
        for each in (LIFECYCLE, POLICY, VERSIONING, LOCK_RULE) if self._settings else ():
            add(self._same_again(each, versioning))
        return found

    @staticmethod
    def _shielded(found: Rights) -> str:
        return "the old version stays" if found.versioned else "nothing stays of it"

    def _lock(self) -> tuple[bool, Answer, Answer]:
        """Lock an object of our own for a minute; try to take its version away, to lengthen the lock, to lift it."""
        key = f"{self._key}-lock"
        until = datetime.now(UTC) + _LOCKED_FOR
        try:
            version = self._put(key, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until)
        except boto.ClientError:
            return False, "unknown", "unknown"
        if not version or self._may(lambda: self._delete(key, version)) == "yes":
            return False, "unknown", "unknown"
        longer: Any = {"Mode": "GOVERNANCE", "RetainUntilDate": until + timedelta(seconds=1)}
        put = self._client.put_object_retention
        lengthen = self._may(lambda: put(**self._at, Key=key, VersionId=version, Retention=longer))
        lifted = self._may(lambda: self._delete(key, version, BypassGovernanceRetention=True))
        return True, lengthen, lifted

    def _delete_version(self, found: Rights) -> Right:
        version = next((version for _, version in self._written if version), "")
        if not found.versioned or not version:
            return Right(DELETE_VERSION, found.of(DELETE), why="the bucket is not versioned")
        return Right(DELETE_VERSION, self._may(lambda: self._delete(self._key, version)))

    def _abort(self) -> Answer:
        started = self._said(lambda: self._client.create_multipart_upload(**self._at, Key=self._key)["UploadId"])
        if not started:
            return "unknown"
        return self._may(lambda: self._client.abort_multipart_upload(**self._at, Key=self._key, UploadId=started))

    def _same_again(self, what: str, versioning: str) -> Right:
        """Set what is set already."""
        client, at = self._client, self._at
        if what == VERSIONING:
            if versioning != "Enabled":
                return Right(what, "unknown", False, "it is not on, or cannot be read")
            same: dict[str, Any] = {"Status": "Enabled"}
            return Right(what, self._may(lambda: client.put_bucket_versioning(**at, VersioningConfiguration=same)))
        read: Callable[[], Any]
        write: Callable[[Any], Any]
        if what == LIFECYCLE:
            read = lambda: {"Rules": client.get_bucket_lifecycle_configuration(**at)["Rules"]}  # noqa: E731
            write = lambda it: client.put_bucket_lifecycle_configuration(**at, LifecycleConfiguration=it)  # noqa: E731
        elif what == POLICY:
            read = lambda: client.get_bucket_policy(**at)["Policy"]  # noqa: E731
            write = lambda it: client.put_bucket_policy(**at, Policy=it)  # noqa: E731
        else:
            read = lambda: client.get_object_lock_configuration(**at)["ObjectLockConfiguration"]  # noqa: E731
            write = lambda it: client.put_object_lock_configuration(**at, ObjectLockConfiguration=it)  # noqa: E731
        try:
            there = read()
        except boto.ClientError as error:
            nothing = code_of(error) in _NOTHING_SET
            why = "none is set, so it was not tried" if nothing else "it cannot be read, so it was not tried"
            return Right(what, "unknown", False, why)
        except boto.BotoCoreError:
            return Right(what, "unknown", False, "the endpoint does not answer")
        return Right(what, self._may(lambda: write(there)))

    def _may(self, deed: Callable[[], Any]) -> Answer:
        try:
            deed()
        except boto.ClientError as error:
            return "no" if status_of(error) in (401, 403) else "unknown"
        except boto.BotoCoreError:
            return "unknown"
        return "yes"

    def _said(self, question: Callable[[], Any]) -> str:
        try:
            return str(question() or "")
        except (boto.ClientError, boto.BotoCoreError):
            return ""

    def _put(self, key: str, **more: Any) -> str:
        answer = self._client.put_object(
            **self._at, Key=key, Body=_BODY, **digest_arguments(_BODY, sha256=False), **more
        )
        version = str(answer.get("VersionId") or "")
        self._written.append((key, version))
        return version

    def _delete(self, key: str, version: str = "", **more: Any) -> None:
        which = {"VersionId": version} if version else {}
        self._client.delete_object(**self._at, Key=key, **which, **more)

    def clear(self) -> None:
        """Take away what was written, as far as the key may."""
        for key, version in self._written:
            with contextlib.suppress(boto.ClientError, boto.BotoCoreError):
                self._delete(key, version)


__all__ = ["Right", "Rights", "check"]
