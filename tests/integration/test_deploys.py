"""Around a deployment, as a CI job goes about it: its script against a real Prefect server with a password.

Few flow runs on purpose: each costs as much as many other tests.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest

from deployments import site_file
from deployments.github.workflow import SCRIPT
from engine import names
from engine.backup import backup_one
from engine.periods import ended
from engine.site import Site as Opened
from engine.site import Target
from tests.integration.installation import Installation, Site, until
from tests.integration.test_crashes import _dump_that_waits, _dumping

COMMON = True
UNREACHABLE, REFUSED, FAILED, TIMED_OUT, USAGE = 5, 6, 3, 4, 2


@dataclass
class Told:
    """What a job's step came to."""

    code: int
    out: str
    summary: str
    outputs: dict[str, str] = field(default_factory=dict)
    points: set[str] = field(default_factory=set)
    """Recovery points that came of it."""

    @property
    def run_id(self) -> str:
        return self.outputs["run-url"].rsplit("/", 1)[-1]


@dataclass
class Job:
    """A job of a workflow run on a runner of its own: nothing in its environment but what GitHub and we put there."""

    prefect: Installation
    site: str
    folder: Path
    run_id: str = "4711"

    def environment(self, operation: str, **given: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PREFECT_API_URL": f"{self.prefect.server.url}/api",
            "PREFECT_API_AUTH_STRING": self.prefect.server.auth,
            "BACKUPS_SITE": self.site,
            "BACKUPS_OPERATION": operation,
            "BACKUPS_RELEASE": "v1.4.2",
            "BACKUPS_POLL": "0.5",
            "BACKUPS_TIMEOUT": "240",
            "GITHUB_ACTIONS": "true",
            "GITHUB_REPOSITORY": "shop/shop",
            "GITHUB_RUN_ID": self.run_id,
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_JOB": "deploy",
            "GITHUB_SHA": "3f9a1c2d",
            "GITHUB_ACTOR": "alice",
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
            "GITHUB_OUTPUT": str(self.folder / "output"),
            **given,
        }

    @contextmanager
    def begun(self, operation: str = "snapshot", **given: str) -> Iterator[subprocess.Popen[str]]:
        for name in ("summary.md", "output"):
            (self.folder / name).write_text("")
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT)], env=self.environment(operation, **given), cwd=self.folder,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def ended(self, process: subprocess.Popen[str]) -> Told:
        out = process.communicate(timeout=280)[0]
        password = self.prefect.server.auth.partition(":")[2]
        summary, outputs = (self.folder / "summary.md").read_text(), (self.folder / "output").read_text()
        assert password not in out + summary + outputs
        return Told(process.returncode, out, summary, dict(line.split("=", 1) for line in outputs.splitlines()))

    def step(self, operation: str = "snapshot", **given: str) -> Told:
        with self.begun(operation, **given) as process:
            return self.ended(process)


@pytest.fixture
def job(prefect: Installation, site: Site, tmp_path: Path) -> Job:
    return Job(prefect, site.name, tmp_path)


def _points(site: Site) -> set[str]:
    """Recovery points of the tier, from the manifests in the vault."""
    found = (re.search(r'"recovery_point": "([^"]+)"', each.read_text()) for each in site.files(".json"))
    return {each[1] for each in found if each}


@pytest.fixture(scope="module")
def first(prefect: Installation, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The first deployment's snapshot."""
    before = _points(site)
    told = Job(prefect, site.name, tmp_path_factory.mktemp("first")).step()
    return replace(told, points=_points(site) - before)


def test_a_job_takes_a_snapshot_shows_its_progress_and_leaves_a_summary(
    prefect: Installation, site: Site, first: Told, job: Job
) -> None:
    assert first.code == 0, first.out
    assert first.outputs["snapshot"] == "shop/shop/4711/deploy"
    assert first.outputs["run-url"].startswith(f"{prefect.server.url}/runs/flow-run/")
    assert "| state: Completed" in first.out and "2 databases backed up and verified" in first.out
    assert "stored at local" in first.out and first.outputs["run-url"] in first.summary
    (point,) = first.points
    assert f"Snapshot {point} (before v1.4.2 (3f9a1c2) by alice)" in first.out
    deployment = prefect.api.call("GET", f"/deployments/name/pre-deploy-snapshot/{site.name}")
    assert deployment["work_queue_name"] == "deploys" and deployment["global_concurrency_limit"] is None
    assert job.step().run_id == first.run_id, "asked twice in one attempt it is one run"


def test_run_again_the_job_has_the_same_snapshot_beside_another_deployment_that_has_its_own(
    site: Site, first: Told, job: Job, tmp_path: Path
) -> None:
    """Both with a key that is given: it is that of the job by default, and names one snapshot in each workflow run."""
    before = _points(site)
    (tmp_path / "other").mkdir()
    other = Job(job.prefect, site.name, tmp_path / "other", run_id="4716")
    with job.begun(GITHUB_RUN_ATTEMPT="2", BACKUPS_KEY="deploy") as one:
        told = other.step(GITHUB_RUN_ATTEMPT="2", BACKUPS_RELEASE="v1.4.3", BACKUPS_KEY="deploy")
        again = job.ended(one)
    assert told.code == again.code == 0 and again.run_id != first.run_id
    assert "stands already" in again.out and "stands already" not in told.out
    assert len(_points(site) - before) == 1


@pytest.mark.sampled
def test_released_and_failed_are_told_through_the_same_script(site: Site, first: Told, job: Job) -> None:
    """Failed first, with the command that goes back; then a release that names no snapshot."""
    failed = job.step("failed", BACKUPS_SNAPSHOT=first.outputs["snapshot"])
    assert failed.code == 0, failed.out
    assert "To go back to" in failed.summary and f"--confirm {site.shop}" in failed.summary
    refused = job.step("release", BACKUPS_SNAPSHOT="v9")
    assert refused.code == FAILED and "::error" in refused.out and "no snapshot 'v9'" in refused.out


@pytest.mark.sampled
def test_a_backup_that_fails_fails_the_job_with_its_reason_and_the_link(
    prefect: Installation, site: Site, job: Job
) -> None:
    job.run_id = "4712"
    before = _points(site)
    prefect.postgres.sql(f"ALTER DATABASE {site.platform} RENAME TO {site.platform}_away")
    try:
        told = job.step()
    finally:
        prefect.postgres.sql(f"ALTER DATABASE {site.platform}_away RENAME TO {site.platform}")
    assert told.code == FAILED
    (error,) = [line for line in told.out.splitlines() if line.startswith("::error")]
    assert site.platform in error and told.outputs["run-url"] in error and "snapshot" not in told.outputs
    assert "failed (3)" in told.summary and site.platform in told.summary
    assert _points(site) >= before


@pytest.mark.sampled
def test_a_cancelled_job_cancels_its_run(prefect: Installation, site: Site, job: Job) -> None:
    job.run_id = "4713"
    before = site.files(".json")
    with _dump_that_waits(prefect, site), job.begun() as process:
        until(lambda: _dumping(prefect, site), "a dump that waits")
        process.send_signal(signal.SIGINT)
        told = job.ended(process)
        assert told.code == 130 and "the run is being cancelled" in told.out
        assert prefect.api.wait(told.run_id).state == "CANCELLED"
        assert until(lambda: not _dumping(prefect, site), "the dump to end")
    assert [each for each in site.files(".json") if each not in before and site.platform in each.name] == []
    assert site.staged() == []


def test_a_run_that_takes_too_long_is_cancelled_and_so_is_one_that_never_began(prefect: Installation, job: Job) -> None:
    """With no worker that takes it, which costs no flow run."""
    queue = prefect.api.call("GET", "/work_pools/backups/queues/deploys")
    assert queue["priority"] == 1
    prefect.api.call("PATCH", "/work_pools/backups/queues/deploys", {"is_paused": True})
    try:
        job.run_id = "4714"
        told = job.step(BACKUPS_TIMEOUT="2")
        assert told.code == TIMED_OUT and "Is a worker running?" in told.out
        assert prefect.api.wait(told.run_id, timeout=60).state == "CANCELLED"
        job.run_id = "4715"
        with job.begun() as process:
            assert process.stdout is not None
            until(lambda: "state: " in process.stdout.readline(), "the run to be asked for")  # type: ignore[union-attr]
            process.send_signal(signal.SIGTERM)
            stopped = job.ended(process)
        assert stopped.code == 143
        assert prefect.api.wait(stopped.run_id, timeout=60).state == "CANCELLED"
    finally:
        prefect.api.call("PATCH", "/work_pools/backups/queues/deploys", {"is_paused": False})


def test_each_way_of_not_getting_there_has_a_code_and_a_reason_of_its_own(job: Job) -> None:
    away = job.step(PREFECT_API_URL="http://127.0.0.1:9/api", BACKUPS_PATIENCE="1")
    assert away.code == UNREACHABLE and "does not answer" in away.out
    assert job.step(PREFECT_API_AUTH_STRING="backups:FAKE-wrong").code == REFUSED
    unknown = job.step(BACKUPS_SITE="no-such-site")
    assert unknown.code == USAGE and "pre-deploy-snapshot/no-such-site" in unknown.out
    for name, value in (
        ("BACKUPS_SITE", "Not A Site"),
        ("BACKUPS_RELEASE", "v1\n::set-output name=a::b"),
        ("BACKUPS_OPERATION", "drop"),
        ("BACKUPS_TIMEOUT", "soon"),
        ("PREFECT_API_URL", "file:///etc/passwd"),
        ("PREFECT_API_URL", "http://user:FAKE-secret@host/api"),
    ):
        told = job.step(**{name: value})
        assert told.code == USAGE, (name, told.out)
        assert len(told.out.splitlines()) == 1 and "FAKE-secret" not in told.out


@pytest.mark.sampled
def test_the_week_that_is_over_is_archived_by_its_deployment_and_copied(prefect: Installation, site: Site) -> None:
    last_week = ended("weekly", names.now())[0].end - timedelta(hours=3)
    with Opened(site_file.load(site.file, {**site.env})) as opened, mock.patch.object(names, "now", lambda: last_week):
        point = names.recovery_point()
        for target in (Target("mysql", site.shop), Target("postgres", site.platform)):
            backup_one(opened, target, tier="daily", recovery_point=point)
    run = prefect.run(f"weekly-archive/{site.name}")
    assert run.state == "COMPLETED", run.message
    assert "2 promoted" in run.first_line and point in run.first_line
    rows = prefect.table(run, f"{site.name}-weekly-archive")
    assert {row["what"] for row in rows} == {f"mysql/{site.shop}", f"postgres/{site.platform}"}
    assert all(row["now"] == "promoted" for row in rows)
    copies = [each["Key"] for each in prefect.s3.client().list_objects_v2(Bucket=site.bucket)["Contents"]]
    assert len([key for key in copies if "/weekly/" in key and key.endswith(".json") and "marks/" not in key]) == 2
