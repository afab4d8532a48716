"""Proof of a stored image: what ``docker save`` wrote has every layer that its configuration names, with its digest.

Both layouts are read: a directory a layer with ``layer.tar`` in it, and the newer ``blobs/sha256/<digest>``.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable, Iterable
from typing import Any

from engine.archive.read import members
from engine.errors import IntegrityError
from engine.manifest import Manifest

DUMP_FORMAT = "image"
KIND = "image"
_SMALL = 4 * 1024 * 1024
_BLOBS = "blobs/sha256/"


def verify(manifest: Manifest, open_role: Callable[[str], Iterable[bytes]]) -> int:
    """Read a stored image to its end; how many layers were proven.

    Raises:
        IntegrityError: A layer is missing or not what it must be, or it is another image.
    """
    what = manifest.file
    digests, documents = _read(open_role("data"), what)
    listed = _json(documents, "manifest.json", what)
    if not isinstance(listed, list) or not listed:
        raise IntegrityError(f"{what} holds no image.")
    identity = str(manifest.contents.get("id", "")).rpartition(":")[2]
    if identity not in digests.values():
        raise IntegrityError(f"{what} does not hold the image {identity[:12]}, which its manifest names.")
    layers = 0
    for image in listed:
        config = _json(documents, str(image.get("Config")), what)
        wanted = [str(each).rpartition(":")[2] for each in config.get("rootfs", {}).get("diff_ids", [])]
        stored = [str(each) for each in image.get("Layers") or []]
        if len(wanted) != len(stored):
            raise IntegrityError(f"{what} has {len(stored)} layers; its configuration names {len(wanted)}.")
        for path, digest in zip(stored, wanted, strict=True):
            _check_layer(path, digest, digests, what)
        layers += len(stored)
    return layers


def _check_layer(path: str, digest: str, digests: dict[str, str], what: str) -> None:
    found = digests.get(path)
    if found is None:
        raise IntegrityError(f"{what} lacks the layer {path}.")
    # a blob is called by its own digest, and may be compressed; what it unpacks to has the other one
    expected = path.removeprefix(_BLOBS) if path.startswith(_BLOBS) else digest
    if found != expected:
        raise IntegrityError(
            f"{what}: the layer {path} is not what the image's configuration says.",
            remedy="use another copy of this backup (--location)",
        )


def _read(chunks: Iterable[bytes], what: str) -> tuple[dict[str, str], dict[str, bytes]]:
    """Digests of all files by path, links followed; and the small documents among them."""
    digests: dict[str, str] = {}
    documents: dict[str, bytes] = {}
    links: dict[str, str] = {}
    for info, content in members(chunks, what):
        path = info.name.removeprefix("./").rstrip("/")
        if info.issym() or info.islnk():
            base = posixpath.dirname(path) if info.issym() else ""
            links[path] = posixpath.normpath(posixpath.join(base, info.linkname))
            continue
        if not info.isreg():
            continue
        digest, kept = hashlib.sha256(), bytearray()
        for chunk in content:
            digest.update(chunk)
            if info.size <= _SMALL and (kept or chunk[:1] in (b"{", b"[")):
                kept += chunk
        digests[path] = digest.hexdigest()
        if kept:
            documents[path] = bytes(kept)
    for path, target in links.items():
        if target in digests:
            digests[path] = digests[target]
    return digests, documents


def _json(documents: dict[str, bytes], path: str, what: str) -> Any:
    try:
        return json.loads(documents[path])
    except (KeyError, ValueError):
        raise IntegrityError(f"{what} has no readable {path}: it is no saved image.") from None
