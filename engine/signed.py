"""Signed JSON documents: manifests and marks.

The signature is an HMAC-SHA256 over the canonical form (sorted keys, no spaces, UTF-8) of everything
but the ``signature`` field itself, so the document may be laid out for people to read.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Protocol

from engine.errors import IntegrityError, WrongKey

ALGORITHM = "hmac-sha256"


class MacKeys(Protocol):
    """What signs and checks documents; see ``engine.codec.keys.KeyRing``."""

    def mac_key(self, key_id: str) -> bytes:
        """The MAC key that belongs to a key id. Raises WrongKey when the ring has no such key."""
        ...

    def key_check(self, key_id: str) -> str:
        """A short value that tells two keys of the same id apart, and gives neither away."""
        ...


def seal(body: Mapping[str, Any], keys: MacKeys, key_id: str) -> bytes:
    """The document with its signature, as bytes ready to store."""
    signature = {
        "algorithm": ALGORITHM,
        "key_id": key_id,
        "key_check": keys.key_check(key_id),
        "mac": _mac(body, keys, key_id),
    }
    document = {**body, "signature": signature}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def unseal(data: bytes, keys: MacKeys, *, what: str, needed_for: str) -> dict[str, Any]:
    """Check a stored document and give its body.

    Args:
        what: The document in messages, at the start of a sentence.
        needed_for: The backup it belongs to.

    Raises:
        IntegrityError: No signed document, or altered after it was written.
        WrongKey: The ring does not hold its key, or holds another under that id.
    """
    body, key_id, key_check, mac = _parts(data, what)
    if key_check != keys.key_check(key_id):
        raise WrongKey(
            f"{needed_for} was written with another key than the one this site has under the id {key_id!r}.",
            kept="nothing was decrypted",
            remedy=f"put the key of that time into the ring as {key_id!r}; the ring may hold many",
        )
    try:
        expected = _mac(body, keys, key_id)
    except ValueError:  # characters that UTF-8 cannot hold: nothing this package writes
        expected = ""
    if not hmac.compare_digest(expected.encode(), mac.encode("utf-8", "replace")):
        raise IntegrityError(
            f"{what} fails its signature: it was altered after it was written.",
            kept="nothing was decrypted",
            remedy="use another copy of this backup (--location)",
        )
    return body


def signer(data: bytes, what: str) -> tuple[str, str]:
    """Which key a stored document says it was signed with: the key's id and its check. Nothing is proven by it.

    Raises:
        IntegrityError: It is no signed document.
    """
    _, key_id, key_check, _ = _parts(data, what)
    return key_id, key_check


def _parts(data: bytes, what: str) -> tuple[dict[str, Any], str, str, str]:
    try:
        body = json.loads(data)
        signature = body.pop("signature")
        found = tuple(signature[name] for name in ("key_id", "key_check", "mac"))
        if signature["algorithm"] != ALGORITHM:
            found = ()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        found = ()
    if not found or not all(isinstance(each, str) for each in found):
        raise IntegrityError(
            f"{what} is damaged: it is not a signed document.", remedy="use another copy of this backup (--location)"
        )
    key_id, key_check, mac = found
    return body, key_id, key_check, mac


def _mac(body: Mapping[str, Any], keys: MacKeys, key_id: str) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return hmac.new(keys.mac_key(key_id), canonical, hashlib.sha256).hexdigest()
