"""A flow's process dies at a random moment, again and again: production is whole, and the next run succeeds.

Seeded; a sample in ``make test``, 40 trials a case in ``make soak``. The seed is in the test's output.
"""

from __future__ import annotations

import contextlib
import random
import time

import psutil
import pytest

from deployments import site_file
from engine import logs, names
from engine.site import Site as EngineSite
from tests.integration.installation import Installation, Site, until
from tests.soak import SEED, trials

TRIALS = trials(1, 15)
ROWS = 60_000


@pytest.fixture(scope="module")
def site(prefect: Installation) -> Site:
    """A site whose databases are large enough that loading takes a moment."""
    made = prefect.site("kills")
    prefect.mariadb.sql(
        f"INSERT INTO orders SELECT seq, 1 + seq % 100, REPEAT('x', 60), 1 FROM seq_2001_to_{ROWS}", made.shop
    )
    prefect.postgres.sql(
        f"INSERT INTO bronze.readings SELECT n, n, ARRAY[repeat('x', 60)] FROM generate_series(2001, {ROWS}) n",
        made.platform,
    )
    done = prefect.apply(made)
    assert done.returncode == 0, done.stdout + done.stderr
    for flow in ("daily-full", "binlog-ship", "wal-ship"):  # the first shipping makes the slot that holds the logs
        assert prefect.run(f"{flow}/{made.name}").state == "COMPLETED"
    return made


class Production:
    """What the application sees, asked by a stock client."""

    def __init__(self, prefect: Installation, site: Site, kind: str) -> None:
        self.kind = kind
        self.server = prefect.mariadb if kind == "mysql" else prefect.postgres
        self.name = site.shop if kind == "mysql" else site.platform
        self.table = "orders" if kind == "mysql" else "bronze.readings"

    def count(self, database: str = "") -> int:
        return int(self.server.sql(f"SELECT count(*) FROM {self.table}", database or self.name)[0][0] or 0)

    def spoil(self) -> None:
        """Lose half of the rows, as a wrong statement would."""
        self.server.sql(f"DELETE FROM {self.table} WHERE id % 2 = 0", self.name)

    def databases(self) -> set[str]:
        listing = "SHOW DATABASES" if self.kind == "mysql" else "SELECT datname FROM pg_database"
        return {str(row[0]) for row in self.server.sql(listing) if str(row[0]).startswith(self.name)}

    def sessions(self) -> list[tuple[str | None, ...]]:
        """Work of ours that is still going on in the server."""
        if self.kind == "mysql":
            return self.server.sql(
                "SELECT id, info FROM information_schema.processlist "
                "WHERE id <> CONNECTION_ID() AND command <> 'Daemon'"
            )
        return self.server.sql(
            "SELECT pid, query FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )

    def drop(self, names: set[str]) -> None:
        for name in names:
            self.server.sql(f"DROP DATABASE {name}")


@pytest.mark.soak
@pytest.mark.sampled
@pytest.mark.timeout(900)
@pytest.mark.parametrize("trial", range(TRIALS))
@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_a_restore_that_dies_anywhere_leaves_production_whole(
    prefect: Installation, site: Site, kind: str, trial: int
) -> None:
    production = Production(prefect, site, kind)
    production.spoil()
    old = production.count()
    assert old == ROWS // 2
    moment = random.Random(f"{SEED}/{kind}/{trial}").uniform(0.0, 6.0)
    run_id = prefect.api.start(
        f"restore-database/{site.name}", source=kind, database=production.name, into=production.name,
        confirm=production.name,
    )  # fmt: skip
    process = prefect.flow_process(run_id)
    until(lambda: any(run_id in str(each) for each in _running(prefect, run_id)), "the run to begin")
    time.sleep(moment)
    with contextlib.suppress(psutil.NoSuchProcess):  # on a fast day it is done already
        process.kill()
    died = prefect.api.wait(run_id)
    assert died.state in {"CRASHED", "COMPLETED"}, died.message
    print(f"seed {SEED}, {kind}, trial {trial}: killed after {moment:.2f} s, {died.state}")

    again = prefect.run(
        f"restore-database/{site.name}", source=kind, database=production.name, into=production.name,
        confirm=production.name,
    )  # fmt: skip
    assert again.state == "COMPLETED", again.message
    assert production.count() == ROWS
    left = production.databases() - {production.name}
    kept = {name for name in left if "_before_" in name}
    assert left == kept, f"left behind: {sorted(left - kept)}"
    assert all(production.count(name) in {old, ROWS} for name in kept)
    assert site.staged() == []
    assert list((site.vault / ".backup-flows").rglob("*.jsonl")) == []
    assert until(lambda: production.sessions() == [], "every session of the dead run to end")
    production.drop(kept)


@pytest.mark.soak
@pytest.mark.sampled
@pytest.mark.timeout(900)
@pytest.mark.parametrize("trial", range(TRIALS))
def test_a_backup_that_dies_anywhere_is_no_backup_and_the_next_one_is(
    prefect: Installation, site: Site, trial: int
) -> None:
    before = set(site.files())
    moment = random.Random(f"{SEED}/backup/{trial}").uniform(0.0, 5.0)
    run_id = prefect.api.start(f"manual-backup/{site.name}")
    process = prefect.flow_process(run_id)
    until(lambda: any(run_id in str(each) for each in _running(prefect, run_id)), "the run to begin")
    time.sleep(moment)
    with contextlib.suppress(psutil.NoSuchProcess):  # on a fast day it is done already
        process.kill()
    died = prefect.api.wait(run_id)
    print(f"seed {SEED}, backup, trial {trial}: killed after {moment:.2f} s, {died.state}")
    for manifest in set(site.files()) - before:
        listed = prefect.command("-m", "deployments.cli", "verify", "-f", str(site.file), "--backup", _data(manifest),
                                 env=site.env)  # fmt: skip
        assert listed.returncode == 0, listed.stdout + listed.stderr
    again = prefect.run(f"manual-backup/{site.name}")
    assert again.state == "COMPLETED", again.message
    assert site.staged() == []
    manifests = {each.name for each in site.files()}
    orphans = [
        each for each in site.files(".enc") if f"{each.name}.json" not in manifests and each.name.count(".") == 3
    ]
    assert orphans == []


@pytest.mark.soak
@pytest.mark.sampled
@pytest.mark.timeout(900)
@pytest.mark.parametrize("trial", range(TRIALS))
@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_a_shipping_run_that_dies_anywhere_loses_no_log_and_the_next_one_goes_on(
    prefect: Installation, site: Site, kind: str, trial: int
) -> None:
    production = Production(prefect, site, kind)
    for _ in range(4):
        production.server.sql(f"UPDATE {production.table} SET id = id WHERE id < 500", production.name)
        production.server.sql("FLUSH BINARY LOGS" if kind == "mysql" else "SELECT pg_switch_wal()")
    flow = f"{'binlog' if kind == 'mysql' else 'wal'}-ship/{site.name}"
    moment = random.Random(f"{SEED}/{kind}/ship/{trial}").uniform(0.0, 2.5)
    run_id = prefect.api.start(flow)
    process = prefect.flow_process(run_id)
    until(lambda: any(run_id in str(each) for each in _running(prefect, run_id)), "the run to begin")
    time.sleep(moment)
    with contextlib.suppress(psutil.NoSuchProcess):  # on a fast day it is done already
        process.kill()
    died = prefect.api.wait(run_id)
    print(f"seed {SEED}, shipping {kind}, trial {trial}: killed after {moment:.2f} s, {died.state}")
    assert died.state in {"CRASHED", "COMPLETED"}, died.message

    again = prefect.run(flow)
    assert again.state == "COMPLETED", again.message
    with EngineSite(site_file.load(site.file, site.env)) as opened:
        here, there = (_numbers(opened, kind, location) for location in ("local", "s3"))
    assert len(here) >= 4 and here == list(range(here[0], here[0] + len(here)))
    assert there == here
    assert site.staged() == []
    assert list((site.vault / ".backup-flows").rglob("*.jsonl")) == []


def _numbers(site: EngineSite, kind: str, location: str) -> list[int]:
    """The numbers of the logs in one place, in order."""
    tier = names.BINLOGS if kind == "mysql" else names.WAL
    ledger = logs.ledger(site.vault, kind, tier, location)
    return sorted(logs.load_log(site.vault, entry)[1].number for entry in ledger)


def _data(manifest: object) -> str:
    return str(manifest).rsplit("/", 1)[-1].removesuffix(".json")


def _running(prefect: Installation, run_id: str) -> list[str]:
    run = prefect.api.call("GET", f"/flow_runs/{run_id}")
    return [run_id] if run["state"]["type"] in {"RUNNING", "COMPLETED", "FAILED"} else []
