"""What every store can do, and what it promises. Callers lean on nothing else.

Keys are relative, with ``/`` between parts, never starting or ending with one, never holding ``..``.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from engine.cold.classes import Coldness, Speed
from engine.retention.locks import Term


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One stored object: key, size in bytes, when it was last written (UTC).

    Attributes:
        storage_class: As a bucket's listing tells it; empty where nothing does.
    """

    key: str
    size: int
    modified: datetime
    storage_class: str = ""


@dataclass(frozen=True)
class Stored:
    """What a finished write left behind.

    Attributes:
        size: Bytes stored, as the store itself reports them.
        sha256: Hex digest of the bytes given to it.
        proof: How the store's copy was checked: ``server-sha256`` (the server compared digests),
            ``read-back`` (all bytes read again), ``size+sample`` (size, and sampled ranges read again).
    """

    key: str
    size: int
    sha256: str
    proof: str


class StagedWrite(Protocol):
    """A write that nobody can see until it is committed.

    Used as a context manager: leaving it without ``commit`` aborts. ``abort`` may be called at any
    time, more than once, and after a failed ``commit``; it leaves nothing behind.
    """

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes. They may be buffered; memory stays bounded whatever the total."""
        ...

    def commit(self) -> Stored:
        """Make the object visible under its key, whole and durable, or fail leaving nothing visible.

        Only called when the producer is known to have ended well.

        Raises:
            StoreRefused: Something else already stands under that key.
        """
        ...

    def abort(self) -> None: ...

    def __enter__(self) -> StagedWrite: ...

    def __exit__(self, *exc: object) -> None: ...


class Store(Protocol):
    """A place that keeps objects.

    Every method may be called again after a failure that is ``retryable``; doing so is idempotent.
    Errors are ``engine.errors``: ``NotFound``, ``CredentialsRefused``, ``StoreRefused``,
    ``Unreachable``, ``DiskFull`` and, for what may pass, ``StoreError``.
    """

    name: str
    """``local`` or the replica's name."""

    def describe(self) -> str:
        """Where this is, for people: a path, or ``s3://bucket/ at endpoint``. No secrets."""
        ...

    def check(self) -> None:
        """Prove that this store can be reached, written and listed; leaves nothing behind.

        Raises:
            CredentialsRefused, StoreRefused, Unreachable: named, with the remedy.
        """
        ...

    def stage(
        self, key: str, *, warm: bool = False, archive: bool = False, until: datetime | None = None
    ) -> StagedWrite:
        """Begin a write of unknown length. ``warm`` ignores a configured cold storage class; ``archive`` takes the
        one configured for archives. ``until``: of its lock (UTC) where the key does not tell; ignored where nothing is
        locked."""
        ...

    def duplicate(self, key: str, to: str, *, archive: bool = False) -> bool:
        """Have an object stand under another key, too, without sending it again: a hard link, a copy made by the
        server. Whole and durable when it returns; never replaces. Its bytes are not compared here.

        Returns:
            False where this place cannot do that; nothing was changed then.

        Raises:
            NotFound: No such object. StoreRefused: Something stands under the other key.
        """
        ...

    def put(self, key: str, data: bytes) -> Stored:
        """Store a small object (a manifest, a mark) at once; it is always warm.

        Never replaces: the same bytes under the same key is success (idempotent), other bytes are
        refused. Durable when it returns.

        Raises:
            StoreRefused: Other bytes already stand under that key.
        """
        ...

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream an object, or ``length`` bytes of it from ``start``, in chunks of at most 1 MiB.

        A connection lost on the way is picked up again at the byte where it broke; what arrives is
        the object as it was when reading began, or an error, never a mix.

        Raises:
            NotFound: No such key. Raised before the first chunk.
        """
        ...

    def get(self, key: str, limit: int = 64 * 1024 * 1024) -> bytes:
        """A small object, whole. Raises NotFound; StoreError above ``limit`` bytes."""
        ...

    def stat(self, key: str) -> ObjectInfo | None:
        """Size and time of one object, or None when it is not there."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every visible object whose key starts with ``prefix``, in key order, page by page.

        Staged writes and this package's own state never show. A listing that fails part way raises;
        it never ends early.
        """
        ...

    def folders(self, prefix: str = "") -> Iterator[str]:
        """Names of the folders right below ``prefix``, which is empty or ends with a slash; what is in them is not
        listed. Raises as ``list``."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is success."""
        ...

    def retained_until(self, key: str) -> datetime | None:
        """Until when an object lock keeps this object (UTC; the end of time for a legal hold), or None."""
        ...

    def retain(self, key: str, term: Term) -> datetime | None:
        """Have the lock of an object last: one that ends before ``term.least`` is made to end at ``term.most``; none is
        ever shortened. Until when it lasts now (UTC); None where this place locks nothing.

        Raises:
            NotFound: No such object. CredentialsRefused: The key may not lengthen locks.
        """
        ...

    def cold(self, key: str) -> Coldness | None:
        """How an object stands in cold storage; None for one that can be read at once. Raises NotFound."""
        ...

    def thaw(self, key: str, days: int, speed: Speed) -> None:
        """Ask that a cold object be readable for some days. One that is thawed or asked for already is success."""
        ...

    def freeze(self, key: str, storage_class: str) -> bool:
        """Move an object to another storage class, in one step and without sending it again. Its bytes are not
        compared here.

        Returns:
            False where this place cannot do that; nothing was changed then.
        """
        ...

    def sweep(self, older_than_seconds: float = 0.0) -> builtins.list[str]:
        """Remove what dead runs left unfinished (staged files, multipart uploads); names what went.

        A staged write that a living process of this machine holds is left alone, and what a dead one left goes at
        once; of what nobody here knows (others write to the same bucket) only what is older than
        ``older_than_seconds`` goes.
        """
        ...

    def free_bytes(self) -> int | None:
        """Room left, or None where that has no meaning."""
        ...
