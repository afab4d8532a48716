"""What can be brought back to any second, in words: for ``backups status`` and ``backups windows``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine import names
from engine.errors import BackupError

if TYPE_CHECKING:
    from engine.recoverable import Recoverable
    from engine.site import Site


def windows(site: Site) -> list[dict[str, Any]]:
    """From when to when each database (each whole server of PostgreSQL) can be had, and why not longer.

    ``said`` is a line for a person; the rest is for scripts.
    """
    from engine.recoverable import recoverable

    found = []
    for source, database in rolled_forward(site, None, None):
        what = f"{source}/{database}" if database else source
        facts: dict[str, Any] = {"source": source, "database": database, "ranges": [], "error": None}
        try:
            facts |= _of(what, recoverable(site, source, database))
        except BackupError as error:
            facts |= {"error": error.message, "said": f"{what}: which moments can be had is not known: {error.message}"}
        found.append(facts)
    return found


def _of(what: str, found: Recoverable) -> dict[str, Any]:
    from engine.recovery import merged

    ranges = merged(found.windows)
    facts: dict[str, Any] = {
        "ranges": [{"earliest": names.iso(one), "latest": names.iso(two)} for one, two in ranges],
        "holes": [str(hole) for hole in found.holes],
    }
    rolled = [each for each in found.windows if each.logs]
    if not rolled:
        return facts | {"said": f"{what}: no logs are shipped that any backup could be rolled forward with"}
    one, two = max(merged(rolled), key=lambda each: each[1])
    first = min((each for each in rolled if each.earliest >= one), key=lambda each: each.earliest)
    last = max(rolled, key=lambda each: each.latest)
    said = (
        f"{what}: any second from {names.both_zones(one)} (where {first.anchor.file} begins) "
        f"to {names.both_zones(two)} ({last.ends})"
    )
    return facts | {"said": said + "".join(f"; {hole}" for hole in found.holes)}


def rolled_forward(site: Site, source: str | None, database: str | None) -> list[tuple[str, str]]:
    """Sources and databases that logs are shipped for; the whole server, with an empty name, for PostgreSQL.

    Raises:
        UnknownName: No such source.
    """
    from engine.config import PostgresConfig

    if source is not None:
        site.config.source(source)
    found: list[tuple[str, str]] = []
    for each in site.config.sources():
        if source not in (None, each.name) or not each.point_in_time:
            continue
        if isinstance(each, PostgresConfig):
            found.append((each.name, ""))
            continue
        known = each.databases or sorted(
            {entry.name.name for entry in site.vault.catalog().entries(source=each.name) if not entry.name.log}
        )
        found += [(each.name, name) for name in known if database in (None, name)]
    return found
