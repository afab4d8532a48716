"""Which backups a drill restores, and how much would be lost now. Asks stores only, never a server."""

from __future__ import annotations

import contextlib
from datetime import timedelta

from engine import names
from engine.catalog import Entry
from engine.config import ServerConfig
from engine.drill.base import Copies, Piece
from engine.errors import BackupError, Thawing, UnknownName, nearest
from engine.restore_plan import find_copies
from engine.site import Site, Target
from engine.status import owner
from engine.vault import LOCAL
from engine.verdicts import found_broken

OLDEST, COLD = "oldest", "cold"
"""The oldest backup that is kept; the newest one in cold storage, from there."""


def find_pieces(site: Site, source: str, database: str, backup: str, location: str) -> list[Piece]:
    """One piece for each database (or archive) of a source; one that has no backup says so.

    Raises:
        UnknownName: The source has no such database. And what a store raises that must be asked for the names.
    """
    known = databases_of(site, source)
    if database and database not in known:
        raise UnknownName(
            f"{source} has no database {database!r}, and no backup of one.", remedy=nearest(database, known)
        )
    return [_piece(site, Target(source, each), backup, location) for each in ([database] if database else known)]


def databases_of(site: Site, source: str) -> list[str]:
    """Those that the site names; where it names none, those of which there are backups. Raises UnknownName."""
    config = site.config.source(source)
    if config.databases:
        return list(config.databases)
    found: set[str] = set()
    first: BackupError | None = None
    for location in site.vault.locations():
        try:
            for entry in site.vault.catalog(location).entries(source=source):
                if not entry.name.log and owner(site, entry)[1] not in names.NEVER_LATEST:
                    found.add(entry.name.name)
        except BackupError as error:
            first = first or error
    if not found and first is not None:
        raise first
    return sorted(found)


def _piece(site: Site, target: Target, backup: str, location: str) -> Piece:
    notes: list[str] = []
    try:
        if backup in (OLDEST, COLD):
            copies = _older(site, target, backup, location, notes)
        else:
            copies = find_copies(site, target, backup, location, notes)
    except BackupError as error:
        return Piece(target.source, target.database, [], error, notes)
    return Piece(target.source, target.database, copies, None, notes)


def _older(site: Site, target: Target, which: str, location: str, notes: list[str]) -> Copies:
    """The copies of the oldest backup that is kept; or the newest one in cold storage. Broken, incomplete and safety
    backups are none of them. Raises UnknownName, and what a store raises where no other has one."""
    found: Copies = []
    first: BackupError | None = None
    for place in site.vault.locations() if location == "auto" else [location]:
        try:
            here = _oldest(site, place, target, notes) if which == OLDEST else _coldest(site, place, target, notes)
        except BackupError as error:
            first = first or error
            continue
        if here and (not found or _goes_before(here, found, which)):
            found = here
    if not found and first is not None:
        raise first
    if not found:
        what = "in cold storage" if which == COLD else "that is good"
        raise UnknownName(f"There is no backup of {target} {what}.", remedy="drill the newest: --backup latest")
    return find_copies(site, target, found[0][1].file, location, notes) if which == OLDEST else found


def _goes_before(one: Copies, other: Copies, which: str) -> bool:
    if which == OLDEST:
        return one[0][1].taken_at < other[0][1].taken_at
    return one[0][1].taken_at > other[0][1].taken_at


def _oldest(site: Site, location: str, target: Target, notes: list[str]) -> Copies:
    catalog = site.vault.catalog(location)
    for entry in reversed(list(catalog.entries(source=target.source, database=target.database))):
        if not entry.name.log and (copy := _usable(site, entry, notes)):
            return copy
    return []


def _coldest(site: Site, location: str, target: Target, notes: list[str]) -> Copies:
    """Monthly archives are what moves to cold storage. One that is thawed for some days is cold all the same."""
    if location == LOCAL:
        return []
    store = site.vault.store(location)
    for entry in site.vault.catalog(location).entries(source=target.source, database=target.database, tier="monthly"):
        if store.cold(entry.key) is not None and (copy := _usable(site, entry, notes)):
            return copy
    return []


def _usable(site: Site, entry: Entry, notes: list[str]) -> Copies:
    manifest = site.vault.catalog(entry.location).load(entry)
    if manifest.tier in names.NEVER_LATEST or manifest.incomplete or found_broken(site, entry, notes):
        return []
    return [(entry, manifest)]


def ask_for_thaws(site: Site, pieces: list[Piece]) -> None:
    """Ask for everything that is in cold storage, where the vault may: all is thawed at the same time.

    Raises:
        Thawing: Something is not there yet; the same again helps later.
    """
    waiting: Thawing | None = None
    for piece in pieces if site.vault.thaw is not None else ():
        with contextlib.suppress(BackupError):  # any other trouble is told by the drill of that piece
            try:
                for copy in piece.copies[:1]:
                    site.vault.require_readable(*copy)
            except Thawing as error:
                waiting = waiting or error
    if waiting is not None:
        raise waiting


def newest_loss(site: Site, source: str, databases: list[str]) -> float | None:
    """The age, in seconds, of the newest moment that can be had, of the database that is worst off."""
    found = [_age(site, source, database) for database in databases]
    return max((each for each in found if each is not None), default=None)


def _age(site: Site, source: str, database: str) -> float | None:
    moments = []
    if isinstance(site.config.source(source), ServerConfig):
        from engine.recoverable import recoverable

        moments = [window.latest for window in recoverable(site, source, database).windows]
    with contextlib.suppress(UnknownName):
        copies = find_copies(site, Target(source, database), "latest", "auto", [])
        moments += [manifest.taken_at for entry, manifest in copies if not found_broken(site, entry, [])]
    return max((names.now() - max(moments)) / timedelta(seconds=1), 0.0) if moments else None
