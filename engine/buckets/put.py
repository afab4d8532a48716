"""Putting objects back: each with all that belongs to it, its bytes compared by the server on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from engine.buckets.contents import Contents
from engine.buckets.endpoint import Endpoint
from engine.buckets.headers import allow_utf8, as_mail, text_of
from engine.buckets.record import Record
from engine.errors import BackupError, Cold, IntegrityError, NotFound, StoreError, WrongKey
from engine.stores.local import LocalStore
from engine.stores.multipart import BASE_PART, PartReader, PartSize, digest_arguments, growing

WHOLE = BASE_PART
"""Objects up to this size (bytes) are put in one request."""


class Unhad(Exception):
    """No place has the content of an object unharmed; the text says why of each."""


class _Unreadable(Exception):
    """One place has not."""


class Putter:
    """Puts objects of a snapshot into a bucket. Safe to use from several threads.

    Args:
        copies: The contents in every place that has this snapshot, best place first.
        whole: Up to this size in one request.
        parts: Sizes of the parts of larger ones.
        own: The objects came from this very endpoint: what it gave in UTF-8 it gets so again. Any other gets that in
            the form of mail headers, as S3 has it.

    Attributes:
        stopped: Set it, and what is being sent ends soon; an unfinished upload is abandoned.
        begun: Told the key of each upload in parts before it is begun, and its id (empty at first) once that is known;
            perhaps by several threads at once.
    """

    def __init__(
        self, there: Endpoint, copies: list[Contents], under: str, *, whole: int = WHOLE, parts: PartSize = growing,
        own: bool = False,
    ) -> None:  # fmt: skip
        self._own = own
        if own:
            allow_utf8(there.client)
        self._there = there
        self._copies = copies
        self._under = under
        self._whole = whole
        self._parts = parts
        self.notes: dict[str, None] = {}
        self.stopped = threading.Event()
        self.begun: Callable[[str, str], None] = lambda key, upload: None

    def put(self, each: Record) -> None:
        """Put one object, from the first place that has its content unharmed.

        Raises:
            Unhad: No place has it. And what the endpoint says.
        """
        why: list[str] = []
        for contents in self._copies:
            try:
                self._put(each, contents)
            except _Unreadable as error:
                why.append(str(error).rstrip("."))
                continue
            for reason in why:
                self.notes[f"{each.key!r} came from the next place: {reason}"] = None
            return
        raise Unhad("; ".join(why))

    def _put(self, each: Record, contents: Contents) -> None:
        chunks = _read(each, contents)
        key = self._under + each.key
        if each.size <= self._whole:
            body = memoryview(b"".join(chunks))
            with self._there.speaking(f"write {key!r}"):
                self._there.client.put_object(
                    Bucket=self._there.bucket, Key=key, Body=PartReader(body, self.stopped), **_dress(each, self._own),
                    **digest_arguments(body, sha256=False),
                )  # fmt: skip
            return
        where = {"Bucket": self._there.bucket, "Key": key}
        self.begun(key, "")
        with self._there.speaking(f"begin the upload of {key!r}"):
            upload = self._there.client.create_multipart_upload(**where, **_dress(each, self._own))["UploadId"]
        try:
            self.begun(key, upload)
            sent = [self._part(where, upload, number, body) for number, body in self._cut(chunks)]
            with self._there.speaking(f"complete the upload of {key!r}"):
                self._there.client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": sent})
        except BaseException:
            self._abandon(key, upload)
            raise

    def _part(self, where: dict[str, str], upload: str, number: int, body: bytearray) -> dict[str, Any]:
        view = memoryview(body)
        with self._there.speaking(f"upload part {number} of {where['Key']!r}"):
            answer = self._there.client.upload_part(
                **where, UploadId=upload, PartNumber=number, Body=PartReader(view, self.stopped),
                **digest_arguments(view, sha256=False),
            )  # fmt: skip
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _cut(self, chunks: Iterator[bytes]) -> Iterator[tuple[int, bytearray]]:
        number, body = 1, bytearray()
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                room = self._parts(number) - len(body)
                body += rest[:room]
                rest = rest[room:]
                if len(body) == self._parts(number):
                    yield number, body
                    number, body = number + 1, bytearray()
        if body:
            yield number, body

    def _abandon(self, key: str, upload: str) -> None:
        try:
            self._there.abandon(key, upload)
        except BackupError as error:
            self.notes[f"an unfinished upload stays in the bucket: {error.message.rstrip('.')}"] = None


def _read(each: Record, contents: Contents) -> Iterator[bytes]:
    """A content's bytes. Raises _Unreadable where it is this very content that cannot be had here: it is damaged, gone,
    or its key is, or the disk does not give it. A place that does not answer at all is told as such."""
    try:
        yield from contents.read(each.content, each.sha256, each.size)
    except (IntegrityError, NotFound, WrongKey) as error:
        raise _Unreadable(error.message) from None
    except StoreError as error:
        if isinstance(error, Cold) or not isinstance(contents.store, LocalStore):
            raise
        raise _Unreadable(error.message) from None


def _dress(each: Record, own: bool) -> dict[str, Any]:
    """Everything of an object but its bytes. Tags go with the object: asked for afterwards, an endpoint that does not
    know them would take them for a new object."""
    dressed = text_of if own else as_mail
    found: dict[str, Any] = {"Metadata": {name: dressed(value) for name, value in each.metadata.items()}}
    for name, value in each.headers.items():
        found[name] = datetime.fromisoformat(value) if name == "Expires" else text_of(value)
    if each.tags:
        found["Tagging"] = urlencode(each.tags)
    return found
