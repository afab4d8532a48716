"""The body of every backup flow: back up and prove all that a site has, then copy, then tell.

Sources are backed up side by side, the databases of one after each other. They fail apart, and copies fail apart: a
server that is down costs only its own backups, and a dead bucket costs none. What could not be done fails the run,
whose first line says what is missing. All backups of one run share a recovery point.
"""

from __future__ import annotations

from datetime import timedelta

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from blocks import load_site, load_text
from engine.abreast import abreast
from engine.catalog import Entry
from engine.errors import ConfigError, UnknownName, in_words, nearest
from engine.pins import parse_keep
from engine.site import Target
from tasks.base import SiteHandle
from tasks.databases import Captured, capture, find_databases, preflight, verify
from tasks.drill import last_proven
from tasks.keys import remind_of_its_age, unreadable
from tasks.report import Ledger, publish
from tasks.vault import copy_site_files, copy_to, find_lacking, seal_site_file, sweep
from tasks.words import plural


def run_backups(
    site: str,
    tier: str,
    *,
    label: str = "",
    source: str = "",
    database: str = "",
    only_servers: bool = False,
    keep: str = "",
) -> State[None]:
    """Back up every source of a site, or one, or one database.

    Args:
        only_servers: Databases and nothing else.
        keep: Of manual backups: for how long, such as ``30d``; empty: for ever.

    Raises:
        UnknownName: No such site, source or database. ConfigError: a block is wrong, or ``keep`` is no age.
    """
    how_long = parse_keep(keep, tier)
    handle = SiteHandle(load_site(site))
    ledger = Ledger(handle.name, tier)
    ledger.swept = sweep(handle)
    targets = _targets(handle, source, database, only_servers, ledger)
    sources = dict.fromkeys(target.source for target in targets)
    groups = [[target for target in targets if target.source == name] for name in sources]
    abreast(groups, lambda target: _back_up(handle, target, tier, label, ledger, how_long))
    if ledger.rows:
        _seal(handle, ledger)
    ledger.rows.sort(key=lambda row: targets.index(row.captured.target))
    for replica in handle.config.vault.replicas:
        bring_up_to_date(handle, replica.name, ledger)
    for error in unreadable(handle):
        ledger.doubts["an older backup"] = error
    ledger.last_proven = last_proven(handle)
    if tier == "daily":
        remind_of_its_age(handle)
    publish(ledger)
    if ledger.failed:
        get_run_logger().error(ledger.verdict())
        return Failed(message=ledger.verdict())
    return Completed(message=ledger.verdict())


def _targets(site: SiteHandle, source: str, database: str, only_servers: bool, ledger: Ledger) -> list[Target]:
    """What to back up; a server that cannot be asked is noted, and the others go on."""
    known = site.config.servers() if only_servers else site.config.sources()
    names = [site.config.source(source).name] if source else [each.name for each in known]
    if not names:
        raise ConfigError(
            f"Site {site.name} names no {'database server' if only_servers else 'source'}.",
            remedy="add one to the site file, and: backups apply SITE.yaml",
        )
    found: list[Target] = []
    for name in names:
        try:
            found += find_databases(site, name)
        except Exception as failure:
            ledger.lost(name, in_words(failure, f"Looking at {name}"))
    if not database:
        return found
    chosen = [target for target in found if target.database == database]
    if not chosen and not ledger.failed:
        where = f" on {source}" if source else ""
        there = sorted({target.database for target in found})
        raise UnknownName(
            f"Site {site.name} backs up no database {database!r}{where}.", remedy=nearest(database, there)
        )
    return chosen


def _seal(site: SiteHandle, ledger: Ledger) -> None:
    """The site file goes into the recovery point, too; that it cannot is told as a loss."""
    try:
        seal_site_file(site, load_text(site.name), ledger.recovery_point, ledger.tier)
    except Exception as failure:
        ledger.lost("the site file", in_words(failure, "Sealing the site file"))


def _back_up(
    site: SiteHandle, target: Target, tier: str, label: str, ledger: Ledger, keep: timedelta | None = None
) -> None:
    """One database or archive: captured and proven, or noted as lost."""
    captured: Captured | None = None
    try:
        preflight(site, target)
        captured = capture(site, target, tier, label, ledger.recovery_point, keep)
        ledger.proven(captured, verify(site, captured.entry, new=True))
    except Exception as failure:
        error = in_words(failure, f"The backup of {target}")
        if captured is None:
            ledger.lost(str(target), error)
        else:
            ledger.unproven(captured, error)


def bring_up_to_date(site: SiteHandle, replica: str, ledger: Ledger) -> None:
    """Copy what a replica lacks: this run's backups first, then what earlier runs could not."""
    ours = [row.captured.entry for row in ledger.rows if row.report is not None]
    try:
        lacking = find_lacking(site, replica)
    except Exception as failure:
        ledger.missing(replica, ours, in_words(failure, f"Looking at {replica}"))
        return
    new = {entry.file for entry in ours}
    broken = {row.captured.entry.file for row in ledger.rows if row.report is None}
    waiting = [entry for entry in _in_order(lacking, new) if entry.file not in broken]
    brought = copy_to(site, replica, waiting, new)
    for entry, stored in brought.copied:
        ledger.copied(replica, entry, stored, caught_up=entry.file not in new)
    if brought.error is not None:
        ledger.missing(replica, brought.missing, brought.error)
        get_run_logger().error("%s missing at %s", plural(len(brought.missing), "backup"), replica)
    if brought.over is not None:
        return
    try:
        copy_site_files(site, replica)
    except Exception as failure:
        if replica not in ledger.gaps:
            ledger.missing(replica, [], in_words(failure, f"Copying site files to {replica}"))


def _in_order(entries: list[Entry], first: set[str]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.file not in first)
