"""The key ring sealed for offline keeping: a file that openssl alone opens, with a passphrase and nothing else.

The container is the one of every backup (``openssl enc -aes-256-cbc -pbkdf2``), with more rounds, since a person's
passphrase is weaker than a key. CBC proves nothing by itself: the text inside carries its own digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from engine import names
from engine.codec import KeyRing, decrypt
from engine.codec.encode import Envelope
from engine.errors import ConfigError, IntegrityError, WrongKey
from engine.manifest import Cipher
from engine.stores.local_errors import speaking_of

ITERATIONS = 600_000
SHORTEST = 16
"""Characters of the passphrase."""
LONGEST = 500
"""Bytes of the passphrase. openssl asks for 512 at most; from a file it takes one line of up to 1023."""
_KEY = "escrow"
OPEN_COMMAND = f"openssl enc -d -aes-256-cbc -pbkdf2 -iter {ITERATIONS} -in"


@dataclass(frozen=True)
class Escrow:
    """What a sealed file holds."""

    site: str
    sealed_at: datetime
    keys: KeyRing


def seal_ring(path: Path, site: str, keys: KeyRing, passphrase: str) -> Escrow:
    """Write the ring into a new file (mode 0600), read it again, and give what it holds.

    Raises:
        ConfigError: The passphrase is too short, or one that openssl could not be given; or something stands there
            already.
    """
    fault = _fault(passphrase)
    if fault:
        raise ConfigError(
            f"The passphrase {fault}.",
            kept="nothing was written",
            remedy="take six random words, and keep them apart from the file",
        )
    sealed = _sealed(_text(site, keys).encode(), passphrase)
    with speaking_of("write to", path.parent, path.parent):
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ConfigError(
                f"{path} is there already.",
                kept="it was not touched",
                remedy="choose another name, such as with a date",
            ) from None
        with os.fdopen(handle, "wb") as file:
            file.write(sealed)
            file.flush()
            os.fsync(file.fileno())
    return open_ring(path, passphrase)


def _fault(passphrase: str) -> str:
    """Why a passphrase is none that a person can give openssl, on a terminal or as the line of a file; or nothing."""
    if len(passphrase) < SHORTEST:
        return f"has {len(passphrase)} characters, fewer than {SHORTEST}"
    if any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in passphrase):
        return "has a line end or another control character: openssl reads one line of text"
    size = len(passphrase.encode())
    return f"has {size:,} bytes, more than the {LONGEST} that openssl surely asks for" if size > LONGEST else ""


def open_ring(path: Path, passphrase: str) -> Escrow:
    """Read a sealed file.

    Raises:
        ConfigError: There is no such file. WrongKey: another passphrase. IntegrityError: it is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", remedy=f"look at: ls -l {path}") from None
    ring = KeyRing({_KEY: passphrase}, _KEY) if passphrase else None
    if ring is None:
        raise ConfigError("No passphrase was given.", kept="nothing was opened")
    cipher = Cipher(key_id=_KEY, iterations=ITERATIONS)
    try:
        text = b"".join(decrypt([data], cipher, ring, what=path.name))
        found = json.loads(text)
        keys = {str(key): str(value) for key, value in found["keys"].items()}
        right = found["sha256"] == _digest(found["site"], found["current"], keys)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _not_opened(path) from None
    except IntegrityError as error:
        if "no Salted__" in error.message:
            raise
        raise _not_opened(path) from None
    if not right:
        raise IntegrityError(f"{path} is damaged: its keys do not have the digest that it names.")
    return Escrow(str(found["site"]), datetime.fromisoformat(found["sealed_at"]), KeyRing(keys, str(found["current"])))


def missing(escrow: Escrow, keys: KeyRing) -> list[str]:
    """Ids of keys of the ring that the sealed file lacks, or has otherwise."""
    return [
        each
        for each in keys.ids
        if each not in escrow.keys.ids or escrow.keys.passphrase(each) != keys.passphrase(each)
    ]


def _text(site: str, keys: KeyRing) -> str:
    ring = {each: keys.passphrase(each) for each in keys.ids}
    body = {
        "about": f"The encryption keys of the backups of site {site}. Each backup's manifest names its key (key_id). "
        "To restore without backup-flows: docs/restore-by-hand.md.",
        "site": site,
        "sealed_at": names.now().isoformat(),
        "current": keys.current,
        "keys": ring,
        "sha256": _digest(site, keys.current, ring),
    }
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def _digest(site: object, current: object, keys: dict[str, str]) -> str:
    canonical = json.dumps([site, current, keys], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _sealed(plain: bytes, passphrase: str) -> bytes:
    written = bytearray()
    envelope = Envelope(written.extend, KeyRing({_KEY: passphrase}, _KEY), Cipher(key_id=_KEY, iterations=ITERATIONS))
    envelope.add(plain)
    envelope.close()
    return bytes(written)


def _not_opened(path: Path) -> WrongKey:
    return WrongKey(
        f"{path} does not open with this passphrase, or it is damaged.",
        kept="nothing was changed",
        remedy=f"try it by hand: {OPEN_COMMAND} {path}",
    )


__all__ = ["OPEN_COMMAND", "Escrow", "missing", "open_ring", "seal_ring"]
