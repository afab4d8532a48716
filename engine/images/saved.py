"""Proof of a stored image: what ``docker save`` wrote has every layer that its configuration names, with its digest.

Both layouts are read: a directory a layer with ``layer.tar`` in it, and the newer ``blobs/sha256/<digest>``. There a
layer may be compressed: then it is what it must be if it unpacks to what the configuration names, or if the image's own
id, which is the digest of an OCI manifest (or of an index of some) in some engines, names it.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from engine.archive.read import members
from engine.errors import IntegrityError
from engine.manifest import Manifest

DUMP_FORMAT = "image"
KIND = "image"
_SMALL = 4 * 1024 * 1024
_GZIP = b"\x1f\x8b"
_AT_ONCE = 1024 * 1024


def verify(manifest: Manifest, open_role: Callable[[str], Iterable[bytes]]) -> int:
    """Read a stored image to its end; how many layers were proven.

    Raises:
        IntegrityError: A layer is missing or not what it must be, or it is another image.
    """
    what = manifest.file
    digests, documents, unpacked = _read(open_role("data"), what)
    listed = _json(documents, "manifest.json", what)
    if not isinstance(listed, list) or not listed:
        raise IntegrityError(f"{what} holds no image.")
    identity = str(manifest.contents.get("id", "")).rpartition(":")[2]
    if identity not in digests.values():
        raise IntegrityError(f"{what} does not hold the image {identity[:12]}, which its manifest names.")
    vouched = _vouched(identity, digests, documents)
    layers = 0
    for image in listed:
        if digests.get(str(image.get("Config"))) not in vouched:
            raise IntegrityError(f"{what} holds the configuration of another image than {identity[:12]}.")
        config = _json(documents, str(image.get("Config")), what)
        wanted = [str(each).rpartition(":")[2] for each in config.get("rootfs", {}).get("diff_ids", [])]
        stored = [str(each) for each in image.get("Layers") or []]
        if len(wanted) != len(stored):
            raise IntegrityError(f"{what} has {len(stored)} layers; its configuration names {len(wanted)}.")
        for path, digest in zip(stored, wanted, strict=True):
            if path not in digests:
                raise IntegrityError(f"{what} lacks the layer {path}.")
            if digest not in (digests[path], unpacked.get(path)) and digests[path] not in vouched:
                raise IntegrityError(
                    f"{what}: the layer {path} is not what the image's configuration says.",
                    remedy="use another copy of this backup (--location)",
                )
        layers += len(stored)
    return layers


def _vouched(identity: str, digests: dict[str, str], documents: dict[str, bytes]) -> set[str]:
    """The image's id and, where that is the digest of a manifest or an index, all digests that these name."""
    known = {digests[path]: document for path, document in documents.items()}
    found: set[str] = set()
    waiting = [identity]
    while waiting:
        each = waiting.pop()
        body = _loaded(known.get(each, b"")) if each not in found else None
        found.add(each)
        if isinstance(body, dict):
            parts = [body.get("config"), *(body.get("layers") or []), *(body.get("manifests") or [])]
            named = [part["digest"] for part in parts if isinstance(part, dict) and "digest" in part]
            waiting += [str(each).rpartition(":")[2] for each in named]
    return found


class _Digest:
    """SHA-256 of a file and, where it is gzip, of what it unpacks to."""

    def __init__(self) -> None:
        self.stored, self._plain = hashlib.sha256(), hashlib.sha256()
        self._gzip: Any = None
        self._begun = False

    def update(self, chunk: bytes) -> None:
        self.stored.update(chunk)
        if not self._begun:
            self._begun, self._gzip = True, _unzip() if chunk.startswith(_GZIP) else None
        try:
            while self._gzip is not None and chunk:
                self._plain.update(self._gzip.decompress(chunk, _AT_ONCE))
                chunk = self._gzip.unused_data or self._gzip.unconsumed_tail
                if chunk and self._gzip.eof:
                    self._gzip = _unzip()
        except zlib.error:
            self._gzip = None

    @property
    def plain(self) -> str | None:
        """Of what it unpacks to; None where it does not."""
        return self._plain.hexdigest() if self._gzip is not None and self._gzip.eof else None


def _unzip() -> Any:
    return zlib.decompressobj(wbits=31)


def _read(chunks: Iterable[bytes], what: str) -> tuple[dict[str, str], dict[str, bytes], dict[str, str]]:
    """Digests of all files by path, links followed; the small documents among them; and the digests of what those
    that are compressed unpack to."""
    digests: dict[str, str] = {}
    documents: dict[str, bytes] = {}
    unpacked: dict[str, str] = {}
    links: dict[str, str] = {}
    for info, content in members(chunks, what):
        path = info.name.removeprefix("./").rstrip("/")
        if info.issym() or info.islnk():
            base = posixpath.dirname(path) if info.issym() else ""
            links[path] = posixpath.normpath(posixpath.join(base, info.linkname))
            continue
        if not info.isreg():
            continue
        digest, kept = _Digest(), bytearray()
        for chunk in content:
            digest.update(chunk)
            if info.size <= _SMALL and (kept or chunk[:1] in (b"{", b"[")):
                kept += chunk
        digests[path] = digest.stored.hexdigest()
        if digest.plain is not None:
            unpacked[path] = digest.plain
        if kept:
            documents[path] = bytes(kept)
    for path, target in links.items():
        for table in (digests, unpacked):
            if target in table:
                table[path] = table[target]
    return digests, documents, unpacked


def _loaded(document: bytes) -> Any:
    try:
        return json.loads(document)
    except ValueError:
        return None


def _json(documents: dict[str, bytes], path: str, what: str) -> Any:
    try:
        return json.loads(documents[path])
    except (KeyError, ValueError):
        raise IntegrityError(f"{what} has no readable {path}: it is no saved image.") from None
