"""Processes that are killed: the run shows as Crashed, nothing half-made counts, the next run succeeds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import psutil
import pytest

from tests.integration.installation import Installation, Site, until

COMMON = True


@contextlib.contextmanager
def _dump_that_waits(prefect: Installation, site: Site) -> Iterator[None]:
    """A lock that pg_dump has to wait for, so that it can be killed at leisure."""
    connection = prefect.postgres.connect(site.platform)
    connection.autocommit = False
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE silver.daily IN ACCESS EXCLUSIVE MODE")
        try:
            yield
        finally:
            connection.rollback()
            connection.close()


def _dumping(prefect: Installation, site: Site) -> bool:
    """Whether pg_dump itself waits: what measures the tables beforehand may wait for a moment as well."""
    found = prefect.postgres.sql(
        f"SELECT pid FROM pg_stat_activity WHERE datname = '{site.platform}' AND wait_event_type = 'Lock'"
        " AND query LIKE 'LOCK TABLE %'"
    )
    return bool(found)


def _power_cut(prefect: Installation) -> None:
    """The worker and all that runs under it, at once, so that nobody is left to report."""
    pid = prefect.server.worker.pid()
    assert pid is not None
    worker = psutil.Process(pid)
    for process in [worker, *worker.children(recursive=True)]:
        process.kill()


def _others(prefect: Installation, site: Site) -> list[tuple[str | None, ...]]:
    return prefect.postgres.sql(
        f"SELECT pid, application_name, state FROM pg_stat_activity WHERE datname = '{site.platform}'"
    )


@pytest.mark.sampled
def test_a_killed_flow_is_crashed_and_the_next_run_leaves_nothing_behind(prefect: Installation, site: Site) -> None:
    before = site.files(".json")
    with _dump_that_waits(prefect, site):
        run_id = prefect.api.start(f"manual-backup/{site.name}", source="postgres")
        until(lambda: _dumping(prefect, site), "a dump that waits")
        prefect.flow_process(run_id).kill()
        run = prefect.api.wait(run_id)
        assert run.state == "CRASHED"
        assert "-9" in run.first_line
        assert site.files(".json") == before
    run = prefect.run(f"manual-backup/{site.name}", source="postgres")
    assert run.state == "COMPLETED", run.message
    assert len(site.files(".json")) == len(before) + 1 and site.staged() == []
    assert until(lambda: _others(prefect, site) == [], "the killed dump's session to end")


@pytest.mark.sampled
def test_a_cancelled_flow_stops_its_tools_and_leaves_nothing(prefect: Installation, site: Site) -> None:
    before = site.files(".json")
    with _dump_that_waits(prefect, site):
        run_id = prefect.api.start(f"manual-backup/{site.name}", source="postgres")
        until(lambda: _dumping(prefect, site), "a dump that waits")
        prefect.api.call("POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})
        run = prefect.api.wait(run_id)
        assert run.state == "CANCELLED"
        assert until(lambda: not _dumping(prefect, site), "the dump to end")
    assert site.files(".json") == before and site.staged() == []


@pytest.mark.sampled
@pytest.mark.slow
def test_a_run_whose_machine_died_is_marked_crashed_and_a_new_worker_goes_on(prefect: Installation, site: Site) -> None:
    before = len(site.files(".json"))
    with _dump_that_waits(prefect, site):
        run_id = prefect.api.start(f"manual-backup/{site.name}", source="postgres")
        until(lambda: _dumping(prefect, site), "a dump that waits")
        _power_cut(prefect)
        run = prefect.api.wait(run_id, timeout=240)
        assert run.state == "CRASHED"
        assert run.first_line.startswith("No sign of life for 95 seconds")
    prefect.server.start_worker()
    run = prefect.run(f"manual-backup/{site.name}", source="postgres")
    assert run.state == "COMPLETED", run.message
    assert len(site.files(".json")) == before + 1 and site.staged() == []


@pytest.mark.soak(sample=False)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_run_that_nothing_is_heard_of_is_crashed_by_itself_within_two_minutes(
    prefect: Installation, site: Site, figure: Callable[[str, float, str], None], how: str
) -> None:
    """``kill -9`` of the worker and all below it; or they stand still, as on a machine that hangs or has no network."""
    with _dump_that_waits(prefect, site):
        run_id = prefect.api.start(f"manual-backup/{site.name}", source="postgres")
        until(lambda: _dumping(prefect, site), "a dump that waits")
        pid = prefect.server.worker.pid()
        assert pid is not None
        worker = psutil.Process(pid)
        processes = [worker, *worker.children(recursive=True)]
        at = datetime.now(UTC)
        try:
            for each in processes:
                each.kill() if how == "killed" else each.suspend()
            run = prefect.api.wait(run_id, timeout=400)
            ended = prefect.api.call("GET", f"/flow_runs/{run_id}")["state"]["timestamp"]
        finally:
            for each in processes if how == "stopped" else ():
                each.kill()
    assert run.state == "CRASHED" and run.first_line.startswith("No sign of life for 95 seconds")
    seconds = (datetime.fromisoformat(ended) - at).total_seconds()
    figure(f"from a worker and its run that are {how} to the run's Crashed", seconds, "s")
    assert seconds < 120, "the promise"
    until(lambda: prefect.server.worker.pid() is None, "the worker to be gone")
    prefect.server.start_worker()
    run = prefect.run(f"manual-backup/{site.name}", source="postgres")
    assert run.state == "COMPLETED", run.message
    assert site.staged() == []


@pytest.mark.soak(sample=False)
def test_a_killed_worker_costs_no_later_backup(prefect: Installation, site: Site) -> None:
    with _dump_that_waits(prefect, site):
        run_id = prefect.api.start(f"manual-backup/{site.name}", source="postgres")
        until(lambda: _dumping(prefect, site), "a dump that waits")
        pid = prefect.server.worker.pid()
        assert pid is not None
        psutil.Process(pid).kill()
        until(lambda: prefect.server.worker.pid() is None, "the worker to be gone")
    prefect.server.start_worker()
    assert prefect.api.wait(run_id).state in {"COMPLETED", "CRASHED"}
    run = prefect.run(f"manual-backup/{site.name}", source="postgres")
    assert run.state == "COMPLETED", run.message
    assert site.staged() == []
