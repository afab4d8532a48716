"""Plots as SVG that stands in a page by itself: no addresses, no script, its colours those of the page.

Drawn by matplotlib, which is imported when the first plot is drawn. Only figures and dates are handed to it, never a
name: names stand beside the plot, in the page. Colours are drawn as stand-ins and become the page's own variables, so
that one picture serves light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engine.report.words import span

MOST = 6
"""So many lines have a colour of their own; the others are thin and grey."""
_WIDE = 40.0
"""Where the largest is so many times the smallest, the scale is logarithmic."""
_INK, _GRID, _REST = "#0a0b0c", "#0d0e0f", "#0a0e0c"
_LINES = tuple(f"#0102{number:02x}" for number in range(1, MOST + 1))
_VARIABLES = {
    _INK: "var(--ink-2)", _GRID: "var(--line)", _REST: "var(--rest)",
    **{colour: f"var(--s{number})" for number, colour in enumerate(_LINES, 1)},
}  # fmt: skip
FIXED = {
    "var(--ink-2)": "#7a8088", "var(--line)": "#b9bec5", "var(--rest)": "#a3a9b1", "var(--s1)": "#2f7ed8",
    "var(--s2)": "#d97706", "var(--s3)": "#12956b", "var(--s4)": "#c2416e", "var(--s5)": "#7c5cd6",
    "var(--s6)": "#8a7a1f",
}  # fmt: skip
"""For where a page's variables do not reach: tones that can be read on light and on dark."""
COLOURS = ("blue", "orange", "green", "red", "violet", "olive")
"""What people call the tones of ``FIXED``, in the order of the lines."""
Words = Callable[[float], str]
Axes = Any
"""matplotlib's: its types know of no dates."""
_FAR = (0.1, 1, 10, 60, 600, 3600, 36_000, 360_000)
_STEPS = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 4 * 3600, 6 * 3600, 43_200, 86_400,
)  # fmt: skip
"""Where a scale of seconds is marked, so that it reads in minutes and hours: a logarithmic one, the steps of others."""


@dataclass(frozen=True)
class Line:
    """Moments (UTC) and figures; drawn in the colour of that number, 0 for grey."""

    at: Sequence[datetime]
    values: Sequence[float]
    colour: int = 0


def over_time(name: str, lines: Sequence[Line], said: Words, within: tuple[datetime, datetime]) -> str:
    """Lines over the time from one moment to the other, as an ``<svg>``; empty where there is nothing to draw.

    Args:
        name: Of the plot; its ids begin so.
        said: How a figure is written on the scale.
    """
    drawn = [line for line in lines if any(value > 0 for value in line.values)]
    if not drawn:
        return ""

    def draw(axes: Axes) -> None:
        for line in sorted(drawn, key=lambda each: each.colour > 0):
            colour = _LINES[line.colour - 1] if line.colour else _REST
            width = 1.6 if line.colour else 0.7
            axes.plot(list(line.at), list(line.values), color=colour, linewidth=width, solid_capstyle="round")
            axes.plot([line.at[-1]], [line.values[-1]], "o", color=colour, markersize=2 * width)
        axes.set_xlim(*within)
        _scale(axes, [value for line in drawn for value in line.values], said)
        _dates(axes)

    return _svg(name, draw)


def against_target(name: str, line: Line, target: float | None, said: Words, within: tuple[datetime, datetime]) -> str:
    """Single measurements and the line that they should stay below; empty where there is nothing to draw."""
    if not line.values:
        return ""

    def draw(axes: Axes) -> None:
        axes.vlines(list(line.at), 0, list(line.values), color=_LINES[0], linewidth=2)
        axes.plot(list(line.at), list(line.values), "o", color=_LINES[0], markersize=4)
        if target is not None:
            axes.axhline(target, color=_LINES[1], linewidth=1.4, linestyle=(0, (4, 3)))
        axes.set_xlim(*within)
        _scale(axes, [*line.values, *([target] if target is not None else [])], said, always_linear=True)
        _dates(axes)

    return _svg(name, draw)


def fixed(svg: str) -> str:
    """The same plot in colours of its own, to stand alone."""
    for variable, colour in FIXED.items():
        svg = svg.replace(variable, colour)
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" width="560" height="299" ', 1)


def _scale(axes: Axes, values: Sequence[float], said: Words, *, always_linear: bool = False) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    positive = [value for value in values if value > 0]
    least, most = min(positive), max(positive)
    if most / least > _WIDE and not always_linear:
        axes.set_yscale("log")
        axes.set_ylim(least / 1.6, most * 1.8)
        far = [each for each in _FAR if least / 1.6 < each < most * 1.8]
        axes.yaxis.set_major_locator(FixedLocator(far) if said is span else LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, most * 1.15)
        near = next((each for each in _STEPS if most / each < 5), _STEPS[-1])
        steps = [near * number for number in range(int(most / near) + 2)]
        axes.yaxis.set_major_locator(
            FixedLocator(steps) if said is span else MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10])
        )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: said(value).replace(".0 ", " ") if value else "0"))


def _dates(axes: Axes) -> None:
    import matplotlib.dates

    dates: Any = matplotlib.dates
    locator = dates.AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, show_offset=False))


def _svg(name: str, draw: Callable[[Axes], None]) -> str:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9.5, "text.color": _INK, "text.parse_math": False,
        "axes.edgecolor": _GRID, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "axes.grid": True,
        "axes.grid.axis": "y", "grid.color": _GRID, "grid.linewidth": 0.6, "xtick.major.size": 3,
        "ytick.major.size": 0, "timezone": "UTC",
    }  # fmt: skip
    with rc_context(settings):
        figure = Figure(figsize=(4.4, 2.35), layout="tight")
        figure.patch.set_visible(False)
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        draw(axes)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _bare(out.getvalue(), name)


def _bare(document: str, name: str) -> str:
    """The drawing alone, with ids of its own and the page's colours."""
    svg = document[document.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(?:width|height|xmlns(?::\w+)?|version)="[^"]*"', "", head)
    svg = f"{head}>{rest}".replace("xlink:href", "href")
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(r"font: [^;\"]*?px[^;\"]*", lambda found: _font(found[0]), svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return re.sub(r"\n\s*", "\n", svg)


def _font(given: str) -> str:
    """Only the size: which font it is, the page says."""
    found = re.search(r"[\d.]+px", given)
    return f"font-size: {found[0] if found else '8.5px'}"
