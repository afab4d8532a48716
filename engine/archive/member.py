"""One member of an archive, as its listing and its tar header both tell it."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from engine.errors import IntegrityError

FILE, DIRECTORY, LINK, HARDLINK, FIFO = "file", "directory", "link", "hardlink", "fifo"
ROOT = "."
"""Path of the directory itself that an archive was made of."""
TYPES = (FILE, DIRECTORY, LINK, HARDLINK, FIFO)
_LONGEST_LINE = 16 * 1024 * 1024


@dataclass(frozen=True)
class Member:
    """A file, directory or link.

    Attributes:
        path: Without a leading slash; bytes that are no UTF-8 as surrogates, as ``os.fsdecode`` gives them. ``.`` is
            the directory itself that the archive was made of, where it was made of one.
        mode: Permission bits with setuid, setgid and sticky.
        mtime: Nanoseconds since 1970.
        size: Bytes, of a file.
        sha256: Of a file's content as it stands in the tar.
        target: Of a link as written; of a hard link the path of the member it is another name of.
        xattrs: Extended attributes (ACLs among them) by name.
        above: A directory that was not asked for itself: it leads to one that was.
        sparse: A file with holes, which are no part of the tar and are to be holes again.
    """

    path: str
    type: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    sha256: str = ""
    target: str = ""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    above: bool = False
    sparse: bool = False

    def line(self) -> bytes:
        """Its line in a listing. ASCII: any name survives."""
        body: dict[str, Any] = {
            "path": self.path, "type": self.type, "mode": f"{self.mode:04o}", "uid": self.uid, "gid": self.gid,
            "mtime": self.mtime,
        }  # fmt: skip
        if self.type == FILE:
            body |= {"size": self.size, "sha256": self.sha256}
        if self.target:
            body["target"] = self.target
        if self.xattrs:
            body["xattrs"] = {name: base64.b64encode(value).decode() for name, value in self.xattrs.items()}
        if self.above:
            body["above"] = True
        if self.sparse:
            body["sparse"] = True
        return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def of_stat(path: str, kind: str, found: Any, **more: Any) -> Member:
    """A member from what ``os.lstat`` tells."""
    return Member(
        path, kind, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns, **more
    )  # fmt: skip


def read_listing(chunks: Iterable[bytes], what: str) -> Iterator[Member]:
    """The members of a listing, in the tar's order.

    Raises:
        IntegrityError: A line is none, or names what no archive of ours holds.
    """
    for number, line in enumerate(_lines(chunks), 1):
        try:
            body = json.loads(line)
            yield Member(
                path=body["path"], type=body["type"], mode=int(body["mode"], 8), uid=int(body["uid"]),
                gid=int(body["gid"]), mtime=int(body["mtime"]), size=int(body.get("size", 0)),
                sha256=str(body.get("sha256", "")), target=body.get("target", ""),
                xattrs={name: base64.b64decode(value) for name, value in body.get("xattrs", {}).items()},
                above=bool(body.get("above", False)), sparse=bool(body.get("sparse", False)),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError):
            raise IntegrityError(f"Line {number} of the listing of {what} cannot be read.") from None


def check_member(member: Member, what: str) -> None:
    """Refuse what must never be written anywhere: paths that lead out, device files, links to the outside.

    Raises:
        IntegrityError: naming it.
    """
    if member.path == ROOT and member.type == DIRECTORY:
        return
    for path, role in ((member.path, "name"), (member.target if member.type == HARDLINK else "", "hard link's target")):
        parts = path.split("/")
        if path.startswith("/") or ".." in parts or "\0" in path or (path and ("" in parts or "." in parts)):
            raise IntegrityError(
                f"{what} has a member whose {role} leads out of where it is restored, or is written oddly: {path!r}.",
                kept="nothing was written",
                remedy="take another backup; nothing that backup-flows writes looks like this",
            )
    if not member.path or member.type not in TYPES or (member.type == HARDLINK and not member.target):
        raise IntegrityError(
            f"{what} has a member {member.path!r} of the kind {member.type!r}, which is never restored.",
            kept="nothing was written",
            remedy="take another backup; nothing that backup-flows writes looks like this",
        )


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
        if len(rest) > _LONGEST_LINE:
            break
    if rest:
        yield rest
