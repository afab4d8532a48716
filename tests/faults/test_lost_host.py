"""The database host vanishes at a random moment: how much is lost, measured against what it had acknowledged.

The real path: scheduled deployments on a Prefect server and worker, a vault with a replica. The schedule is
compressed: INTERVAL seconds stand for the 5 minutes between two runs. Everything else takes its real time: the
start of a run, its work, the copy to the replica. So what is lost is compared to the bound that holds for any
interval: one interval (to the next tick that was not left out), the latency of a start and a run's own time. In every
other trial the whole machine goes, the flows' processes and the local vault with it, and what is at the replica counts.

A smaller measure, the engine alone without Prefect, is a sample in ``make test``.
"""

from __future__ import annotations

import itertools
import math
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments import site_file
from engine.shipping import ship
from engine.site import Site as EngineSite
from tests.faults.log_engines import DATABASE, Shipped
from tests.faults.lost_host import Writer, recovered_numbers, vanish
from tests.integration.installation import Installation, Site, until
from tests.servers.fixtures import Factory
from tests.soak import SEED, trials

INTERVAL = 20
"""Seconds between two scheduled runs."""
AHEAD = 10
"""Seconds: so early the worker takes a run up, and it is left out if the one before is still at work then."""
KINDS = {"mysql": "binlog-ship", "postgres": "wal-ship"}
ENGINES = {"mysql": "MariaDB", "postgres": "PostgreSQL"}
SMALL_INTERVAL = 2.0
Tell = Callable[[str, float, str], None]


@dataclass(frozen=True)
class Tick:
    """One scheduled run: when it was due, when it began and when it ended (``time.time()``; None for not yet)."""

    due: float
    begun: float | None
    ended: float | None
    state: str


class Compressed:
    """Both shipping deployments of a site, every INTERVAL seconds instead of every 5 minutes."""

    def __init__(self, prefect: Installation, site: Site) -> None:
        self._api = prefect.api
        self._worker = prefect.server.worker
        self._schedules: set[str] = set()
        self._ids = {
            kind: str(self._api.call("GET", f"/deployments/name/{name}/{site.name}")["id"])
            for kind, name in KINDS.items()
        }

    def start(self) -> None:
        for deployment in self._ids.values():
            for each in self._api.call("GET", f"/deployments/{deployment}/schedules"):
                assert each["schedule"]["cron"] == "*/5 * * * *"
                self._api.call("DELETE", f"/deployments/{deployment}/schedules/{each['id']}")
            often = {"active": True, "schedule": {"interval": INTERVAL}, "max_scheduled_runs": 8}
            made = self._api.call("POST", f"/deployments/{deployment}/schedules", [often])
            self._schedules.add(str(made[0]["id"]))

    def stop(self) -> None:
        for deployment in self._ids.values():
            self._api.call("PATCH", f"/deployments/{deployment}", {"paused": True})

    def processes(self) -> list[psutil.Process]:
        """Everything that runs below the worker."""
        worker = self._worker.pid()
        assert worker is not None
        return psutil.Process(worker).children(recursive=True)

    def ticks(self, kind: str) -> list[Tick]:
        """Every run of the compressed schedule that was due by now, in order."""
        now = datetime.now(UTC).isoformat()
        body = {
            "deployments": {"id": {"any_": [self._ids[kind]]}},
            "flow_runs": {"expected_start_time": {"before_": now}},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        found = self._api.call("POST", "/flow_runs/filter", body)
        return [_tick(each) for each in found if self._schedules & set((each["idempotency_key"] or "").split())]

    def completed(self) -> bool:
        """Has each kind shipped at least once?"""
        time.sleep(1)  # so as not to keep the server busy with this
        return all(any(each.state == "COMPLETED" for each in self.ticks(kind)) for kind in KINDS)


def _tick(run: dict[str, Any]) -> Tick:
    # A run that is killed before it began is given a new expected time; what it was planned for stays in its key.
    due = _moment(run["idempotency_key"].split(maxsplit=3)[3])
    assert due is not None
    return Tick(due, _moment(run["start_time"]), _moment(run["end_time"]), str(run["state_type"]))


def _moment(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


@pytest.fixture
def host(
    prefect: Installation, mariadb_factory: Factory, postgres_factory: Factory
) -> Iterator[tuple[Installation, Site, EngineSite]]:
    """A machine with both servers, and a site for it; the servers are gone in the end."""
    its = replace(prefect, mariadb=mariadb_factory(), postgres=postgres_factory())
    site = its.site("lost", scheduled=True)
    done = its.apply(site)
    assert done.returncode == 0, done.stdout + done.stderr
    with EngineSite(site_file.load(site.file, site.env)) as opened:
        yield its, site, opened
    its.hold(site)


@pytest.mark.soak(sample=False)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("trial", range(20))
def test_a_host_that_vanishes_costs_no_more_than_an_interval_and_a_run(
    host: tuple[Installation, Site, EngineSite], figure: Tell, trial: int
) -> None:
    its, site, opened = host
    machine = trial % 2 == 1
    databases = {"mysql": site.shop, "postgres": site.platform}
    writers = {
        "mysql": Writer(its.mariadb, site.shop).start(),
        "postgres": Writer(its.postgres, site.platform).start(),
    }
    for deployment in ("daily-full", "base-backup"):
        run = its.run(f"{deployment}/{site.name}")
        assert run.state == "COMPLETED", run.message
    schedule = Compressed(its, site)
    schedule.start()
    try:
        until(schedule.completed, "a first run of each", timeout=300)
        time.sleep(random.Random(f"{SEED}/lost/{trial}").uniform(0, 2 * INTERVAL))
        moment = vanish(its.mariadb, its.postgres, also=schedule.processes if machine else list)
        ticks = {kind: schedule.ticks(kind) for kind in KINDS}
    finally:
        schedule.stop()
        for writer in writers.values():
            writer.stop()
    if machine:
        shutil.rmtree(site.vault)
        opened.vault.check()
    for kind, writer in writers.items():
        found = recovered_numbers(opened, kind, databases[kind], "s3" if machine else "auto")
        made = [each for each in ticks[kind] if each.state != "CANCELLED" and each.due <= moment]
        lost, late = _judged(writer, found, made, moment)
        engine, what = ENGINES[kind], "the whole machine" if machine else "the database host"
        figure(f"{engine}: commits lost with {what}, runs every {INTERVAL} s", lost, "s")
        figure(f"{engine}: from when a run is due to its end, copies made", late, "s")
        commits = writer.before(moment) - found
        print(f"{engine}, {what}: {lost:.1f} s lost ({commits} commits), runs up to {late:.1f} s late")


def _judged(writer: Writer, found: int, ticks: list[Tick], moment: float) -> tuple[float, float]:
    """Seconds lost, and how late a run ended at most. What was acknowledged before the last finished run began must
    be there; what is not there must be young enough."""
    ends = [each.ended if each.ended and each.ended <= moment else moment for each in ticks]
    late = max(end - each.due for each, end in zip(ticks, ends, strict=True))
    finished = [each for each, end in zip(ticks, ends, strict=True) if each.state == "COMPLETED" and end < moment]
    last = max(each.begun or 0.0 for each in finished)
    assert found >= writer.before(last), "a commit is gone that was there when the last finished run began"
    apart = max((round(two.due - one.due) for one, two in itertools.pairwise(ticks)), default=INTERVAL)
    assert apart <= math.ceil((INTERVAL + late + AHEAD) / INTERVAL) * INTERVAL, "a tick was left out for no reason"
    lost_since = writer.acknowledged[found] if found < len(writer.acknowledged) else moment
    assert moment - lost_since <= apart + late
    return moment - writer.acknowledged[min(found, len(writer.acknowledged)) - 1], late


@pytest.mark.soak
@pytest.mark.parametrize("trial", range(trials(1, 5)))
@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_without_prefect_a_server_that_vanishes_costs_no_more_than_an_interval_and_a_run(
    kind: str, trial: int, mariadb_factory: Factory, postgres_factory: Factory, tmp_path: Path
) -> None:
    server = mariadb_factory("--innodb-buffer-pool-size=16M") if kind == "mysql" else postgres_factory()
    made = Shipped.on(server, tmp_path / "vault")
    writer = Writer(server, DATABASE).start()
    made.anchor()
    runs: list[tuple[float, float]] = []
    over = threading.Event()

    def often() -> None:
        due = time.time()
        while not over.wait(max(0.0, due - time.time())):
            begun = time.time()
            with made.site() as site:
                ship(site, made.source)
            runs.append((begun, time.time()))
            due = max(due + SMALL_INTERVAL, time.time())

    shipping = threading.Thread(target=lambda: _until_it_fails(often), daemon=True)
    shipping.start()
    until(lambda: bool(runs), "a first run")
    time.sleep(random.Random(f"{SEED}/small/{kind}/{trial}").uniform(0, 2 * SMALL_INTERVAL))
    moment = vanish(server)
    over.set()
    shipping.join(60)
    writer.stop()
    with made.site() as site:
        site.sweep()
        found = recovered_numbers(site, made.source, DATABASE)
    finished = [(begun, ended) for begun, ended in runs if ended <= moment]
    assert writer.before(moment) >= found >= writer.before(max(begun for begun, _ in finished))
    print(f"{kind}: {moment - writer.acknowledged[found - 1]:.2f} s lost, runs every {SMALL_INTERVAL} s")


def _until_it_fails(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception as error:
        print(f"shipping ended: {error}")
