"""SIGKILL at every step of a restore: production is whole old or whole new, and the next run clears up."""

from __future__ import annotations

import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.journal import abandoned
from engine.mysql.server import MySQLSource
from tests.functional.mysql.dying import FINISHED, Orders
from tests.functional.mysql.restoring import HotWriter, databases, fingerprint, shop, source_of, take, ticking
from tests.servers.databases import DatabaseServer

pytestmark = pytest.mark.sampled

PROD = "kprod"
SIDE = "kprod_restore"
KEPT = "kprod_before"
STEPS = 15
MOMENTS = [round(random.Random(20250116).uniform(0.0, 0.25), 3) for _ in range(5)]


@pytest.fixture(scope="module", params=["mariadb", "mysql9_container"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue(request.param)
    ticking(found, on=False)
    return found


@pytest.fixture
def source(server: DatabaseServer) -> Iterator[MySQLSource]:
    found = source_of(server)
    yield found
    found.close()


@pytest.fixture
def prod(server: DatabaseServer) -> Iterator[str]:
    with shop(server, PROD, altered=server.flavour == "mariadb") as name:  # see test_swap on MySQL's ALTER DATABASE
        yield name


def die_and_recover(server: DatabaseServer, source: MySQLSource, directory: Path, **how: float) -> bool:
    """Change production, restore in a process that dies, recover in this one; True when it is whole new."""
    backup = take(source, PROD)
    new = fingerprint(server, PROD, rows=False)
    server.sql(
        f"DROP VIEW {PROD}.a_view; CREATE PROCEDURE {PROD}.later() SELECT 1; INSERT INTO {PROD}.quiet VALUES (7);"
        f"DROP PROCEDURE {PROD}.add_one; CREATE PROCEDURE {PROD}.add_one() SELECT 2"
    )
    if server.flavour == "mariadb":
        server.sql(f"ALTER DATABASE {PROD} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    old = fingerprint(server, PROD, rows=False)
    assert old != new
    orders = Orders(source.config, backup, directory, SIDE, PROD, KEPT, **how)  # type: ignore[arg-type]
    with (
        HotWriter(server, PROD, f"INSERT INTO {PROD}.parents (name) VALUES ('hot')") as parents,
        HotWriter(server, PROD, f"INSERT INTO {PROD}.zebra (what) VALUES ('hot')") as zebras,
    ):
        child = subprocess.run([sys.executable, "-m", "tests.functional.mysql.dying"], input=pickle.dumps(orders))
        assert child.returncode in (-signal.SIGKILL, FINISHED)
        for journal in abandoned(directory):
            source.recover(journal)
    assert (parents.errors, zebras.errors) == ([], [])
    assert list(directory.iterdir()) == []
    assert server.sql(f"SELECT id FROM information_schema.processlist WHERE db LIKE '{PROD}%'") == []
    swapped = server.sql(f"SELECT id FROM {PROD}.quiet") == []
    assert fingerprint(server, PROD, rows=False) == (new if swapped else old)
    assert databases(server, PROD) == ([PROD, KEPT] if swapped else [PROD])
    if swapped:
        assert server.sql(f"SELECT id FROM {KEPT}.quiet") == [("7",)]
        assert [row[0] for row in server.sql(f"SHOW TRIGGERS FROM {KEPT}")] == ["parent_new", "zebra new"]
    return swapped


def no_row_misses_its_trigger(server: DatabaseServer) -> None:
    for database in databases(server, PROD):
        counted = server.sql(
            f"SELECT (SELECT COUNT(*) FROM {database}.parents WHERE name = 'hot'),"
            f" (SELECT COUNT(*) FROM {database}.audit WHERE what LIKE 'parent %'),"
            f" (SELECT COUNT(*) FROM {database}.zebra WHERE what = 'hot'),"
            f" (SELECT COUNT(*) FROM {database}.audit WHERE what LIKE 'zebra %')"
        )[0]
        assert counted[0] == counted[1]
        assert counted[2] == counted[3]


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_restore_killed_at_any_step_leaves_production_whole_and_nothing_behind(
    server: DatabaseServer, source: MySQLSource, prod: str, tmp_path: Path, step: int
) -> None:
    swapped = die_and_recover(server, source, tmp_path / "journals", at=step)
    no_row_misses_its_trigger(server)
    if step < 5:
        assert not swapped
    if step == STEPS:
        assert swapped


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_restore_killed_in_the_midst_of_the_exchange_leaves_production_whole(
    server: DatabaseServer, source: MySQLSource, prod: str, tmp_path: Path, moment: float
) -> None:
    die_and_recover(server, source, tmp_path / "journals", after=moment)
