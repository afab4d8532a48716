"""What a backup of n8n consists of, and the proof of it.

    n8n_20250115_020000.json.gz.enc                 every workflow, as ``n8n import:workflow`` takes them
    n8n_20250115_020000.credentials.json.gz.enc     every credential, still encrypted by n8n's own key
    n8n_20250115_020000.tags.json.gz.enc            the tags
    n8n_20250115_020000.key.txt.gz.enc              that key, sealed apart

n8n encrypts credentials as CryptoJS does: AES-256-CBC, key and vector drawn from the passphrase by OpenSSL's
EVP_BytesToKey with MD5 and one round, in base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from engine.errors import IntegrityError, WrongKey
from engine.manifest import Manifest

DUMP_FORMAT = "n8n"
EXTENSION = "json"
CREDENTIALS, TAGS, KEY = "credentials", "tags", "key"
_MAGIC = b"Salted__"
_LIMIT = 512 * 1024 * 1024
_OWN = ("name", "nodes", "connections", "settings", "pinData")
"""What a person made of a workflow. The rest n8n keeps for itself: an active one changes its static data as it runs."""

Item = dict[str, Any]


@dataclass
class Parts:
    """The content of one backup."""

    workflows: list[Item] = field(default_factory=list)
    credentials: list[Item] = field(default_factory=list)
    tags: list[Item] = field(default_factory=list)
    key: str = field(default="", repr=False)


def read_parts(manifest: Manifest, open_role: Callable[[str], Iterable[bytes]]) -> Parts:
    """All parts of a backup, parsed. Raises IntegrityError."""
    what = manifest.file
    return Parts(
        _items(_whole(open_role("data"), what), what),
        _items(_whole(open_role(CREDENTIALS), what), what),
        _items(_whole(open_role(TAGS), what), what),
        _whole(open_role(KEY), what).decode(),
    )


def verify(manifest: Manifest, open_role: Callable[[str], Iterable[bytes]]) -> int:
    """Read a backup to its end; every credential is opened with the key that is stored beside it.

    Returns:
        How many workflows and credentials were proven.

    Raises:
        IntegrityError: Counts differ, or a credential does not open.
    """
    parts = proven_parts(manifest, open_role)
    return len(parts.workflows) + len(parts.credentials)


def proven_parts(manifest: Manifest, open_role: Callable[[str], Iterable[bytes]]) -> Parts:
    """The parts of a backup, proven as ``verify`` does. Raises IntegrityError."""
    parts = read_parts(manifest, open_role)
    stated = manifest.contents
    for name, found in (("workflows", parts.workflows), ("credentials", parts.credentials)):
        if len(found) != stated.get(name):
            raise IntegrityError(f"{manifest.file} holds {len(found)} {name}, its manifest says {stated.get(name)}.")
    for each in parts.credentials:
        try:
            opened(each, parts.key)
        except WrongKey as error:
            raise IntegrityError(f"{manifest.file}: {error.message}") from None
    return parts


def opened(credential: Item, key: str) -> Any:
    """What a credential holds. Never to be shown.

    Raises:
        WrongKey: The key does not open it.
    """
    name = f"the credential {credential.get('name')!r} ({credential.get('type')})"
    try:
        sealed = base64.b64decode(str(credential.get("data")), validate=True)
        if not sealed.startswith(_MAGIC):
            raise ValueError
        secret, vector = _derived(key.encode(), sealed[8:16])
        reader = Cipher(algorithms.AES(secret), modes.CBC(vector)).decryptor()
        clear = reader.update(sealed[16:]) + reader.finalize()
        if not 1 <= clear[-1] <= 16:
            raise ValueError
        return json.loads(clear[: -clear[-1]])
    except (ValueError, IndexError, binascii.Error, UnicodeDecodeError):
        raise WrongKey(
            f"The encryption key does not open {name}.",
            kept="nothing was imported",
            remedy="give n8n the key that these credentials were made with (N8N_ENCRYPTION_KEY); it is in the backup: "
            "backups decrypt latest --source n8n --role key",
        ) from None


def prove_key(credentials: Iterable[Item], key: str) -> None:
    """Open every credential. Raises WrongKey."""
    for each in credentials:
        opened(each, key)


def same_workflow(one: Item, other: Item) -> bool:
    """Would a restore of the one leave the other as it is?"""
    same = all((one.get(name) or None) == (other.get(name) or None) for name in _OWN)
    return (
        same and _tag_names(one) == _tag_names(other) and bool(one.get("isArchived")) == bool(other.get("isArchived"))
    )


def unused_tags(parts: Parts) -> list[str]:
    """Names of the tags that no workflow has."""
    used = {name for each in parts.workflows for name in _tag_names(each)}
    return sorted({str(each.get("name")) for each in parts.tags} - used)


def version_of(workflow: Item) -> str:
    """Which of its versions a workflow is: n8n draws a new one at every change and every import."""
    return str(workflow.get("versionId") or workflow.get("updatedAt") or "")


def _tag_names(workflow: Item) -> set[str]:
    return {str(each.get("name")) for each in workflow.get("tags") or []}


def _derived(key: bytes, salt: bytes) -> tuple[bytes, bytes]:
    made = last = b""
    while len(made) < 48:
        last = hashlib.md5(last + key + salt, usedforsecurity=False).digest()
        made += last
    return made[:32], made[32:48]


def _whole(chunks: Iterable[bytes], what: str) -> bytes:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > _LIMIT:
            raise IntegrityError(f"{what} is larger than any n8n.")
    return bytes(data)


def _items(data: bytes, what: str) -> list[Item]:
    try:
        found = json.loads(data)
    except ValueError:
        raise IntegrityError(f"{what} holds a part that is no JSON.") from None
    if not isinstance(found, list) or not all(isinstance(each, dict) and each.get("id") for each in found):
        raise IntegrityError(f"{what} holds a part that is no list of things with ids.")
    return found
