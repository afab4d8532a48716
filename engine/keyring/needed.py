"""Which keys a restore of one backup needs, held against the ring."""

from __future__ import annotations

from engine.codec import KeyRing
from engine.errors import WrongKey
from engine.manifest import Manifest


def require_keys(keys: KeyRing, manifest: Manifest) -> None:
    """The ring has every key that a restore of this backup needs. Raises WrongKey."""
    lacking = sorted(manifest.key_ids.difference(keys.ids))
    if lacking:
        ids = ", ".join(repr(each) for each in lacking)
        raise WrongKey(
            f"{manifest.file} names contents that were written with {ids}, which the key ring does not have.",
            kept="nothing was changed",
            remedy=f"put {ids} back into the ring: without it these objects cannot be restored",
        )


__all__ = ["require_keys"]
