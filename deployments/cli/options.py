"""Options that several commands share, and finding the backup that they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import BackupError, ConfigError, UnknownName, nearest
from engine.names import TIERS, parse_file

if TYPE_CHECKING:
    from engine.catalog import Entry
    from engine.manifest import Manifest
    from engine.site import Site

Source = Annotated[
    str | None, typer.Option(help="Only this source of the site: mysql, postgres...", show_default=False)
]
Database = Annotated[str | None, typer.Option(help="Only this database.", show_default=False)]
Tier = Annotated[str | None, typer.Option(help="Only this tier: hourly, daily, manual...", show_default=False)]
Location = Annotated[str, typer.Option(help="auto (local first), local, or a replica's name.")]
Which = Annotated[str, typer.Option("--backup", help="latest, a file name, or 'before TIME' with its zone.")]

PointInTime = Annotated[
    str,
    typer.Option(
        "--point-in-time",
        "--to",
        metavar="WHEN",
        help="A time with its zone, latest, or a place in the logs.",
    ),
]


def split(values: list[str] | None) -> tuple[str, ...]:
    """What an option was given that may be repeated or hold commas."""
    return tuple(part.strip() for value in values or [] for part in value.split(",") if part.strip())


def check_tier(tier: str | None) -> None:
    """Raises UnknownName for a tier that is none."""
    if tier is not None and tier not in TIERS:
        raise UnknownName(f"There is no tier {tier!r}.", remedy=nearest(tier, list(TIERS)))


def locations(site: Site, location: str) -> list[str]:
    """``auto`` or ``all``: every location, local first; else the one named. Raises UnknownName."""
    if location in ("auto", "all"):
        return site.vault.locations()
    site.vault.store(location)
    return [location]


def find(site: Site, which: str, location: str, source: str | None, database: str | None) -> tuple[Entry, Manifest]:
    """The backup that is meant, from the first location that has it.

    Raises:
        UnknownName: There is none. ConfigError: more than one database could be meant.
    """
    if source is None or database is None:
        source, database = _whose(site, which, source, database)
    site.config.source(source)
    first: BackupError | None = None
    for name in locations(site, location):
        try:
            return site.vault.catalog(name).find(source, database, which)
        except BackupError as error:
            first = first or error
    assert first is not None
    raise first


def _whose(site: Site, which: str, source: str | None, database: str | None) -> tuple[str, str]:
    """Source and database where the command line left one open."""
    parsed = parse_file(Path(which).name)
    database = database or (parsed.name if parsed else None)
    sources = [each for each in site.config.sources() if source in (None, each.name)]
    if not sources:
        site.config.source(source or "")  # raises with the nearest name
    known = {(each.name, name) for each in sources for name in each.databases}
    open_ended = [each.name for each in sources if not each.databases]
    if database is not None:
        known = {pair for pair in known if pair[1] == database} | {(name, database) for name in open_ended}
    elif open_ended:
        known |= {
            (entry.source, entry.name.name)
            for entry in site.vault.catalog().entries()
            if entry.source in open_ended and entry.source is not None
        }
    if len(known) == 1:
        return next(iter(known))
    if not known:
        every = sorted({name for each in sources for name in each.databases})
        raise UnknownName(
            f"Site {site.name} has no database {database or ''!r}.", remedy=nearest(database or "", every)
        )
    choices = ", ".join(f"--source {a} --database {b}" for a, b in sorted(known))
    raise ConfigError("More than one database could be meant.", remedy=f"say which: {choices}")
