"""Encode: plain bytes in; gzip, AES-256-CBC in openssl's container, and a SHA-256 out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher as AesCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from isal import isal_zlib

from engine.codec.keys import KeyRing
from engine.codec.threads import Stage
from engine.manifest import Cipher, StoredFile

MAGIC = b"Salted__"
BLOCK = 16
Compression = Literal["gzip", "zstd", "none"]
EXTENSIONS: dict[Compression, str] = {"gzip": ".gz.enc", "zstd": ".zst.enc", "none": ".enc"}

# Larger slices make every output buffer a fresh mmap: AES falls from 680 to 280 MB/s at 1 MiB.
_SLICE = 256 * 1024
_DEPTH = 12
_GZIP_LEVEL = 2
_GZIP_MEMORY = 9
_ZSTD_LEVEL = 3


@dataclass(frozen=True)
class Encoded:
    """What went through an encoder: bytes in and out, and the digest of what came out."""

    plain_size: int
    size: int
    sha256: str


class Encoder:
    """Compress and encrypt a stream on its way to ``sink``.

    Two threads work: one compresses, one encrypts, digests and feeds the sink. Memory is bounded by
    their queues (about 6 MiB): ``write`` blocks while the sink is slow. What a thread or the sink
    raises comes out of the next ``write`` or of ``finish``.

    Args:
        sink: Takes encrypted bytes, in order; called from a thread of the encoder.
        keys: The ring; its current key is used.
        compression: ``gzip`` opens with stock tools.
        level: The codec's own level; -1 for the default (ISA-L 2, zstd 3).
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
        self._envelope = Envelope(sink, keys, self.cipher)
        self._compress = _compressor(compression, level)
        self._plain = 0
        self._small = bytearray()
        self._result: Encoded | None = None
        self._sealing: Stage[bytes] = Stage("encrypt", self._envelope.add, self._envelope.close, _DEPTH)
        self._packing: Stage[bytes | memoryview] = Stage("compress", self._pack, self._end, _DEPTH)

    def write(self, data: bytes) -> None:
        """Encode some bytes. Raises what the sink raised."""
        if self._result is not None:
            raise ValueError("write to an encoder that has finished")
        self._plain += len(data)
        if len(data) < _SLICE // 2 and len(data) + len(self._small) < _SLICE:
            self._small += data
            return
        self._flush_small()
        whole = memoryview(bytes(data))  # a copy only where the caller could still change it
        for start in range(0, len(whole), _SLICE):
            self._packing.put(whole[start : start + _SLICE])

    def finish(self) -> Encoded:
        """End the stream; every byte has reached the sink when this returns. May be repeated."""
        if self._result is None:
            self._flush_small()
            self._packing.finish()
            self._sealing.finish()
            self._result = Encoded(self._plain, self._envelope.size, self._envelope.digest.hexdigest())
        return self._result

    def abort(self) -> None:
        """Stop at once; what reached the sink is no whole file. Safe to repeat, and after finish."""
        self._sealing.abort()
        self._packing.abort()

    def stored(self, encoded: Encoded, *, file: str, role: str = "data") -> StoredFile:
        """The manifest entry of what was encoded."""
        return StoredFile(
            file=file, role=role, size=encoded.size, sha256=encoded.sha256, plain_size=encoded.plain_size,
            compression=self.compression, cipher=self.cipher,
        )  # fmt: skip

    def _flush_small(self) -> None:
        if self._small:
            self._packing.put(bytes(self._small))
            self._small.clear()

    def _pack(self, data: bytes | memoryview) -> None:
        packed = self._compress.compress(data)
        if packed:
            self._sealing.put(packed)

    def _end(self) -> None:
        self._sealing.put(self._compress.flush())


class Envelope:
    """openssl's container around a stream: magic, salt, AES-256-CBC with PKCS#7 padding; and its digest.

    Args:
        salt: 8 bytes; drawn anew when empty. With one that was used before, key and first vector are the same again:
            see ``engine.codec.shared`` for what that asks of the stream.
    """

    def __init__(self, sink: Callable[[bytes], object], keys: KeyRing, cipher: Cipher, salt: bytes = b"") -> None:
        salt = salt or os.urandom(8)
        key, iv = keys.cipher_key(cipher.key_id, salt, cipher.iterations)
        self._encryptor = AesCipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
        self._sink = sink
        self._fill = 0
        self._head: bytes = MAGIC + salt
        self.digest = hashlib.sha256()
        self.size = 0

    def add(self, data: bytes) -> None:
        """Encrypt; the cipher itself keeps what fills no whole block."""
        self._fill = (self._fill + len(data)) % BLOCK
        self._emit(self._encryptor.update(data))

    def close(self) -> None:
        pad = BLOCK - self._fill
        self._emit(self._encryptor.update(bytes([pad]) * pad) + self._encryptor.finalize())

    def _emit(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            self.digest.update(data)
            self.size += len(data)
            self._sink(data)


def _compressor(compression: Compression, level: int) -> Any:
    if compression == "gzip":
        return isal_zlib.compressobj(_GZIP_LEVEL if level < 0 else min(level, 3), isal_zlib.DEFLATED, 31, _GZIP_MEMORY)
    if compression == "zstd":
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL if level < 0 else level, write_checksum=True).compressobj()
    return _Plain()


class _Plain:
    def compress(self, data: bytes | memoryview) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""
