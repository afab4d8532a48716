"""Digests of a table's rows that do not lean on their order, from the text of a dump.

A dump of the restored copy must hold the same rows as the dump it was restored from. Their order may differ (a
table without a key has none), so each row is hashed by itself and the hashes are added up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator
from dataclasses import dataclass

from engine.errors import IntegrityError
from engine.mysql.rows import INSERT

_MODULUS = 1 << 256


@dataclass
class RowSet:
    """How many rows, and the sum of the SHA-256 of each."""

    rows: int = 0
    total: int = 0

    def add(self, row: bytes) -> None:
        """One more row."""
        self.rows += 1
        self.total += int.from_bytes(hashlib.sha256(row).digest(), "big")

    @property
    def digest(self) -> str:
        """64 hexadecimal digits."""
        return f"{self.total % _MODULUS:064x}"


class RowSets(dict[str, RowSet]):
    """By table; a table that was never seen has none."""

    def of(self, table: str) -> RowSet:
        """The rows of a table, to be added to."""
        if table not in self:
            self[table] = RowSet()
        return self[table]


class InsertRows:
    """Takes the INSERTs of mysqldump and mariadb-dump, of one row a line or one statement a line.

    Args:
        wanted: Tables whose rows are hashed; those of others pass by.
    """

    def __init__(self, wanted: Container[str]) -> None:
        self.sets = RowSets()
        self._wanted = wanted
        self._held: list[bytes] = []
        self._rows: RowSet | None = None
        self._inside = False

    def feed(self, data: bytes) -> None:
        """The next bytes; nothing but INSERTs. Raises IntegrityError: something else."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._line(b"".join([*self._held, line]))
            self._held = []
        if rest:
            self._held.append(rest)

    def finish(self) -> RowSets:
        """No more comes. Raises IntegrityError: it ended within a statement."""
        if self._held or self._inside:
            raise IntegrityError("The dump ends within the rows of a table.")
        return self.sets

    def _line(self, line: bytes) -> None:
        if not self._inside:
            found = INSERT.match(line + b"\n")
            if found is None:
                if line.strip():
                    raise IntegrityError(f"The dump holds an INSERT that cannot be read: {line[:60]!r}...")
                return
            table = found[1].replace(b"``", b"`").decode("utf-8", "replace")
            self._rows = self.sets.of(table) if table in self._wanted else None
            self._inside = True
            if found[2]:
                return
            line = line[found.end() :]
        self._inside = not line.endswith(b";")
        if self._rows is not None:
            for row in split_rows(line[:-1]):
                self._rows.add(row)


def split_rows(text: bytes) -> Iterator[bytes]:
    """``(1,'a'),(2,'b')`` as ``1,'a'`` and ``2,'b'``."""
    held: list[bytes] = []
    inside = False
    for piece in text[1:-1].split(b"),("):
        inside ^= _is_open(piece)
        held.append(piece)
        if not inside:
            yield b"),(".join(held)
            held = []
    if held:
        raise IntegrityError("The dump holds a row whose text does not end.")


def _is_open(piece: bytes) -> bool:
    """Does it hold an odd number of quotes, so that a string begins or ends in it?"""
    if b"'" not in piece:
        return False
    if b"\\" in piece:
        piece = piece.replace(b"\\\\", b"").replace(b"\\'", b"")
    return bool(piece.count(b"'") & 1)


class CopyRows:
    """Takes the data of one COPY block (or of COPY TO): a row a line."""

    def __init__(self, rows: RowSet) -> None:
        self._rows = rows
        self._held = b""

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            if line != b"\\.":
                self._rows.add(line)
