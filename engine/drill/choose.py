"""Which backups a drill restores, and how much would be lost now. Asks stores only, never a server."""

from __future__ import annotations

import contextlib
from datetime import timedelta

from engine import names
from engine.config import ServerConfig
from engine.drill.base import Piece
from engine.errors import BackupError, UnknownName, nearest
from engine.restore_plan import find_copies
from engine.site import Site, Target
from engine.status import found_broken, owner


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
        copies = find_copies(site, target, backup, location, notes)
    except BackupError as error:
        return Piece(target.source, target.database, [], error, notes)
    return Piece(target.source, target.database, copies, None, notes)


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
