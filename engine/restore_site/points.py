"""Recovery points: which backups of one run make up a machine, and which runs are complete. Asks stores only."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from engine import names
from engine.backup import POINT
from engine.catalog import Entry
from engine.cold.classes import Coldness
from engine.cold.thaw import is_cold
from engine.errors import BackupError, IntegrityError, NotFound, RestoreRefused, UnknownName, Unreadable, WrongKey
from engine.manifest import Manifest
from engine.site import Site, Target
from engine.vault import LOCAL
from engine.verdicts import found_broken

_SLACK = timedelta(seconds=2)
_COMPARED = timedelta(days=7)
"""So far back go the recovery points that one is compared with which does not say what it was to hold."""
_TOLD = 5
Copy = tuple[Entry, Manifest]


@dataclass
class Piece:
    """One backup of a recovery point, wherever it stands; the best place first.

    Attributes:
        frozen: How the first copy stands in cold storage; None where it can be read now.
    """

    target: Target
    copies: list[Copy]
    frozen: Coldness | None = None

    @property
    def manifest(self) -> Manifest:
        return self.copies[0][1]

    @property
    def entry(self) -> Entry:
        return self.copies[0][0]


@dataclass
class Point:
    """What was backed up in one run.

    Attributes:
        at: When the run began, UTC.
        lacking: What keeps it from being complete, in words.
        doubts: Why it is not certain that it is whole.
        passed: Newer ones that are not complete, and what they lack.
        unnamed: What it holds and the site file does not name: sources, and ``source/database``.
    """

    id: str
    at: datetime
    pieces: dict[Target, Piece] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)

    def of(self, source: str) -> list[Piece]:
        return [piece for target, piece in self.pieces.items() if target.source == source]


Expected = Mapping[str, list[str]]
"""What a machine has: databases (archives...) by source; of a source without any named, all that it held then."""


def expected_of(site: Site, only: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """What is to be restored.

    Args:
        only, without: Names of sources, or ``source/database``.

    Raises:
        UnknownName: One of these is not of the site.
    """
    known = {source.name: list(source.databases) for source in site.config.sources()}
    for each in (*only, *without):
        name, _, database = each.partition("/")
        site.config.source(name)
        if database and known[name] and database not in known[name]:
            raise UnknownName(f"{name} has no {database!r}.", remedy=f"it has: {', '.join(known[name])}")
    found: dict[str, list[str]] = {}
    for source, databases in known.items():
        if (only and not any(each.partition("/")[0] == source for each in only)) or source in without:
            continue
        asked = [each.partition("/")[2] for each in only if each.startswith(f"{source}/")]
        kept = [each for each in (asked or databases) if f"{source}/{each}" not in without]
        if kept or not databases:
            found[source] = kept
    return found


def search(
    site: Site, expected: Expected, *, wanted: str = "", before: datetime | None = None, location: str = "auto",
    without: tuple[str, ...] = (),
) -> Point:  # fmt: skip
    """The newest complete recovery point; or the one of an id.

    Args:
        wanted: Its id.
        before: Only those that began by then.

    Raises:
        RestoreRefused: None is complete; names what the newest lack.
        UnknownName: There is none at all, none of that id, or none from then.
        WrongKey: No manifest opens with the key. And what the stores raise, where none answers.
    """
    tried: list[Point] = []
    trouble: list[BackupError] = []
    line = Line(_points(site, location, trouble))
    for point in line:
        if (wanted and point.id != wanted) or (before is not None and point.at > before):
            continue
        _judge(site, point, expected, without, line)
        if not point.lacking:
            for piece in point.pieces.values():
                _choose(site, piece)
            point.passed = [f"{each.id} ({_time(each.at)}): {'; '.join(each.lacking)}" for each in tried]
            return point
        tried.append(point)
    wrong = next((each for each in trouble if isinstance(each, WrongKey)), None)
    if tried:
        told = [f"{each.id} ({_time(each.at)}): {'; '.join(each.lacking)}" for each in tried[:_TOLD]]
        more = f"\n  and {len(tried) - _TOLD} older" if len(tried) > _TOLD else ""
        raise RestoreRefused(
            f"Site {site.name} has no complete recovery point. What the newest lack:\n  " + "\n  ".join(told) + more,
            kept="nothing was changed",
            remedy="take an older one (--at), or leave out what is lacking: --without SOURCE or --without SOURCE/NAME; "
            "what is incomplete comes back by itself then, as far as it goes: backups restore-config, restore-volume",
        )
    if trouble:
        raise wrong or trouble[0]
    which = f" {wanted!r}" if wanted else f" from {names.both_zones(before)} or before" if before else ""
    raise UnknownName(
        f"Site {site.name} has no recovery point{which} in {', '.join(_places(site, location))}.",
        kept="nothing was changed",
        remedy="backups list shows what there is; recovery points are made by backups of the whole site",
    )


def _points(site: Site, location: str, trouble: list[BackupError]) -> Iterator[Point]:
    """Recovery points, the newest first, each with all that it has. Reads manifests only as far as is asked for."""
    streams = [_entries(site, place, trouble) for place in _places(site, location)]
    merged = heapq.merge(*streams, key=lambda each: each[0].name.taken_at, reverse=True)
    begun: dict[str, Point] = {}
    for entry, manifest in merged:
        done = [each for each in begun.values() if entry.name.taken_at < each.at - _SLACK]
        for each in sorted(done, key=lambda each: each.at, reverse=True):
            yield begun.pop(each.id)
        at = moment_of(manifest.recovery_point)
        if at is None:
            continue
        point = begun.setdefault(manifest.recovery_point, Point(manifest.recovery_point, at))
        piece = point.pieces.setdefault(Target(manifest.source, manifest.database), Piece(_whose(manifest), []))
        piece.copies.append((entry, manifest))
    yield from sorted(begun.values(), key=lambda each: each.at, reverse=True)


class Line:
    """Recovery points, the newest first, of which it can be asked what went before."""

    def __init__(self, points: Iterator[Point]) -> None:
        self._points = points
        self._ahead: deque[Point] = deque()

    def __iter__(self) -> Iterator[Point]:
        while (point := self._ahead.popleft() if self._ahead else next(self._points, None)) is not None:
            yield point

    def before(self, point: Point) -> list[Point]:
        """Those of the week before a point; where there are none, the next older one."""
        begin = point.at - _COMPARED
        while (not self._ahead or self._ahead[-1].at >= begin) and (each := next(self._points, None)) is not None:
            self._ahead.append(each)
        return [each for each in self._ahead if each.at >= begin] or list(self._ahead)[:1]


def _entries(site: Site, place: str, trouble: list[BackupError]) -> Iterator[tuple[Entry, Manifest]]:
    """Backups of one place, newest first. One that cannot be read is left out; a place that fails gives no more."""
    catalog = site.vault.catalog(place)
    known = {source.name for source in site.config.sources()}
    try:
        for entry in catalog.entries():
            if entry.name.log or entry.tier in names.NEVER_LATEST:
                continue
            try:
                manifest = catalog.load(entry)
            except (IntegrityError, WrongKey, NotFound, Unreadable) as error:
                trouble.append(error)
                continue
            if manifest.tier not in names.NEVER_LATEST and manifest.source in known:
                yield entry, manifest
    except BackupError as error:
        trouble.append(error)


def _judge(site: Site, point: Point, expected: Expected, without: tuple[str, ...], line: Line) -> None:
    """Take out what is not wanted and what was found broken; say what is lacking then."""
    wanted: dict[Target, Piece] = {}
    whole = {source: databases or _held(point, source, line) for source, databases in expected.items()}
    point.unnamed = _unnamed(site, point)
    for target, piece in point.pieces.items():
        named = expected.get(target.source)
        if named is None or (named and target.database not in named) or str(target) in without:
            continue
        sound = [each for each in piece.copies if not found_broken(site, each[0], [])]
        piece.copies = [each for each in sound if not each[1].incomplete]
        if not sound:
            point.lacking.append(f"{target} was found broken")
        elif not piece.copies:
            point.lacking.append(f"{target} is incomplete ({sound[0][1].incomplete[0]})")
        else:
            wanted[target] = piece
    there = set(point.pieces)
    for source, databases in whole.items():
        for each in databases:
            if Target(source, each) not in there and f"{source}/{each}" not in without:
                point.lacking.append(f"{source}/{each} is not in it")
        if not expected[source] and not any(target.source == source for target in there):
            point.lacking.append(f"{source} is not in it")
    point.pieces = wanted


def _choose(site: Site, piece: Piece) -> None:
    """Which backup of the run is taken, and from where first. There are several where it was promoted to an archive,
    or made again: the newest, unless only an older one can be read without a thaw."""
    how = {entry: is_cold(site.vault.store(entry.location), entry) for entry, _ in piece.copies}
    files: dict[str, list[Copy]] = {}
    for each in piece.copies:
        files.setdefault(each[1].file, []).append(each)
    copies = min(files.values(), key=lambda same: all(how[entry] for entry, _ in same))
    piece.copies = sorted(copies, key=lambda each: (how[each[0]] is not None, each[0].location != LOCAL))
    piece.frozen = how[piece.entry]


def _held(point: Point, source: str, line: Line) -> list[str]:
    """The databases that a server held which the site names none of: as the first backup of the run tells. Backups of
    earlier releases do not: then all that the recovery points of the week before have."""
    pieces = sorted(point.of(source), key=lambda each: each.manifest.taken_at)
    for piece in pieces:
        told = piece.manifest.contents.get(POINT)
        if told:
            return list(told["databases"])
    if not pieces:
        return []
    others = line.before(point)
    point.doubts.append(
        f"recovery point {point.id} does not say which databases {source} held when it was made; "
        + ("it has all that the ones of the week before have" if others else "there is no older one to compare it with")
    )
    return sorted({each.target.database for other in others for each in other.of(source)})


def _unnamed(site: Site, point: Point) -> list[str]:
    """What a recovery point holds, or was to hold, and this site file does not name."""
    known = {source.name: source.databases for source in site.config.sources()}
    found = {str(each) for each in point.pieces if known[each.source] and each.database not in known[each.source]}
    for piece in point.pieces.values():
        told = piece.manifest.contents.get(POINT) or {}
        found |= {each for each in told.get("sources", ()) if each not in known}
    return sorted(found)


def moment_of(point: str) -> datetime | None:
    """When a recovery point's run began; None where its id does not say."""
    try:
        return datetime.strptime(point[:15], names.STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


def _whose(manifest: Manifest) -> Target:
    return Target(manifest.source, manifest.database)


def _places(site: Site, location: str) -> list[str]:
    if location == "auto":
        return site.vault.locations()
    site.vault.store(location)
    return [location]


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
