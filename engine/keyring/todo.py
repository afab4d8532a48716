"""What re-encryption has to do: what other keys than the current one wrote, and what it passes over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.buckets.record import DUMP_FORMAT
from engine.catalog import Entry
from engine.errors import BackupError, ConfigError, IntegrityError
from engine.keyring.strangers import strangers
from engine.keyring.uses import Known, manifests
from engine.manifest import Manifest
from engine.progress import Progress
from engine.prune.contents import EXPIRED, Claims, all_claims
from engine.vault import LOCAL, Vault

Identity = tuple[str, str, str]
"""Source, tier and file: what all copies of a backup share."""


@dataclass
class Old:
    """A backup that an older key wrote, wherever it stands; and its new copies by place, from an earlier run."""

    manifest: Manifest
    places: dict[str, Entry] = field(default_factory=dict)
    new: dict[str, Known] = field(default_factory=dict)


@dataclass
class Todo:
    """What was found.

    Attributes:
        olds: To be written anew, newest first.
        passed: By place and key, what does not hold, and why.
        unseen: Places that could not be asked.
        logs: Logs of older keys, by source, tier and file.
    """

    olds: list[Old] = field(default_factory=list)
    passed: dict[str, BackupError] = field(default_factory=dict)
    unseen: dict[str, BackupError] = field(default_factory=dict)
    of_logs: set[Identity] = field(default_factory=set)

    @property
    def logs(self) -> int:
        return len(self.of_logs)


def look(vault: Vault, progress: Progress) -> Todo:
    """Read every manifest there is. Raises what the local root raises."""
    todo = Todo()
    found: dict[Identity, Old] = {}
    made: list[tuple[str, Identity, Known]] = []
    for location in vault.locations():
        try:
            _look_at(vault, location, todo, found, made, progress)
        except BackupError as error:
            if location == LOCAL:
                raise
            todo.unseen[location] = error
    for location, identity, known in made:
        if identity in found:
            found[identity].new.setdefault(location, known)
    todo.olds = sorted(found.values(), key=lambda each: each.manifest.taken_at, reverse=True)
    return todo


def _look_at(
    vault: Vault, location: str, todo: Todo, found: dict[Identity, Old],
    made: list[tuple[str, Identity, Known]], progress: Progress,
) -> None:  # fmt: skip
    """Everything in one place; nothing is noted of one that cannot be asked to its end."""
    passed: dict[str, BackupError] = {}
    known = list(manifests(vault, location, passed, progress))
    claims = all_claims(vault, location)
    whole = [each for each in known if (said := claims.get(each[0].key)) is None or said.claim != "broken"]
    anew = [(_origin(manifest), (entry, manifest)) for entry, manifest in whole if _origin(manifest)]
    stands = {identity for identity, _ in anew}
    current = {vault.keys.current}
    made += [(location, identity, each) for identity, each in anew if identity and each[1].key_ids == current]
    for entry, manifest in known:
        identity, said = (manifest.source, manifest.tier, manifest.file), claims.get(entry.key, Claims())
        if manifest.key_ids == current or said.expired == EXPIRED or (said.superseded and identity in stands):
            continue
        if entry.name.log:
            todo.of_logs.add(identity)
        elif said.claim == "broken":
            passed[f"{location}: {entry.key}"] = _is_broken(entry)
        else:
            found.setdefault(identity, Old(manifest)).places[location] = entry
    for each in strangers(vault, location):
        error = each.error if each.manifest is None else _is_strange(each.manifest, location, current)
        if error is not None:
            passed[each.about] = error
    todo.passed |= passed


def _origin(manifest: Manifest) -> Identity | None:
    """Of what was encrypted anew: of which backup it is the new one."""
    origin = manifest.origin
    return (manifest.source, manifest.tier, origin.file) if origin is not None and origin.key_id else None


def _is_strange(manifest: Manifest, location: str, current: set[str]) -> ConfigError | None:
    if manifest.key_ids == current:
        return None
    return ConfigError(
        f"{manifest.file} in {location} is of the source {manifest.source!r}, which the site file does not name, or "
        "under a path that it does not lead to.",
        kept=f"it stays as it is, and needs {', '.join(sorted(manifest.key_ids))}",
        remedy=f"put {manifest.source} back into the site file (its path, too) and run this again; "
        "or remove its files, where nobody needs them any more",
    )


def _is_broken(entry: Entry) -> IntegrityError:
    return IntegrityError(
        f"{entry.file} is marked as broken in {entry.location}.",
        kept="it stays as it is, with its old key, until retention removes it",
        remedy=f"where it is whole after all, verify it again: backups verify --backup {entry.file} "
        f"--location {entry.location}",
    )


def total(olds: Iterable[Old]) -> tuple[int, int]:
    """How many, and of how many bytes at most."""
    buckets: set[tuple[str, str]] = set()
    sizes = [bytes_of(each, buckets) for each in olds]
    return len(sizes), sum(sizes)


def bytes_of(old: Old, buckets: set[tuple[str, str]]) -> int:
    """What there is to do at most. The contents of a bucket count with the first of its lists, others share them.

    Args:
        buckets: Those whose contents were counted; this one is added.
    """
    manifest, bucket = old.manifest, (old.manifest.source, old.manifest.database)
    size = manifest.stored_bytes
    if manifest.dump_format == DUMP_FORMAT and bucket not in buckets:
        buckets.add(bucket)
        size += int(manifest.contents["bytes"])
    return size
