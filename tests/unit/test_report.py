"""The report's words: verdicts, figures, tables, plots; as far as they go without a vault."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.drill.record import Proof
from engine.report import plots, words
from engine.report.coverage import Covered, Standing, verdict
from engine.report.plots import Line

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def covered(source: str, standing: Standing = "good", database: str = "", said: str = "") -> Covered:
    proof = Proof(NOW - DAY, "file", "drill")
    return Covered(source, database or source, "", standing, said, proven=proof)


@pytest.mark.parametrize(
    ("rows", "critical", "unseen", "level", "said"),
    [
        ([covered("n8n")], [], [], "ok", "The only source is protected and proven"),
        ([covered("n8n"), covered("config")], [], [], "ok", "All 2 sources are protected and proven"),
        (
            [covered(name) for name in "abcdefghi"]
            + [covered("n8n", "unproven", said="n8n has not been proven for 41 days")],
            [],
            [],
            "warning",
            "9 of 10 sources are protected and proven; n8n has not been proven for 41 days",
        ),
        (
            [covered("a", "unproven", said="a x"), covered("b", "none", said="b y"), covered("c", "late", said="c z")],
            [],
            [],
            "critical",
            "None of 3 sources is protected and proven; b y; c z; a x",
        ),
        (
            [covered("mysql", database=name) for name in "ab"]
            + [covered("mysql", "late", "c", "mysql/c is late"), covered("n8n")],
            [],
            [],
            "critical",
            "1 of 2 sources is protected and proven; mysql/c is late",
        ),
        (
            [covered("a"), covered("b")],
            ["the vault's disk is 97% full"],
            ["spaces"],
            "critical",
            "All 2 sources are protected and proven; spaces could not be asked; the vault's disk is 97% full",
        ),
        ([covered("a", "unknown", said="nobody knows")], [], ["local"], "critical", "The only source is not protected"),
        ([], [], [], "critical", "This site names no source: nothing is backed up"),
    ],
)
def test_the_first_line_counts_sources_and_names_the_worst_first(
    rows: list[Covered], critical: list[str], unseen: list[str], level: str, said: str
) -> None:
    found = verdict(rows, critical, unseen)
    assert (found.level, found.said[: len(said)]) == (level, said)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (words.size(999), "999 B"),
        (words.size(999_960), "1.0 MB"),
        (words.size(1.4e9), "1.4 GB"),
        (words.plural(2, "day") + words.plural(3, "copy"), "2 days3 copies"),
        (words.span(0.42), "0.4 s"),
        (words.span(119), "2 min"),
        (words.span(47 * 3600), "47 h"),
        (words.span(41 * 86_400), "41 days"),
        (words.ago(NOW - DAY, NOW), "24 h ago"),
        (words.ago(NOW + DAY, NOW), "dated 24 h ahead"),
        (words.ago(None, NOW), "never"),
        (words.money(0.0031, "USD"), "below 0.01 USD"),
        (words.money(1234.5, "EUR"), "1,234.50 EUR"),
        (words.named(["a", "b", "c", "d", "e"]), "a; b; c; and 2 more"),
    ],
)
def test_figures_are_said_as_people_say_them(made: str, said: str) -> None:
    assert made == said


def lines(count: int, factor: float = 2.0) -> list[Line]:
    at = [NOW - age * DAY for age in range(90, 0, -1)]
    return [Line(at, [1e6 * factor**number + day for day in range(90)], number + 1) for number in range(count)]


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_a_plot_brings_its_own_ids_and_the_pages_colours_and_no_address() -> None:
    svg = plots.over_time("size", lines(3), words.size, (NOW - 91 * DAY, NOW))
    assert svg.startswith("<svg ") and svg.rstrip().endswith("</svg>") and "://" not in svg
    assert {each.split("-")[0] for each in re.findall(r'id="([^"]+)"', svg)} == {"size"}
    assert set(re.findall(r'(?:href="|url\()#([a-z]+)', svg)) <= {"size"}
    assert {f"var(--s{number})" for number in (1, 2, 3)} | {"var(--ink-2)"} <= set(re.findall(r"var\([^)]+\)", svg))
    assert not re.search(r"#0[0-9a-f]{5}\b", svg), "a stand-in is left"
    assert "font-family" not in svg and any("MB" in each for each in texts(svg))
    assert any(each in {"Sep", "Oct", "Nov"} for each in texts(svg)), texts(svg)


def test_figures_far_apart_are_drawn_on_a_logarithmic_scale_and_near_ones_from_nought() -> None:
    far = texts(plots.over_time("far", lines(2, 1000.0), words.size, (NOW - 91 * DAY, NOW)))
    near = texts(plots.over_time("near", lines(2), words.size, (NOW - 91 * DAY, NOW)))
    assert "0" not in far and {"1 MB", "1 GB"} <= set(far) and near.count("0") == 1


def test_a_scale_of_time_is_marked_in_minutes_and_hours() -> None:
    at = [NOW - 60 * DAY, NOW - 30 * DAY]
    svg = plots.against_target("rto", Line(at, [2300.0, 2800.0]), 3600.0, words.span, (NOW - 91 * DAY, NOW))
    assert {"0", "15 min", "30 min", "45 min", "60 min"} <= set(texts(svg))


def test_where_there_is_nothing_to_draw_there_is_no_plot() -> None:
    within = (NOW - DAY, NOW)
    assert plots.over_time("none", [Line([], [])], words.size, within) == ""
    assert plots.over_time("none", [Line([NOW], [0.0])], words.size, within) == ""
    assert plots.against_target("none", Line([], []), 60.0, words.span, within) == ""


def test_a_plot_that_stands_alone_has_colours_of_its_own() -> None:
    svg = plots.fixed(plots.over_time("size", lines(6), words.size, (NOW - 91 * DAY, NOW)))
    assert "var(" not in svg and 'xmlns="http://www.w3.org/2000/svg"' in svg


def test_every_colour_that_page_and_plots_use_is_there_in_light_and_in_dark() -> None:
    style = (ROOT / "engine/report/page.html").read_text()
    light, dark = style.split("@media (prefers-color-scheme: dark)")[:2]
    used = set(re.findall(r"var\((--[\w-]+)\)", style + "".join(plots.FIXED)))
    assert used <= set(re.findall(r"(--[\w-]+):", light)) and used <= set(re.findall(r"(--[\w-]+):", dark))


def test_nothing_but_a_report_pays_for_the_library_that_draws() -> None:
    modules = "deployments.cli.main, engine.report.page, engine.report.text"
    program = f"import sys, {modules}; print([each for each in ('matplotlib', 'numpy') if each in sys.modules])"
    done: Any = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
