"""Shipped logs follow each other without a hole: one that is missing here and stands elsewhere is brought back."""

from __future__ import annotations

from datetime import datetime

from engine import names
from engine.catalog import Entry
from engine.config import MySQLConfig, ServerSource
from engine.errors import BackupError
from engine.logs import LogFile, ledger, load_all, load_log
from engine.recovery import Hole, holes
from engine.vault import LOCAL
from engine.vault_check.census import Census
from engine.vault_check.copies import keys_at
from engine.vault_check.treat import try_to_heal
from engine.vault_check.work import Work

Shipped = dict[str, Entry]
"""Logs by their own name."""


def check_logs(work: Work, census: Census) -> None:
    """Holes between the logs of each server, in the local root. What a replica lacks is found as any copy is."""
    if work.location != LOCAL:
        return
    for config in work.site.config.servers():
        tier = names.BINLOGS if isinstance(config, MySQLConfig) else names.WAL
        _lost_before(work, census, config, tier)
        missing = _holes(work, config, tier)
        if missing:
            work.wait()
        for hole, here in _holes(work, config, tier) if missing else []:
            _treat(work, census, config, tier, hole, here)


def _holes(work: Work, config: ServerSource, tier: str) -> list[tuple[Hole, Shipped]]:
    """Holes that retention did not make: it takes logs by their age."""
    entries = ledger(work.vault, config.name, tier)
    shipped = {each.name.name: each for each in entries}
    begins = _begins(work, config, tier)
    facts = _facts(work, entries)
    return [
        (hole, shipped)
        for hole in holes(facts)
        if hole.after.name in shipped and shipped[hole.after.name].name.taken_at >= begins
    ]


def _begins(work: Work, config: ServerSource, tier: str) -> datetime:
    """What was shipped since then is kept whatever leans on it."""
    rule = work.site.config.retention_in(LOCAL).of(config.name, tier)
    return work.now - rule.age if rule.age is not None else datetime.min.replace(tzinfo=work.now.tzinfo)


def _lost_before(work: Work, census: Census, config: ServerSource, tier: str) -> None:
    """Logs right before the first one here, which no hole shows. Of a local root that is younger than they are, none
    is missing."""
    entries = ledger(work.vault, config.name, tier)
    here = {each.name.name for each in entries}
    kept = (each.name.taken_at for each in work.vault.catalog(LOCAL).entries(source=config.name) if not each.name.log)
    since = max(_begins(work, config, tier), min(kept, default=work.now))
    elsewhere = _younger(work, config, tier, since, here)
    firsts: dict[tuple[str, int], int] = {}
    for log in _facts(work, entries) if elsewhere else []:
        if log.number > 0:
            firsts[log.row] = min(log.number, firsts.get(log.row, log.number))
    for there in sorted(elsewhere, key=lambda each: each.name.name, reverse=True):
        try:
            log = load_log(work.vault, there)[1]
        except BackupError:
            continue
        if firsts.get(log.row) == log.number + 1:
            firsts[log.row] = log.number
            _bring_back(work, census, config, tier, there)


def _younger(work: Work, config: ServerSource, tier: str, since: datetime, here: set[str]) -> list[Entry]:
    """Logs of the other places that were shipped since then and are not here, each once."""
    found: dict[str, Entry] = {}
    for place in work.others:
        try:
            for entry in ledger(work.vault, config.name, tier, place):
                if entry.name.name not in here and entry.name.taken_at >= since:
                    found.setdefault(entry.name.name, entry)
        except BackupError:
            continue  # that place tells of itself
    return list(found.values())


def _bring_back(work: Work, census: Census, config: ServerSource, tier: str, there: Entry) -> bool:
    """Name one log that is missing here and heal it. False where it is none, or told of already."""
    key = work.layout.key(config.name, tier, there.name.taken_at, there.file)
    entry = work.entry(key)
    if entry is None or census.expired(key) or work.told_of(key):
        return False
    try_to_heal(work, entry, work.find("lost", key, f"the log {there.name.name} is missing here"))
    return True


def _facts(work: Work, entries: list[Entry]) -> list[LogFile]:
    """Of every log whose manifest holds, here or elsewhere; the others are told of in their turn."""
    try:
        return [log for _, _, log in load_all(work.vault, entries)]
    except BackupError:
        pass
    found = []
    for entry in entries:
        for each in [entry, *(there for place in work.others for there in keys_at(work.vault, place, entry))]:
            try:
                found.append(load_log(work.vault, each)[1])
                break
            except BackupError:
                continue
    return found


def _treat(work: Work, census: Census, config: ServerSource, tier: str, hole: Hole, here: Shipped) -> None:
    lost = 0
    for there in _elsewhere(work, config, tier, hole):
        lost += _bring_back(work, census, config, tier, there)
    if lost == hole.missing and all(each.healed for each in work.report.findings[-lost:]):
        return
    _tell(work, config, hole, here, lost)


def _elsewhere(work: Work, config: ServerSource, tier: str, hole: Hole) -> list[Entry]:
    """The missing logs in the other places, each once."""
    found: dict[str, Entry] = {}
    for place in work.others:
        try:
            for entry in ledger(work.vault, config.name, tier, place):
                if entry.name.name in found or not _is_between(entry, hole):
                    continue
                if load_log(work.vault, entry)[1].row == (hole.chain, hole.epoch):
                    found[entry.name.name] = entry
        except BackupError:
            continue  # that place tells of itself
    return list(found.values())


def _is_between(entry: Entry, hole: Hole) -> bool:
    """By its name alone, which sorts as its number does within one epoch."""
    name = entry.name.name
    return len(name) == len(hole.after.name) and hole.after.name < name < hole.before.name


def _tell(work: Work, config: ServerSource, hole: Hole, here: Shipped, lost: int) -> None:
    """A hole for good. Where a full or a base was made after it, moments in it cannot be recovered, and that is all."""
    since = here[hole.before.name].name.taken_at if hole.before.name in here else work.now
    physical = not isinstance(config, MySQLConfig)
    entries = work.vault.catalog(LOCAL).entries(source=config.name, tier=names.BASE if physical else None)
    leant_on = (each for each in entries if physical or each.tier not in names.NEVER_LATEST)
    anew = any(each.name.taken_at > since for each in leant_on)
    left = "a full or base was made after it" if anew else "make a new full or base: what follows leans on it"
    work.find("log gap", f"{config.name}/{hole.after.name}", str(hole), "note" if anew else "damage", left=left)
