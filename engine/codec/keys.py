"""The key ring: passphrases by id, and the keys derived from them.

The cipher key is what ``openssl enc -pbkdf2`` derives from the passphrase and each file's salt. The
MAC key is derived apart from it, once per passphrase, with its own salt and more rounds, so that
neither gives the other away.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from functools import lru_cache

from engine.config import KeyRingConfig, check_key
from engine.errors import ConfigError, WrongKey

_MAC_ROUNDS = 200_000
_MAC_SALT = b"backup-flows manifest mac v1:"


class KeyRing:
    """All keys a site still needs, and the one that new backups use.

    Args:
        keys: Passphrases by id.
        current: Id of the key for new backups.

    Raises:
        ConfigError: The current key is not in the ring, or a key is empty.
    """

    def __init__(self, keys: Mapping[str, str], current: str) -> None:
        if current not in keys:
            known = ", ".join(sorted(keys)) or "none"
            raise ConfigError(
                f"The key ring has no key {current!r}, which it calls current (it has: {known}).",
                remedy="set vault.keys.current to a key of the ring",
            )
        self.warnings = [warning for key_id, key in keys.items() if (warning := check_key(key_id, key))]
        self.current = current
        self._keys = dict(keys)

    @classmethod
    def from_config(cls, config: KeyRingConfig) -> KeyRing:
        return cls({key_id: key.get_secret_value() for key_id, key in config.keys.items()}, config.current)

    def __repr__(self) -> str:
        return f"KeyRing(current={self.current!r}, ids={sorted(self._keys)})"

    @property
    def ids(self) -> list[str]:
        """Every key id of the ring."""
        return sorted(self._keys)

    def passphrase(self, key_id: str) -> str:
        """The passphrase of a key id. Raises WrongKey when the ring has none."""
        try:
            return self._keys[key_id]
        except KeyError:
            raise WrongKey(
                f"The key ring has no key {key_id!r}.",
                kept="nothing was decrypted",
                remedy=f"add the key {key_id!r} to vault.keys; the ring has: {', '.join(sorted(self._keys))}",
            ) from None

    def cipher_key(self, key_id: str, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
        """Key (32 bytes) and IV (16 bytes) as openssl derives them. Source: openssl-enc(1), -pbkdf2."""
        raw = _cipher_key(self.passphrase(key_id), salt, iterations)
        return raw[:32], raw[32:]

    def mac_key(self, key_id: str) -> bytes:
        """Key for manifest signatures, 32 bytes."""
        return _mac_key(self.passphrase(key_id), key_id)

    def key_check(self, key_id: str) -> str:
        """Sixteen hex digits that differ between two passphrases of the same id."""
        return hmac.new(self.mac_key(key_id), b"key check", hashlib.sha256).hexdigest()[:16]


@lru_cache(maxsize=64)
def _cipher_key(passphrase: str, salt: bytes, iterations: int) -> bytes:
    """Some 10 ms of work, and many small files share one salt."""
    return hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, iterations, 48)


@lru_cache(maxsize=64)
def _mac_key(passphrase: str, key_id: str) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", passphrase.encode(), _MAC_SALT + key_id.encode(), _MAC_ROUNDS, 32)
