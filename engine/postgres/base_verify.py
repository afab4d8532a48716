"""Proof of a stored base backup: every file in its tars held against the server's own backup manifest.

The manifest names each file with its size and SHA-256 and carries a checksum of itself. WAL is not in it
(the segments the copy needs are checked for being there). The tars are read as streams; what is held is one
digest for each file. Format: PostgreSQL manual, "Backup Manifest Format".
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from engine.errors import IntegrityError
from engine.manifest import Manifest
from engine.postgres.base_facts import DUMP_FORMAT, MANIFEST_ROLE, BaseFacts, base_facts, tablespace_role
from engine.postgres.wal import Segment

_CHUNK = 1024 * 1024
_LARGEST_MANIFEST = 1 << 30
_CHECKSUM = re.compile(rb'"Manifest-Checksum": "([0-9a-f]{64})"\}\s*$')
_NOT_LISTED = re.compile(r"^(pg_wal/|tablespace_map$)")
"""In the tar but not, or not always, in the server's manifest."""
_ALWAYS = ("PG_VERSION", "backup_label", "global/pg_control")

OpenRole = Callable[[str], Iterable[bytes]]


@dataclass
class _Expected:
    """Files by path: size in bytes and SHA-256. What was found is taken out."""

    files: dict[str, tuple[int, str]]
    wal: set[str]
    surplus: list[str] = field(default_factory=list)


def verify(manifest: Manifest, open_role: OpenRole) -> int:
    """Read every part of a base backup and hold each file against the server's manifest.

    Args:
        open_role: Gives the plain bytes of a part.

    Returns:
        How many files were proven.

    Raises:
        IntegrityError: A file is missing, too many, or not what it was; the message names it.
    """
    facts = base_facts(manifest)
    expected = _Expected(_listed(manifest, facts, b"".join(open_role(MANIFEST_ROLE))), _needed_wal(facts))
    count = len(expected.files)
    _check_parts(manifest, facts)
    roles = [("data", "")]
    roles += [(tablespace_role(each.oid), f"pg_tblspc/{each.oid}/") for each in facts.tablespaces]
    for role, prefix in roles:
        _read_tar(manifest.file, role, prefix, open_role(role), expected)
    _refuse_missing(manifest.file, expected)
    return count


def _check_parts(manifest: Manifest, facts: BaseFacts) -> None:
    wanted = {"data", MANIFEST_ROLE, *(tablespace_role(each.oid) for each in facts.tablespaces)}
    differing = wanted ^ {part.role for part in manifest.files}
    if differing:
        raise IntegrityError(f"{manifest.file} and what it says of its parts differ in {', '.join(sorted(differing))}.")


def look_through(manifest: Manifest, chunks: Iterable[bytes]) -> None:
    """Read ``base.tar`` alone to its end: a whole tar, with what a server cannot start without, and its WAL.

    Raises:
        IntegrityError: It is not.
    """
    facts = base_facts(manifest)
    expected = _Expected({}, _needed_wal(facts))
    _read_tar(manifest.file, "data", "", chunks, expected)
    lacking = [name for name in _ALWAYS if name not in expected.surplus]
    if lacking:
        raise IntegrityError(f"{manifest.file} holds no {lacking[0]}: it is not a base backup.")
    expected.surplus.clear()
    _refuse_missing(manifest.file, expected)


def _listed(manifest: Manifest, facts: BaseFacts, raw: bytes) -> dict[str, tuple[int, str]]:
    """The server's manifest: checked by its own checksum, and to be of this backup."""
    file = manifest.file
    if len(raw) > _LARGEST_MANIFEST:
        raise IntegrityError(f"The server's backup manifest beside {file} is larger than any such should be.")
    found = _CHECKSUM.search(raw)
    if not found:
        raise IntegrityError(f"The server's backup manifest beside {file} has no checksum: it is not whole.")
    last_line = raw.rindex(b"\n", 0, found.start()) + 1
    if hashlib.sha256(raw[:last_line]).hexdigest().encode() != found[1]:
        raise IntegrityError(f"The server's backup manifest beside {file} does not have the checksum it says.")
    body = json.loads(raw)
    _check_place(file, facts, body)
    return {_path_of(each): (int(each["Size"]), _digest_of(file, each)) for each in body["Files"]}


def _check_place(file: str, facts: BaseFacts, body: dict[str, Any]) -> None:
    system = str(body.get("System-Identifier", facts.system_id))  # since 17
    if system != facts.system_id or not body.get("WAL-Ranges"):
        raise IntegrityError(f"The server's backup manifest beside {file} is of another server (system {system}).")


def _path_of(each: dict[str, Any]) -> str:
    if "Encoded-Path" in each:  # not valid UTF-8
        return bytes.fromhex(each["Encoded-Path"]).decode("utf-8", "surrogateescape")
    return str(each["Path"])


def _digest_of(file: str, each: dict[str, Any]) -> str:
    if each.get("Checksum-Algorithm") != "SHA256":
        raise IntegrityError(f"The server's backup manifest beside {file} has no SHA-256 of {_path_of(each)}.")
    return str(each["Checksum"])


def _needed_wal(facts: BaseFacts) -> set[str]:
    """Names of the segments from the start to the stop."""
    first, last = (position // facts.segment_size for position in (facts.start, facts.stop - 1))
    return {Segment(facts.timeline, number, facts.segment_size).name for number in range(first, last + 1)}


def _read_tar(file: str, role: str, prefix: str, chunks: Iterable[bytes], expected: _Expected) -> None:
    stream = _Stream(chunks)
    try:
        with tarfile.open(mode="r|", fileobj=stream, bufsize=_CHUNK, errors="surrogateescape") as tar:
            held: list[tarfile.TarInfo] = vars(tar)["members"]
            for member in tar:
                held.clear()  # else the archive keeps every header it has read
                if member.isreg():
                    content = tar.extractfile(member)
                    assert content is not None
                    _check_file(file, prefix + member.name.removeprefix("./"), member.size, content, expected)
    except (tarfile.TarError, EOFError) as error:
        raise IntegrityError(f"{file}: the tar of its part {role!r} is not whole ({error}).") from None
    while stream.read(_CHUNK):
        pass


def _check_file(file: str, path: str, size: int, content: Any, expected: _Expected) -> None:
    wanted = expected.files.pop(path, None)
    if wanted is None:
        _note_unlisted(path, expected)
        return
    digest = hashlib.sha256()
    while chunk := content.read(_CHUNK):
        digest.update(chunk)
    if (size, digest.hexdigest()) != wanted:
        what = f"has {size:,} bytes, not {wanted[0]:,}" if size != wanted[0] else "is not what the server read"
        raise IntegrityError(
            f"{file}: {path} {what}.", remedy="use another copy of this base backup, or take a new one"
        )


def _note_unlisted(path: str, expected: _Expected) -> None:
    expected.wal.discard(path.removeprefix("pg_wal/"))
    if not _NOT_LISTED.match(path):
        expected.surplus.append(path)


def _refuse_missing(file: str, expected: _Expected) -> None:
    if expected.files:
        some = ", ".join(sorted(expected.files)[:3])
        raise IntegrityError(f"{file} lacks {len(expected.files)} files of the server: {some}...")
    if expected.surplus:
        raise IntegrityError(f"{file} holds files that the server did not put there: {expected.surplus[0]}...")
    if expected.wal:
        raise IntegrityError(f"{file} lacks WAL that it cannot be started without: {', '.join(sorted(expected.wal))}.")


class _Stream(io.RawIOBase):
    """Chunks as a file to be read forward."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        assert size > 0
        parts = []
        while size:
            if not self._rest:
                self._rest = memoryview(next(self._chunks, b""))
                if not self._rest:
                    break
            parts.append(self._rest[:size])
            self._rest = self._rest[size:]
            size -= len(parts[-1])
        return b"".join(parts)


__all__ = ["DUMP_FORMAT", "OpenRole", "look_through", "verify"]
