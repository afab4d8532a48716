"""Reading one object of a bucket: its bytes and everything that is kept of it, in one answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore import exceptions as boto
from urllib3.exceptions import HTTPError

from engine.buckets.contents import SMALL, Keeper
from engine.buckets.endpoint import HEADERS, Endpoint, Listed, Unable
from engine.buckets.headers import text_of
from engine.buckets.record import Record
from engine.errors import BackupError, Cancelled, CredentialsRefused, IntegrityError, NotFound, StoreError
from engine.names import iso
from engine.stores.s3_read import CHUNK, read_object

_TRIES = 3
_CUT = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, HTTPError, OSError)


@dataclass(frozen=True)
class Unread:
    """An object that could not be had.

    Attributes:
        error: None where it was gone.
    """

    key: str
    why: str
    error: BackupError | None = None


class Fetcher:
    """Reads objects of one bucket into the vault. Safe to use from several threads.

    Attributes:
        tags: Whether tags are asked for.
        warnings: What a person should know, each once.
        refused: Why tags could not be had.
        stopped: Set it, and what is being read ends soon.
    """

    def __init__(self, endpoint: Endpoint, keeper: Keeper, *, tags: bool) -> None:
        self._endpoint = endpoint
        self._keeper = keeper
        self.tags = tags
        self.warnings: dict[str, None] = {}
        self.refused: BackupError | None = None
        self.stopped = threading.Event()
        self._guard = threading.Lock()
        self._asked = False
        self._has_none = False

    def fetch(self, listed: Listed) -> Record | Unread:
        """Store an object's content, unless it is there; gives what the list will say of it.

        Raises:
            Unreachable, and what the vault raises. What concerns this object only is an ``Unread``.
        """
        for attempt in range(_TRIES):
            try:
                return self._fetch(listed)
            except NotFound:
                return Unread(listed.key, "it was deleted while the snapshot was made")
            except _Changed:
                if attempt + 1 == _TRIES:
                    return Unread(listed.key, "it kept changing while it was read")
            except CredentialsRefused as error:
                if "may not do this" not in error.message:
                    raise
                return Unread(listed.key, f"it may not be read ({_reason(error)})", error)
            except StoreError as error:
                if _of_vault(error):
                    raise
                return Unread(listed.key, _reason(error), error)
        raise AssertionError("a fetch ends in its last attempt")

    def _fetch(self, listed: Listed) -> Record:
        action = f"read {listed.key!r}"
        with self._endpoint.speaking(action):
            answer = self._endpoint.client.get_object(Bucket=self._endpoint.bucket, Key=listed.key)
        expected, etag = int(answer["ContentLength"]), str(answer.get("ETag", ""))
        with closing(answer["Body"]) as body:
            if expected <= SMALL:
                size, sha256, content = self._keeper.keep(_body(body, action, self.stopped), expected)
        if expected > SMALL:
            size, sha256, content = self._keeper.keep(self._large(listed.key, etag), expected)
        if size != expected:
            raise _Changed(f"{listed.key!r} ended after {size:,} bytes of {expected:,}.")
        return Record(
            listed.key, size, etag.strip('"'), _modified(listed, answer), sha256, content,
            {name: text_of(str(answer[name])) for name in HEADERS if answer.get(name)} | expiry(answer),
            {name: text_of(value) for name, value in (answer.get("Metadata") or {}).items()},
            self._tags(listed.key), _version(answer), listed.storage_class,
        )  # fmt: skip

    def _large(self, key: str, etag: str) -> Iterator[bytes]:
        """The version that the first answer told of; picked up again where the line broke."""
        try:
            for chunk in read_object(self._endpoint.client, self._endpoint.place, key, etag=etag):
                _heed(self.stopped)
                yield chunk
        except IntegrityError as error:
            raise _Changed(error.message) from None

    def _tags(self, key: str) -> dict[str, str] | None:
        """Until the first answer has come, one at a time: where there are no tags, one request is enough to know."""
        if not self.tags:
            return None
        with nullcontext() if self._asked else self._guard:
            if self._has_none or self.refused is not None:
                return {} if self._has_none else None
            try:
                return self._endpoint.tags(key)
            except Unable:
                self._has_none = True
                self.warnings[f"{self._endpoint.place.endpoint} keeps no tags of objects; none are in the list"] = None
                return {}
            except CredentialsRefused as error:
                self.refused = error
                return None
            finally:
                self._asked = True


def _heed(stopped: threading.Event) -> None:
    if stopped.is_set():
        raise Cancelled("Stopped: the reading of an object.", kept="nothing of the snapshot was published")


def _body(body: Any, action: str, stopped: threading.Event) -> Iterator[bytes]:
    try:
        while chunk := body.read(CHUNK):
            _heed(stopped)
            yield chunk
    except _CUT as error:
        raise _Changed(f"Could not {action}: cut off ({type(error).__name__}).") from None


class _Changed(BackupError):
    """The object is not what it was a moment ago, or its line broke: from the start again."""


def _reason(error: BackupError) -> str:
    return error.message.rstrip(".")


def _of_vault(error: StoreError) -> bool:
    """Does an error speak of the vault, and not of the bucket that is read?"""
    return not error.message.startswith(("Could not read", "Could not read the tags"))


def expiry(answer: dict[str, Any]) -> dict[str, str]:
    """The header ``Expires`` of an answer, where it has one that is a time."""
    moment = answer.get("Expires")
    return {"Expires": iso(moment)} if isinstance(moment, datetime) else {}


def _modified(listed: Listed, answer: dict[str, Any]) -> str:
    """As the listing told it, which some endpoints do to the millisecond; unless this is a newer version already."""
    told = iso(answer["LastModified"])
    return listed.modified if listed.modified[:19] == told[:19] else told


def _version(answer: dict[str, Any]) -> str:
    version = str(answer.get("VersionId") or "")
    return "" if version == "null" else version
