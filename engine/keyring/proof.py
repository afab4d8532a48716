"""Proof that a key may become the current one: it writes and opens, and the ring still opens what is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from engine import names
from engine.buckets.record import records
from engine.catalog import Entry
from engine.codec import Encoder, KeyRing, decode, peek
from engine.config import MIN_KEY_LENGTH
from engine.errors import BackupError, ConfigError, IntegrityError, UnknownName, WrongKey, nearest
from engine.keyring.changed import changed_keys
from engine.keyring.needed import require_keys
from engine.manifest import Manifest, StoredFile
from engine.signed import seal, unseal
from engine.vault import LOCAL, Vault

_HEAD = 4096
_MAGIC = {"gzip": b"\x1f\x8b\x08", "zstd": b"\x28\xb5\x2f\xfd"}
_PROBE = b"-- a probe of a key\n" * 5000


@dataclass(frozen=True)
class Opened:
    """One backup that the ring opens: where, which, and with which key it was written."""

    location: str
    file: str
    key_id: str


@dataclass
class Proof:
    """What was proven of a key.

    Attributes:
        opened: The newest backup of every database, archive and log series.
        unseen: Places that could not be asked, with the reason; what only these have was not opened.
    """

    key_id: str
    opened: list[Opened] = field(default_factory=list)
    unseen: dict[str, BackupError] = field(default_factory=dict)


def prove(vault: Vault, key_id: str) -> Proof:
    """Try a key of the vault's ring before it is made current.

    Raises:
        UnknownName: The ring has no such key. ConfigError: it is too short, or the same as another.
        WrongKey, IntegrityError: it does not open what it wrote, or the ring does not open the newest backup of
            something, or has another key under an id than older ones were written with. And what the local root raises.
    """
    ring = _with_current(vault.keys, key_id)
    _write_and_open(ring)
    proof = Proof(key_id)
    for copies in _newest(vault, proof).values():
        proof.opened.append(_open_one(vault, copies))
    for error in changed_keys(vault):
        raise error
    return proof


def _with_current(keys: KeyRing, key_id: str) -> KeyRing:
    if key_id not in keys.ids:
        raise UnknownName(
            f"The key ring has no key {key_id!r}.",
            kept=f"{keys.current!r} stays the current key",
            remedy=f"{nearest(key_id, keys.ids)} Make one with: backups key new",
        )
    ring = KeyRing({each: keys.passphrase(each) for each in keys.ids}, key_id)
    if len(ring.passphrase(key_id)) < MIN_KEY_LENGTH:
        raise ConfigError(
            f"The key {key_id!r} has fewer than {MIN_KEY_LENGTH} characters.",
            kept=f"{keys.current!r} stays the current key",
            remedy="make a good one with: backups key new",
        )
    same = [each for each in keys.ids if each != key_id and keys.passphrase(each) == ring.passphrase(key_id)]
    if same:
        raise ConfigError(
            f"The key {key_id!r} is the same as {same[0]!r}: nothing would be gained.",
            kept=f"{keys.current!r} stays the current key",
            remedy="make a new one with: backups key new",
        )
    return ring


def _write_and_open(ring: KeyRing) -> None:
    """Write a probe with the key, open it, and sign and check a document."""
    written = bytearray()
    encoder = Encoder(written.extend, ring)
    encoder.write(_PROBE)
    stored = encoder.stored(encoder.finish(), file="probe")
    read = b"".join(decode(iter([bytes(written)]), stored, ring))
    signed = unseal(seal({"probe": 1}, ring, ring.current), ring, what="The probe", needed_for="the probe")
    if read != _PROBE or signed != {"probe": 1}:
        raise IntegrityError(f"The key {ring.current!r} does not open what it wrote.")


def _newest(vault: Vault, proof: Proof) -> dict[tuple[str, str], list[Entry]]:
    """Every place's copy of the newest backup of each thing that was ever backed up."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for location in vault.locations():
        try:
            newest = list(_firsts(vault, location))
        except BackupError as error:
            if location == LOCAL:
                raise
            proof.unseen[location] = error
            continue
        for thing, entry in newest:
            known = found.setdefault(thing, [entry])
            if entry.name.taken_at > known[0].name.taken_at:
                found[thing] = [entry]
            elif entry.file == known[0].file and entry is not known[0]:
                known.append(entry)
    return found


def _firsts(vault: Vault, location: str) -> Iterator[tuple[tuple[str, str], Entry]]:
    seen: set[tuple[str, str]] = set()
    for entry in vault.catalog(location).entries():
        source = entry.source or "?"
        thing = (source, entry.name.log) if entry.name.log else (source, f"{names.encode(entry.name.name)}/")
        if thing not in seen:
            seen.add(thing)
            yield thing, entry


def _open_one(vault: Vault, copies: list[Entry]) -> Opened:
    """Open one of the copies. Raises what the first one raised, when none opens."""
    failed: BackupError | None = None
    for entry in copies:
        try:
            manifest = vault.catalog(entry.location).load(entry)
            for part in manifest.files:
                _peek(vault, entry, manifest, part)
            _try_contents(vault, entry, manifest)
            return Opened(entry.location, entry.file, manifest.data.cipher.key_id)
        except BackupError as error:
            failed = failed or error
    assert failed is not None
    raise type(failed)(
        f"The ring does not open the newest backup, {copies[0].file} in {copies[0].location}: {failed.message}",
        kept=f"{vault.keys.current!r} stays the current key",
        remedy=failed.remedy or "put the key of that time back into the ring",
    ) from failed


def _peek(vault: Vault, entry: Entry, manifest: Manifest, part: StoredFile) -> None:
    """The first bytes decrypt to what the manifest says they are."""
    head = b"".join(vault.store(entry.location).read(entry.beside(part.file), 0, _HEAD))
    clear = peek(head, part.cipher, vault.keys)
    if not clear.startswith(_MAGIC.get(part.compression, b"")):
        raise WrongKey(
            f"{part.file} does not open with the key {part.cipher.key_id!r} that its manifest names.",
            remedy=f"put the key that {manifest.file} was written with into the ring as {part.cipher.key_id!r}",
        )


def _try_contents(vault: Vault, entry: Entry, manifest: Manifest) -> None:
    """Contents that a bucket's list names open, too, where other keys wrote them; one of each key is tried."""
    require_keys(vault.keys, manifest)
    wanted = manifest.key_ids - {part.cipher.key_id for part in manifest.files}
    if not wanted:
        return
    contents = vault.contents(entry.location, manifest.source, manifest.database)
    with closing(vault.read_part(entry, manifest)) as plain:
        for each in records(plain, manifest.file):
            if each.content.key_id in wanted and contents.opens(each.content):
                wanted.remove(each.content.key_id)
            if not wanted:
                return
    raise WrongKey(
        f"No content that {manifest.file} names opens with the key {min(wanted)!r}, which wrote some of them.",
        remedy=f"put the key of that time into the ring as {min(wanted)!r}, or verify what is there: backups verify",
    )


__all__ = ["Opened", "Proof", "prove"]
