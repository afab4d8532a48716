"""What a restore of a volume would do, before it does anything. The listing is streamed, never held."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from engine import names
from engine.archive import LISTING
from engine.archive import member as kinds
from engine.archive.member import Member, check_member, read_listing
from engine.catalog import Entry
from engine.config import VolumesConfig
from engine.config_files.source import shown
from engine.config_files.walk import inside
from engine.drill.told import Told, of_drills
from engine.errors import (
    ConfigError,
    ConfirmationNeeded,
    RestoreRefused,
    UnknownName,
    nearest,
)
from engine.fallback import first_whole
from engine.manifest import Manifest
from engine.restore_plan import find_copies
from engine.services import lives, using
from engine.site import Site, Target
from engine.volumes.docker_engine import Engine, Volume
from engine.volumes.source import VolumesSource

_COMPOSE = "com.docker.compose."
_KEPT = "nothing was changed"


@dataclass(frozen=True)
class VolumeRequest:
    """What a person asked for.

    Attributes:
        volume: As the site file calls it; may be empty where the site has one.
        source: Name of the source in the site; may be empty where the volume's name tells.
        backup: ``latest``, a file name, or ``before 2025-01-16T02:00:00Z``.
        location: ``auto`` (local first, then the replicas), ``local`` or a replica.
        into: Empty for a new volume named after this one and the time; else a new volume of that name.
        replace: Put it in place of the volume ``into`` (empty: the one that was backed up), whose data is kept.
        paths: Only these, each with all below it; from the volume's own top. Empty: all.
    """

    volume: str = ""
    source: str = ""
    backup: str = "latest"
    location: str = "auto"
    into: str = ""
    replace: bool = False
    paths: tuple[str, ...] = ()


@dataclass
class Chosen:
    """Which members are restored.

    Attributes:
        paths: Asked for; empty: all.
        renamed: Names under which a content is restored whose own name is not, by the name in the archive: of a hard
            link.
        above: The directories that lead to what was asked for, by path.
        count: Members that are restored.
        bytes: Of their contents.
    """

    paths: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    above: dict[str, Member] = field(default_factory=dict)
    count: int = 0
    bytes: int = 0

    def of(self, member: Member) -> Member | None:
        """What a member of the archive is restored as, if it is."""
        if not self.paths or member.path == kinds.ROOT:
            return member
        if self.wants(member.path):
            if member.type != kinds.HARDLINK:
                return member
            first = self.renamed.get(member.target, member.target)
            return None if first == member.path else replace(member, target=first)
        if member.path in self.renamed:
            return replace(member, path=self.renamed[member.path])
        if member.path in self.above:
            return replace(member, above=True)
        return None

    def wants(self, path: str) -> bool:
        """Was it asked for?"""
        return any(path == each or inside(path, each) for each in self.paths)


@dataclass(frozen=True)
class VolumePlan:
    """What will be done, before anything is.

    Attributes:
        into: The volume that holds it in the end.
        kept_as: For a replacement: the volume that holds the previous data (of what is replaced) afterwards.
        users: Containers that are stopped for a replacement, and started again.
        options, labels: Of the new volume.
    """

    request: VolumeRequest
    target: Target
    copies: list[tuple[Entry, Manifest]]
    into: str
    chosen: Chosen
    kept_as: str = ""
    users: tuple[str, ...] = ()
    driver: str = "local"
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    drilled: Told = field(default_factory=Told)

    @property
    def manifest(self) -> Manifest:
        return self.copies[0][1]

    @property
    def replaces(self) -> bool:
        return bool(self.kept_as)

    @property
    def makes(self) -> str:
        """The volume that is made and filled: for a replacement the one that exchanges its files in the end."""
        return self.kept_as or self.into

    def lines(self) -> list[str]:
        """The plan in sentences, for a terminal or an approval."""
        m = self.manifest
        lines = [
            f"Backup {m.file} of {self.target}, taken {names.both_zones(m.taken_at)}: {m.holds}, "
            f"from {self.copies[0][0].location}.",
            *self.drilled.lines(),
        ]
        if self.chosen.paths:
            lines.append(f"Only: {', '.join(map(shown, self.chosen.paths))} ({self.chosen.count:,} members).")
        if not self.replaces:
            lines.append(f"It is restored into a new volume, {self.into}. Nothing else changes.")
        else:
            what = "of these paths " if self.chosen.paths else ""
            lines.append(f"It is restored beside and compared; then it takes the place of what {self.into} holds.")
            lines.append(f"The previous data {what}is kept as volume {self.kept_as}.")
            stopped = ", ".join(self.users)
            lines.append(
                f"Meanwhile these containers are stopped, and started again: {stopped}."
                if stopped
                else "No container runs with it."
            )
        return lines + [f"Note: {note}" for note in self.notes]

    def as_dict(self) -> dict[str, Any]:
        """The plan for scripts."""
        m = self.manifest
        return {
            "source": self.target.source,
            "volume": self.target.database,
            "backup": m.file,
            "tier": m.tier,
            "taken_at": names.iso(m.taken_at),
            "locations": [entry.location for entry, _ in self.copies],
            "into": self.into,
            "replaces": self.replaces,
            "kept_as": self.kept_as or None,
            "stops": list(self.users),
            "paths": [shown(each) for each in self.chosen.paths],
            "members": self.chosen.count,
            "bytes": self.chosen.bytes,
            "labels": self.labels,
            "options": self.options,
            "notes": self.notes,
            **self.drilled.as_dict(),
        }


def make_plan(site: Site, request: VolumeRequest) -> VolumePlan:
    """Find the backup, read its listing and say what restoring it means. Changes nothing.

    Raises:
        UnknownName: No such source, volume, backup, location or path in it. ConfigError. Unreachable: the engine.
        RestoreRefused: The volume is there, and was not to be replaced. IntegrityError, WrongKey.
    """
    config, name = find_volume(site, request.source, request.volume)
    target = Target(config.name, name)
    notes: list[str] = []
    copies = find_copies(site, target, request.backup, request.location, notes)
    copies, chosen = _choose(site, copies, request.paths, notes)
    manifest = copies[0][1]
    engine = engine_of(site, config)
    into, existing = _into(engine, manifest, request, name)
    lost = manifest.contents.get("not_kept") or []
    if lost:
        notes.append(f"the backup was read through the engine and does not hold: {'; '.join(lost)}")
    stamp = f"{names.now():{names.STAMP}}"
    if existing is not None:
        _refuse_irreplaceable(engine, existing)
        users = tuple(str(each.name) for each in using(engine.client, existing.name) if lives(each))
        kept = f"{existing.name}_before_{stamp}"
        drilled = of_drills(site, target, copies)
        return VolumePlan(
            request, target, copies, existing.name, chosen, kept, users, notes=notes, drilled=drilled
        )  # fmt: skip
    labels, options, driver = _dress(manifest, into, notes)
    return VolumePlan(
        request, target, copies, into, chosen, driver=driver, options=options, labels=labels, notes=notes,
        drilled=of_drills(site, target, copies),
    )  # fmt: skip


def check_confirmation(plan: VolumePlan, confirm: str) -> bool:
    """True when ``confirm`` approves the plan, False when it is empty.

    Raises:
        ConfirmationNeeded: It names something else.
    """
    if not confirm:
        return False
    if confirm != plan.into:
        raise ConfirmationNeeded(
            f"The confirmation {confirm!r} is not the name of the volume to be replaced, {plan.into!r}.", kept=_KEPT
        )
    return True


def find_volume(site: Site, source: str, volume: str) -> tuple[VolumesConfig, str]:
    """Whose volume is meant, and which.

    Raises:
        UnknownName: No such source or volume in the site. ConfigError: it is none of volumes, or one of several.
    """
    if source:
        found = site.config.source(source)
        if not isinstance(found, VolumesConfig):
            raise ConfigError(f"The source {source!r} holds no volumes.", remedy="bring it back with its own command")
        configs = [found]
    else:
        configs = site.config.volumes
    if not configs:
        raise ConfigError(f"Site {site.name} backs up no volumes.", remedy="add a volumes: section to the site file")
    known = [(config, each) for config in configs for each in config.volumes]
    chosen = [each for each in known if each[1] == volume] if volume else known
    if not chosen:
        raise UnknownName(
            f"Site {site.name} backs up no volume {volume!r}.",
            remedy=nearest(volume, sorted({each for _, each in known})),
        )
    if len(chosen) > 1:
        choices = ", ".join(f"--source {config.name} --volume {each}" for config, each in chosen)
        raise ConfigError("More than one volume could be meant.", remedy=f"say which: {choices}")
    return chosen[0]


def engine_of(site: Site, config: VolumesConfig) -> Engine:
    """The engine of a source of volumes."""
    source = site.any_source(config.name)
    assert isinstance(source, VolumesSource)
    return source.engine


def listing(site: Site, entry: Entry, manifest: Manifest) -> Iterator[Member]:
    """The members of a backup, as its signed listing has them."""
    return read_listing(site.vault.read_part(entry, manifest, LISTING), manifest.file)


def _into(engine: Engine, manifest: Manifest, request: VolumeRequest, name: str) -> tuple[str, Volume | None]:
    """The volume to restore into, and what is there already under that name."""
    own = str(manifest.contents.get("volume") or name)
    if request.replace:
        return (there := engine.find(request.into or _present(engine, own, name))).name, there
    into = request.into or f"{own}_restore_{names.now():{names.STAMP}}"
    there_already = engine.get(into)
    if there_already is not None:
        users = [str(each.name) for each in using(engine.client, into) if lives(each)]
        raise RestoreRefused(
            f"There is a volume {into!r} already" + (f", and {', '.join(users)} runs with it." if users else "."),
            kept=_KEPT,
            remedy=f"restore into a new one, or replace what it holds: --into {into} --replace",
        )
    return into, None


def _present(engine: Engine, own: str, name: str) -> str:
    """The volume that was backed up, by its own name; else by what the compose file calls it."""
    return own if engine.get(own) is not None else name


def _refuse_irreplaceable(engine: Engine, volume: Volume) -> None:
    path, why = engine.path_of(volume)
    if path is None or volume.elsewhere:
        raise RestoreRefused(
            f"What volume {volume.name!r} holds cannot be replaced in one step: "
            + (f"{why}." if path is None else "its files stand elsewhere, by its driver options."),
            kept=_KEPT,
            remedy=f"restore beside, into {volume.name}_restored (--into), and then {_copied_over(volume.name)}"
            if volume.elsewhere
            else "restore into a new volume and have the containers use that; or run as root on the engine's host",
        )


def _copied_over(name: str) -> str:
    """How what was restored beside a volume gets into it. GNU's cp: busybox's keeps no parts of seconds."""
    return (
        "copy it over while no container runs with it: "
        f"docker run --rm -v {name}_restored:/from:ro -v {name}:/to debian cp -a /from/. /to/"
    )


def recorded(manifest: Manifest, name: str) -> Volume:
    """The volume that was backed up, as a new one of that name would be."""
    facts = manifest.contents
    return Volume(name, str(facts.get("driver") or "local"), "", options=dict(facts.get("options") or {}))


def by_hand(name: str) -> str:
    """How a volume that no restore may make or fill by itself gets what is restored."""
    return (
        f"make it by hand with all of its options (docker volume create ... {name}); restore beside, into "
        f"{name}_restored (--into); then {_copied_over(name)}"
    )


def _dress(manifest: Manifest, into: str, notes: list[str]) -> tuple[dict[str, str], dict[str, str], str]:
    """Labels, options and driver of a new volume. One beside another is not that one to compose, nor may it share
    its place."""
    facts = manifest.contents
    labels: dict[str, str] = dict(facts.get("labels") or {})
    options: dict[str, str] = dict(facts.get("options") or {})
    driver = str(facts.get("driver") or "local")
    if into != facts.get("volume"):
        compose = sorted(each for each in labels if each.startswith(_COMPOSE))
        labels = {name: value for name, value in labels.items() if name not in compose}
        if compose:
            notes.append("compose's own labels are left out: the new volume is not the one that compose knows")
        if options or driver != "local":
            notes.append(f"it had a driver and options of its own ({driver}, {options}); a copy beside gets none")
        return labels, {}, "local"
    if facts.get("options_hidden"):
        raise RestoreRefused(
            f"Volume {into!r} had a password among its options, which no manifest holds.",
            kept=_KEPT,
            remedy=by_hand(into),
        )
    return labels, options, driver


def _choose(
    site: Site, copies: list[tuple[Entry, Manifest]], paths: Iterable[str], notes: list[str]
) -> tuple[list[tuple[Entry, Manifest]], Chosen]:
    """What is restored, by the listing of the first copy that is whole; and the copies from that one on."""
    asked = _tops([_clean(path) for path in paths])
    chosen, rest = first_whole(
        copies, lambda entry, manifest: _read(listing(site, entry, manifest), asked, manifest), notes
    )
    return rest, chosen


def _read(members: Iterable[Member], asked: tuple[str, ...], manifest: Manifest) -> Chosen:
    chosen = Chosen(asked)
    missing = set(asked)
    for member in members:
        check_member(member, manifest.file)
        missing.discard(member.path)
        if chosen.wants(member.path) and member.type == kinds.HARDLINK and not chosen.wants(member.target):
            chosen.renamed.setdefault(member.target, member.path)
        elif member.type == kinds.DIRECTORY and any(inside(path, member.path) for path in asked):
            chosen.above[member.path] = member
        counts = not asked or member.path == kinds.ROOT or chosen.wants(member.path) or member.path in chosen.above
        chosen.count += counts
        chosen.bytes += member.size if counts else 0
    if missing:
        raise UnknownName(
            f"Backup {manifest.file} of {manifest.database} has no {', '.join(map(shown, sorted(missing)))}.",
            kept=_KEPT,
            remedy="its listing names all it has: backups decrypt latest --source SOURCE --database VOLUME --role "
            "listing",
        )
    return chosen


def _clean(path: str) -> str:
    """A path from the volume's top. Raises ConfigError where it leads out."""
    cleaned = posixpath.normpath(path.strip("/") or ".")
    if cleaned == ".." or cleaned.startswith("../"):
        raise ConfigError(f"The path {path!r} leads out of the volume.", remedy="write it from the volume's top: a/b")
    return cleaned


def _tops(paths: list[str]) -> tuple[str, ...]:
    if kinds.ROOT in paths:
        return ()
    return tuple(
        path for path in dict.fromkeys(paths) if not any(inside(path, other) for other in paths)
    )  # fmt: skip
