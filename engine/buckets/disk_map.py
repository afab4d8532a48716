"""A mapping that may outgrow memory: a few megabytes of it are held, the rest is in a file nobody else sees."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

_BATCH = 2000


class DiskMap:
    """Texts to texts. Safe to use from several threads. Gone when closed, or when the process ends.

    The file has no name, so that no crash leaves one behind.

    Args:
        path: Of a file that stays, in a directory that is there; one that is damaged is begun anew. Held by one at a
            time.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._guard = threading.Lock()
        try:
            self._base = _opened(path)
        except sqlite3.DatabaseError:
            if path is None:
                raise
            for each in (path, path.with_name(f"{path.name}-journal")):
                each.unlink(missing_ok=True)
            self._base = _opened(path)

    def __enter__(self) -> DiskMap:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget all of it."""
        self._base.close()

    def update(self, pairs: Iterable[tuple[str, str]]) -> DiskMap:
        """Put in all of them; gives itself."""
        rows = ((_bytes(name), _bytes(value)) for name, value in pairs)
        while batch := list(islice(rows, _BATCH)):
            with self._guard:
                self._base.execute("BEGIN")
                self._base.executemany("INSERT OR REPLACE INTO pairs VALUES (?, ?)", batch)
                self._base.execute("COMMIT")
        return self

    def put(self, name: str, value: str) -> None:
        """Put in one."""
        self.update([(name, value)])

    def add(self, name: str) -> bool:
        """Put in a name without a value; False where it is there already."""
        with self._guard:
            done = self._base.execute("INSERT OR IGNORE INTO pairs VALUES (?, x'')", (_bytes(name),))
            return done.rowcount > 0

    def get(self, name: str) -> str | None:
        """The value, or None."""
        with self._guard:
            row = self._base.execute("SELECT value FROM pairs WHERE name = ?", (_bytes(name),)).fetchone()
        return None if row is None else _text(row[0])

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __len__(self) -> int:
        with self._guard:
            return int(self._base.execute("SELECT count(*) FROM pairs").fetchone()[0])

    def drop_below(self, value: str) -> None:
        """Forget all whose value sorts before this one."""
        with self._guard:
            self._base.execute("DELETE FROM pairs WHERE value < ?", (_bytes(value),))

    def items(self) -> Iterator[tuple[str, str]]:
        """All of them, by name; what is put in meanwhile may be among them."""
        query = "SELECT name, value FROM pairs WHERE name {} ? ORDER BY name LIMIT ?"
        last, how = b"", ">="
        while True:
            with self._guard:
                rows = self._base.execute(query.format(how), (last, _BATCH)).fetchall()
            if not rows:
                return
            yield from ((_text(name), _text(value)) for name, value in rows)
            last, how = rows[-1][0], ">"


def _opened(path: Path | None) -> sqlite3.Connection:
    base = sqlite3.connect(path or "", isolation_level=None, check_same_thread=False)
    try:
        base.execute("PRAGMA locking_mode=EXCLUSIVE")
        base.execute("PRAGMA synchronous=OFF")
        if path is None:
            base.execute("PRAGMA journal_mode=OFF")
        elif base.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("it was cut off while it was written")
        base.execute("CREATE TABLE IF NOT EXISTS pairs (name BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
    except sqlite3.Error:
        base.close()
        raise
    return base


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
