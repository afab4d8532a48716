"""Buckets that a restore made and has not set up yet: versioning, CORS and policy come last, and it may break off then.
What is remembered here has the next restore into the same bucket set them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine.buckets.endpoint import Endpoint
from engine.roots import make_private
from engine.stores.local_errors import speaking_of
from engine.vault import Vault

_FOLDER = "buckets-to-set-up"


def remember(vault: Vault, there: Endpoint) -> None:
    """A bucket is about to be made. Raises DiskFull, StoreError."""
    make_private(vault.root, vault.state)
    path = _path(vault, there)
    with speaking_of("write to", path, vault.root):
        path.parent.mkdir(exist_ok=True, mode=0o700)
        path.write_text(f"{there.place}\n", encoding="utf-8")


def is_waiting(vault: Vault, there: Endpoint) -> bool:
    """Was it made by a restore that broke off before it was set up?"""
    return _path(vault, there).exists()


def forget(vault: Vault, there: Endpoint) -> None:
    """It is set up."""
    _path(vault, there).unlink(missing_ok=True)


def _path(vault: Vault, there: Endpoint) -> Path:
    named = hashlib.sha256(f"{there.place.endpoint}\n{there.bucket}".encode()).hexdigest()
    return vault.state / _FOLDER / named[:32]
