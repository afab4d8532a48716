"""The list of a bucket's objects: one JSON object a line, in the order in which the bucket lists them.

The first line names the format and the bucket. The list is the data file of a backup, so its digest stands in the
signed manifest, and with it everything a line says: of the object, and of the stored content that it has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from engine.catalog import Entry
from engine.errors import IntegrityError

DUMP_FORMAT = "bucket"
EXTENSION = "jsonl"
FORMAT = 1
REWRITTEN = "rewritten_at"
"""Of a list that was encrypted anew: since when its contents were (ISO 8601, UTC), as a fact of its manifest."""
_LONGEST_LINE = 1 << 20
_STORED = re.compile(rb'"stored":"([0-9a-f]{64}(?:-[0-9a-f]{8})?)"')


@dataclass(frozen=True, slots=True)
class Content:
    """One stored content.

    Attributes:
        stored: Its name in the vault.
        stored_size, stored_sha256: Of the encrypted file.
        key_id, iterations: How it was encrypted.
        since: When it was stored (UTC).
    """

    stored: str
    stored_size: int
    stored_sha256: str
    key_id: str
    iterations: int
    since: str

    def text(self) -> str:
        """As JSON."""
        return json.dumps([getattr(self, name) for name in self.__slots__])

    @classmethod
    def of(cls, text: str) -> Content:
        return cls(*json.loads(text))


@dataclass(frozen=True, slots=True)
class Record:
    """One object as it was.

    Attributes:
        size: Of its content, bytes; ``sha256`` is the content's own digest.
        etag, modified: As the bucket told them (``modified`` in UTC).
        headers: What is sent with it, by boto's names: ContentType, CacheControl...
        version: Its version id; empty where the bucket keeps none.
        tags: None where they were not asked for, or could not be had.
        storage_class: Empty for the standard one.
    """

    key: str
    size: int
    etag: str
    modified: str
    sha256: str
    content: Content
    headers: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] | None = field(default_factory=dict)
    version: str = ""
    storage_class: str = ""

    def line(self) -> str:
        """As a line of the list."""
        facts = {
            "key": self.key, "size": self.size, "etag": self.etag, "modified": self.modified, "sha256": self.sha256,
            "headers": self.headers, "metadata": self.metadata, "tags": self.tags, "version": self.version,
            "class": self.storage_class,
        } | {name: getattr(self.content, name) for name in Content.__slots__}  # fmt: skip
        return json.dumps(facts, separators=(",", ":")) + "\n"


def is_list(entry: Entry) -> bool:
    """Is this backup a list of objects, by its name?"""
    return entry.name.ext.startswith(f"{EXTENSION}.")


def header(bucket: str, endpoint: str) -> str:
    """The first line."""
    return json.dumps({"format": FORMAT, "bucket": bucket, "endpoint": endpoint}, separators=(",", ":")) + "\n"


def record_of(line: str | bytes, what: str = "a list") -> Record:
    """What a line says. Raises IntegrityError."""
    try:
        facts = json.loads(line)
        content = Content(**{name: facts.pop(name) for name in Content.__slots__})
        return Record(content=content, storage_class=facts.pop("class"), **facts)
    except (ValueError, TypeError, KeyError) as error:
        raise IntegrityError(f"{what} holds a line that is no object's: {type(error).__name__}.") from None


def lines(chunks: Iterable[bytes], what: str) -> Iterator[bytes]:
    """The objects' lines of a list, each checked no further.

    Raises:
        IntegrityError: It is no such list, or of a newer format.
    """
    source = _split(chunks, what)
    try:
        first: Any = json.loads(next(source, b""))
        version = first["format"]
    except (ValueError, TypeError, KeyError):
        raise IntegrityError(f"{what} is no list of a bucket's objects.") from None
    if not isinstance(version, int) or version > FORMAT:
        raise IntegrityError(
            f"{what} is a list of format {version}; this release reads up to {FORMAT}.", remedy="upgrade backup-flows"
        )
    yield from source


def records(chunks: Iterable[bytes], what: str) -> Iterator[Record]:
    """The objects of a list. Raises IntegrityError."""
    return (record_of(line, what) for line in lines(chunks, what))


def stored_names(chunks: Iterable[bytes], what: str) -> Iterator[str]:
    """The names of the stored contents that a list needs; one may come more than once, or be one that only looks like
    such a name. Fast, for there are many lists. Raises IntegrityError."""
    for line in lines(chunks, what):
        yield from (found.decode() for found in _STORED.findall(line))


def _split(chunks: Iterable[bytes], what: str) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
        if len(rest) > _LONGEST_LINE:
            raise IntegrityError(f"{what} has a line without end.")
    if rest:
        raise IntegrityError(f"{what} ends in the middle of a line.")
