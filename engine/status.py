"""How a site stands: for every database its newest good backup, where copies are, and what each replica lacks.

Asks stores only, never a database server: it answers on the day the server is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from engine import names
from engine.catalog import Entry
from engine.drill.record import Doubt, Proof, Proofs, proofs
from engine.errors import BackupError, IntegrityError, NotFound, WrongKey
from engine.manifest import Manifest, OtherSite
from engine.site import Site, Target
from engine.verdicts import word_of


@dataclass(frozen=True)
class StatusRow:
    """One database.

    Attributes:
        newest: Its newest backup whose manifest holds, that is complete and that no check has found broken, None where
            there is none. One that is dated ahead of now only where there is no other.
        tier: Of ``newest``.
        age_seconds: Since ``newest`` was begun; less than nothing where that is dated ahead.
        verified: Read to its end and found whole; None when never checked.
        locations: Where copies of ``newest`` are.
        lacking: How many backups each replica lacks, by its name; only those that lack any.
        broken: Newer backups that a check found broken, by file name.
        incomplete: Newer backups of files that lack some of them, by file name, with the first that is missing.
        problems: What could not be told, in words: marks that are forged or cannot be read.
        proven: When a drill last restored the newest of its backups that were proven, and found everything as it must
            be; None: never.
        doubts: Backups whose last drill did not prove them: those that nothing newer makes up for, and others that are
            still there.
        since: When its oldest backup was taken, UTC; None where there is none.
        ahead: Backups that are dated ahead of now, by file name: a clock is wrong, or was when they were made.
    """

    target: Target
    newest: Entry | None
    tier: str
    age_seconds: float
    verified: bool | None
    locations: list[str]
    lacking: dict[str, int]
    broken: list[str] = field(default_factory=list)
    incomplete: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    proven: Proof | None = None
    since: datetime | None = None
    ahead: list[str] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)


@dataclass(frozen=True)
class Status:
    """A whole site.

    Attributes:
        unseen: The locations that could not be asked, with the reason.
        bare: Sources that name no databases and of which no good backup of any database was found.
        problems: Records of drills that do not hold, and backups of which nobody can tell what they are.
        unproven: Sources whose last drill did not prove them: its verdict, and when it ended (UTC).
    """

    rows: list[StatusRow]
    unseen: dict[str, BackupError]
    bare: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unproven: dict[str, tuple[str, datetime]] = field(default_factory=dict)


def status(site: Site, *, now: datetime | None = None) -> Status:
    """How every database of a site stands. Raises ConfigError only; what cannot be asked is ``unseen``."""
    now = now or names.now()
    found: dict[Target, list[Entry]] = {target: [] for target in _configured(site)}
    unseen: dict[str, BackupError] = {}
    problems: list[str] = []
    told: dict[str, set[tuple[str, str]]] = {}
    for location in site.vault.locations():
        elsewhere = {file: next(iter(pairs)) for file, pairs in told.items() if len(pairs) == 1}
        try:
            for entry in site.vault.catalog(location).entries():
                if entry.name.log:
                    continue
                try:
                    source, tier = _told(entry, elsewhere) or owner(site, entry)
                    told.setdefault(entry.file, set()).add((source, tier))
                except (OtherSite, NotFound):
                    continue
                except (IntegrityError, WrongKey) as error:
                    problems.append(error.message)
                    continue
                if tier not in names.NEVER_LATEST:  # a copy of what was to be repaired is no good backup
                    found.setdefault(Target(source, entry.name.name), []).append(entry)
        except BackupError as error:
            unseen[location] = error
    seen = [name for name in site.vault.locations() if name not in unseen]
    found = {each: entries for each, entries in found.items() if not _of_another_site(site, each, entries)}
    known = {target.source for target in found}
    bare = [source.name for source in site.config.sources() if source.name not in known]
    drills = proofs(site.vault, seen, now)
    rows = [_row(site, target, entries, seen, now, drills) for target, entries in found.items()]
    configured = {source.name for source in site.config.sources()}
    unproven = {name: told for name, told in drills.sources.items() if name in configured}
    return Status(rows, unseen, bare, [*problems, *drills.problems], unproven)


def newest_good(site: Site, target: Target, entries: list[Entry], seen: list[str], now: datetime) -> StatusRow:
    """How a database stands by these of its backups alone, such as those of one tier.

    Args:
        seen: The locations that could be asked.
    """
    return _row(site, target, entries, seen, now, Proofs())


def _told(entry: Entry, elsewhere: dict[str, tuple[str, str]]) -> tuple[str, str] | None:
    """Source and tier of a copy whose own names leave them open, by the names of the same file in a place before: a
    replica with one folder for everything need not be asked for each manifest."""
    return elsewhere.get(entry.file) if entry.source is None or entry.tier is None else None


def owner(site: Site, entry: Entry) -> tuple[str, str]:
    """Source and tier of a backup: from its names, else from its manifest. Raises what ``Catalog.load`` does."""
    if entry.source is not None and entry.tier is not None:
        return entry.source, entry.tier
    manifest = site.vault.catalog(entry.location).load(entry)
    return manifest.source, manifest.tier


def _marked(file: str, marks: list[dict[str, Any]]) -> list[Doubt]:
    """What the marks of all copies of a backup say of its last drill: its record may be gone."""
    drills = sorted(
        (each for each in marks if each.get("kind") in ("proven", "drill-failed")), key=lambda each: each["at"]
    )
    if not drills or drills[-1]["kind"] == "proven":
        return []
    return [Doubt(datetime.fromisoformat(drills[-1]["at"]), file, failed=True, overtaken=False)]


def lacks(site: Site, entry: Entry) -> list[str]:
    """What an archive of files, or a list of objects, lacks although it should hold it; empty for every other backup.

    Raises:
        What ``Catalog.load`` does.
    """
    return _missing_in(entry, site.vault.catalog(entry.location).load(entry)) if _may_lack(entry) else []


def _may_lack(entry: Entry) -> bool:
    return entry.name.ext.startswith(("tar", "json", names.RECORD_EXT))


def _missing_in(entry: Entry, manifest: Manifest) -> list[str]:
    return manifest.incomplete if _may_lack(entry) else []


def _signed(site: Site, places: list[Entry], problems: list[str]) -> tuple[list[Entry], Manifest | None]:
    """The copies from the first one on whose signed manifest says that it is this backup, and that is as large as that
    says; names alone prove nothing."""
    for number, entry in enumerate(places):
        try:
            manifest = site.vault.catalog(entry.location).load(entry)
            if entry.size == manifest.data.size:
                return places[number:], manifest
            said = (
                f"{entry.file} in {entry.location} has {entry.size:,} bytes, and {manifest.data.size:,} by its manifest"
            )
            problems.append(said)
        except (OtherSite, NotFound):  # of whoever shares the folder; removed meanwhile
            continue
        except BackupError as error:
            problems.append(error.message)
    return [], None


def _of_another_site(site: Site, target: Target, entries: list[Entry]) -> bool:
    """A database that only the backups of another site in the same folder make known?"""
    if not entries or target in _configured(site):
        return False
    try:
        site.vault.catalog(entries[0].location).load(entries[0])
    except OtherSite:
        return True
    except BackupError:
        pass
    return False


def _configured(site: Site) -> list[Target]:
    return [Target(source.name, name) for source in site.config.sources() for name in source.databases]


def _row(site: Site, target: Target, entries: list[Entry], seen: list[str], now: datetime, drills: Proofs) -> StatusRow:
    copies: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda each: each.name.taken_at, reverse=True):
        copies.setdefault(entry.file, []).append(entry)
    broken: list[str] = []
    incomplete: dict[str, str] = {}
    problems: list[str] = []
    newest: list[Entry] = []
    doubts = drills.doubts.get(target, [])
    whole: bool | None = None
    ahead = [file for file, places in copies.items() if places[0].name.taken_at > now + names.APART]
    for file, places in sorted(copies.items(), key=lambda each: each[0] in ahead):  # these last
        verdicts: dict[str, bool | None] = {}
        marks: list[dict[str, Any]] = []
        for entry in places:
            try:
                said = site.vault.marks(entry)
            except BackupError as error:
                problems.append(error.message)
                continue
            verdicts[entry.location] = word_of(said).whole
            marks += said
        bad = [name for name, whole_there in verdicts.items() if whole_there is False]
        if bad and True not in verdicts.values():
            broken.append(file)
            continue
        problems += [f"{file} in {name} was found broken, and is whole elsewhere" for name in bad]
        held, manifest = _signed(site, [each for each in places if each.location not in bad], problems)
        if manifest is None:
            continue
        missing = _missing_in(held[0], manifest)
        if missing:
            incomplete[file] = missing[0] + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
            continue
        newest, whole = held, True if True in verdicts.values() else None
        doubts = doubts if file in {each.file for each in doubts} else [*doubts, *_marked(file, marks)]
        break
    local = {entry.file for entry in entries if entry.location == "local"}
    lacking = {
        replica: len(local - {entry.file for entry in entries if entry.location == replica})
        for replica in seen
        if replica != "local"
    }
    best = newest[0] if newest else None
    return StatusRow(
        target,
        best,
        owner(site, best)[1] if best else "",
        (now - best.name.taken_at).total_seconds() if best else 0.0,
        whole,
        [each.location for each in newest],
        {name: count for name, count in lacking.items() if count},
        broken,
        incomplete,
        problems,
        drills.newest.get(target),
        min((entry.name.taken_at for entry in entries), default=None),
        ahead,
        [each for each in doubts if not each.overtaken or each.file in copies],
    )
