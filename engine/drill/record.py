"""The signed records of drills, evidence for an audit: ``<site>/drills/<site>-<id>.json``, here and at every replica.

What was proven when is read from them, not from the marks of backups: marks go when their backup goes, and an hourly
backup that was proven is gone a day later.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from engine.drill.verdict import PROVEN, DrillResult
from engine.errors import BackupError, IntegrityError
from engine.signed import seal, unseal
from engine.site import Site, Target
from engine.vault import LOCAL, Vault

FOLDER = "drills"
TYPE = "drill"
FORMAT = 1
MOST = 120
"""So many records are looked at, the newest: ten years of months."""


@dataclass(frozen=True)
class Proof:
    """A backup that a drill has proven. ``at``: when the drill ended, UTC."""

    at: datetime
    file: str
    drill: str


@dataclass
class Proofs:
    """What drills have proven.

    Attributes:
        newest: By database.
        files: By backup file, the newest proof of it.
        problems: Records that do not hold, in words.
    """

    newest: dict[Target, Proof] = field(default_factory=dict)
    files: dict[str, Proof] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def keep(site: Site, result: DrillResult) -> str:
    """Write the record, locally and (noted where it cannot be) at every replica; its key.

    Raises:
        What the local store raises.
    """
    vault = site.vault
    body = {"type": TYPE, "format": FORMAT, **result.as_dict()}
    data = seal(body, vault.keys, vault.keys.current)
    file = f"{vault.site}-{result.id}.json"
    key = f"{_folder(vault, LOCAL)}{file}"
    vault.store(LOCAL).put(key, data)
    for location in vault.locations():
        if location == LOCAL:
            continue
        try:
            vault.store(location).put(f"{_folder(vault, location)}{file}", data)
        except BackupError as error:
            result.notes.append(f"the record could not be copied to {location}: {error.message}")
    return key


def records(vault: Vault, problems: list[str], locations: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The newest records of the first place that has any, oldest first; those that do not hold are problems.

    Args:
        locations: Where to look; empty: everywhere, the local root first.
    """
    for location in locations or vault.locations():
        store = vault.store(location)
        try:
            keys = deque(listed(vault, location), maxlen=MOST)
        except BackupError as error:
            problems.append(f"{location} could not be asked for its drills: {error.message}")
            continue
        found = []
        for key in keys:
            try:
                found.append(_open(vault, store.get(key), key))
            except BackupError as error:
                problems.append(error.message)
        if keys:
            return found
    return []


def listed(vault: Vault, location: str) -> Iterator[str]:
    """The keys of this site's records in a place, oldest first. Raises what the store does."""
    own = re.compile(rf"{re.escape(vault.site)}-\d{{8}}_\d{{6}}-[0-9a-f]{{8}}\.json$")  # sites may share a folder
    folder = _folder(vault, location)
    return (info.key for info in vault.store(location).list(folder) if own.match(info.key, len(folder)))


def prove(vault: Vault, data: bytes, key: str) -> None:
    """Raises IntegrityError or WrongKey unless these bytes are the record of that key."""
    _open(vault, data, key)


def proofs(vault: Vault, locations: Iterable[str] = ()) -> Proofs:
    """What was proven when, by the records that hold; ``locations`` as for ``records``."""
    found = Proofs()
    for record in records(vault, found.problems, locations):
        at = datetime.fromisoformat(record["finished_at"])
        for source in record["sources"]:
            for piece in source["databases"]:
                if piece["verdict"] == PROVEN:
                    proof = Proof(at, piece["file"], record["id"])
                    found.newest[Target(piece["source"], piece["database"])] = proof
                    found.files[piece["file"]] = proof
    return found


def _open(vault: Vault, data: bytes, key: str) -> dict[str, Any]:
    name = key.rsplit("/", 1)[-1]
    what = f"The drill record {name}"
    body = unseal(data, vault.keys, what=what, needed_for=what)
    if (body.get("type"), body.get("site"), f"{vault.site}-{body.get('id')}.json") != (TYPE, vault.site, name):
        raise IntegrityError(f"{what} was written for another drill or site: it was moved there.")
    if body.get("format") != FORMAT:
        raise IntegrityError(f"{what} has a format that this release does not read.", remedy="upgrade backup-flows")
    return body


def _folder(vault: Vault, location: str) -> str:
    base = vault.layout(location).base
    return f"{base}/{FOLDER}/" if base else f"{FOLDER}/"
