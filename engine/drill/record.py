"""The signed records of drills, evidence for an audit: ``<site>/drills/<site>-<id>.json``, here and at every replica.

Beside each stands the same as JUnit XML, ``<site>-<id>.xml``, for whatever reads that. It is not signed, is evidence of
nothing, and is asked for nothing here.

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

from engine import names
from engine.drill.junit import junit
from engine.drill.verdict import FAILED, PROVEN, DrillResult
from engine.durations import in_words
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


@dataclass(frozen=True)
class Doubt:
    """A backup whose last drill did not prove it.

    Attributes:
        at: When the drill ended, UTC.
        file: Empty where there was no backup to be drilled.
        failed: It is not as it must be; else nobody could tell.
        overtaken: A backup that was taken later has been proven, or read where the site wants no more.
    """

    at: datetime
    file: str
    failed: bool
    overtaken: bool


@dataclass
class Proofs:
    """What drills have proven.

    Attributes:
        newest: By database, the proof of the newest backup that was proven, whatever was proven of older ones since.
            One that was only read because the site wants no more is none.
        files: By backup file, the newest proof of it.
        doubts: By database, each backup whose last drill did not prove it.
        sources: By source, what its last drill came to, where that was no proof, and when it ended (UTC).
        problems: Records that do not hold, in words.
    """

    newest: dict[Target, Proof] = field(default_factory=dict)
    files: dict[str, Proof] = field(default_factory=dict)
    doubts: dict[Target, list[Doubt]] = field(default_factory=dict)
    sources: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def keep(site: Site, result: DrillResult) -> str:
    """Write the record and the JUnit XML beside it, locally and (noted where it cannot be) at every replica; the
    record's key.

    Raises:
        What the local store raises.
    """
    vault = site.vault
    body = {"type": TYPE, "format": FORMAT, **result.as_dict()}
    data = seal(body, vault.keys, vault.keys.current)
    name, xml = f"{vault.site}-{result.id}", junit(result)
    for location in vault.locations():
        try:
            vault.store(location).put(f"{_folder(vault, location)}{name}.json", data)
            vault.store(location).put(f"{_folder(vault, location)}{name}.xml", xml)
        except BackupError as error:
            if location == LOCAL:
                raise
            result.notes.append(f"the record could not be copied to {location}: {error.message}")
    return f"{_folder(vault, LOCAL)}{name}.json"


def records(
    vault: Vault, problems: list[str], locations: Iterable[str] = (), now: datetime | None = None
) -> list[dict[str, Any]]:
    """The newest records of the first place that has any, oldest first; those that do not hold are problems, and so are
    those that are dated ahead: they would outlive every later one.

    Args:
        locations: Where to look; empty: everywhere, the local root first.
        now: UTC; None: by this host's clock.
    """
    now = now or names.now()
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
                found.append(_timely(_open(vault, store.get(key), key), key, now))
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


def proofs(vault: Vault, locations: Iterable[str] = (), now: datetime | None = None) -> Proofs:
    """What was proven when, by the records that hold; ``locations`` and ``now`` as for ``records``."""
    found = Proofs()
    last: dict[tuple[Target, str], tuple[str, Proof]] = {}
    held: dict[Target, Proof] = {}
    for record in records(vault, found.problems, locations, now):
        at = datetime.fromisoformat(record["finished_at"])
        for source in record["sources"]:
            if source["verdict"] == PROVEN:
                found.sources.pop(source["source"], None)
            else:
                found.sources[source["source"]] = (source["verdict"], at)
            for piece in source["databases"]:
                target, proof = Target(piece["source"], piece["database"]), Proof(at, piece["file"], record["id"])
                last[target, proof.file] = piece["verdict"], proof
                if piece["verdict"] == PROVEN:
                    _newer(held, target, proof)
                if piece["verdict"] == PROVEN and not piece.get("waived"):
                    found.files[proof.file] = proof
                    _newer(found.newest, target, proof)
    for (target, _), (verdict, proof) in last.items():
        if verdict != PROVEN:
            newest = held.get(target)
            overtaken = newest is not None and _taken(newest) > _taken(proof)
            found.doubts.setdefault(target, []).append(Doubt(proof.at, proof.file, verdict == FAILED, overtaken))
    return found


def _newer(of: dict[Target, Proof], target: Target, proof: Proof) -> None:
    known = of.get(target)
    if known is None or _taken(proof) >= _taken(known):
        of[target] = proof


def _taken(proof: Proof) -> datetime:
    """When the backup was begun; of one that was not there, when the drill looked for it."""
    name = names.parse_file(proof.file)
    return name.taken_at if name else proof.at


def _open(vault: Vault, data: bytes, key: str) -> dict[str, Any]:
    name = key.rsplit("/", 1)[-1]
    what = f"The drill record {name}"
    body = unseal(data, vault.keys, what=what, needed_for=what)
    if (body.get("type"), body.get("site"), f"{vault.site}-{body.get('id')}.json") != (TYPE, vault.site, name):
        raise IntegrityError(f"{what} was written for another drill or site: it was moved there.")
    if body.get("format") != FORMAT:
        raise IntegrityError(f"{what} has a format that this release does not read.", remedy="upgrade backup-flows")
    return body


def _timely(record: dict[str, Any], key: str, now: datetime) -> dict[str, Any]:
    ahead = (datetime.fromisoformat(record["finished_at"]) - now).total_seconds()
    if ahead > names.APART.total_seconds():
        raise IntegrityError(
            f"The drill record {key.rsplit('/', 1)[-1]} is dated {in_words(ahead)} ahead of now, and counts for "
            "nothing until then: a clock was or is wrong."
        )
    return record


def _folder(vault: Vault, location: str) -> str:
    base = vault.layout(location).base
    return f"{base}/{FOLDER}/" if base else f"{FOLDER}/"
