"""Tar headers in POSIX (pax) format, made and read with Python's ``tarfile``; the bytes are moved by us, since
a ``TarFile`` keeps every member it has seen in memory."""

from __future__ import annotations

import tarfile

from engine.archive import member as kinds
from engine.archive.member import Member

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
_XATTR = "SCHILY.xattr."
_TYPES = {
    kinds.FILE: tarfile.REGTYPE,
    kinds.DIRECTORY: tarfile.DIRTYPE,
    kinds.LINK: tarfile.SYMTYPE,
    kinds.HARDLINK: tarfile.LNKTYPE,
    kinds.FIFO: tarfile.FIFOTYPE,
}


def header(member: Member) -> bytes:
    """The header blocks of a member."""
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
    info.pax_headers = further
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


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
