"""The report in short, as Markdown: for an artifact, a terminal, a message."""

from __future__ import annotations

import base64
import re

from engine.report import page, plots, tables
from engine.report.gather import Report
from engine.report.tables import Table
from engine.report.words import day, moment

_ROWS = 40
CHAPTERS = (
    ("What is protected", tables.covered),
    ("Not as it should be now", tables.findings),
    ("Incidents", tables.happened),
    ("Any second", tables.windows),
    ("Restore drills", tables.last_drills),
    ("Sizes and times", tables.sizes),
    ("Storage", tables.stored),
)
"""Titles, and the tables below them; one without rows is left out."""


def text(report: Report) -> str:
    """The verdict, and the tables that matter."""
    period = f"{day(report.since)} to {day(report.at)}"
    lines = [f"# {_plain(report.verdict.said)}.", ""]
    lines += [f"Backups of {report.site}, {period}; read from the vault on {moment(report.at)} UTC.", ""]
    lines += [f"**{_plain(place)} could not be asked:** {_plain(why)}\n" for place, why in report.unseen.items()]
    for title, make in CHAPTERS:
        table = make(report)
        if table.rows:
            lines += [f"## {title}", "", *_table(table), ""]
    return "\n".join(lines).rstrip() + "\n"


def pictures(report: Report) -> str:
    """The plots as Markdown: images that stand in the text itself, for whatever shows those."""
    drawn = page.drawn(report)
    if not drawn:
        return ""
    trends = tables.trends(report)
    legend = [f"{colour}: {_plain(each.name)}" for colour, each in zip(plots.COLOURS, trends, strict=False)]
    legend += ["grey: the smaller ones"] * (len(trends) > len(plots.COLOURS))
    lines = ["## In pictures", "", f"{'; '.join(legend)}.", ""]
    for each in drawn:
        svg = base64.b64encode(plots.fixed(each.svg).encode()).decode()
        lines += [f"{each.title}:", "", f"![{each.title}](data:image/svg+xml;base64,{svg})", ""]
    return "\n".join(lines)


def _table(table: Table) -> list[str]:
    columns, rows, right = tables.plain(table)
    marks = ["---:" if number in right else "---" for number in range(len(columns))]
    lines = [_line(columns), f"| {' | '.join(marks)} |", *map(_line, rows[:_ROWS])]
    if len(rows) > _ROWS:
        lines.append(_line([f"and {len(rows) - _ROWS} more", *([""] * (len(columns) - 1))]))
    return lines


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(value: str) -> str:
    """What Markdown and HTML would take for their own, as it is written."""
    value = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    value = re.sub(r"([\\`*\[\]|~#])", r"\\\1", value)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", value)  # within a word it is only a letter
