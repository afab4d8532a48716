"""Long trials: a seeded sample in ``make test``, all of them in ``make soak``, which writes ``docs/soak.md``."""

from __future__ import annotations

import math
import os
import platform
import random
import statistics
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

SOAK = os.environ.get("BACKUP_FLOWS_SOAK") == "1"
SAMPLED = os.environ.get("BACKUP_FLOWS_SAMPLE") == "1"
SHARE = 8
"""``make test`` takes one in so many of the trials marked ``sampled``, by the seed; ``make soak`` takes all. Of a test
marked ``one_server`` it takes one of the servers, where that stands for all."""
SEED = int(os.environ.get("BACKUP_FLOWS_SEED", "20261123"))
REPORT = Path(__file__).parents[1] / "docs" / "soak.md"
_WHERE = f"{datetime.now(UTC):%Y-%m-%d %H:%M}, {os.cpu_count()} cores, Python {platform.python_version()}"
_reports: list[pytest.TestReport] = []


def trials(sample: int, full: int) -> int:
    """How many trials."""
    return full if SOAK else sample


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out all but a seeded share of each file's ``sampled`` trials, where a sample is asked for; and what is too
    long for even one trial outside of a soak, ``soak(sample=False)``."""
    out = [] if SOAK else [item for item in items if _only_in_soak(item)]
    files: dict[Path, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if SAMPLED and "sampled" in item.keywords and not _only_in_soak(item):
            files[item.path].append(item)
    out += _on_other_servers(items) if SAMPLED else []
    for path, trials_of in files.items():
        kept = random.Random(f"{SEED}/{path.name}").sample(trials_of, math.ceil(len(trials_of) / SHARE))
        out += [item for item in trials_of if item not in kept]
    if out:
        config.hook.pytest_deselected(items=out)
        left = set(map(id, out))
        items[:] = [item for item in items if id(item) not in left]


def _on_other_servers(items: list[pytest.Item]) -> list[pytest.Item]:
    """Of each ``one_server`` test that is asked for on several servers, all but the one that the seed chooses."""
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        call = getattr(item, "callspec", None)
        if "one_server" in item.keywords and call is not None and "server" in call.params:
            case = item.name.replace(str(call.params["server"]), "", 1)  # the same in every process, as values are not
            cases[f"{item.path.name}::{case}"].append(item)
    kept = [random.Random(f"{SEED}/{which}").choice(each) for which, each in cases.items()]
    return [item for each in cases.values() for item in each if item not in kept]


def _only_in_soak(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("soak")
    return mark is not None and not mark.kwargs.get("sample", True)


@pytest.fixture
def counted_trials(record_property: Callable[[str, object], None]) -> Callable[[int], None]:
    """Tells the report how many trials one test made, where it made more than one."""
    return lambda count: record_property("trials", count)


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str, float, str], None]:
    """Tells the report one measured number of a trial: what it is, how much, in which unit."""
    return lambda what, value, unit: record_property("figure", [what, value, unit])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what the trials came to."""
    if SOAK and {"soak", "sampled", "one_server"} & set(report.keywords) and (report.when == "call" or report.failed):
        _reports.append(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report of a soak."""
    if SOAK and _reports:
        REPORT.write_text(_text())


def _text() -> str:
    """What this soak came to, and what the report has of trials that it did not make."""
    trials, figures = _rows_of(REPORT, 6), _rows_of(REPORT, 7)
    trials.update(_trials())
    figures.update(_figures())
    lines = [
        "# Soak",
        "",
        "The trials that `make test` takes a sample of, at full count. Written by `make soak`; "
        "`make soak ARGS=tests/faults/test_lost_host.py` makes some of them, and brings their rows up to date.",
        "",
        *_head("trial", "made", "failed", "minutes", "seed", "when (UTC), on"),
        *trials.values(),
    ]
    if figures:
        lines += [
            "",
            "| measured | unit | median | worst | trials | seed | when (UTC), on |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += figures.values()
    return "\n".join(lines) + "\n"


def _rows_of(report: Path, columns: int) -> dict[str, str]:
    """The lines of the report's table of so many columns, by what they are about, in order."""
    lines = report.read_text().splitlines() if report.exists() else []
    rows = [line for line in lines if line.startswith("| ") and line.count(" | ") == columns - 1]
    return {row.split(" | ")[0]: row for row in rows[1:]}


def _trials() -> dict[str, str]:
    found: dict[str, list[pytest.TestReport]] = defaultdict(list)
    for report in _reports:
        found[_sentence(report.nodeid)].append(report)
    rows = {}
    for sentence, reports in sorted(found.items()):
        made = sum(int(dict(each.user_properties).get("trials", 1)) for each in reports)
        failed = sum(each.failed for each in reports)
        minutes = sum(each.duration for each in reports) / 60
        rows[f"| {sentence}"] = f"| {sentence} | {made} | {failed} | {minutes:.1f} | {SEED} | {_WHERE} |"
    return rows


def _figures() -> dict[str, str]:
    """What the trials measured, over all of them."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for report in _reports:
        for name, value in report.user_properties:
            if name == "figure":
                what, number, unit = value  # type: ignore[misc]
                found[str(what), str(unit)].append(float(number))
    rows = {}
    for (what, unit), numbers in sorted(found.items()):
        median, worst = statistics.median(numbers), max(numbers)
        rows[f"| {what}"] = f"| {what} | {unit} | {median:.1f} | {worst:.1f} | {len(numbers)} | {SEED} | {_WHERE} |"
    return rows


def _head(*titles: str) -> list[str]:
    return [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]


def _sentence(nodeid: str) -> str:
    """``a backup that dies anywhere is no backup (mysql)``: the test's title and its case, without the trial."""
    name, _, case = nodeid.rsplit("::", 1)[-1].partition("[")
    case = "-".join(part for part in case.rstrip("]").split("-") if not part.isdigit())
    return name.removeprefix("test_").replace("_", " ") + (f" ({case})" if case else "")
