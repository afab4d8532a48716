"""The report as one HTML page that needs nothing else: no address outside, no script. Every text in it is escaped."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from engine.durations import seconds_of
from engine.report import plots, tables
from engine.report.gather import Report
from engine.report.plots import Line
from engine.report.tables import Table, Trend
from engine.report.words import ago, day, moment, money, plural, rate, size, span, upper

TEMPLATE = "page.html"
_SHORT = timedelta(days=2)


@dataclass(frozen=True)
class Plot:
    title: str
    svg: str


@dataclass(frozen=True)
class Entry:
    """Of a legend."""

    colour: str
    name: str


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    note: str = ""
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    legend: list[Entry] = field(default_factory=list)


def page(report: Report) -> str:
    """The whole page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    sections = [
        Section(
            each.id,
            each.title,
            each.note,
            each.tables,
            [Plot(one.title, Markup(one.svg)) for one in each.plots],
            each.legend,
        )
        for each in _sections(report)
    ]
    return environment.get_template(TEMPLATE).render(
        site=report.site,
        made=moment(report.at),
        period=f"{day(report.since)} to {day(report.at)}",
        level=report.verdict.level,
        verdict=report.verdict.said,
        unseen=list(report.unseen.items()),
        tiles=_tiles(report),
        sections=sections,
        foot=_foot(report),
    )


def drawn(report: Report) -> list[Plot]:
    """The plots of sizes, durations and rates; none where there is nothing to draw, or too short a past."""
    trends = tables.trends(report)
    if max((each.points[-1].at - each.points[0].at for each in trends), default=_SHORT) < _SHORT:
        return []
    within = (report.trend, report.at)
    made = [
        Plot("Size, before compression", plots.over_time("size", _lines(trends, "size"), size, within)),
        Plot("How long a backup takes", plots.over_time("took", _lines(trends, "seconds"), span, within)),
        Plot("How fast it is read", plots.over_time("rate", _lines(trends, "rate"), rate, within)),
    ]
    return [each for each in made if each.svg]


def _lines(trends: list[Trend], what: str) -> list[Line]:
    lines = []
    for number, trend in enumerate(trends, 1):
        known = [(point.at, float(value)) for point in trend.points if (value := getattr(point, what)) is not None]
        lines.append(
            Line([at for at, _ in known], [value for _, value in known], number if number <= plots.MOST else 0)
        )
    return lines


def _tiles(report: Report) -> list[dict[str, str]]:
    verdict = report.verdict
    proven = [each for each in report.coverage if each.proven is not None]
    behind = [each.latest for each in report.reach if each.latest is not None]
    made = sum(report.history.made.values())
    tiles = [
        {"figure": f"{verdict.protected} of {verdict.sources}", "said": "sources have a good backup in time"},
        {"figure": f"{verdict.good} of {verdict.sources}", "said": "sources are proven by a restore drill as well"},
    ]
    if behind and len(behind) == len(report.reach):
        lost = span((report.at - min(behind)).total_seconds())
        tiles.append({"figure": lost, "said": "of work would be lost if every database server were lost now"})
    if report.drills:
        last = report.drills[-1]
        target = f", target {last['rto_target']}" if last.get("rto_target") else ""
        tiles.append({"figure": span(last.get("rto_seconds")), "said": f"to have it back in the last drill{target}"})
    elif not proven:
        tiles.append({"figure": "never", "said": "was a restore drill run here"})
    days = (report.at - report.since).days
    tiles.append({"figure": f"{made:,}", "said": f"backups made in {plural(days, 'day')}"})
    cost = money(report.monthly, report.config.report.currency) if report.monthly is not None else ""
    places = plural(sum(not each.error for each in report.places), "place")
    tiles.append({"figure": size(report.stored), "said": f"stored in {places}" + (f", {cost} a month" if cost else "")})
    return tiles


def _sections(report: Report) -> list[Section]:
    weeks = plural(round((report.at - report.trend).days / 7), "week")
    found = []
    now = tables.findings(report)
    if now.rows:
        found.append(Section("findings", "Not as it should be now", "What the watch finds at this moment.", [now]))
    covered = Section(
        "coverage", "What is protected, and how",
        "Last good: the newest backup that is whole and complete. Proven: when a drill last restored a backup of it "
        "and found everything as it must be. Kept: how many backups of each tier there are.", [tables.covered(report)],
    )  # fmt: skip
    happened = tables.happened(report)
    quiet = "Nothing went wrong that the vault knows of: no damage, no failed drill, no missed backup, no gap in logs."
    found += [
        covered,
        Section("incidents", "Incidents", "" if happened.rows else quiet, [happened] if happened.rows else []),
    ]
    if report.reach:
        found.append(
            Section(
                "windows", "Any second", "From when to when a database can be brought back to any second, by its logs.",
                [tables.windows(report)],
            )
        )  # fmt: skip
    found += [_drills(report, weeks), _sizes(report, weeks), _storage(report)]
    return found


def _drills(report: Report, weeks: str) -> Section:
    if not report.last_drill:
        note = "No drill was ever run. Until one is, nobody knows that a backup can be restored: backups drill"
        return Section("drills", "Restore drills", note)
    shown = [tables.last_drills(report)]
    if report.drills:
        shown.append(tables.drills(report))
    at = [datetime.fromisoformat(each["finished_at"]) for each in report.drills]
    target = str(report.config.drill.rto)
    svg = plots.against_target(
        "rto", Line(at, [float(each["rto_seconds"]) for each in report.drills]),
        seconds_of(target) if target else None, span, (report.trend, report.at),
    )  # fmt: skip
    title = "Time to have it back" + (f"; dashed: the target, {target}" if target else "")
    note = (
        f"Each drill of {weeks}, and of each source the newest. Restored in: the real time to have it back (RTO). "
        "Would be lost: the age of the newest moment that could be had (RPO)."
    )
    return Section("drills", "Restore drills", note, shown, [Plot(title, svg)] if svg and len(at) > 1 else [])


def _sizes(report: Report, weeks: str) -> Section:
    trends = tables.trends(report)
    if not trends:
        return Section("sizes", "Sizes and times", "There is no backup yet.")
    legend = [Entry(f"var(--s{number})", each.name) for number, each in enumerate(trends[: plots.MOST], 1)]
    if len(trends) > plots.MOST:
        legend.append(Entry("var(--rest)", f"{len(trends) - plots.MOST} smaller ones"))
    note = (
        f"{upper(weeks)}, as far as backups of them are kept. Takes and rate: the middle values of the last "
        f"{plural((report.at - report.since).days, 'day')}."
    )
    return Section("sizes", "Sizes and times", note, [tables.sizes(report)], drawn(report), legend)


def _storage(report: Report) -> Section:
    note = "Everything of this site that listings show, backups with their manifests, marks and records."
    if report.config.report.prices:
        note += " Cost: storage alone, at the prices of the site file for a GB of 2^30 bytes; no requests, no traffic."
    else:
        note += " The site file names no prices, so nothing is said of cost."
    return Section("storage", "Storage", note, [tables.stored(report)])


def _foot(report: Report) -> list[str]:
    newest = max((each.last_good for each in report.coverage if each.last_good), default=None)
    lines = [
        "All times are UTC. Read from the vault and its copies alone; no database server and no scheduler was asked. "
        f"The newest good backup is from {ago(newest, report.at)}."
        if newest
        else "All times are UTC.",
        f"The same, now: backups report -f {report.site} --out report.html",
    ]
    if report.notes:
        more = f"; and {len(report.notes) - 5} more" if len(report.notes) > 5 else ""
        lines.append(f"Could not be read: {'; '.join(report.notes[:5])}{more}")
    return lines
