"""What can be brought back to any second, in words: for ``backups status`` and ``backups windows``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine import names
from engine.errors import BackupError

if TYPE_CHECKING:
    from engine.recoverable import Recoverable
    from engine.recovery import Window
    from engine.site import Site


def windows(site: Site) -> list[dict[str, Any]]:
    """From when to when each database (each whole server of PostgreSQL) can be had, and why not longer.

    ``said`` is a line for a person; the rest is for scripts.
    """
    from engine.recoverable import recoverable, rolled_forward

    found = []
    for source, database in rolled_forward(site, None, None):
        what = f"{source}/{database}" if database else source
        facts: dict[str, Any] = {"source": source, "database": database, "ranges": [], "error": None}
        try:
            facts |= _of(what, recoverable(site, source, database), _kept_for(site, source))
        except BackupError as error:
            facts |= {"error": error.message, "said": f"{what}: which moments can be had is not known: {error.message}"}
        found.append(facts)
    return found


def _kept_for(site: Site, source: str) -> str:
    """How long this source's logs are kept, as its policy says it."""
    from engine.config import PostgresConfig

    wal = isinstance(site.config.source(source), PostgresConfig)
    return site.config.retention_in().of(source, names.WAL if wal else names.BINLOGS).text


def _of(what: str, found: Recoverable, kept_for: str) -> dict[str, Any]:
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
        f"{what}: any second from {names.both_zones(one)} (where {first.anchor.file} begins; "
        f"{_why_not_earlier(found, first, kept_for)}) to {names.both_zones(two)} ({last.ends})"
    )
    facts["begins"] = {"file": first.anchor.file, "why": _why_not_earlier(found, first, kept_for)}
    return facts | {"said": said + "".join(f"; {hole}" for hole in found.holes)}


def _why_not_earlier(found: Recoverable, first: Window, kept_for: str) -> str:
    """Why the window begins where it does."""
    older = [each for each in found.windows if each.earliest < first.earliest]
    if not older:
        return "nothing older is kept that logs can be replayed on"
    before = max(older, key=lambda each: (each.latest, each.earliest))
    oldest = min((log.number, log.name) for log in first.logs)[1]
    if not before.logs:
        return f"the logs before {oldest} are not kept: logs are kept for {kept_for}, older backups stand alone"
    return f"the backup before it, {before.anchor.file}, reaches to {names.both_zones(before.latest)}: {before.ends}"
