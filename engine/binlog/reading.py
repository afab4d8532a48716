"""Exact numbers of bytes out of chunks of any size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class Feed:
    """Gives as many bytes as are asked for; holds one chunk and what is asked for, no more."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._chunk = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes; fewer only at the end."""
        at, end = self._at, self._at + count
        if end <= len(self._chunk):
            self._at = end
            return self._chunk[at:end]
        parts = []
        while count > 0:
            part = self.some(count)
            if not part:
                break
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def some(self, most: int) -> bytes:
        """At least one and at most ``most`` bytes; nothing at the end."""
        while self._at >= len(self._chunk):
            following = next(self._chunks, None)
            if following is None:
                return b""
            self._chunk, self._at = bytes(following), 0
        part = self._chunk[self._at : self._at + most]
        self._at += len(part)
        return part

    @property
    def held(self) -> tuple[bytes, int]:
        """What has come in, and from where in it nothing has been taken: for who reads many small things at once."""
        return self._chunk, self._at

    def skip_to(self, at: int) -> None:
        """Everything of ``held`` before that place has been taken."""
        self._at = at

    def pieces(self, count: int, most: int) -> Iterator[bytes]:
        """The next ``count`` bytes in pieces of at most ``most``; fewer bytes only at the end."""
        while count > 0:
            piece = self.take(min(count, most))
            if not piece:
                return
            count -= len(piece)
            yield piece


class Cursor:
    """Little-endian numbers and strings one after another out of one event's body.

    Raises:
        ValueError: The body is shorter than what it claims to hold.
    """

    def __init__(self, body: bytes, at: int = 0) -> None:
        self.body = body
        self.at = at

    @property
    def left(self) -> int:
        return len(self.body) - self.at

    def bytes(self, count: int) -> bytes:
        part = self.body[self.at : self.at + count]
        if len(part) != count:
            raise ValueError(f"{count} bytes wanted at {self.at}, {len(part)} there")
        self.at += count
        return part

    def number(self, count: int) -> int:
        return int.from_bytes(self.bytes(count), "little")

    def packed(self) -> int:
        """A length-encoded number: one byte, or 0xFC, 0xFD, 0xFE and two, three, eight."""
        first = self.number(1)
        return first if first < 0xFB else self.number({0xFC: 2, 0xFD: 3, 0xFE: 8}[first])

    def varlen(self) -> int:
        """An unsigned number of MySQL's serialization: its first byte ends with a one bit for each byte more."""
        first = self.number(1)
        more = 0
        while more < 8 and first >> more & 1:
            more += 1
        if more == 8:
            return self.number(8)
        return first >> (more + 1) | self.number(more) << (7 - more)

    def varlen_signed(self) -> int:
        """A signed one: its last bit is the sign."""
        found = self.varlen()
        return -(found >> 1) - 1 if found & 1 else found >> 1
