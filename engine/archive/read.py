"""Reads a tar as a stream, member by member, in constant memory."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from typing import IO, cast

from engine.errors import IntegrityError

_BUFFER = 256 * 1024


def members(chunks: Iterable[bytes], what: str) -> Iterator[tuple[tarfile.TarInfo, Iterator[bytes]]]:
    """Each member of a tar with its content, which is to be read before the next is asked for, or not at all.

    Raises:
        IntegrityError: It is no tar, or cut off.
    """
    stream = cast("IO[bytes]", _Reader(chunks))
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_BUFFER, errors="surrogateescape") as tar:
            while (info := tar.next()) is not None:
                yield info, _content(tar, info)
                vars(tar)["members"].clear()  # else every header stays in memory
    except tarfile.TarError as error:
        raise IntegrityError(f"{what} cannot be read as a tar: {error}.") from None


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    if not info.isreg():
        return
    file = tar.extractfile(info)
    while file is not None and (chunk := file.read(_BUFFER)):
        yield chunk


class _Reader:
    """Chunks of any size, read as a file."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        parts: list[memoryview] = []
        while size:
            if not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
            parts.append(self._rest[:size])
            self._rest = self._rest[size:]
            size -= len(parts[-1])
        return b"".join(parts)
