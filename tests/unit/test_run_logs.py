"""The log of a run tells its story: no line for each task that completed, no traceback of a failure that was told."""

from __future__ import annotations

import logging
import sys

import pytest
from prefect.exceptions import FailedRun

import flows.outcome  # noqa: F401
import tasks.base  # noqa: F401


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


def lines_of(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[logging.Logger, list[str]]:
    """A logger of runs, and what gets past it."""
    log, kept = logging.getLogger(name), Kept()
    monkeypatch.setattr(log, "handlers", [kept])
    monkeypatch.setattr(log, "propagate", False)
    return log, kept.lines


@pytest.mark.parametrize(
    ("level", "shown"), [(logging.INFO, []), (logging.DEBUG, ["DEBUG Finished in state Completed()"])]
)
def test_that_a_task_completed_is_a_detail_and_that_it_failed_is_not(
    level: int, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, lines = lines_of("prefect.task_runs", monkeypatch)
    before = log.level
    log.setLevel(level)
    try:
        log.info("Finished in state Completed()")
        log.info("mysql/app: dumped")
        log.error("Finished in state Failed('Task run encountered an exception')")
    finally:
        log.setLevel(before)
    assert [line for line in lines if "Completed" in line] == shown
    assert len(lines) == len(shown) + 2


@pytest.mark.parametrize(
    ("failure", "count"), [(FailedRun("no such database"), 0), (ValueError("nobody foresaw it"), 1)]
)
def test_the_traceback_of_a_failure_that_was_told_is_left_out_and_any_other_is_not(
    failure: Exception, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, lines = lines_of("prefect.flow_runs", monkeypatch)
    try:
        raise failure
    except Exception:
        log.error("Engine execution exited with unexpected exception", exc_info=sys.exc_info())
    assert len(lines) == count
