"""A drill from its request to its result, source by source.

    request = DrillRequest(source="mysql")
    begun = begin(site, request)
    sources = [drill_source(site, begun, name) for name in begun.sources]
    result = finish(site, begun, sources)

Every backup that was proven gets a ``proven`` mark; one that was not, a ``drill-failed`` one, and where the stored
dump itself is not what its manifest says it is marked as ``broken``.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from engine import names, stopping
from engine.drill.base import Piece, Work
from engine.drill.choose import ask_for_thaws, find_pieces
from engine.drill.kinds import drill_class
from engine.drill.targets import hold
from engine.drill.verdict import FAILED, PROVEN, Check, DrillResult, PieceResult, SourceResult
from engine.drill_config import DrillConfig
from engine.errors import BackupError, Cancelled, ConfigError
from engine.errors import in_words as foreseen
from engine.progress import Progress, silent
from engine.site import Site
from engine.verdicts import CONTENT
from engine.verify import was_removed

_BEFORE = "before "


@dataclass(frozen=True)
class DrillRequest:
    """What a person asked for.

    Attributes:
        source, database: Empty for all.
        backup: ``latest``, ``oldest`` (that is kept), ``cold`` (the newest in cold storage), a file name, or
            ``before 2025-01-16T02:00:00Z``.
        location: ``auto`` (local first, then the replicas), ``local`` or a replica.
        thorough: Compare the rows of every table, and recover every database through the logs.
        point_in_time: Recover to a moment drawn by lot, too, where logs are kept.
        seed: Draw again what an earlier drill drew; 0 draws anew.
    """

    source: str = ""
    database: str = ""
    backup: str = "latest"
    location: str = "auto"
    thorough: bool = False
    point_in_time: bool = True
    seed: int = 0

    @property
    def names_a_file(self) -> bool:
        """Is a backup asked for that not every database has, and not the newest of each?"""
        return self.backup != "latest" and not self.backup.startswith(_BEFORE)


@dataclass(frozen=True)
class Begun:
    """A drill under way: its name, its lots, and the sources in the site's order."""

    id: str
    seed: int
    at: datetime
    request: DrillRequest
    sources: list[str]
    pieces: dict[str, list[Piece]] = field(default_factory=dict, repr=False)


def begin(site: Site, request: DrillRequest) -> Begun:
    """Find the backups. Changes nothing.

    Raises:
        UnknownName: No such source, database, backup or location. ConfigError: the site has no source, or a time
            has no zone. Thawing: Something is in cold storage, and was asked for. And what the stores raise.
    """
    known = [each.name for each in site.config.sources()]
    if not known:
        raise ConfigError(f"Site {site.name} names no source.", remedy="add one to the site file")
    if request.location != "auto":
        site.vault.store(request.location)
    if request.backup.startswith(_BEFORE):
        names.parse_moment(request.backup.removeprefix(_BEFORE))
    sources = [site.config.source(request.source).name] if request.source else known
    pieces = _pieces(site, request, sources)
    ask_for_thaws(site, [piece for each in pieces.values() for piece in each])
    at = names.now()
    seed = request.seed or secrets.randbelow(2**31 - 1) + 1
    return Begun(f"{at:{names.STAMP}}-{secrets.token_hex(4)}", seed, at, request, list(pieces), pieces)


def also_due(config: DrillConfig, request: DrillRequest, now: datetime) -> DrillRequest | None:
    """What the site's monthly drill tries besides the newest backups: its older ones, in turn by the month (UTC). None
    where it names none, or a person asked for something of their own."""
    kinds = config.also
    if not kinds or request.source or request.database or request.backup.strip() != "latest":
        return None
    which = kinds[(now.year * 12 + now.month) % len(kinds)]
    return replace(request, backup=which, point_in_time=False)


def _pieces(site: Site, request: DrillRequest, sources: list[str]) -> dict[str, list[Piece]]:
    found: dict[str, list[Piece]] = {}
    unknown: BackupError | None = None
    for source in sources:
        try:
            pieces = find_pieces(site, source, request.database, request.backup.strip(), request.location)
        except BackupError as error:
            if request.source or not request.database:
                raise
            unknown = unknown or error  # another source may have that database
            continue
        if request.names_a_file:
            unknown = unknown or next((piece.missing for piece in pieces if piece.missing), None)
            pieces = [piece for piece in pieces if piece.missing is None]
        if pieces or not request.names_a_file:
            found[source] = pieces
    if not found:
        assert unknown is not None
        raise unknown
    return found


def drill_source(site: Site, begun: Begun, source: str, *, progress: Progress = silent) -> SourceResult:
    """Restore and prove one source, and mark its backups with what was found. Raises Cancelled only."""
    request, pieces = begun.request, begun.pieces[source]
    config = site.config.source(source)
    kind = drill_class(config)
    heeding = stopping.heeding(progress, f"drill of {source}")
    work = Work(site, begun.seed, request.thorough, request.point_in_time, heeding)
    if not pieces:
        said = "there is no backup of any database, and the site names none"
        return SourceResult(source, kind.kind, checks=[Check("opens", "a backup", FAILED, said)])
    result = kind(work, source, pieces).run()
    for piece, told in zip(pieces, result.pieces, strict=True):
        if piece.copies:
            _mark(site, begun, piece, told)
    return result


def _mark(site: Site, begun: Begun, piece: Piece, told: PieceResult) -> None:
    """What was learnt, beside the copy that was restored. A mark that cannot be written is a note."""
    verdict = told.verdict
    facts: dict[str, object] = {"drill": begun.id, "checks": [f"{each.rung}: {each.what}" for each in told.checks]}
    wrong = [check for check in told.checks if check.verdict == FAILED]
    try:
        gone = was_removed(site.vault, piece.entry)
        if gone:
            told.notes.append(f"retention removed {piece.entry.file} from {piece.entry.location} meanwhile")
        elif verdict == PROVEN and not told.waived:
            site.vault.mark(piece.entry, "proven", **facts, sha256=piece.manifest.data.sha256)
        elif wrong and any(check.what == "rows in the dump" for check in wrong):
            site.vault.mark(piece.entry, "broken", reason=wrong[0].words, **{CONTENT: True})
        if wrong and not gone:
            site.vault.mark(piece.entry, "drill-failed", **facts, reason=wrong[0].words)
    except Cancelled:
        raise
    except Exception as failure:
        told.notes.append(f"it could not be marked: {foreseen(failure, 'Writing its mark').message}")


def finish(site: Site, begun: Begun, sources: list[SourceResult]) -> DrillResult:
    """The whole result, with the site's targets held against it."""
    request = begun.request
    result = DrillResult(
        site.name, begun.id, begun.seed, request.thorough,
        {name: str(value) for name, value in asdict(request).items() if name not in ("seed", "thorough")},
        begun.at, names.now(), "", site.config.drill.rpo, sources,
    )  # fmt: skip
    hold(result, site.config, database=request.database, newest=not request.names_a_file)
    return result


def drill(site: Site, request: DrillRequest, *, progress: Progress = silent) -> DrillResult:
    """All of it, one source after another. Raises what ``begin`` does, and Cancelled."""
    begun = begin(site, request)
    return finish(site, begun, [drill_source(site, begun, name, progress=progress) for name in begun.sources])
