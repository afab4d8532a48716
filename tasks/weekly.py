"""Tasks of the weekly report: read the facts, write the page, leave the short text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from engine.errors import BackupError
from engine.report.gather import Report, gather
from engine.report.keep import keep
from engine.report.page import page
from engine.report.text import pictures, text
from engine.report.words import moment
from tasks.base import SiteHandle, step


@dataclass(frozen=True)
class Made:
    """A report, and where its page is, or why there is none."""

    report: Report
    page: Path | BackupError


@step(name="report", run_name="report on {site.name}")
def make(site: SiteHandle, days: int, weeks: int) -> Made:
    """Read the vault and its copies, and write the page. That it cannot be written is in the result."""
    log = get_run_logger()
    with site.open() as opened:
        report = gather(opened, days=days, weeks=weeks)
        try:
            path: Path | BackupError = keep(opened, page(report), report.at)
        except BackupError as error:
            path = error
    for place, why in report.unseen.items():
        log.warning("%s could not be asked: %s", place, why)
    for note in report.notes:
        log.warning("could not be read: %s", note)
    if isinstance(path, BackupError):
        log.error("%s", path)
    log.info("%s", report.verdict.said)
    return Made(report, path)


def publish(made: Made) -> None:
    """Leave the short text under a key that stays the same, so that the UI shows its history."""
    report = made.report
    create_markdown_artifact(
        key=f"{report.site}-report",
        markdown=f"{text(report)}\n{pictures(report)}\n{_whole(made)}\n",
        description=f"The report on {report.site} of {moment(report.at)} UTC: {report.verdict.said}",
    )


def _whole(made: Made) -> str:
    if isinstance(made.page, BackupError):
        return f"There is no whole page: {made.page.message}"
    return f"The whole page: `{made.page}`"
