"""The tables of a report, in words: the page and the short text show the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any

from engine.durations import seconds_of
from engine.report.coverage import RANK, Covered, Standing
from engine.report.gather import Report
from engine.report.history import Point
from engine.report.storage import Place, monthly
from engine.report.words import ago, day, moment, money, plural, rate, size, span, upper
from engine.site import Target
from engine.watch.findings import Finding, Level

LEVELS: dict[Standing, tuple[str, str]] = {
    "good": ("ok", "proven"), "unproven": ("warning", "not proven"), "late": ("critical", "too old"),
    "none": ("critical", "no backup"), "unknown": ("unknown", "unknown"),
}  # fmt: skip
STYLES = {"ok": "bold green", "warning": "bold yellow", "critical": "bold red"}
"""How a terminal shows the level of a verdict."""
_OUTCOMES = {"proven": "ok", "failed": "critical", "could not verify": "warning"}
_MOST = 60
"""Rows of a table; the JSON document has all."""


@dataclass(frozen=True)
class Cell:
    """``level`` makes a badge of it; ``more`` stands below, smaller; ``whole``: on one line."""

    name: str
    text: str
    right: bool = False
    level: str = ""
    more: str = ""
    whole: bool = False


@dataclass(frozen=True)
class Row:
    """``name`` is what it is about, with a badge (``level``, ``word``) and a line below (``more``, or ``wrong``)."""

    name: str
    cells: Sequence[Cell]
    level: str = ""
    word: str = ""
    more: str = ""
    wrong: bool = False


@dataclass(frozen=True)
class Table:
    """``first`` heads the column of the rows' names."""

    first: str
    rows: Sequence[Row]
    total: Row | None = None
    title: str = ""

    @property
    def columns(self) -> Sequence[Cell]:
        return self.rows[0].cells if self.rows else []


def plain(table: Table) -> tuple[list[str], list[list[str]], list[int]]:
    """Columns, rows and the columns of figures, for a medium without badges; the total last."""
    badges = any(row.level for row in table.rows)
    lead = [table.first, *(["state"] if badges else [])]
    rows = [
        [_named(row), *([row.word] if badges else []), *(f"{cell.text} ({cell.more})" if cell.more else cell.text
                                                         for cell in row.cells)]
        for row in [*table.rows, *([table.total] if table.total else [])]
    ]  # fmt: skip
    right = [number for number, cell in enumerate(table.columns, len(lead)) if cell.right]
    return [*lead, *(cell.name for cell in table.columns)], rows, right


def _named(row: Row) -> str:
    """What is wrong stands beside the name, unless the name says it itself."""
    if not row.wrong:
        return row.name
    return row.more if row.name in row.more else f"{row.name}: {row.more}"


def covered(report: Report) -> Table:
    """Each database, the worst first: how it stands, what there is, where, and when it was proven."""
    rows = sorted(report.coverage, key=lambda each: -RANK[each.standing])
    return Table("what", [_covered(each, report.at) for each in rows])


def _covered(row: Covered, now: datetime) -> Row:
    level, word = LEVELS[row.standing]
    missing = [place for place in row.places if place not in row.copies] if row.newest else []
    kept = " · ".join(f"{count} {tier}" for tier, count in row.tiers.items())
    cells = [
        Cell("last good", ago(row.last_good, now), more=moment(row.last_good) if row.last_good else ""),
        Cell(
            "proven", ago(row.proven.at, now) if row.proven else "never", more=day(row.proven.at) if row.proven else ""
        ),
        Cell("copies", ", ".join(row.copies) or "nowhere", more=f"not at {', '.join(missing)}" if missing else ""),
        Cell("kept", kept or "nothing"),
    ]
    return Row(row.name, cells, level, word, row.said or row.kind, bool(row.said))


def findings(report: Report) -> Table:
    """What the watch would tell now, but for what coverage tells of already."""
    told = {f"{name}/{each.about}" for each in report.coverage for name in ("backup-age", "drill")}
    trouble = [each for each in report.findings if each.level is not Level.OK and each.id not in told]
    return Table("what", [_finding(each, report) for each in trouble[:_MOST]])


def _finding(finding: Finding, report: Report) -> Row:
    level = {Level.WARNING: "warning", Level.CRITICAL: "critical"}.get(finding.level, "unknown")
    where = f"{report.config.watch.runbooks}{finding.condition}"
    return Row(finding.said, [Cell("what to do", where)], level, finding.level.word)


def happened(report: Report) -> Table:
    """Incidents of the period, the newest first."""
    rows = [
        Row(
            upper(each.said),
            [Cell("when", moment(each.at) if each.at else "not known", whole=True), Cell("about", each.about),
             Cell("since then", upper(each.over) if each.over else "still so")],
            "ok" if each.over else "critical",
            each.kind,
        )
        for each in report.incidents[:_MOST]
    ]  # fmt: skip
    return Table("what", rows)


def windows(report: Report) -> Table:
    """To which moments each database can be brought back."""
    rows = []
    for each in report.reach:
        if each.error or each.earliest is None or each.latest is None:
            why = each.error or each.ends
            cells = [Cell("from", "–"), Cell("to", "–"), Cell("reaches back", "–"), Cell("gaps", "–")]
            rows.append(Row(each.name, cells, "critical", "none" if not each.error else "unknown", upper(why), True))
            continue
        gaps = plural(len(each.holes), "gap") if each.holes else "none"
        back = span((each.latest - each.earliest).total_seconds())
        cells = [
            Cell("from", moment(each.earliest)), Cell("to", moment(each.latest), more=ago(each.latest, report.at)),
            Cell("reaches back", back), Cell("gaps", gaps),
        ]  # fmt: skip
        rows.append(Row(each.name, cells))
    return Table("any second of", rows)


def drills(report: Report) -> Table:
    """Each drill of the trend's time, the newest first."""
    rows = []
    for each in reversed(report.drills[-_MOST:]):
        verdict = str(each["verdict"])
        at = datetime.fromisoformat(each["finished_at"])
        cells = [
            Cell("restored in", *_against(each.get("rto_seconds"), each.get("rto_target"))),
            Cell("would be lost", *_against(each.get("rpo_seconds"), each.get("rpo_target"))),
            Cell("sources", ", ".join(str(source["source"]) for source in each["sources"]) or "none"),
        ]
        said = "" if verdict == "proven" else upper(str(each["said"]))
        rows.append(Row(day(at), cells, _OUTCOMES.get(verdict, "unknown"), verdict, said, bool(said)))
    return Table("drill", rows)


def _against(seconds: float | None, target: str | None) -> tuple[str, bool, str, str]:
    """Text, alignment, badge and second line of a measured time against its target."""
    if not target or seconds is None:
        return span(seconds), False, "", "" if seconds is None else "no target is set"
    held = seconds <= seconds_of(target)
    return span(seconds), False, "ok" if held else "critical", f"target {target}"


def last_drills(report: Report) -> Table:
    """The newest drill of each source."""
    return Table("source", [_last(name, each, report.at) for name, each in sorted(report.last_drill.items())])


def _last(name: str, source: Mapping[str, Any], now: datetime) -> Row:
    verdict, at = str(source["verdict"]), datetime.fromisoformat(source["at"])
    rpo = source.get("rpo_seconds")
    took = f"{'about ' if source.get('point_in_time_estimate') else ''}{span(source.get('rto_seconds'))}"
    cells = [
        Cell("last drill", ago(at, now), more=day(at)), Cell("restored in", took),
        Cell("would be lost", span(rpo) if rpo is not None else "not known"),
        Cell("where", str(source.get("place") or "–")),
    ]  # fmt: skip
    return Row(name, cells, _OUTCOMES.get(verdict, "unknown"), verdict)


@dataclass(frozen=True)
class Trend:
    """How one database went: its newest point, the oldest one of the trend, and the middle values of the period."""

    target: Target
    newest: Point
    oldest: Point
    made: int
    seconds: float | None
    rate: float | None
    points: Sequence[Point] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.target.source if self.target.database == self.target.source else str(self.target)


def trends(report: Report) -> list[Trend]:
    """Of each database that has backups, the largest first."""
    found = []
    for target in dict.fromkeys(point.target for point in report.history.points):
        points = report.history.of(target)
        recent = [point for point in points if point.at >= report.since] or points[-1:]
        found.append(
            Trend(
                target, points[-1], points[0], report.history.made[target],
                _middle([point.seconds for point in recent]), _middle([point.rate for point in recent]), points,
            )
        )  # fmt: skip
    return sorted(found, key=lambda each: (-each.newest.size, each.name))


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def sizes(report: Report) -> Table:
    """Size, growth, duration and rate of each database. What a bucket's snapshots store they share."""
    shared = {source.name for source in report.config.buckets}
    rows = [
        Row(
            each.name,
            [
                Cell("size", size(each.newest.size), True), Cell("change", *_change(each)),
                Cell("in the vault", "–" if each.target.source in shared else size(each.newest.stored), True),
                Cell("backups", f"{each.made:,}", True),
                Cell("takes", span(each.seconds), True), Cell("rate", rate(each.rate), True),
            ],
        )
        for each in trends(report)[:_MOST]
    ]  # fmt: skip
    return Table("what", rows)


def _change(trend: Trend) -> tuple[str, bool, str, str]:
    """Text, alignment, badge and second line of how a size changed."""
    days = (trend.newest.at - trend.oldest.at).total_seconds() / 86_400
    if days < 2 or not trend.oldest.size:
        return "–", True, "", ""
    percent = 100 * (trend.newest.size / trend.oldest.size - 1)
    return f"{percent:+.0f}%".replace("-", "−"), True, "", f"in {days:.0f} days"


def stored(report: Report) -> Table:
    """Bytes by place and storage class; and the cost, where prices are known."""
    priced = bool(report.config.report.prices)
    rows = [row for place in report.places for row in _place(place, report.config.report.currency, priced)]
    cost, whole = monthly(report.places)
    objects = sum(each.objects for place in report.places for each in place.held)
    cells = [Cell("class", ""), Cell("objects", f"{objects:,}", True), Cell("size", size(report.stored), True)]
    if priced:
        told = money(cost, report.config.report.currency)
        more = "" if whole else "not every price is known"
        cells += [Cell("a GB and month", "", True), Cell("a month", told, True, "", more)]
    return Table("place", rows, Row("Together", cells))


def _place(place: Place, currency: str, priced: bool) -> list[Row]:
    if place.error:
        nothing = [Cell("class", "–"), Cell("objects", "–", True), Cell("size", "–", True)]
        nothing += [Cell("a GB and month", "–", True), Cell("a month", "–", True)] if priced else []
        return [Row(place.name, nothing, "unknown", "unknown", f"Could not be asked: {place.error}", True)]
    rows: list[Row] = []
    for each in place.held:
        cells = [
            Cell("class", each.storage_class or "–"), Cell("objects", f"{each.objects:,}", True),
            Cell("size", size(each.bytes), True),
        ]  # fmt: skip
        if priced:
            price = f"{each.price:g} {currency}" if each.price is not None else "no price"
            cells += [Cell("a GB and month", price, True), Cell("a month", money(each.monthly, currency), True)]
        rows.append(Row(place.name, cells, more="" if rows else place.where))
    if not rows:
        cells = [Cell("class", "–"), Cell("objects", "0", True), Cell("size", "0 B", True)]
        cells += [Cell("a GB and month", "–", True), Cell("a month", "–", True)] if priced else []
        rows = [Row(place.name, cells, more=place.where)]
    return rows
