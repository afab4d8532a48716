"""What a restore of config files would do, before it does anything.

The listing of the chosen backup is held in memory while it is planned and carried out: some hundred bytes a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine import names
from engine.archive import LISTING
from engine.archive import member as kinds
from engine.archive.member import Member, check_member, read_listing
from engine.catalog import Entry
from engine.config import BucketsConfig, ConfigFilesConfig, VolumesConfig
from engine.config_files.diff import Difference, difference
from engine.config_files.places import by_file_system
from engine.config_files.source import shown
from engine.config_files.walk import inside
from engine.config_files.words import speaking
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
from engine.site import Site, Target

_SHOWN = 200
PLACE = "/"
"""Where files are restored in place."""


@dataclass(frozen=True)
class ConfigRequest:
    """What a person asked for.

    Attributes:
        source: Name of the source in the site; may be empty where the site has one of config files.
        backup: ``latest``, a file name, or ``before 2025-01-16T02:00:00Z``.
        location: ``auto`` (local first, then the replicas), ``local`` or a replica.
        into: Empty for a new directory in the vault's root; a new or empty directory; ``/`` to put the files back
            where they were.
        paths: Only these, each with all below it. Absolute. Empty: all.
        safety_backup: Before files are replaced, back up what stands there.
    """

    source: str = ""
    backup: str = "latest"
    location: str = "auto"
    into: str = ""
    paths: tuple[str, ...] = ()
    safety_backup: bool = True


@dataclass(frozen=True)
class ConfigPlan:
    """What will be done, before anything is.

    Attributes:
        members: What is restored, in the archive's order.
        roots: The absolute paths that are restored with all below them, as on the machine that was backed up.
        difference: Against what is there, for a restore in place.
        renamed: Members whose content stands in the archive under another name (of a hard link), by that name.
    """

    request: ConfigRequest
    target: Target
    copies: list[tuple[Entry, Manifest]]
    into: str
    members: list[Member]
    roots: list[str]
    difference: Difference | None
    renamed: dict[str, str]
    notes: list[str] = field(default_factory=list)
    drilled: Told = field(default_factory=Told)

    @property
    def manifest(self) -> Manifest:
        return self.copies[0][1]

    @property
    def in_place(self) -> bool:
        return self.difference is not None

    @property
    def changes(self) -> int:
        """How many files, links and directories a restore in place would write or alter."""
        return len(self.difference.whole) + len(self.difference.dress) if self.difference is not None else 0

    def lines(self) -> list[str]:
        """The plan in sentences, for a terminal or an approval."""
        m = self.manifest
        lines = [
            f"Backup {m.file} of {self.target}, taken {names.both_zones(m.taken_at)} on {m.contents.get('host', '?')}: "
            f"{m.holds}, from {self.copies[0][0].location}.",
            *self.drilled.lines(),
        ]
        if self.request.paths:
            lines.append(f"Only: {', '.join(map(shown, self.request.paths))} ({len(self.members):,} of its members).")
        if self.difference is None:
            lines.append(f"They are restored into {shown(self.into)}. Nothing else changes.")
        else:
            lines.append(f"They are put back where they were, below /: {self.difference.counted()}.")
            lines += [f"  {shown(str(change))}" for change in self.difference.changes[:_SHOWN]]
            if len(self.difference.changes) > _SHOWN:
                lines.append(f"  and {len(self.difference.changes) - _SHOWN:,} more")
            if self.request.safety_backup:
                lines.append("First a safety backup of what stands there is taken.")
            lines.append(
                "All of it is written beside and compared; then it takes the place of what stands there, which is kept "
                f"in a directory {self.target.source}_before_TIME."
            )
            lines.append("What is only here stays as it is.")
        return lines + [f"Note: {note}" for note in self.notes]

    def as_dict(self) -> dict[str, Any]:
        """The plan for scripts."""
        m, found = self.manifest, self.difference
        return {
            "source": self.target.source,
            "backup": m.file,
            "tier": m.tier,
            "taken_at": names.iso(m.taken_at),
            "locations": [entry.location for entry, _ in self.copies],
            "into": shown(self.into),
            "in_place": self.in_place,
            "members": len(self.members),
            "paths": [shown(each) for each in self.roots],
            "equal": found.same if found else None,
            "changes": [
                {"path": shown(each.path), "kind": each.kind, "what": list(each.what)} for each in found.changes
            ]
            if found
            else [],
            "notes": self.notes,
            **self.drilled.as_dict(),
        }


def make_plan(site: Site, request: ConfigRequest) -> ConfigPlan:
    """Find the backup, read its listing and say what restoring it means. Changes nothing.

    Raises:
        UnknownName: No such source, backup, location or path in it. ConfigError: a path that is not absolute.
        RestoreRefused: The directory is not empty, something is in the way, or a file system takes no changes.
        IntegrityError, WrongKey.
    """
    config = find_source(site, request.source)
    target = Target(config.name, config.databases[0])
    into = _into(site, request, config.name)
    notes: list[str] = []
    copies = find_copies(site, target, request.backup, request.location, notes)
    copies, listed = _listing(site, copies, notes)
    manifest = copies[0][1]
    for member in listed:
        check_member(member, manifest.file)
    roots = _roots(manifest, request.paths, listed)
    members, renamed = _chosen(listed, request.paths)
    found: Difference | None = None
    if into == PLACE:
        found = difference(members, PLACE, roots, manifest.contents.get("exclude", []))
        _refuse_blocked(found)
        with speaking("looking at what stands there"):
            by_file_system(found)
    if os.geteuid() != 0 and any(each.uid != os.geteuid() for each in members):
        notes.append("this is not run as root: files will belong to the user who runs it")
    return ConfigPlan(
        request, target, copies, into, members, roots, found, renamed, notes, of_drills(site, target, copies)
    )


def check_confirmation(plan: ConfigPlan, confirm: str) -> bool:
    """True when ``confirm`` approves the plan, False when it is empty.

    Raises:
        ConfirmationNeeded: It names something else.
    """
    if not confirm:
        return False
    if confirm != plan.target.source:
        raise ConfirmationNeeded(
            f"The confirmation {confirm!r} is not the name of the source to be put back, {plan.target.source!r}.",
            kept="nothing was changed",
        )
    return True


def find_source(site: Site, name: str) -> ConfigFilesConfig:
    """The config files that are meant. Raises UnknownName; ConfigError where it is none, or one of several."""
    if name:
        found = site.config.source(name)
        if isinstance(found, ConfigFilesConfig):
            return found
        what, command = "databases", "restore"
        if isinstance(found, VolumesConfig | BucketsConfig):
            is_volumes = isinstance(found, VolumesConfig)
            what, command = ("volumes", "restore-volume") if is_volumes else ("buckets", "restore-bucket")
        raise ConfigError(
            f"The source {name!r} holds {what}, no config files.",
            remedy=f"bring it back with: backups {command} --source {name}",
        )
    if len(site.config.config) == 1:
        return site.config.config[0]
    known = ", ".join(each.name for each in site.config.config)
    if known:
        raise ConfigError(f"Site {site.name} has several sources of config files.", remedy=f"say which: {known}")
    raise ConfigError(f"Site {site.name} backs up no config files.", remedy="add a config: section to the site file")


def _into(site: Site, request: ConfigRequest, source: str) -> str:
    if not request.into:
        return str(site.vault.root / "restored" / f"{source}_{names.now():{names.STAMP}}")
    into = os.path.normpath(request.into)
    if not into.startswith("/"):
        raise ConfigError(f"The directory {request.into!r} is not absolute.", remedy=f"write {Path(into).resolve()}")
    if into.lstrip("/") == "":
        return PLACE
    try:
        empty = not os.listdir(into)
    except FileNotFoundError:
        return into
    except NotADirectoryError:
        empty = False
    if not empty or os.path.islink(into):
        raise RestoreRefused(
            f"{into} is there already and not an empty directory.",
            kept="nothing was changed",
            remedy="choose a new directory, or --into / to put the files back where they were",
        )
    return into


def _listing(
    site: Site, copies: list[tuple[Entry, Manifest]], notes: list[str]
) -> tuple[list[tuple[Entry, Manifest]], list[Member]]:
    """The listing from the first copy that is whole, and the copies from that one on."""

    def read(entry: Entry, manifest: Manifest) -> list[Member]:
        return list(read_listing(site.vault.read_part(entry, manifest, LISTING), manifest.file))

    listed, rest = first_whole(copies, read, notes)
    return rest, listed


def _roots(manifest: Manifest, paths: Iterable[str], listed: list[Member]) -> list[str]:
    """The absolute paths that are restored with all below them; none that only leads to one, such as ``/opt``.

    Raises:
        UnknownName: One that was asked for is not in the backup.
    """
    asked = [_absolute(path) for path in paths]
    known = {f"/{each.path}" for each in listed}
    missing = [path for path in asked if path not in known]
    if missing:
        raise UnknownName(
            f"Backup {manifest.file} of {manifest.source} has no {', '.join(map(shown, missing))}.",
            kept="nothing was changed",
            remedy=nearest(missing[0], sorted(map(shown, known))) if len(known) < 5000 else "look at its listing",
        )
    tops: list[str] = []
    for path in (f"/{each.path}" for each in listed if not each.above):
        wanted = not asked or any(path == each or inside(path, each) for each in asked)
        if wanted and not any(inside(path, top) for top in tops):
            tops.append(path)
    return tops


def _chosen(listed: list[Member], paths: Iterable[str]) -> tuple[list[Member], dict[str, str]]:
    """The members of these paths, with the directories that lead there. Where the first name of a hard link is not
    among them, the first that is gets the content."""
    asked = [_absolute(path).lstrip("/") for path in paths]
    if not asked:
        return listed, {}
    chosen: list[Member] = []
    renamed: dict[str, str] = {}
    contents = {each.path: each for each in listed if each.type == kinds.FILE}
    wanted = set()
    for member in listed:
        if any(member.path == path or inside(member.path, path) for path in asked):
            if member.type == kinds.HARDLINK and member.target not in wanted:
                if member.target in renamed:
                    member = replace(member, target=renamed[member.target])
                else:
                    renamed[member.target] = member.path
                    member = replace(contents[member.target], path=member.path)
            wanted.add(member.path)
            chosen.append(member)
        elif member.type == kinds.DIRECTORY and any(inside(path, member.path) for path in asked):
            chosen.append(replace(member, above=True))
    return chosen, renamed


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ConfigError(f"The path {path!r} is not absolute.", remedy=f"write it from the start: /{path}")
    return os.path.normpath(path.replace("//", "/"))


def _refuse_blocked(found: Difference) -> None:
    if found.blocked:
        raise RestoreRefused(
            f"{', '.join(map(shown, found.blocked[:5]))}: in the way, no directory where the backup has one, "
            "or a directory where the backup has a file.",
            kept="nothing was changed; nothing is ever written through a link",
            remedy="move it away and run the restore again, or restore into a directory and copy by hand",
        )


def members_by_archive_name(plan: ConfigPlan, wanted: dict[str, Member]) -> Iterator[tuple[str, Member]]:
    """Wanted members by the name that their content (or they themselves) have in the archive."""
    origin = {new: old for old, new in plan.renamed.items()}
    for path, member in wanted.items():
        yield origin.get(path, path) if member.type == kinds.FILE else path, member
