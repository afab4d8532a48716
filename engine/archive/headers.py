"""Tar headers in POSIX (pax) format, made and read with Python's ``tarfile``; the bytes are moved by us, since
a ``TarFile`` keeps every member it has seen in memory."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Sequence

from engine.archive import member as kinds
from engine.archive.member import Member

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
Segments = Sequence[tuple[int, int]]
"""The parts of a file that are no holes: offset and length in bytes, in order."""
_XATTR = "SCHILY.xattr."
_MOST = 8**11 - 1
"""The largest size that fits a header's field as digits."""
_TYPES = {
    kinds.FILE: tarfile.REGTYPE,
    kinds.DIRECTORY: tarfile.DIRTYPE,
    kinds.LINK: tarfile.SYMTYPE,
    kinds.HARDLINK: tarfile.LNKTYPE,
    kinds.FIFO: tarfile.FIFOTYPE,
}


def header(member: Member, segments: Segments | None = None) -> bytes:
    """The header blocks of a member.

    Args:
        segments: Of a file with holes. What follows the header is then its map, which is part of what is given here,
            and the bytes of these segments alone (GNU tar's sparse format 1.0, which stock ``tar`` unpacks with holes).
    """
    info = tarfile.TarInfo(member.path)
    info.type = _TYPES[member.type]
    info.mode, info.uid, info.gid = member.mode, member.uid, member.gid
    info.size = member.size if member.type == kinds.FILE else 0
    info.linkname = member.target
    info.mtime = member.mtime // 1_000_000_000
    further = {"mtime": _seconds(member.mtime)} if member.mtime % 1_000_000_000 else {}
    for name, value in member.xattrs.items():
        keyword = _XATTR + name.replace("%", "%25").replace("=", "%3D")
        further[keyword] = value.decode("utf-8", "surrogateescape")
    if segments is None:
        info.pax_headers = further
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    info.name = f"GNUSparseFile.0/{hashlib.sha256(os.fsencode(member.path)).hexdigest()[:16]}"
    info.pax_headers = further | {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": member.path,
        "GNU.sparse.realsize": str(member.size),
    }
    located = _map(member.size, segments)
    size = len(located) + sum(length for _, length in segments)
    info.size = min(size, _MOST)
    made = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return (made if size <= _MOST else _sized(made, size)) + located


def _map(size: int, segments: Segments) -> bytes:
    """Where the segments belong. An empty one at the end says how long a file is that ends with a hole."""
    ends = segments[-1][0] + segments[-1][1] if segments else 0
    entries = [*segments, *([(size, 0)] if ends < size or not segments else [])]
    text = "".join(f"{number}\n" for number in (len(entries), *(part for entry in entries for part in entry)))
    return text.encode() + padding(len(text))


def _sized(made: bytes, size: int) -> bytes:
    """A header with a size that is too large for digits. A pax keyword would do, but Python's ``tarfile`` takes it
    for the unpacked size."""
    head, block = made[:-BLOCK], bytearray(made[-BLOCK:])
    block[124:136] = b"\x80" + size.to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return head + bytes(block)


def padding(size: int) -> bytes:
    """What follows a file's content up to the next block."""
    return bytes(-size % BLOCK)


def member_of(info: tarfile.TarInfo, sha256: str = "") -> Member:
    """What a header says, as a member; of a kind that we never write, the type is tar's own letter."""
    kind = next((name for name, letter in _TYPES.items() if letter == info.type), info.type.decode("ascii", "replace"))
    xattrs = {
        name.removeprefix(_XATTR).replace("%3D", "=").replace("%25", "%"): value.encode("utf-8", "surrogateescape")
        for name, value in info.pax_headers.items()
        if name.startswith(_XATTR)
    }
    return Member(
        path=info.name, type=kind, mode=info.mode, uid=info.uid, gid=info.gid, mtime=_nanoseconds(info),
        size=info.size if kind == kinds.FILE else 0, sha256=sha256, target=info.linkname, xattrs=xattrs,
        sparse=info.issparse(),
    )  # fmt: skip


def _seconds(nanoseconds: int) -> str:
    whole, rest = divmod(abs(nanoseconds), 1_000_000_000)
    return f"{'-' if nanoseconds < 0 else ''}{whole}.{rest:09d}"


def _nanoseconds(info: tarfile.TarInfo) -> int:
    text = info.pax_headers.get("mtime")
    if text is None:
        return int(info.mtime) * 1_000_000_000
    whole, _, rest = text.partition(".")
    value = abs(int(whole)) * 1_000_000_000 + int((rest + "0" * 9)[:9])
    return -value if whole.startswith("-") else value
