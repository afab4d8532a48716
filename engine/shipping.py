"""Ship a server's logs into the vault, and take the base backups that PostgreSQL's are replayed on."""

from __future__ import annotations

from engine import idle, names
from engine.catalog import Entry
from engine.config import MySQLConfig, PostgresConfig
from engine.errors import ConfigError
from engine.logs import ShipReport
from engine.manifest import Manifest
from engine.progress import Progress, silent
from engine.site import Site


def shipping_sources(site: Site, kind: type[MySQLConfig] | type[PostgresConfig]) -> list[str]:
    """The servers of that kind whose logs are to be shipped, in the site's order.

    Raises:
        ConfigError: There is none.
    """
    found = [each.name for each in site.config.servers() if isinstance(each, kind) and each.point_in_time]
    if not found:
        what = "MySQL or MariaDB" if kind is MySQLConfig else "PostgreSQL"
        raise ConfigError(
            f"Site {site.name} has no {what} server whose logs are to be shipped.",
            remedy="add one to the site file (and leave its point_in_time on), or turn this deployment's schedule off",
        )
    return found


def ship(site: Site, source: str, *, progress: Progress = silent) -> ShipReport:
    """Bring every log that the local vault lacks into it. Replicas are a step of their own.

    Raises:
        LogGap: Logs are gone from the server that the vault never got. LogChainBroken: the server's logs
            began anew; a full (base) is needed. Both after everything that can be shipped was.
        MissingGrant, ConfigError, Unreachable, DiskFull, LockHeld: as they occurred; nothing is lost.
    """
    if isinstance(site.config.source(source), MySQLConfig):
        from engine.binlog.ship import ship as ship_binlogs

        return ship_binlogs(site, source, progress=progress)
    from engine.postgres.wal_ship import ship as ship_wal

    return ship_wal(site, source, progress=progress)


def carry_idle(site: Site, replica: str) -> None:
    """Say at a replica up to when servers are known to have written nothing, as it is said here. Its logs first."""
    for each in site.config.servers():
        if each.point_in_time:
            idle.carry(site.vault, replica, each.name, names.BINLOGS if isinstance(each, MySQLConfig) else names.WAL)


def base(site: Site, source: str, *, progress: Progress = silent) -> tuple[Entry, Manifest]:
    """A base backup of a PostgreSQL server, in the local vault.

    Raises:
        ConfigError: The source is no PostgreSQL server. And what the server and the vault raise.
    """
    if not isinstance(site.config.source(source), PostgresConfig):
        raise ConfigError(
            f"{source!r} is no PostgreSQL server: its fulls are what its logs are replayed on.",
            remedy="back it up with: backups backup",
        )
    from engine.postgres.base_backup import base_backup

    return base_backup(site, source, progress=progress)


def logs_lacking(site: Site, replica: str) -> list[Entry]:
    """Local logs that a replica does not have, oldest first: a chain is copied from its start. No bases: the copy of a
    large one would keep the next logs waiting for hours, and every backup of the site catches up with it."""
    return [each for each in reversed(site.vault.lacking(replica)) if each.name.log]


def logs_and_bases_lacking(site: Site, replica: str) -> list[Entry]:
    """Local logs and bases that a replica does not have: logs first, each kind oldest first."""
    lacking = [each for each in reversed(site.vault.lacking(replica)) if each.name.log or each.tier == names.BASE]
    return sorted(lacking, key=lambda each: not each.name.log)
