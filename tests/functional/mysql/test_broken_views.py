"""A view whose table is gone neither stops a backup nor a restore: that is when both are needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import backup, restore
from engine.config import SiteConfig
from engine.restore import RestoreRequest
from engine.site import Site, Target
from tests.servers import DatabaseServer

pytestmark = pytest.mark.one_server


@pytest.fixture(params=["mariadb", "mysql9_container"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def site(tmp_path: Path, server: DatabaseServer) -> Iterator[Site]:
    where = {"service": server.service, "project": server.project, "docker_host": server.docker_host}
    with server.database("views") as name:
        source = {
            "host": server.host, "port": server.port, "user": server.user, "password": server.password,
            "databases": [name], **(where if server.service else {}),
        }  # fmt: skip
        keys = {"current": "main", "keys": {"main": "FAKE-key-of-the-view-tests-0123456789"}}
        config = {"site": "views", "vault": {"root": str(tmp_path / "vault"), "keys": keys}, "mysql": [source]}
        server.sql(
            "CREATE TABLE a (id INT PRIMARY KEY); CREATE TABLE b (id INT PRIMARY KEY);"
            "INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (3);"
            "CREATE VIEW `of a` AS SELECT id + 1 AS next FROM a; CREATE VIEW of_b AS SELECT id FROM b;"
            "CREATE VIEW of_view AS SELECT next FROM `of a`",
            name,
        )
        with Site(SiteConfig.model_validate(config)) as opened:
            yield opened
        for (left,) in server.sql("SHOW DATABASES"):
            if str(left).startswith(f"{name}_"):
                server.sql(f"DROP DATABASE `{left}`")


def test_a_backup_leaves_broken_views_out_and_keeps_their_definitions(site: Site, server: DatabaseServer) -> None:
    target = site.targets()[0]
    server.sql("DROP TABLE a", target.database)
    manifest = backup.backup_one(site, target, tier="daily").manifest
    assert set(manifest.contents["broken_views"]) == {"of a", "of_view"}
    assert "`id` + 1" in manifest.contents["broken_views"]["of a"]
    assert len([each for each in manifest.warnings if "broken" in each]) == 2
    assert manifest.rows == {"b": 1}


def test_before_a_backup_a_broken_view_is_said_to_be_left_out(site: Site, server: DatabaseServer) -> None:
    target = site.targets()[0]
    server.sql("DROP TABLE a", target.database)
    warned = [each for each in site.source(target.source).preflight(target.database).warnings if "of a" in each]
    assert len(warned) == 1
    assert "will not be in the dump" in warned[0]
    assert "fail" not in warned[0].split(":")[0]


def test_a_dropped_table_comes_back_in_place_and_its_views_work_again(site: Site, server: DatabaseServer) -> None:
    target: Target = site.targets()[0]
    backup.backup_one(site, target, tier="daily")
    server.sql("DROP TABLE a", target.database)
    request = RestoreRequest(database=target.database, source=target.source, into=target.database)
    done = restore.run(site, restore.make_plan(site, request), approved=True)
    assert done.safety is not None and done.swap is not None
    assert server.sql("SELECT next FROM of_view ORDER BY 1", target.database) == [("2",), ("3",)]
    assert server.sql("SELECT id FROM of_b", target.database) == [("3",)]
    assert server.sql("SELECT id FROM b", done.swap.kept_as) == [("3",)]
