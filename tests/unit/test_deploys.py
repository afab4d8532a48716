"""What stands in the workflow files, weeks and months that are over, and storage classes that are refused."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deployments.github.deploy_snapshot import cell, key_of, plain
from deployments.github.workflow import SCRIPT, WORKFLOW, text
from engine.config import ObjectStoreConfig
from engine.names import ARCHIVES
from engine.periods import ended
from engine.stores.multipart import MOST_PARTS
from engine.stores.s3_copy import CopySizes

ACTION = SCRIPT.parent / "action.yml"
EXPRESSION = re.compile(r"\$\{\{.*?\}\}")


def _steps() -> list[tuple[Path, dict[str, Any]]]:
    workflow, action = yaml.safe_load(WORKFLOW.read_text()), yaml.safe_load(ACTION.read_text())
    return [(WORKFLOW, workflow["jobs"]["pre-deploy"]["steps"][0]), (ACTION, action["runs"]["steps"][0])]


def test_the_reusable_workflow_holds_the_very_script_and_is_what_its_maker_writes() -> None:
    assert WORKFLOW.read_text() == text(), "run: python -m deployments.github.workflow"
    (_, step), _ = _steps()
    assert step["run"] == SCRIPT.read_text()


def test_inputs_reach_the_script_by_its_environment_alone_and_no_permission_is_asked_for() -> None:
    for path, step in _steps():
        assert not EXPRESSION.search(step["run"]), path
        assert "uses" not in step
        given = {name for name in step["env"] if name.startswith(("PREFECT_", "BACKUPS_"))}
        assert given == set(step["env"]) and all(name in SCRIPT.read_text() for name in given)
    workflow = yaml.safe_load(WORKFLOW.read_text())
    assert workflow["permissions"] == workflow["jobs"]["pre-deploy"]["permissions"] == {}


def test_the_script_needs_nothing_but_the_standard_library() -> None:
    code = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import deploy_snapshot"
    done = subprocess.run([sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@given(st.text())
def test_what_a_run_says_can_neither_command_the_runner_nor_draw_in_the_summary(said: str) -> None:
    assert "##[" not in plain(said) and "\r" not in plain(said) and "\x1b" not in plain(said)
    shown = cell(said)
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)[|<\[`]", re.sub(r"\\\\", "", shown))


def test_the_key_of_a_job_is_the_same_when_it_is_run_again_and_of_another_run_another() -> None:
    job = {"GITHUB_REPOSITORY": "shop/shop", "GITHUB_RUN_ID": "4711", "GITHUB_JOB": "deploy"}
    assert key_of({**job, "GITHUB_RUN_ATTEMPT": "1"}, "") == key_of({**job, "GITHUB_RUN_ATTEMPT": "2"}, "")
    next_run = {**job, "GITHUB_RUN_ID": "4712"}
    assert key_of(job, "") != key_of(next_run, "") and key_of({}, "") == ""
    assert key_of(job, "api") != key_of(next_run, "api"), "a key that is given names one snapshot in each run"
    assert key_of(job, "api") not in (key_of(job, ""), key_of(job, "web")) and key_of({}, "mine") == "mine"
    assert len(key_of({**job, "GITHUB_JOB": "x" * 500}, "")) <= 200


@pytest.mark.parametrize(
    ("tier", "now", "told"),
    [
        ("weekly", "2026-01-05T03:00", ["week 2026-W01", "week 2025-W52"]),
        ("weekly", "2026-01-11T23:59", ["week 2026-W01", "week 2025-W52"]),
        ("weekly", "2021-01-04T00:00", ["week 2020-W53", "week 2020-W52"]),
        ("monthly", "2026-01-01T00:00", ["month 2025-12", "month 2025-11"]),
        ("monthly", "2024-03-31T12:00", ["month 2024-02", "month 2024-01"]),
    ],
)
def test_weeks_and_months_that_are_over_are_named_as_people_do(tier: str, now: str, told: list[str]) -> None:
    assert [str(each) for each in ended(tier, datetime.fromisoformat(now).replace(tzinfo=UTC))][:2] == told


@given(st.sampled_from(ARCHIVES), st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.integers(-14, 14))
def test_periods_join_without_gap_are_over_and_do_not_depend_on_a_zone(tier: str, now: datetime, zone: int) -> None:
    moment = now.replace(tzinfo=UTC)
    found = ended(tier, moment)
    assert found == ended(tier, moment.astimezone(timezone(timedelta(hours=zone))))
    assert found[0].end <= moment < found[0].end + timedelta(days=31)
    assert all(later.start == earlier.end for later, earlier in pairwise(found))
    for period in found:
        assert period.start in period and period.end not in period
        assert (period.start.weekday() == 0) if tier == "weekly" else (period.start.day == 1)


@given(st.integers(1, 6 * 10**12))
def test_parts_of_a_copy_cover_it_without_gap_and_are_not_too_many(size: int) -> None:
    at = count = 0
    for count, (number, start, length) in enumerate(CopySizes().ranges(size), 1):
        assert (number, start) == (count, at) and length > 0
        at += length
    assert at == size and count <= MOST_PARTS


@pytest.mark.parametrize(
    ("archive_class", "endpoint", "told"),
    [
        ("GLACIER", None, "thawed"),
        ("DEEP_ARCHIVE", "http://127.0.0.1:9", "thawed"),
        ("GLACIER_IT", None, "none of AWS"),
        ("cheap one", "http://127.0.0.1:9", "no storage class"),
    ],
)
def test_an_archive_class_that_is_none_or_cannot_be_read_at_once_is_refused(
    archive_class: str, endpoint: str | None, told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        ObjectStoreConfig(name="a", bucket="b", endpoint_url=endpoint, archive_class=archive_class)
    assert ObjectStoreConfig(name="a", bucket="b", archive_class="GLACIER_IR").archive_class == "GLACIER_IR"
