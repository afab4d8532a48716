"""The contents of a bucket's objects as they stand in one place of the vault: each distinct one once, encrypted.

    <base>/contents/<site>/<source>/<bucket>/ab/ab12....gz.enc

A name is a keyed digest of the content, so that it tells nobody without the key what is stored. Nothing is ever
replaced: where a name is taken by bytes that cannot be proven, the content gets that name and a random end. Contents
are no backups and have no manifest of their own; the signed lists that name them say what their bytes must be. What no
list names is removed by a prune (``engine.buckets.sweeping``).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from engine import names
from engine.buckets.disk_map import DiskMap
from engine.buckets.record import Content
from engine.codec import KeyRing, check_stored, decrypt, peek, unpack
from engine.codec.encode import Encoded
from engine.codec.shared import EXTENSION, SharedSalt
from engine.errors import IntegrityError, NotFound, WrongKey
from engine.manifest import Cipher, StoredFile
from engine.spool import verified_chunks
from engine.stores.base import Store

SMALL = 1024 * 1024
"""Contents up to this size are held in memory while they are stored or read."""
BAD = ".bad"
"""Ends the key of a note that a content's bytes were found damaged."""
_INCOMING = "incoming"
_TRIES = 3
_HEAD = 48
"""Bytes: magic, salt, and the first two blocks of what is the same in every content."""
GZIP = b"\x1f\x8b\x08"
_NAME = re.compile(r"^[0-9a-f]{64}(?:-[0-9a-f]{8})?$")
WARM_BELOW = 128 * 1024
"""Cold classes bill at least this many bytes for each object."""


@dataclass(frozen=True)
class Found:
    """A content as a listing shows it; ``modified`` in UTC."""

    name: str
    size: int
    modified: datetime
    bad: bool = False

    @property
    def state(self) -> str:
        """For comparing with what a list says of it."""
        return "bad" if self.bad else str(self.size)


class Contents:
    """The contents of one bucket in one place.

    Args:
        prefix: Of their keys, with a slash at its end; see ``Layout.contents_prefix``.
        spools: Where bytes from a remote place are kept while they are checked.
    """

    def __init__(self, store: Store, prefix: str, keys: KeyRing, spools: Path) -> None:
        self.store = store
        self.prefix = prefix
        self.keys = keys
        self._spools = spools
        self._tried: dict[str, int] = {}
        self._opened: set[str] = set()

    def key(self, name: str) -> str:
        return f"{self.prefix}{name[:2]}/{name}.{EXTENSION}"

    def listing(self) -> Iterator[Found]:
        """Every content there is, in order, without what is on its way in."""
        last: Found | None = None
        for info in self.store.list(self.prefix):
            file = info.key.rsplit("/", 1)[-1]
            name = file.removesuffix(BAD).removesuffix(f".{EXTENSION}")
            if not _NAME.match(name) or info.key not in (self.key(name), self.key(name) + BAD):
                continue
            if file.endswith(BAD):
                if last is not None and last.name == name:
                    last = replace(last, bad=True)
                continue
            if last is not None:
                yield last
            last = Found(name, info.size, info.modified)
        if last is not None:
            yield last

    def present(self) -> DiskMap:
        """The states of all contents, by name; to be closed."""
        return DiskMap().update((each.name, each.state) for each in self.listing())

    def read(self, content: Content, sha256: str, size: int) -> Iterator[bytes]:
        """A content's bytes. No unproven byte comes out: what is stored is checked first, then decrypted.

        Args:
            sha256, size: Of the content itself, from the signed list.

        Raises:
            NotFound, WrongKey. IntegrityError: The bytes are not those of the list.
        """
        part = self._part(content, size)
        key = self.key(content.stored)
        if content.stored_size <= SMALL:
            data = b"".join(self.store.read(key, 0, content.stored_size + 1))
            check_stored([data], part, what=self._what(part))
            yield from self._plain([data], part, sha256)
            return
        with closing(verified_chunks(self.store, key, part, self._spools)) as stored:
            yield from self._plain(stored, part, sha256)

    def opens(self, content: Content) -> bool:
        """Has the ring the key that wrote a content? Of each key the beginning of one content is decrypted, or of some
        where the first are damaged; nothing else is proven. Raises what the store raises."""
        key_id = content.key_id
        if key_id not in self._opened and self._tried.get(key_id, 0) < _TRIES:
            self._tried[key_id] = self._tried.get(key_id, 0) + 1
            with contextlib.suppress(WrongKey, NotFound):
                head = b"".join(self.store.read(self.key(content.stored), 0, _HEAD))
                cipher = Cipher(key_id=key_id, iterations=content.iterations)
                if len(head) == _HEAD and peek(head, cipher, self.keys).startswith(GZIP):
                    self._opened.add(key_id)
        return key_id in self._opened

    def prove(self, content: Content, sha256: str, size: int) -> None:
        """Read a stored content to its end. Raises as ``read``."""
        part = self._part(content, size)
        digest, read = hashlib.sha256(), 0

        def passing() -> Iterator[bytes]:
            nonlocal read
            for chunk in self.store.read(self.key(content.stored)):
                digest.update(chunk)
                read += len(chunk)
                yield chunk

        try:
            for _ in self._plain(passing(), part, sha256):
                pass
        except IntegrityError:
            check_stored(self.store.read(self.key(content.stored)), part, what=self._what(part))
            raise
        if (read, digest.hexdigest()) != (part.size, part.sha256):
            check_stored(self.store.read(self.key(content.stored)), part, what=self._what(part))
            raise IntegrityError(f"{self._what(part)} gave other bytes at a second reading.")

    def denounce(self, name: str) -> None:
        """Note that a content is damaged, so that no later snapshot leans on it. Idempotent."""
        self.store.put(self.key(name) + BAD, b"found damaged\n")

    def remove(self, name: str) -> None:
        """Remove a content, and what was noted about it."""
        self.store.delete(self.key(name))
        self.store.delete(self.key(name) + BAD)

    def strays(self) -> Iterator[tuple[str, float]]:
        """Keys of what was on its way in when its writer died, with their ages in seconds."""
        for info in self.store.list(f"{self.prefix}{_INCOMING}/"):
            yield info.key, (names.now() - info.modified).total_seconds()

    def _what(self, part: StoredFile) -> str:
        return f"the content {part.file[:16]}… in {self.store.name}"

    def _part(self, content: Content, size: int) -> StoredFile:
        return StoredFile(
            file=f"{content.stored}.{EXTENSION}", role="content", size=content.stored_size,
            sha256=content.stored_sha256, plain_size=size,
            cipher=Cipher(key_id=content.key_id, iterations=content.iterations),
        )  # fmt: skip

    def _plain(self, stored: Iterable[bytes], part: StoredFile, sha256: str) -> Iterator[bytes]:
        digest, size = hashlib.sha256(), 0
        what = self._what(part)
        for chunk in unpack(decrypt(stored, part.cipher, self.keys, what=what), "gzip", what=what):
            digest.update(chunk)
            size += len(chunk)
            yield chunk
        if (size, digest.hexdigest()) != (part.plain_size, sha256):
            raise IntegrityError(f"{what} is another content than its list says.", kept="nothing of it was used")


class Keeper:
    """Stores contents, each once. Safe to use from several threads.

    Args:
        known: Contents that may be leant on, by name: those of the last snapshot that are there unchanged. New ones
            are added.
        present: What stands in the place, by name; new ones are added.
    """

    def __init__(self, contents: Contents, known: DiskMap, present: DiskMap, iterations: int) -> None:
        self._contents = contents
        self._known = known
        self._present = present
        self._salt = SharedSalt(contents.keys, iterations)
        self._secret = contents.keys.mac_key(contents.keys.current)
        self._guard = threading.Lock()
        self._pending: dict[str, Future[Content]] = {}
        self.stored = 0
        self.stored_bytes = 0

    def keep(self, chunks: Iterable[bytes], size: int) -> tuple[int, str, Content]:
        """Read a content to its end and store it, if it is not there yet.

        Args:
            size: How much is expected: what is small is held in memory.

        Returns:
            Its size and digest, and how it is stored.
        """
        if size <= SMALL:
            data = b"".join(chunks)
            digest = hashlib.sha256(data).hexdigest()
            return len(data), digest, self._once(digest, len(data), lambda name: self._put(name, data))
        temporary = f"{self._contents.prefix}{_INCOMING}/{uuid4().hex}.{EXTENSION}"
        read, digest, encoded = self._stage(temporary, chunks)
        try:
            content = self._once(digest, read, lambda name: self._settle(temporary, name, encoded))
        finally:
            self._contents.store.delete(temporary)
        return read, digest, content

    def keep_as(self, sha256: str, size: int, read: Callable[[], Iterable[bytes]]) -> Content:
        """Store a content whose digest is known, if it is not there yet; only then it is read.

        Args:
            read: Gives its bytes, and raises before it ends where they are not those of the digest.
        """

        def make(name: str) -> Encoded:
            return self._stage(self._contents.key(name), read(), warm=size < WARM_BELOW)[2]

        return self._once(sha256, size, make)

    def _once(self, sha256: str, size: int, make: Callable[[str], Encoded]) -> Content:
        """The stored content of that digest; made by the first thread that asks, the others wait."""
        name = hmac.new(self._secret, b"content " + bytes.fromhex(sha256), hashlib.sha256).hexdigest()
        with self._guard:
            known = self._known.get(name)
            if known is not None:
                return Content.of(known)
            pending = self._pending.get(name)
            if pending is None:
                ours = self._pending[name] = Future()
        if pending is not None:
            return pending.result()
        try:
            content = self._standing(name, sha256, size) or self._make(name, make)
            self._known.put(name, content.text())
            ours.set_result(content)
            return content
        except BaseException as error:
            ours.set_exception(error)
            raise
        finally:
            with self._guard:
                del self._pending[name]

    def _standing(self, name: str, sha256: str, size: int) -> Content | None:
        """What a run that died, or a list that is gone, left under this name, if it is whole."""
        state = self._present.get(name)
        if state is None or state == "bad":
            return None
        digest, stored = hashlib.sha256(), 0
        for chunk in self._contents.store.read(self._contents.key(name)):
            digest.update(chunk)
            stored += len(chunk)
        content = self._content(name, stored, digest.hexdigest())
        try:
            self._contents.prove(content, sha256, size)
        except IntegrityError:
            return None
        return content

    def _make(self, name: str, make: Callable[[str], Encoded]) -> Content:
        if name in self._present:
            name = f"{name}-{uuid4().hex[:8]}"
        encoded = make(name)
        self._present.put(name, str(encoded.size))
        with self._guard:
            self.stored += 1
            self.stored_bytes += encoded.size
        return self._content(name, encoded.size, encoded.sha256)

    def _content(self, name: str, size: int, sha256: str) -> Content:
        cipher = self._salt.cipher
        return Content(
            name, size, sha256, cipher.key_id, cipher.iterations, names.iso(names.now().replace(microsecond=0))
        )

    def _put(self, name: str, data: bytes) -> Encoded:
        parts: list[bytes] = []
        encoder = self._salt.encoder(parts.append)
        encoder.write(data)
        encoded = encoder.finish()
        self._send(self._contents.key(name), [b"".join(parts)], encoded.size)
        return encoded

    def _stage(self, key: str, chunks: Iterable[bytes], *, warm: bool = False) -> tuple[int, str, Encoded]:
        digest, size = hashlib.sha256(), 0
        with self._contents.store.stage(key, warm=warm) as staged:
            encoder = self._salt.encoder(staged.write)
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                encoder.write(chunk)
            encoded = encoder.finish()
            done = staged.commit()
        if (done.size, done.sha256) != (encoded.size, encoded.sha256):
            raise IntegrityError(f"{self._contents.store.describe()} holds other bytes than were written to it.")
        return size, digest.hexdigest(), encoded

    def _settle(self, temporary: str, name: str, encoded: Encoded) -> Encoded:
        self._contents.store.duplicate(temporary, self._contents.key(name))
        return encoded

    def _send(self, key: str, chunks: Iterable[bytes], size: int) -> None:
        with self._contents.store.stage(key, warm=size < WARM_BELOW) as staged:
            for chunk in chunks:
                staged.write(chunk)
            staged.commit()
