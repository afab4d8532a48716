"""What can be recovered of a source, from what its vault and replicas hold: fulls or bases, logs, windows.

Asks stores only. Of several copies of one backup the first that can be read speaks for all; a log whose
manifest is damaged everywhere counts as missing, and is named.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from engine import idle, names
from engine.catalog import Entry
from engine.config import PostgresConfig
from engine.errors import BackupError
from engine.logs import LogFile, facts_of
from engine.logs import load_all as load_logs
from engine.manifest import Manifest
from engine.postgres.base_facts import base_facts
from engine.recovery import Anchor, Hole, Window, holes, windows
from engine.site import Site
from engine.verdicts import found_broken

Copies = list[tuple[Entry, Manifest]]


@dataclass
class Recoverable:
    """One database of MySQL, or one whole PostgreSQL server.

    Attributes:
        windows: One for each full or base, the one that begins latest first.
        anchors: The copies of each full or base, by file, the best place first.
        logs: The copies of each log, by its row and number.
        notes: What was passed over, in words.
    """

    source: str
    database: str
    windows: list[Window] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)
    anchors: dict[str, Copies] = field(default_factory=dict)
    logs: dict[tuple[str, int, int], Copies] = field(default_factory=dict)
    histories: Copies = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def copies(self, log: LogFile) -> Copies:
        """Where a log stands."""
        return self.logs[(*log.row, log.number)]


def rolled_forward(site: Site, source: str | None, database: str | None) -> list[tuple[str, str]]:
    """Sources and databases that logs are shipped for; the whole server, with an empty name, for PostgreSQL.

    Raises:
        UnknownName: No such source.
    """
    if source is not None:
        site.config.server(source)
    found: list[tuple[str, str]] = []
    for each in site.config.servers():
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


def recoverable(site: Site, source: str, database: str, *, location: str = "auto") -> Recoverable:
    """What can be recovered of a database (for PostgreSQL of its whole server).

    Args:
        location: ``auto`` for every place, local first; or one.

    Raises:
        UnknownName: No such source or location. And what a store raises where none could be asked.
    """
    config = site.config.server(source)
    physical = isinstance(config, PostgresConfig)
    found = Recoverable(source, database)
    places = site.vault.locations() if location == "auto" else [location]
    first: BackupError | None = None
    asked = 0
    for place in places:
        try:
            _gather(site, found, place, names.WAL if physical else names.BINLOGS, physical)
            asked += 1
        except BackupError as error:
            first = first or error
            found.notes.append(f"{place} could not be asked: {error.message}")
    if not asked and first is not None:
        raise first
    stored = [(facts_of(copies[0][1]), [entry for entry, _ in copies]) for copies in found.logs.values()]
    logs = idle.reaching(site.vault, stored, found.notes)
    anchors = [each for copies in found.anchors.values() if (each := anchor_of(copies[0][1])) is not None]
    histories = [facts_of(its).model_copy(update={"created_at": its.finished_at}) for _, its in found.histories]
    found.windows = windows(anchors, [*logs, *histories], database)
    found.holes = holes(logs)
    return found


def _gather(site: Site, found: Recoverable, place: str, tier: str, physical: bool) -> None:
    catalog = site.vault.catalog(place)
    entries = [each for each in catalog.entries(source=found.source, tier=tier) if each.name.log]
    known = {copies[0][0].file: copies for copies in found.logs.values()}
    known |= {entry.file: found.histories for entry, _ in found.histories}
    for entry in entries:
        if entry.file in known:  # a further copy: its manifest is the same, signed bytes
            copies = known[entry.file]
            copies.append((entry, next(manifest for one, manifest in copies if one.file == entry.file)))
    for entry, manifest in _readable(site, [each for each in entries if each.file not in known], found.notes):
        log = facts_of(manifest)
        if log.number > 0:
            found.logs.setdefault((*log.row, log.number), []).append((entry, manifest))
        else:
            found.histories.append((entry, manifest))
    for entry in catalog.entries(source=found.source, database=None if physical else found.database):
        if entry.name.log or (physical and entry.tier not in (None, names.BASE)):
            continue
        try:
            manifest = catalog.load(entry)
        except BackupError as error:
            found.notes.append(f"{entry.file} in {place} is passed over: {error.message}")
            continue
        wanted = manifest.tier == names.BASE if physical else manifest.tier not in names.NEVER_LATEST
        if wanted and manifest.source == found.source and not _broken(site, entry, found.notes):
            found.anchors.setdefault(entry.file, []).append((entry, manifest))


def _readable(site: Site, entries: Iterable[Entry], notes: list[str]) -> list[tuple[Entry, Manifest]]:
    """The logs whose manifests hold; each of the others is a note."""
    entries = list(entries)
    try:
        return [(entry, manifest) for entry, manifest, _ in load_logs(site.vault, entries)]
    except BackupError:
        pass
    readable = []
    for entry in entries:  # one of them is damaged: find out which
        try:
            manifest = site.vault.catalog(entry.location).load(entry)
            facts_of(manifest)
        except BackupError as error:
            notes.append(f"the log {entry.name.name} in {entry.location} is not usable: {error.message}")
            continue
        readable.append((entry, manifest))
    return readable


def _broken(site: Site, entry: Entry, notes: list[str]) -> bool:
    broken = found_broken(site, entry, notes)
    if broken:
        notes.append(f"{entry.file} in {entry.location} was found broken earlier and is not used")
    return broken


def anchor_of(manifest: Manifest) -> Anchor | None:
    """Where logs can be replayed on a backup; None where its server wrote no log."""
    uuid = manifest.server.uuid if manifest.server else ""
    log = manifest.log
    if manifest.tier == names.BASE:
        base = base_facts(manifest)
        number = base.stop // base.segment_size
        return Anchor(manifest.file, base.system_id, number, base.stop, base.consistent_at, epoch=base.timeline)
    if not log.binlog_file:
        return None
    taken = manifest.contents.get("snapshot_at")
    earliest = datetime.fromisoformat(taken) if taken else manifest.finished_at
    chain = uuid if manifest.server and manifest.server.flavour == "mysql" else ""
    last = log.binlog_file.rsplit(".", 1)[-1]
    return Anchor(manifest.file, chain, int(last), log.binlog_position, earliest) if last.isdigit() else None
