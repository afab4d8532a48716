"""A run of shipping, or a recovery, dies at a random moment: no log is lost or there twice, and the next one goes on.

Each trial kills a process of the engine (kill -9) at a seeded part of the time that such a run was seen to take.
The same through a worker: ``test_random_kills``.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from engine.point_in_time import bring_back, plan_past
from engine.restore_plan import RestoreRequest
from engine.scratch import leftovers
from engine.shipping import ship
from engine.site import Site
from tests.faults.log_engines import DATABASE, Shipped, remains
from tests.functional.postgres.shipping import drop_slots
from tests.servers.databases import DatabaseServer
from tests.servers.fixtures import Factory
from tests.soak import SEED, SOAK, trials

TRIALS = trials(1, 15)
ENGINES = ["mariadb", "postgres15", *(["mysql9_container", "postgres17_container"] if SOAK else [])]
LOGS = 4
"""Closed in each trial, before the run that is killed."""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def own_mariadb(mariadb_factory: Factory) -> DatabaseServer:
    return mariadb_factory("--innodb-buffer-pool-size=16M")


@pytest.fixture(scope="module")
def own_postgres(postgres_factory: Factory) -> DatabaseServer:
    return postgres_factory()


@pytest.fixture(scope="module", params=ENGINES)
def shipped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    """A server with some closed logs in its vault, and a full (or base) before them."""
    fixture = {"mariadb": "own_mariadb", "postgres15": "own_postgres"}.get(request.param, request.param)
    server: DatabaseServer = request.getfixturevalue(fixture)
    made = Shipped.on(server, tmp_path_factory.mktemp("vault"))
    try:
        made.write(1)
        made.anchor()
        yield made
    finally:
        if server.flavour == "postgres":
            drop_slots(server)
            server.sql("ALTER SYSTEM RESET wal_keep_size")
            server.sql("SELECT pg_reload_conf()")
        server.sql(f"DROP DATABASE {DATABASE}")


class Pace:
    """How long a run of each kind takes from where its process says that it begins, in seconds: the least that was
    seen, so that few kills come too late."""

    def __init__(self, shipped: Shipped) -> None:
        self._shipped = shipped
        self._seen: dict[str, float] = {}

    def of(self, work: str) -> float:
        """Asked the first time, a run is made to see it."""
        if work not in self._seen:
            self._shipped.write(LOGS)
            if work != "ship":
                with self._shipped.site() as site:
                    ship(site, self._shipped.source)
            with self.seen(work), _begun(self._shipped, work) as process:
                assert process.stdout and json.loads(process.stdout.readline()), work
        return self._seen[work]

    @contextlib.contextmanager
    def seen(self, work: str) -> Iterator[None]:
        """A whole run."""
        begun = time.monotonic()
        yield
        self._seen[work] = min(self._seen.get(work, math.inf), time.monotonic() - begun)


@pytest.fixture(scope="module")
def pace(shipped: Shipped) -> Pace:
    return Pace(shipped)


@contextlib.contextmanager
def _begun(shipped: Shipped, work: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the engine that has begun its work."""
    argv = [sys.executable, "-m", "tests.faults.dying_logs"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdin and process.stdout
        process.stdin.write(shipped.orders(work))
        process.stdin.close()
        assert process.stdout.readline() == b"begins\n"
        yield process


def _killed(shipped: Shipped, work: str, trial: int, seconds: float) -> None:
    """Kill a process in the midst of its work; the processes below it are left to themselves."""
    moment = random.Random(f"{SEED}/{shipped.server.flavour}/{work}/{trial}").uniform(0, 1) * seconds
    with _begun(shipped, work) as process:
        time.sleep(moment)
        process.kill()
        status = process.wait()
    print(f"seed {SEED}, {work}, trial {trial}: killed after {moment:.3f} of about {seconds:.3f} s, {status}")
    assert status in (-signal.SIGKILL, 0)


def _ship_again(shipped: Shipped, site: Site) -> None:
    """The next run: by then the server has noticed that the last one is gone."""
    if shipped.source == "postgres":
        deadline = time.monotonic() + 20
        while shipped.server.sql("SELECT 1 FROM pg_replication_slots WHERE active") and time.monotonic() < deadline:
            time.sleep(0.05)
    assert site.sweep().problems == []
    ship(site, shipped.source)


@pytest.mark.soak
@pytest.mark.parametrize("trial", range(TRIALS))
def test_shipping_that_dies_anywhere_loses_no_log_and_ships_none_twice(
    shipped: Shipped, pace: Pace, trial: int
) -> None:
    seconds = pace.of("ship")
    shipped.write(LOGS)
    _killed(shipped, "ship", trial, seconds)
    with shipped.site() as site:
        _ship_again(shipped, site)
        assert shipped.check_logs() >= LOGS
        assert remains(site) == []
        logs = shipped.check_logs()
        again = ship(site, shipped.source).shipped
        # PostgreSQL writes by itself now and then: what is shipped now is new.
        assert len(again) <= (shipped.source == "postgres") and shipped.check_logs() == logs + len(again)


@pytest.mark.soak
@pytest.mark.parametrize("trial", range(TRIALS))
def test_a_recovery_that_dies_anywhere_leaves_nothing_and_the_next_one_is_whole(
    shipped: Shipped, pace: Pace, trial: int
) -> None:
    seconds = pace.of("recover")
    shipped.write(1)
    with shipped.site() as site:
        _ship_again(shipped, site)
        logs = shipped.check_logs()
    _killed(shipped, "recover", trial, seconds)
    with shipped.site() as site:
        scratch = _scratch_directories(site)
        assert site.sweep().problems == []
        assert remains(site) == []
        assert not [each for each in scratch if each.exists()]
        assert _still_there(shipped, scratch) == []
        plan = plan_past(site, RestoreRequest(DATABASE, source=shipped.source), "latest")
        with pace.seen("recover"):
            _, manifest = bring_back(site, plan)
        assert sum(manifest.rows.values()) == shipped.numbers
        assert remains(site) == []
    assert shipped.check_logs() == logs
    assert shipped.server.sql("SELECT count(*) FROM numbers", DATABASE) == [(str(shipped.numbers),)]


def _scratch_directories(site: Site) -> list[Path]:
    """Which directories dead recoveries wrote down."""
    steps = [json.loads(line) for file in leftovers.journals(site.vault.state).glob("*.jsonl") for line in file.open()]
    return [Path(step["path"]) for step in steps if step.get("step") == "directory"]


def _still_there(shipped: Shipped, directories: list[Path]) -> list[str]:
    """Processes and containers of scratch servers that nobody needs."""
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    found = [line for line in shown if any(f"{each}/" in line for each in directories)]
    if shipped.server.container:
        with contextlib.closing(docker.DockerClient(base_url=shipped.server.docker_host)) as client:
            found += [str(each.name) for each in client.containers.list(all=True) if leftovers.LABEL in each.labels]
            found += [str(each.name) for each in client.networks.list(filters={"label": leftovers.LABEL})]
    return found
