"""Taking in a file that ``dump | gzip | openssl enc -aes-256-cbc -pbkdf2`` made.

The container says neither key, iterations nor compression: they are found by opening it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from engine.codec import Compression, KeyRing, decrypt, unpack
from engine.errors import IntegrityError, NotFound, WrongKey
from engine.manifest import Cipher

_CHUNK = 256 * 1024
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
    if not path.is_file():
        raise NotFound(f"There is no file {path}.")
    ids = [key_id] if key_id else [keys.current, *(each for each in keys.ids if each != keys.current)]
    for each in ids:
        found = _try(path, keys, each, iterations)
        if found is not None:
            return found
    others = [(each, count) for each in ids for count in _OTHER_ITERATIONS
              if count != iterations and _try(path, keys, each, count) is not None]
    if others:
        raise WrongKey(f"{path} does not open with {iterations} iterations, but it does with {others[0][1]}.",
                       kept="the file is untouched", remedy=f"give iterations={others[0][1]}")
    raise WrongKey(f"{path} does not open with the key {' or '.join(map(repr, ids))} and {iterations} iterations.",
                   kept="the file is untouched",
                   remedy="add the key it was written with to vault.keys, or give the -iter it was written with")


def _try(path: Path, keys: KeyRing, key_id: str, iterations: int) -> Foreign | None:
    cipher = Cipher(key_id=key_id, iterations=iterations)
    foreign = Foreign(path, cipher, "none")
    try:
        with closing(decrypt(foreign.stored(), cipher, keys, what=path.name)) as clear:
            head = next(clear, b"")
    except IntegrityError:
        if path.stat().st_size % 16 == 0 and _is_container(path):
            return None  # short, and the padding is wrong: another key
        raise
    compression = _compression(head)
    return Foreign(path, cipher, compression) if compression else None


def _is_container(path: Path) -> bool:
    with path.open("rb") as source:
        return source.read(8) == b"Salted__" and path.stat().st_size > 16


def _compression(head: bytes) -> Compression | None:
    """What the first bytes are; None when they are noise, as from a wrong key."""
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
