"""Another key under the same id: what was written with the one before it does not open any more.

Every manifest says by the check of its signature which key it was signed with, so that an edited ``.env`` is noticed
without a secret being kept anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from engine import names
from engine.catalog import Entry
from engine.errors import BackupError, IntegrityError, NotFound, WrongKey
from engine.signed import signer
from engine.vault import LOCAL, Vault

T = TypeVar("T")


def changed_keys(vault: Vault) -> list[WrongKey]:
    """For every id of the ring that stands for another key than it did: one backup that shows it.

    Looks at few backups of each thing: the newest, the oldest, and between them ever farther apart, so that as backups
    come in each is looked at again and again. The local root is asked; where it holds nothing, the replicas are. What
    cannot be asked or read shows nothing.
    """
    for location in sorted(vault.locations(), key=lambda each: each != LOCAL):
        try:
            shown = _looked_at(vault, location)
        except BackupError:
            continue
        if shown is not None:
            return [_told(shown[key_id], key_id) for key_id in sorted(shown)]
    return []


def _looked_at(vault: Vault, location: str) -> dict[str, Entry] | None:
    """By key id the newest that shows another key; None where the place holds nothing."""
    things: dict[tuple[str | None, str], list[Entry]] = {}
    for entry in vault.catalog(location).entries():  # newest first
        thing = entry.name.log or f"{names.encode(entry.name.name)}/"
        things.setdefault((entry.source, thing), []).append(entry)
    shown: dict[str, Entry] = {}
    for entries in things.values():
        for entry in _few(entries):
            key_id = _other_key(vault, entry)
            if key_id and key_id not in shown:
                shown[key_id] = entry
    return shown if things else None


def _few(entries: Sequence[T]) -> list[T]:
    """The newest, those 1, 2, 4, 8... before it, and the oldest."""
    at = {0, len(entries) - 1, *(1 << power for power in range(len(entries).bit_length()))}
    return [entries[number] for number in sorted(at) if number < len(entries)]


def _other_key(vault: Vault, entry: Entry) -> str:
    """The id that its manifest names and that stands for another key now; empty where it does not, or nobody can tell.
    An id that the ring has not is not a matter of this."""
    try:
        key_id, check = signer(vault.store(entry.location).get(entry.manifest_key), entry.file)
    except (IntegrityError, NotFound):
        return ""
    return key_id if key_id in vault.keys.ids and check != vault.keys.key_check(key_id) else ""


def _told(entry: Entry, key_id: str) -> WrongKey:
    return WrongKey(
        f"The key {key_id!r} is another one than it was: {entry.file} in {entry.location}, and what else was written "
        "with the one before it, cannot be read.",
        kept="what is there; nothing was changed",
        remedy=f"give {key_id!r} its former value back (the .env beside the site file; backups key escrow --check "
        "tells), and add the new one under an id of its own: backups key new",
    )


__all__ = ["changed_keys"]
