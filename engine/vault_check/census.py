"""What stands in one place, from two listings: backups, what is known of each, and what does not add up by its name.

Held on disk, so that memory does not grow with the number of backups.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

from engine import marks, names
from engine.catalog import Entry
from engine.layout import Layout
from engine.prune.contents import BROKEN, EXPIRED, Claims
from engine.stores.base import ObjectInfo, Store
from engine.vault_check.share import Row, Share, due

SEEN = "seen"
"""Kind of the mark of what was looked at and could not be read back: it stands in cold storage."""
_PAGE = 500


@dataclass
class Group:
    """The files of one name and second in one folder: nearly always one backup."""

    folder: str
    stem: str
    files: dict[str, ObjectInfo] = field(default_factory=dict)

    def key(self, file: str) -> str:
        return f"{self.folder}/{file}" if self.folder else file

    @property
    def manifests(self) -> list[str]:
        """Names of the data files that manifests in it speak of."""
        return [file.removesuffix(names.MANIFEST_SUFFIX) for file in self.files if file.endswith(names.MANIFEST_SUFFIX)]

    @property
    def size(self) -> int:
        return sum(info.size for info in self.files.values())

    @property
    def modified(self) -> datetime:
        """When the newest of it was written, UTC."""
        return max(info.modified for info in self.files.values())


@dataclass(frozen=True)
class Known:
    """A backup as the listings tell: how many files are called after it, and the keys of its marks."""

    key: str
    size: int
    files: int
    marks: list[str]


def groups(store: Store, layout: Layout, below: str | None = None) -> Iterator[Group]:
    """Everything in the folders of backups that is called like a part of one, in key order. Foreign files are not.

    Args:
        below: Only keys that begin so.
    """
    current: Group | None = None
    for prefix in layout.prefixes() if below is None else [below]:
        for info in store.list(prefix):
            folder, _, file = info.key.rpartition("/")
            name = names.parse_file(file)
            if name is None or not layout.is_folder(folder, name.taken_at):
                continue
            stem = file.removesuffix(f".{name.ext}")
            if current is None or (current.folder, current.stem) != (folder, stem):
                if current is not None:
                    yield current
                current = Group(folder, stem)
            current.files[file] = info
    if current is not None:
        yield current


def entry_at(location: str, layout: Layout, key: str, size: int = 0) -> Entry | None:
    """A backup by its data's key; None when it is no key of this layout."""
    place = layout.place(key)
    if place is None:
        return None
    sources, tiers = {each for each, _ in place.pairs}, {each for _, each in place.pairs}
    return Entry(
        location, key, place.name,
        next(iter(sources)) if len(sources) == 1 else None, next(iter(tiers)) if len(tiers) == 1 else None, size,
    )  # fmt: skip


class Census:
    """The backups of one place. To be closed.

    Attributes:
        count, size: How many backups there are, and their bytes.
    """

    def __init__(self, store: Store, layout: Layout, now: datetime) -> None:
        """Lists the place; raises what the store does."""
        self._store, self._layout, self._now = store, layout, now
        self._base = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=OFF", "synchronous=OFF"):
            self._base.execute(f"PRAGMA {pragma}")
        self._base.execute("CREATE TABLE marks (of TEXT PRIMARY KEY, proof REAL, expired INT) WITHOUT ROWID")
        self._base.execute("CREATE TABLE words (key TEXT PRIMARY KEY, of TEXT) WITHOUT ROWID")
        self._base.execute("CREATE INDEX by_of ON words (of)")
        columns = "key TEXT PRIMARY KEY, size INT, files INT, proof REAL, due INT"
        self._base.execute(f"CREATE TABLE copies ({columns}) WITHOUT ROWID")
        self._base.execute("CREATE TABLE suspects (key TEXT PRIMARY KEY, marked INT, modified REAL) WITHOUT ROWID")
        self._base.execute("BEGIN")
        self._count_marks()
        self._count_groups()
        self._suspect_what_left_only_marks()
        self._base.execute("COMMIT")
        self.count, self.size = self._base.execute("SELECT count(*), coalesce(sum(size), 0) FROM copies").fetchone()

    def close(self) -> None:
        self._base.close()

    def __contains__(self, key: object) -> bool:
        return self._base.execute("SELECT 1 FROM copies WHERE key = ?", (key,)).fetchone() is not None

    def expired(self, key: str) -> bool:
        """Is it marked to go?"""
        row = self._base.execute("SELECT expired FROM marks WHERE of = ?", (key,)).fetchone()
        return bool(row and row[0])

    @property
    def oldest(self) -> datetime | None:
        """When the one that has waited longest was proven, UTC."""
        row = self._base.execute("SELECT min(proof) FROM copies").fetchone()
        return names.from_timestamp(row[0]) if row[0] is not None else None

    def choose(self, share: Share) -> tuple[int, int]:
        """Settle which are read; how many, and their bytes."""
        rows: Iterator[Row] = iter(self._base.execute("SELECT key, size, proof FROM copies ORDER BY proof, key"))
        count = size = 0
        last: Row | None = None
        for last in due(rows, self.count, self.size, share, self._now):
            count, size = count + 1, size + last[1]
        if last is not None:  # they are the first in this order
            self._base.execute("UPDATE copies SET due = 1 WHERE (proof, key) <= (?, ?)", (last[2], last[0]))
        return count, size

    def due(self) -> Iterator[Known]:
        """What is read, in key order."""
        last = ""
        while True:
            query = "SELECT key, size, files FROM copies WHERE due = 1 AND key > ? ORDER BY key LIMIT ?"
            rows = self._base.execute(query, (last, _PAGE)).fetchall()
            for key, size, files in rows:
                words = self._base.execute("SELECT key FROM words WHERE of = ? ORDER BY key", (key,)).fetchall()
                yield Known(key, size, files, [word for (word,) in words])
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def suspects(self) -> list[tuple[str, bool, datetime]]:
        """Keys of data that something speaks of, or that stands without a manifest; are there marks of it; when the
        newest of it was written (UTC)."""
        rows = self._base.execute("SELECT key, marked, modified FROM suspects ORDER BY key").fetchall()
        return [(key, bool(marked), names.from_timestamp(modified)) for key, marked, modified in rows]

    def _count_marks(self) -> None:
        for of, named in groupby(marks.named(self._store, self._layout), key=lambda mark: mark.of):
            said, seen = Claims(), 0.0
            for mark in named:
                self._base.execute("INSERT OR REPLACE INTO words VALUES (?, ?)", (mark.key, of))
                said.add(mark)
                if mark.kind == SEEN:
                    seen = max(seen, self._trusted(mark.at))
            known = seen if said.verdict == BROKEN else None
            if known is None and said.judged_at is not None:
                known = max(seen, self._trusted(said.judged_at))
            row = (of, known, said.expired == EXPIRED)
            self._base.execute("INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", row)

    def _count_groups(self) -> None:
        for group in groups(self._store, self._layout):
            spoken_of = [data for data in group.manifests if self._layout.place(group.key(data)) is not None]
            for data in spoken_of:
                key = group.key(data)
                if data in group.files:
                    row = (key, group.size, len(group.files), self._proof(key))
                    self._base.execute("INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?, 0)", row)
                else:
                    self._suspect(key, group.modified)
            if not spoken_of:
                self._suspect(group.key(self._likely_data(group)), group.modified)

    def _likely_data(self, group: Group) -> str:
        """Of files without a manifest the one that it would be called after: one with marks, or the shortest name."""
        here = [file for file in group.files if not file.endswith(names.MANIFEST_SUFFIX)] or list(group.files)
        marked = [file for file in here if self._marked(group.key(file))]
        return min(marked or here, key=lambda file: (len(file), file))

    def _suspect_what_left_only_marks(self) -> None:
        query = """SELECT of FROM marks WHERE of NOT IN (SELECT key FROM copies)
                   AND of NOT IN (SELECT key FROM suspects)"""
        for (of,) in self._base.execute(query).fetchall():
            if self._layout.place(of) is not None:
                self._suspect(of, self._now - timedelta(days=365))

    def _suspect(self, key: str, modified: datetime) -> None:
        row = (key, self._marked(key), modified.timestamp())
        self._base.execute("INSERT OR REPLACE INTO suspects VALUES (?, ?, ?)", row)

    def _marked(self, key: str) -> bool:
        return self._base.execute("SELECT 1 FROM marks WHERE of = ?", (key,)).fetchone() is not None

    def _proof(self, key: str) -> float:
        """When it was last proven; what was never looked at again was proven when it was made; 0 when it was found
        broken."""
        row = self._base.execute("SELECT proof FROM marks WHERE of = ?", (key,)).fetchone()
        if row is not None and row[0] is not None:
            return float(row[0])
        place = self._layout.place(key)
        return self._trusted(place.name.taken_at) if place is not None else 0.0

    def _trusted(self, proof: datetime) -> float:
        """A proof of the future is none: a clock was wrong, or a name was made up."""
        return proof.timestamp() if proof <= self._now + timedelta(days=1) else 0.0
