"""Which keys there are: the same rule for every store, so that a backup can move between them."""

from __future__ import annotations

import re

from engine.errors import StoreRefused

MAX_KEY_BYTES = 1024  # S3's limit
MAX_PART_BYTES = 255  # a file name's limit on Linux
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


# Printable ASCII, no part that starts with a dot, none too long: nearly every key, told in one look.
_ORDINARY = re.compile(r"(?:[ -\-0-~][ -.0-~]{0,254}/)*[ -\-0-~][ -.0-~]{0,254}")


def check_key(key: str) -> str:
    """The key itself, when every store can hold it.

    Raises:
        StoreRefused: It is empty, absolute, climbs with ``..``, passes through a folder that starts
            with a dot (those are this package's own and other tools' state), holds control
            characters, or is too long.
    """
    reason = _fault(key)
    if reason:
        raise StoreRefused(f"{key[:200]!r} cannot be the key of a stored object: {reason}.")
    return key


def is_visible(key: str) -> bool:
    """Whether a listing shows this key. What no caller could name is not shown."""
    return not _fault(key)


def _fault(key: str) -> str:
    if len(key) <= MAX_KEY_BYTES and _ORDINARY.fullmatch(key):
        return ""
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if not key or len(encoded) > MAX_KEY_BYTES:
        return f"it must have 1 to {MAX_KEY_BYTES} bytes"
    if _CONTROL.search(key):
        return "it holds a control character"
    parts = key.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        return "its parts between slashes must be names, not empty, '.' or '..'"
    if any(part.startswith(".") for part in parts[:-1]):
        return "a folder in it starts with a dot"
    if any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        return f"a part of it is longer than {MAX_PART_BYTES} bytes"
    return ""
