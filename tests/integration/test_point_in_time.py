"""Any second, through deployments: logs shipped, a table lost, the database back as it was right before."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.functional.postgres.pitr_kit import running
from tests.integration.installation import Installation, Site
from tests.servers.databases import DatabaseServer

Rows = list[tuple[str | None, ...]]


@pytest.fixture(scope="module", autouse=True)
def anchored(prefect: Installation, site: Site) -> None:
    """A full of both, and a base of PostgreSQL."""
    for deployment in ("daily-full", "base-backup"):
        run = prefect.run(f"{deployment}/{site.name}")
        assert run.state == "COMPLETED", run.message


class Story:
    """Work after the full, an accident, and work after that."""

    def __init__(self, server: DatabaseServer, database: str, table: str) -> None:
        self.server, self.database, self.table = server, database, table

    def rows(self, database: str | None = None) -> Rows:
        return self.server.sql(f"SELECT * FROM {self.table} ORDER BY id", database or self.database)

    def work(self, first: int, count: int) -> None:
        values = ", ".join(f"({number}, {self._row(number)})" for number in range(first, first + count))
        self.server.sql(f"INSERT INTO {self.table} VALUES {values}", self.database)

    def _row(self, number: int) -> str:
        return "1, 'late', 1.5" if self.table == "orders" else "1.5, '{late}'"

    def accident(self) -> datetime:
        """Drop the table; the last moment at which all was well (UTC, whole seconds)."""
        time.sleep(1.1)
        moment = datetime.now(UTC).replace(microsecond=0)
        time.sleep(1.1)
        self.server.sql(f"DROP TABLE {self.table}", self.database)
        return moment

    def databases(self) -> set[str]:
        listing = "SHOW DATABASES" if self.table == "orders" else "SELECT datname FROM pg_database"
        return {str(name) for (name,) in self.server.sql(listing)}

    def drop(self, database: str) -> None:
        self.server.sql(f"DROP DATABASE {database}")


@pytest.fixture(params=["mysql", "postgres"])
def story(request: pytest.FixtureRequest, prefect: Installation, site: Site) -> Iterator[tuple[str, Story]]:
    if request.param == "mysql":
        yield "mysql", Story(prefect.mariadb, site.shop, "orders")
    else:
        yield "postgres", Story(prefect.postgres, site.platform, "bronze.readings")


def _ship(prefect: Installation, site: Site, source: str) -> None:
    run = prefect.run(f"{'binlog' if source == 'mysql' else 'wal'}-ship/{site.name}")
    assert run.state == "COMPLETED", run.message
    assert "can be restored up to" in run.first_line


@pytest.mark.sampled
def test_a_dropped_table_comes_back_as_it_was_the_second_before(
    prefect: Installation, site: Site, story: tuple[str, Story]
) -> None:
    source, told = story
    told.work(100_001, 50)  # in no full
    if source == "mysql":
        _ship(prefect, site, source)
    told.work(200_001, 30)
    wanted = told.rows()
    before = told.databases()
    moment = told.accident()
    _ship(prefect, site, source)
    run = prefect.run(
        f"restore-database/{site.name}", source=source, database=told.database, into=told.database,
        confirm=told.database, point_in_time=moment.isoformat(),
    )  # fmt: skip
    assert run.state == "COMPLETED", run.message
    assert told.rows() == wanted
    assert f"{len(wanted):,}"[:1] in run.first_line
    plan = prefect.markdown(run.id, f"{site.name}-recovery-plan")
    assert "production is not touched" in plan and "This can be had from" in plan
    new = told.databases() - before
    assert len(new) == 1 and all("_before_" in name for name in new)
    told.drop(new.pop())
    assert site.files(".json"), "the recovered database is a backup of its own"
    assert any("/recovered/" in str(file) for file in site.files(".json"))


@pytest.mark.sampled
def test_a_moment_that_cannot_be_had_is_refused_with_the_window(prefect: Installation, site: Site) -> None:
    run = prefect.run(
        f"restore-database/{site.name}", source="mysql", database=site.shop, point_in_time="2001-01-01T00:00:00Z"
    )
    assert run.state == "FAILED" and "before the oldest" in run.first_line, run.message
    assert "what can be recovered: " in run.message


@pytest.mark.sampled
def test_a_wrong_confirmation_and_an_unknown_table_fail_before_anything_is_recovered(
    prefect: Installation, site: Site
) -> None:
    _ship(prefect, site, "postgres")
    before = {str(file) for file in site.files(".json") if "/recovered/" in str(file)}
    asked = {"source": "postgres", "database": site.platform, "point_in_time": "latest"}
    wrong: tuple[tuple[dict[str, object], str], ...] = (
        ({"into": site.platform, "confirm": "typo"}, "is not the name of the database"),
        ({"tables": ["bronze.typo"]}, "has a table 'bronze.typo'"),
    )
    for more, words in wrong:
        run = prefect.run(f"restore-database/{site.name}", **asked, **more)
        assert run.state == "FAILED" and words in run.first_line, run.message
    assert {str(file) for file in site.files(".json") if "/recovered/" in str(file)} == before


@pytest.mark.sampled
def test_an_idle_server_ships_nothing_and_the_run_says_so(prefect: Installation, site: Site) -> None:
    run = prefect.run(f"wal-ship/{site.name}")
    assert run.state == "COMPLETED", run.message
    again = prefect.run(f"wal-ship/{site.name}")
    assert again.state == "COMPLETED" and "nothing new to ship" in again.first_line, again.message


def test_logs_stand_at_the_replica_too(prefect: Installation, site: Site) -> None:
    for tier, source in (("binlogs", "mysql"), ("wal", "postgres")):
        found = _listed(prefect, site, tier)
        if not found:  # no test before this one had them shipped
            _ship(prefect, site, source)
            found = _listed(prefect, site, tier)
        assert found and all(set(each["locations"]) == {"local", "s3"} for each in found)


def _listed(prefect: Installation, site: Site, tier: str) -> list[dict[str, Any]]:
    done = prefect.command(
        "-m", "deployments.cli", "list", "-f", str(site.file), "--tier", tier, "--json", env=site.env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    listed: list[dict[str, Any]] = json.loads(done.stdout)["backups"]
    return listed


@pytest.mark.sampled
def test_the_statement_is_found_by_a_flow_and_a_restore_can_be_asked_for_right_before_it(
    prefect: Installation, site: Site
) -> None:
    shop = prefect.mariadb
    shop.sql("CREATE TABLE precious (id int PRIMARY KEY); INSERT INTO precious VALUES (1), (2)", site.shop)
    shop.sql("DROP TABLE precious", site.shop)
    _ship(prefect, site, "mysql")
    run = prefect.run(f"find-event/{site.name}", source="mysql", table=f"{site.shop}.precious", kinds=["drop"])
    assert run.state == "COMPLETED" and f"DROP {site.shop}.precious" in run.first_line, run.message
    (row,) = prefect.table(run, f"{site.name}-events")
    assert row["point_in_time"] in run.first_line and row["committed (UTC)"].endswith("Z")
    run = prefect.run(
        f"restore-database/{site.name}", source="mysql", database=site.shop, dry_run=True,
        point_in_time="before DROP TABLE precious",
    )  # fmt: skip
    assert run.state == "COMPLETED" and row["point_in_time"] in run.first_line, run.message
    assert f"DROP {site.shop}.precious" in prefect.markdown(run.id, f"{site.name}-recovery-plan")


@pytest.mark.sampled
def test_a_whole_server_comes_back_in_an_empty_directory_by_a_flow(
    prefect: Installation, site: Site, servers_directory: Path
) -> None:
    directory = servers_directory / "new-server" / "data"
    run = prefect.run(f"restore-cluster/{site.name}", directory=str(directory))
    assert run.state == "COMPLETED" and str(directory) in run.first_line, run.message
    story = prefect.markdown(run.id, f"{site.name}-cluster")
    assert "pg_ctl" in story and "Roles and passwords are those of that time" in story
    with running(directory, site.platform) as connection:
        found = connection.execute("SELECT count(*) FROM silver.daily").fetchone()
    assert found == (300,)
