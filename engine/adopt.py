"""Taking in a file that ``dump | gzip | openssl enc -aes-256-cbc -pbkdf2`` made.

The container says neither key, iterations nor compression: they are found by opening it.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engine.codec import Compression, KeyRing, decrypt, peek, unpack
from engine.codec.encode import BLOCK, MAGIC
from engine.errors import IntegrityError, NotFound, WrongKey
from engine.manifest import Cipher

_CHUNK = 256 * 1024
_HEAD = 4096
_OTHER_ITERATIONS = (10_000, 100_000, 600_000, 1)
_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Foreign:
    """A file another tool made, and how it opens."""

    path: Path
    cipher: Cipher
    compression: Compression

    def stored(self) -> Iterator[bytes]:
        """Its bytes as they are."""
        with self.path.open("rb", buffering=0) as source:
            while chunk := source.read(_CHUNK):
                yield chunk

    def plain(self, keys: KeyRing, stored: Iterator[bytes] | None = None) -> Generator[bytes, None, None]:
        """What it holds, for counting rows before it is adopted; of these stored bytes, if given.

        Raises:
            IntegrityError: It is damaged or cut short.
        """
        clear = decrypt(self.stored() if stored is None else stored, self.cipher, keys, what=self.path.name)
        return unpack(clear, self.compression, what=self.path.name)


def recognise(path: Path, keys: KeyRing, *, iterations: int = 10_000, key_id: str | None = None) -> Foreign:
    """Find the key and the compression of a file made by hand.

    Args:
        key_id: The key to use; None tries every key of the ring, the current one first.

    Raises:
        NotFound: No such file. IntegrityError: Not a file that openssl enc wrote.
        WrongKey: No key opens it with these iterations; says if other iterations would.
    """
    head = _head(path)
    ids = [key_id] if key_id else [keys.current, *(each for each in keys.ids if each != keys.current)]
    for each in ids:
        found = _try(head, Foreign(path, Cipher(key_id=each, iterations=iterations), "none"), keys)
        if found is not None:
            return found
    for other, each in itertools.product(_OTHER_ITERATIONS, ids):
        if _try(head, Foreign(path, Cipher(key_id=each, iterations=other), "none"), keys) is not None:
            raise WrongKey(
                f"{path} does not open with {iterations} iterations, but it does with {other}.",
                kept="the file is untouched",
                remedy=f"give iterations={other}",
            )
    raise WrongKey(
        f"{path} does not open with the key {' or '.join(map(repr, ids))} and {iterations} iterations.",
        kept="the file is untouched",
        remedy="add the key it was written with to vault.keys, or give the -iter it was written with",
    )


def _try(head: bytes, foreign: Foreign, keys: KeyRing) -> Foreign | None:
    compression = _compression(peek(head, foreign.cipher, keys), whole=len(head) < _HEAD)
    return replace(foreign, compression=compression) if compression else None


def _head(path: Path) -> bytes:
    if not path.is_file():
        raise NotFound(f"There is no file {path}.")
    with path.open("rb") as source:
        head = source.read(_HEAD)
    if not head.startswith(MAGIC) or len(head) < 2 * BLOCK:
        raise IntegrityError(f"{path} is not a file that openssl enc wrote (no {MAGIC.decode()} and a block after it).")
    return head


def _compression(head: bytes, whole: bool) -> Compression | None:
    """What the first bytes are; None when they are noise, as from a wrong key.

    Args:
        whole: This is all there is, with its padding.
    """
    if whole:
        pad = head[-1]
        if not 1 <= pad <= BLOCK or head[-pad:] != bytes([pad]) * pad:
            return "gzip" if head.startswith(_GZIP) else "zstd" if head.startswith(_ZSTD) else None
        head = head[:-pad]
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_ZSTD):
        return "zstd"
    if head.startswith(b"PGDMP") or head[257:262] == b"ustar":
        return "none"
    sample = head[:512]
    # Noise has a control character in nearly every 16 bytes; text has none but tabs and line ends.
    text = bool(sample) and not any(byte < 32 and byte not in b"\t\r\n" for byte in sample)
    try:
        sample[: max(0, len(sample) - 3)].decode("utf-8")
    except UnicodeDecodeError as error:
        text = text and error.start >= len(sample) - 6
    return "none" if text else None
