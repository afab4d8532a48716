"""What a PostgreSQL cluster is brought back from: a base backup as plain tar streams, and files of its log.

Form of the tar: that of BASE_BACKUP with TABLESPACE_MAP, and of ``pg_basebackup -Ft -X fetch``: regular
files and directories only; where tablespaces stood is written in ``tablespace_map``.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from engine.errors import IntegrityError, LogGap

Open = Callable[[], Iterator[bytes]]
"""Gives a file's plain bytes, from its beginning, each time it is called."""

CHUNK = 1024 * 1024
SEGMENT = re.compile(r"^[0-9A-F]{24}$")
HISTORY = re.compile(r"^[0-9A-F]{8}\.history$")
_BACKUP_LABEL = re.compile(r"^[0-9A-F]{24}\.[0-9A-F]{8}\.backup$")
_LINK = re.compile(r"^pg_tblspc/[0-9]+$")
_KEPT = 1024 * 1024
_READ = frozenset({"PG_VERSION", "backup_label", "tablespace_map", "postgresql.conf", "postgresql.auto.conf"})
_SIGNALS = frozenset({"standby.signal", "recovery.signal", "postmaster.pid", "postmaster.opts"})
AUTO = "postgresql.auto.conf"
ASIDE = "postgresql.auto.conf.source"
"""Where the source's own ALTER SYSTEM settings are put: a server reads them unasked otherwise."""


@dataclass(frozen=True)
class WalFile:
    """One file of the log: a segment, or the history of a timeline, under the name that PostgreSQL gave it."""

    name: str
    open: Open


@dataclass(frozen=True)
class BaseBackup:
    """A base backup.

    Attributes:
        major: Major version of its server, such as 15.
        data: The tar of the data directory.
        tablespaces: The tar of each tablespace, by its oid as text.
        bytes: Plain bytes of all tars, 0 if unknown; a progress report and a check of free space use it.
    """

    major: int
    data: Open
    tablespaces: Mapping[str, Open] = field(default_factory=dict)
    bytes: int = 0


@dataclass(frozen=True)
class Member:
    """A file or directory to be made; ``path`` is relative, clean, and stays below where it is put."""

    path: str
    directory: bool
    size: int
    chunks: Iterator[bytes]


@dataclass
class Found:
    """What was seen while a data directory went past."""

    texts: dict[str, str] = field(default_factory=dict)
    wal: set[str] = field(default_factory=set)

    @property
    def start_segment(self) -> str:
        """The first file of the log that recovery reads. Raises IntegrityError: no backup_label."""
        return self._label[2]

    @property
    def start(self) -> str:
        """The position of the log where recovery begins, such as ``0/2000028``. Raises as ``start_segment``."""
        return self._label[1]

    @property
    def _label(self) -> re.Match[str]:
        text = self.texts.get("backup_label", "")
        label = re.search(r"^START WAL LOCATION: (\S+) \(file ([0-9A-F]{24})\)", text, re.M)
        if not label:
            raise IntegrityError(
                "The base backup holds no backup_label: a server started on it would take a torn copy for a whole one.",
                kept="nothing was started",
                remedy="use another base backup",
            )
        return label

    def segments(self) -> list[str]:
        """Segments of the log that the base itself holds."""
        return [name for name in self.wal if SEGMENT.match(name)]

    def tablespaces(self) -> dict[str, str]:
        """Where each tablespace stood on the source, by oid."""
        lines = re.findall(r"([0-9]+) ((?:\\.|[^\\\n])*)\n?", self.texts.get("tablespace_map", ""), re.S)
        return {oid: re.sub(r"\\(.)", r"\1", path, flags=re.S) for oid, path in lines}


def data_members(
    chunks: Iterable[bytes], found: Found, locations: Callable[[dict[str, str]], Mapping[str, str]]
) -> Iterator[Member]:
    """The members of a data directory's tar, made harmless on the way.

    Args:
        found: Is told what goes past.
        locations: New place of each tablespace (absolute), by oid, given the old ones.

    Raises:
        IntegrityError: The tar is damaged, or holds what PostgreSQL does not write.
    """
    for member in members(chunks, "base.tar"):
        name = member.path
        if name in _SIGNALS:
            continue  # of a source that was itself a standby: ours is to be none
        if name.startswith("pg_wal/") and not member.directory:
            found.wal.add(name.removeprefix("pg_wal/"))
        if name not in _READ or member.size > _KEPT:
            yield member
            continue
        text = b"".join(member.chunks)
        found.texts[name] = text.decode("utf-8", "surrogateescape")
        if name == AUTO:
            name = ASIDE
        elif name == "tablespace_map":
            text = _map(locations(found.tablespaces()))
        yield Member(name, False, len(text), iter((text,)))


def members(chunks: Iterable[bytes], what: str) -> Iterator[Member]:
    """The members of a tar stream, each read before the next is asked for (what is not read is passed over).

    Raises:
        IntegrityError: Damaged, or a name that leads out, or a kind of entry PostgreSQL does not write.
    """
    reader = _Reader(chunks)
    try:
        with tarfile.open(fileobj=reader, mode="r|", bufsize=CHUNK) as tar:
            while (entry := tar.next()) is not None:
                vars(tar)["members"].clear()  # else a million files would be remembered
                path = _clean(entry.name, what)
                if entry.issym() and _LINK.match(path):
                    continue  # where a tablespace stood: the map says it too, and ours are made from that
                if not entry.isdir() and not entry.isreg():
                    raise IntegrityError(
                        f"{what} holds {entry.name!r}, which is neither a file nor a directory.",
                        kept="nothing was started",
                    )
                if path:
                    yield Member(path, entry.isdir(), 0 if entry.isdir() else entry.size, _content(tar, entry, what))
    except tarfile.TarError as error:
        raise IntegrityError(f"{what} is damaged: {error}.", kept="nothing was started") from None


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo, what: str) -> Iterator[bytes]:
    file = None if entry.isdir() else tar.extractfile(entry)
    left = entry.size if file else 0
    while file and left:
        try:
            data = file.read(min(CHUNK, left))
        except tarfile.TarError:
            data = b""
        if not data:
            raise IntegrityError(f"{what} ends in the middle of {entry.name}.", kept="nothing was started")
        left -= len(data)
        yield data


def _clean(name: str, what: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise IntegrityError(f"{what} holds the name {name!r}, which leads out of it.", kept="nothing was started")
    text = str(path)
    return "" if text == "." else text


def _map(locations: Mapping[str, str]) -> bytes:
    escaped = {oid: re.sub(r"([\\\n\r])", r"\\\1", path) for oid, path in locations.items()}
    return "".join(f"{oid} {path}\n" for oid, path in escaped.items()).encode("utf-8", "surrogateescape")


def exactly(file: WalFile, size: int) -> Iterator[bytes]:
    """A segment's bytes. Raises IntegrityError when they are not as many as they must be."""
    seen = 0
    for chunk in file.open():
        seen += len(chunk)
        if seen > size:
            break
        yield chunk
    if seen != size:
        raise IntegrityError(
            f"Segment {file.name} of the log has {'more than ' if seen > size else ''}{min(seen, size):,} bytes, "
            f"not {size:,}.",
            kept="nothing was started; production was not touched",
        )


def text_member(path: str, text: str) -> Member:
    """A small file of text."""
    data = text.encode("utf-8", "surrogateescape")
    return Member(path, False, len(data), iter((data,)))


class _Reader(io.RawIOBase):
    """A file object over chunks, as ``tarfile`` wants it."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        super().__init__()
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size: int = CHUNK) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < size and (data := next(self._chunks, None)) is not None:
            parts.append(data)
            have += len(data)
        joined = b"".join(parts)
        self._rest = joined[size:]
        return joined[:size]


def is_log_name(name: str) -> bool:
    """A name that PostgreSQL gives to a file of its log (whole segments, histories, backup labels)."""
    return bool(SEGMENT.match(name) or HISTORY.match(name) or _BACKUP_LABEL.match(name))


def refuse_gaps(start: str, names: Iterable[str], segment_size: int) -> str:
    """Every segment from ``start`` to the last one given is there; the last one's name.

    Timelines branch, numbers do not: of each number from the first to the last there must be a file on
    some timeline from the base's own on. Which of them counts, the server finds by the histories.

    Raises:
        LogGap: naming the first missing segment.
    """
    per = 0x1_0000_0000 // segment_size
    first_line, first = int(start[:8], 16), _number(start, per)
    there: dict[int, str] = {}
    for name in sorted(each for each in names if SEGMENT.match(each)):
        if int(name[:8], 16) >= first_line:
            there[_number(name, per)] = name
    last = max((number for number in there), default=-1)
    for number in range(first, max(first, last) + 1):
        if number not in there:
            line = there.get(number - 1, start)[:8]
            missing = f"{line}{number // per:08X}{number % per:08X}"
            raise LogGap(
                f"Segment {missing} of the log is missing: recovery could not go past it.",
                kept="nothing was started; production was not touched",
                remedy="recover to a time before it, or from a base backup made after it",
            )
    return there[last]


def end_of(segment: str, segment_size: int) -> int:
    """The log position (a number) right after a segment."""
    return (_number(segment, 0x1_0000_0000 // segment_size) + 1) * segment_size


def as_number(lsn: str) -> int:
    """A position of the log, such as ``0/3000148``, as a number."""
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def _number(segment: str, per: int) -> int:
    return int(segment[8:16], 16) * per + int(segment[16:], 16)
