"""Many files under one salt: deriving a key costs some 10 ms, more than all else that a small file needs.

``openssl enc -d -aes-256-cbc -pbkdf2 | gunzip`` opens each of them like any other file. Files of one salt have the
same key and the same first vector, and equal beginnings would show as equal bytes. So each begins with a gzip header
that fills exactly one cipher block, the same in all, and 16 random bytes in its extra field, which fill the next: in
CBC the cipher text of that block is what a random vector would be, for all that follows. gunzip skips the extra field.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable

from isal import isal_zlib

from engine.codec.encode import Encoded, Envelope
from engine.codec.keys import KeyRing
from engine.manifest import Cipher

EXTENSION = "gz.enc"
_LEVEL = 2
_RANDOM = 16
# magic, deflate, FEXTRA, no time, no hints, Unix; length of the extra field; one sub-field "bf" of 16 bytes
_HEADER = b"\x1f\x8b\x08\x04" + bytes(5) + b"\x03" + (_RANDOM + 4).to_bytes(2, "little") + b"bf\x10\x00"
_MODULUS = 1 << 32


class SharedSalt:
    """Encoders of many files: one salt, one derivation. Safe to use from several threads.

    Args:
        iterations: PBKDF2 rounds.
    """

    def __init__(self, keys: KeyRing, iterations: int = 10_000) -> None:
        self.cipher = Cipher(iterations=iterations, key_id=keys.current)
        self._keys = keys
        self._salt = os.urandom(8)

    def encoder(self, sink: Callable[[bytes], object]) -> FileEncoder:
        """For one file; its encrypted bytes go to ``sink`` in the calling thread."""
        return FileEncoder(Envelope(sink, self._keys, self.cipher, self._salt))


class FileEncoder:
    """Compresses and encrypts one stream in the calling thread. Made by ``SharedSalt.encoder``."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._deflate = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -15, 9)
        self._crc = 0
        self._plain = 0
        envelope.add(_HEADER + os.urandom(_RANDOM))

    def write(self, data: bytes) -> None:
        """Encode some bytes. Raises what the sink raises."""
        self._crc = zlib.crc32(data, self._crc)
        self._plain += len(data)
        packed = self._deflate.compress(data)
        if packed:
            self._envelope.add(packed)

    def finish(self) -> Encoded:
        """End the stream; every byte has reached the sink when this returns."""
        tail = self._crc.to_bytes(4, "little") + (self._plain % _MODULUS).to_bytes(4, "little")
        self._envelope.add(self._deflate.flush() + tail)
        self._envelope.close()
        return Encoded(self._plain, self._envelope.size, self._envelope.digest.hexdigest())
