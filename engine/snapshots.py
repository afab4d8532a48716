"""Snapshots of the databases right before a deployment: what they are for, which there are, and taking one.

A snapshot is a recovery point in the tier ``pre-deployment``. What it was taken for (release, commit, actor, and the
key that makes a second request for it the same snapshot) stands in each manifest's contents.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

from engine import backup, names
from engine.backup import BackupResult
from engine.catalog import Entry
from engine.errors import BackupError, ConfigError, IntegrityError, NotFound, UnknownName, WrongKey, nearest
from engine.locks import patiently
from engine.manifest import Manifest
from engine.progress import Progress, silent
from engine.prune.contents import RELEASED, WITHHELD, Claims, claims_of
from engine.retention.policy import PRE_DEPLOYMENT
from engine.site import Site, Target
from engine.vault import LOCAL, Vault
from engine.verdicts import verdict

DEPLOY = "deploy"
"""Where a manifest's contents say what the snapshot was taken for."""
PARTS = "parts"
"""There, too: every database that the snapshot was to have, as ``mysql/app``. Earlier releases did not say."""
WAIT_SECONDS = 600.0
"""For a run that works on the same database. A backup of it or a restore; nothing else is waited for."""
LATEST = "latest"
_LONGEST = 200

Part = tuple[Entry, Manifest]
Known = tuple[Entry, Manifest, Claims]
"""A part with what the names of its marks say."""
State = Literal["waiting", "released", "failed"]
"""``waiting``: nobody has said how its deployment went."""


@dataclass(frozen=True)
class Deploy:
    """What a snapshot is taken for. All of it may be empty; no secrets.

    Attributes:
        release: As people call it: ``v1.4.2``.
        commit: What is deployed.
        actor: Who deploys.
        key: A second request with the same key is the same snapshot.

    Raises:
        ConfigError: One is too long, or holds control characters.
    """

    release: str = ""
    commit: str = ""
    actor: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if len(value) > _LONGEST or not value.isprintable():
                raise ConfigError(
                    f"The {each.name} of a snapshot must be one line of at most {_LONGEST} characters.",
                    kept="nothing was begun",
                )

    @property
    def label(self) -> str:
        """For people: ``before v1.4.2 (3f9a1c2) by alice``."""
        commit = f" ({self.commit[:7]})" if self.commit else ""
        actor = f" by {self.actor}" if self.actor else ""
        return f"before {self.release or 'a deployment'}{commit}{actor}"

    def facts(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        return asdict(self)

    @classmethod
    def of(cls, manifest: Manifest) -> Deploy:
        """What a manifest says; empty where it says nothing."""
        told = manifest.contents.get(DEPLOY)
        known = {each.name for each in fields(cls)}
        return cls(**{name: str(value) for name, value in told.items() if name in known}) if told else cls()


@dataclass
class Snapshot:
    """One recovery point from before a deployment.

    Attributes:
        id: Its recovery point, or the file's name where it has none.
        parts: A backup of each database, the best there is: at the place where it was found first, the local root
            before others; of one that was encrypted anew, the new one.
        others: What else stands of these: older files of what was encrypted anew or taken again, copies.
        lacking: Databases that it was to have and of which it has no backup that is not known to be broken. Half a
            snapshot brings databases back that are of different times.
    """

    id: str
    deploy: Deploy
    parts: list[Part] = field(default_factory=list)
    others: list[Part] = field(default_factory=list)
    lacking: list[Target] = field(default_factory=list)

    @property
    def taken_at(self) -> datetime:
        """When its first part was begun, UTC."""
        return min(manifest.taken_at for _, manifest in (*self.parts, *self.others))

    @property
    def targets(self) -> list[Target]:
        return sorted(Target(manifest.source, manifest.database) for _, manifest in self.parts)

    @property
    def lacks(self) -> str:
        """For people: what half a snapshot lacks; empty where it is whole."""
        return f"it lacks {', '.join(map(str, self.lacking))}" if self.lacking else ""

    @property
    def title(self) -> str:
        """For people: its id and what it was taken for."""
        return f"{self.id} ({self.deploy.label})"

    def is_called(self, which: str) -> bool:
        """Is it meant by an id, a key, a release, or the name of one of its files?"""
        file = which.rsplit("/", 1)[-1].removesuffix(names.MANIFEST_SUFFIX)
        return which in (self.id, self.deploy.key, self.deploy.release) or any(
            file in (entry.file, entry.name.stem) for entry, _ in (*self.parts, *self.others)
        )

    def way_back(self, site_file: str) -> str:
        """The one command line that puts every database back as it was, of half a snapshot those that it has."""
        commands = []
        for entry, manifest in sorted(self.parts, key=lambda part: (part[1].source, part[1].database)):
            if Target(manifest.source, manifest.database) in self.lacking:
                continue  # broken
            what = ["--source", manifest.source, "--database", manifest.database, "--backup", manifest.file]
            place = [] if entry.location == LOCAL else ["--location", entry.location]
            into = ["--into", manifest.database, "--confirm", manifest.database]
            commands.append(shlex.join(["backups", "restore", "-f", site_file, *what, *place, *into]))
        return " && ".join(commands)


def snapshots(vault: Vault) -> list[Snapshot]:
    """Every snapshot of the local root, newest first. Raises what the store does."""
    return grouped(parts_at(vault, LOCAL))


def grouped(parts: Iterable[Known]) -> list[Snapshot]:
    """Parts put together by recovery point, newest snapshot first.

    Args:
        parts: Those of the local root before others.
    """
    found: dict[str, dict[Target, list[Known]]] = {}
    for known in parts:
        entry, manifest, _ = known
        point = found.setdefault(manifest.recovery_point or entry.name.stem, {})
        point.setdefault(Target(manifest.source, manifest.database), []).append(known)
    made = [_put_together(name, targets) for name, targets in found.items()]
    return sorted(made, key=lambda each: (each.taken_at, each.id), reverse=True)


def _put_together(name: str, targets: dict[Target, list[Known]]) -> Snapshot:
    """Of every database the best part; what lacks is told by any of them."""
    every = [known for several in targets.values() for known in several]
    places = list(dict.fromkeys(entry.location for entry, _, _ in every))

    def worth(known: Known) -> tuple[object, ...]:
        entry, manifest, said = known
        here = -places.index(entry.location)
        return said.claim != "broken", not said.superseded, here, said.claim == "good", manifest.taken_at

    best = [max(several, key=worth) for several in targets.values()]
    others = [(entry, manifest) for entry, manifest, said in every if (entry, manifest, said) not in best]
    sound = {Target(manifest.source, manifest.database) for _, manifest, said in best if said.claim != "broken"}
    wanted = set(targets).union(*(wanted_of(manifest) for _, manifest, _ in every))
    parts = [(entry, manifest) for entry, manifest, _ in best]
    return Snapshot(name, Deploy.of(every[0][1]), parts, others, sorted(wanted - sound))


def wanted_of(manifest: Manifest) -> frozenset[Target]:
    """Every database that the snapshot of this manifest was to have; none where it does not say."""
    told = (manifest.contents.get(DEPLOY) or {}).get(PARTS, ())
    named = (str(each).partition("/") for each in told)
    return frozenset(Target(source, database) for source, _, database in named)


def parts_at(vault: Vault, location: str) -> Iterator[Known]:
    """Every part of a snapshot that a place holds. One whose manifest does not hold is left out.

    Where a place's names leave the tier open, what the local root knows as of another tier is not read there.

    Raises:
        What the store raises.
    """
    catalog = vault.catalog(location)
    others: set[str] | None = None
    for entry in catalog.possible(PRE_DEPLOYMENT):
        if entry.tier is None and location != LOCAL:
            if others is None:
                others = _of_other_tiers(vault, location)
            if entry.key in others:
                continue
        try:
            manifest = catalog.load(entry)
        except (IntegrityError, WrongKey, NotFound):
            continue
        if manifest.tier == PRE_DEPLOYMENT:
            there = Entry(location, entry.key, entry.name, manifest.source, manifest.tier, entry.size)
            yield there, manifest, claims_of(vault, there)


def _of_other_tiers(vault: Vault, location: str) -> set[str]:
    """Keys at a place of what the local root's names know as of another tier."""
    layout = vault.layout(location)
    return {
        layout.key(each.source, each.tier, each.name.taken_at, each.file)
        for each in vault.catalog(LOCAL).entries()
        if each.source is not None and each.tier not in (None, PRE_DEPLOYMENT)
    }


def choose(site: str, which: str, known: list[Snapshot]) -> Snapshot:
    """The snapshot that is meant, of several of one name the newest whole one; ``latest`` is the newest whole one of
    all. Half a one is meant only by a name that no whole one has.

    Raises:
        UnknownName: There is none such; says what there is.
    """
    meant = _meant(which, known)
    whole = [each for each in meant if not each.lacking]
    if whole or (meant and which.strip() != LATEST):
        return (whole or meant)[0]
    if meant:
        newest = meant[0]
        raise UnknownName(
            f"Site {site} has no whole snapshot: {newest.title} is half of one, {newest.lacks}.",
            kept="nothing was changed",
            remedy=f"if that one is meant, name it: {newest.id}; take a whole one with: backups snapshot "
            f"-f {site}.yaml",
        )
    if not known:
        raise UnknownName(
            f"Site {site} has no snapshot from before a deployment.",
            kept="nothing was changed",
            remedy=f"take one with: backups snapshot -f {site}.yaml",
        )
    called = [name for each in known for name in (each.id, each.deploy.key, each.deploy.release) if name]
    raise UnknownName(
        f"Site {site} has no snapshot {which.strip()!r}.",
        kept="nothing was changed",
        remedy=nearest(which.strip(), called) + " See: backups snapshots",
    )


def passed_over(which: str, chosen: Snapshot, known: list[Snapshot]) -> list[Snapshot]:
    """Halves of snapshots that have the name as well and are newer than the whole one that was chosen."""
    return [each for each in _meant(which, known) if each.lacking and each.taken_at > chosen.taken_at]


def _meant(which: str, known: list[Snapshot]) -> list[Snapshot]:
    wanted = which.strip()
    return [each for each in known if wanted == LATEST or (wanted and each.is_called(wanted))]


def state_of(vault: Vault, snapshot: Snapshot) -> State:
    """How its deployment went, as the names of the marks of its parts say."""
    words = {claims_of(vault, entry).release for entry, _ in snapshot.parts}
    if WITHHELD in words:
        return "failed"
    return "released" if words == {RELEASED} else "waiting"


def standing(site: Site, key: str, targets: Iterable[Target]) -> Snapshot | None:
    """The snapshot that was taken with this key before, whole and verified for all of these; None for an empty key.

    One that was released is none any more: its deployment is over, and what is deployed now is another one.
    """
    wanted = set(targets)
    for each in snapshots(site.vault) if key else ():
        if each.deploy.key != key or state_of(site.vault, each) == "released":
            continue
        proven = {Target(manifest.source, manifest.database) for entry, manifest in each.parts if _whole(site, entry)}
        if wanted <= proven:
            return each
    return None


def snapshot_targets(site: Site, source: str = "", database: str = "") -> list[Target]:
    """Every database of the site's servers, or those of one, or one of them.

    Raises:
        UnknownName: No such source or database. ConfigError: no database server. And what asking a server raises: a
            snapshot that lacks a server is none.
    """
    chosen = [site.config.server(source)] if source else site.config.servers()
    if not chosen:
        raise ConfigError(f"Site {site.name} names no database server.", remedy="add one to the site file")
    found = [each for server in chosen for each in site.targets(server.name)]
    wanted = [each for each in found if database in ("", each.database)]
    if not wanted:
        raise UnknownName(
            f"Site {site.name} backs up no database {database!r}" + (f" on {source}." if source else "."),
            remedy=nearest(database, sorted({each.database for each in found})),
        )
    return wanted


def take(
    site: Site,
    target: Target,
    deploy: Deploy,
    recovery_point: str,
    *,
    parts: Iterable[Target] = (),
    wait: float = WAIT_SECONDS,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda text: None,
) -> BackupResult:
    """Take and verify the snapshot of one database. A run that works on it is waited for.

    Args:
        parts: Every database that the snapshot is to have: without one of them it is none.
        wait: Seconds, at most.
        tell: Hears who is waited for.

    Raises:
        LockHeld: It took longer. And what a backup raises.
    """
    with patiently(lambda: backup.locks(site, target), wait, tell):
        begun = time.monotonic()
        entry, manifest = backup.capture(
            site, target, tier=PRE_DEPLOYMENT, label=deploy.label, recovery_point=recovery_point, progress=progress,
            locked=True, about={DEPLOY: {**deploy.facts(), PARTS: sorted(map(str, parts))}},
        )  # fmt: skip
    report = backup.verify(site, entry, progress=progress)
    return BackupResult(entry, manifest, report, time.monotonic() - begun)


def _whole(site: Site, entry: Entry) -> bool:
    try:
        return verdict(site, entry) is True
    except BackupError:
        return False
