"""Encode: bytes in, gzip, AES-256-CBC in openssl's container, SHA-256 out. Decode: the way back."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher as AesCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from isal import isal_zlib

from engine.codec.keys import KeyRing
from engine.errors import IntegrityError
from engine.manifest import Cipher, StoredFile

MAGIC = b"Salted__"
Compression = Literal["gzip", "zstd", "none"]
EXTENSIONS: dict[str, str] = {"gzip": ".gz.enc", "zstd": ".zst.enc", "none": ".enc"}
_QUEUE = 8
_SLICE = 256 * 1024


@dataclass(frozen=True)
class Encoded:
    """What went through an encoder: bytes in and out, and the digest of what came out."""

    plain_size: int
    size: int
    sha256: str


class Encoder:
    """Compress and encrypt a stream on its way to ``sink``; a thread of its own does the work.

    Memory is bounded by a short queue: ``write`` blocks while the sink is slow. An error in the
    worker thread is raised by the next ``write`` or by ``finish``.

    Args:
        sink: Takes encrypted bytes, in order.
        keys: The ring; its current key is used.
        compression: ``gzip`` opens with stock tools.
        level: The codec's own level; -1 for the default.
        iterations: PBKDF2 rounds.
    """

    def __init__(
        self,
        sink: Callable[[bytes], object],
        keys: KeyRing,
        *,
        compression: Compression = "gzip",
        level: int = -1,
        iterations: int = 10_000,
    ) -> None:
        self.compression: Compression = compression
        self.cipher = Cipher(iterations=iterations, key_id=keys.current)
        salt = os.urandom(8)
        key, iv = keys.cipher_key(keys.current, salt, iterations)
        self._encryptor = AesCipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
        self._compress = _compressor(compression, level)
        self._sink = sink
        self._digest = hashlib.sha256()
        self._plain = 0
        self._size = 0
        self._carry = b""
        self._error: BaseException | None = None
        self._queue: queue.Queue[bytes | None] = queue.Queue(_QUEUE)
        self._emit(MAGIC + salt)
        self._thread = threading.Thread(target=self._work, name="encode", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Encode some bytes. Raises what the sink raised."""
        self._plain += len(data)
        self._put(data)

    def finish(self) -> Encoded:
        """End the stream; every byte has reached the sink when this returns."""
        self._put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return Encoded(self._plain, self._size, self._digest.hexdigest())

    def abort(self) -> None:
        """Stop at once; what reached the sink is no whole file. Safe to repeat, and after finish."""
        if self._error is None:
            self._error = IntegrityError("the encoder was aborted")
        while self._thread.is_alive():
            try:
                self._queue.put_nowait(None)
            except queue.Full:
                _drain(self._queue)
            self._thread.join(0.05)

    def stored(self, encoded: Encoded, *, file: str, role: str = "data") -> StoredFile:
        """The manifest entry of what was encoded."""
        return StoredFile(
            file=file, role=role, size=encoded.size, sha256=encoded.sha256, plain_size=encoded.plain_size,
            compression=self.compression, cipher=self.cipher,
        )

    def _put(self, item: bytes | None) -> None:
        while True:
            if self._error is not None:
                raise self._error
            try:
                return self._queue.put(item, timeout=1.0)
            except queue.Full:
                continue

    def _work(self) -> None:
        try:
            while (data := self._queue.get()) is not None:
                if self._error is not None:
                    return
                for start in range(0, len(data), _SLICE):
                    self._encrypt(self._compress.compress(data[start : start + _SLICE]))
            if self._error is None:
                self._end()
        except BaseException as error:
            self._error = error
            _drain(self._queue)

    def _encrypt(self, packed: bytes) -> None:
        """Encrypt what fills whole blocks; the rest waits, so that padding can be added by ``_end``."""
        packed = self._carry + packed if self._carry else packed
        whole = len(packed) & ~15
        self._carry = packed[whole:]
        if whole:
            self._emit(self._encryptor.update(packed[:whole] if self._carry else packed))

    def _end(self) -> None:
        self._encrypt(self._compress.flush())
        pad = 16 - len(self._carry)
        self._emit(self._encryptor.update(self._carry + bytes([pad]) * pad) + self._encryptor.finalize())

    def _emit(self, data: bytes) -> None:
        self._digest.update(data)
        self._size += len(data)
        self._sink(data)


def decode(chunks: Iterable[bytes], stored: StoredFile, keys: KeyRing, *, what: str = "") -> Iterator[bytes]:
    """Decrypt and unpack a stored file's bytes; the plaintext, in bounded chunks.

    The digest is compared when the last byte has come: a caller that must not let one wrong byte
    through checks the stored digest in a pass of its own first (``engine.verify.check_digest``).

    Args:
        chunks: The stored bytes, in order.
        stored: The manifest's entry for them.
        what: What to call it in messages; the file's name when empty.

    Raises:
        WrongKey: The ring has no such key.
        IntegrityError: Truncated, altered, trailing bytes, or digest or length differ.
    """
    what = what or stored.file
    digest = hashlib.sha256()
    size = plain = 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            yield chunk

    unpacker = _Unpacker(stored.compression, what)
    for piece in _decrypt(counted(), stored.cipher, keys, what):
        for out in unpacker.feed(piece):
            plain += len(out)
            yield out
    unpacker.close()
    if size != stored.size or digest.hexdigest() != stored.sha256:
        raise IntegrityError(f"{what}: the stored bytes are not those of its manifest "
                             f"({size} bytes, expected {stored.size}; SHA-256 {digest.hexdigest()[:12]}…).")
    if stored.plain_size >= 0 and plain != stored.plain_size:
        raise IntegrityError(f"{what}: unpacks to {plain} bytes, its manifest says {stored.plain_size}.")


def _decrypt(chunks: Iterator[bytes], cipher: Cipher, keys: KeyRing, what: str) -> Iterator[bytes]:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= 16:
            break
    if len(head) < 16 or not head.startswith(MAGIC):
        raise IntegrityError(f"{what}: not a file that openssl enc wrote (no {MAGIC.decode()} header).")
    key, iv = keys.cipher_key(cipher.key_id, head[8:16], cipher.iterations)
    decryptor = AesCipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    held, body = b"", head[16:]
    for chunk in _chain(body, chunks):
        data = held + decryptor.update(chunk)
        held = data[-16:]
        if len(data) > 16:
            yield data[:-16]
    try:
        held += decryptor.finalize()
    except ValueError:
        raise IntegrityError(f"{what}: truncated, its length is no multiple of 16.") from None
    pad = held[-1] if held else 0
    if len(held) != 16 or not 1 <= pad <= 16 or held[-pad:] != bytes([pad]) * pad:
        raise IntegrityError(f"{what}: wrong key or damaged (the padding is wrong).")
    yield held[:-pad]


class _Unpacker:
    """Unpack gzip (also several members, as cat and pigz make) or zstd; refuse anything after the end."""

    def __init__(self, compression: str, what: str) -> None:
        self._compression = compression
        self._what = what
        self._unpack: Any = None
        self._seen = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._compression == "none":
            if data:
                yield data
            return
        while data:
            if self._unpack is None or self._unpack.eof:
                if self._seen and not data.strip(b"\0"):
                    return  # gzip allows zero padding after a member
                self._unpack = self._fresh()
            self._seen = True
            try:
                yield from self._some(data)
            except (zlib.error, isal_zlib.error, zstandard.ZstdError) as error:
                raise IntegrityError(f"{self._what}: does not unpack ({error}); damaged, or the wrong key.") from None
            data = self._unpack.unused_data if self._unpack.eof else b""

    def _some(self, data: bytes) -> Iterator[bytes]:
        if self._compression == "zstd":
            out = self._unpack.decompress(data)
            if out:
                yield out
            return
        while data and not self._unpack.eof:
            out = self._unpack.decompress(data, 1024 * 1024)
            data = self._unpack.unconsumed_tail
            if out:
                yield out
            elif not data:
                return

    def _fresh(self) -> Any:
        if self._compression == "zstd":
            return zstandard.ZstdDecompressor().decompressobj(read_across_frames=False)
        return isal_zlib.decompressobj(wbits=31)

    def close(self) -> None:
        if self._compression != "none" and (self._unpack is None or not self._unpack.eof):
            raise IntegrityError(f"{self._what}: ends in the middle, it is truncated.")


def _compressor(compression: Compression, level: int) -> Any:
    if compression == "gzip":
        return isal_zlib.compressobj(2 if level < 0 else level, isal_zlib.DEFLATED, 31)
    if compression == "zstd":
        return zstandard.ZstdCompressor(level=3 if level < 0 else level, write_checksum=True).compressobj()
    return _Plain()


class _Plain:
    def compress(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _chain(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _drain(items: queue.Queue[bytes | None]) -> None:
    try:
        while True:
            items.get_nowait()
    except queue.Empty:
        return
