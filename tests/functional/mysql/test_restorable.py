"""Whatever a database holds, its backup can be restored, or a sentence says what stands in the way."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import backup, restore
from engine.config import SiteConfig
from engine.errors import IntegrityError, Unreachable, is_retryable
from engine.mysql.connection import query
from engine.restore import RestoreRequest, RestoreResult, RestoreWork
from engine.site import Site
from tests.functional.mysql.capturing import source_for
from tests.servers import DatabaseServer

pytestmark = pytest.mark.one_server
ENDLESS = "ON SCHEDULE EVERY 1 DAY DO UPDATE t SET a = 9"


@pytest.fixture(params=["mariadb", "mysql9_container"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def site(tmp_path: Path, server: DatabaseServer) -> Iterator[Site]:
    where = {"service": server.service, "project": server.project, "docker_host": server.docker_host}
    with server.database("restorable") as name:
        source = {
            "host": server.host, "port": server.port, "user": server.user, "password": server.password,
            "databases": [name], **(where if server.service else {}),
        }  # fmt: skip
        keys = {"current": "main", "keys": {"main": "FAKE-key-of-these-tests-0123456789"}}
        config = {"site": "any", "vault": {"root": str(tmp_path / "vault"), "keys": keys}, "mysql": [source]}
        with Site(SiteConfig.model_validate(config)) as opened:
            yield opened
        for (left,) in server.sql("SHOW DATABASES"):
            if str(left).startswith(f"{name}_"):
                server.sql(f"DROP DATABASE `{left}`")


def put_back(site: Site, *, into: str = "") -> RestoreResult:
    """Restore the newest backup, beside or (``into`` its own name) in place."""
    target = site.targets()[0]
    request = RestoreRequest(database=target.database, source=target.source, into=into)
    return restore.run(site, restore.make_plan(site, request), approved=True)


def events(server: DatabaseServer, database: str) -> list[str]:
    listed = f"SELECT event_name FROM information_schema.events WHERE event_schema = '{database}' ORDER BY 1"
    return [str(name) for (name,) in server.sql(listed)]


@pytest.fixture
def clock_stopped(server: DatabaseServer) -> Iterator[None]:
    """No event fires, and none is removed because it is over."""
    ((before,),) = server.sql("SELECT @@global.event_scheduler")
    server.sql("SET GLOBAL event_scheduler = OFF")
    yield
    server.sql(f"SET GLOBAL event_scheduler = {before}")


@pytest.mark.usefixtures("clock_stopped")
def test_events_that_are_over_are_left_out_with_a_note(site: Site, server: DatabaseServer) -> None:
    target = site.targets()[0]
    soon = "NOW() + INTERVAL 1 SECOND"
    server.sql(
        f"CREATE TABLE t (a INT); INSERT INTO t VALUES (1); CREATE EVENT endless {ENDLESS};"
        "SET timestamp = UNIX_TIMESTAMP() - 3600;"
        f"CREATE EVENT once ON SCHEDULE AT {soon} DO SET @x = 1;"
        f"CREATE EVENT ends ON SCHEDULE EVERY 1 DAY ENDS {soon} DO SET @x = 1;"
        f"CREATE EVENT kept ON SCHEDULE AT {soon} ON COMPLETION PRESERVE DO SET @x = 1;",
        target.database,
    )
    backup.backup_one(site, target, tier="daily")
    server.sql("DROP TABLE t", target.database)
    beside = put_back(site)
    assert events(server, beside.into) == ["endless", "kept"]
    assert beside.comparison.schema_equal is True
    for name in ("once", "ends"):
        assert any(f"event {name} is over" in note for note in beside.notes)
    server.sql(f"DROP DATABASE `{beside.into}`")
    done = put_back(site, into=target.database)
    assert done.swap is not None
    assert events(server, target.database) == ["endless", "kept"]
    assert server.sql("SELECT a FROM t", target.database) == [("1",)]


@pytest.mark.parametrize("engine", ["MERGE UNION=(a)", "BLACKHOLE"])
def test_a_table_without_rows_of_its_own_is_restored(site: Site, server: DatabaseServer, engine: str) -> None:
    target = site.targets()[0]
    if "BLACKHOLE" in engine and "mariadb" in server.sql("SELECT LOWER(VERSION())")[0][0]:
        server.sql("INSTALL PLUGIN IF NOT EXISTS blackhole SONAME 'ha_blackhole'")
    server.sql(
        f"CREATE TABLE a (i INT) ENGINE={'MyISAM' if 'MERGE' in engine else 'InnoDB'};"
        f"INSERT INTO a VALUES (1), (2); CREATE TABLE m (i INT) ENGINE={engine}",
        target.database,
    )
    manifest = backup.backup_one(site, target, tier="daily").manifest
    assert manifest.rows == {"a": 2}
    server.sql("DELETE FROM a", target.database)
    beside = put_back(site)
    assert beside.comparison.found == {"a": 2}
    server.sql(f"DROP DATABASE `{beside.into}`")
    put_back(site, into=target.database)
    assert server.sql("SELECT COUNT(*) FROM a", target.database) == [("2",)]
    assert server.sql("SELECT COUNT(*) FROM m", target.database) == [("2" if "MERGE" in engine else "0",)]


def test_what_differs_from_the_backup_is_named_together_with_the_cause(site: Site, server: DatabaseServer) -> None:
    target = site.targets()[0]
    server.sql(
        "CREATE TABLE t (a INT); CREATE VIEW v AS SELECT a FROM t;"
        f"CREATE EVENT e {ENDLESS}; CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1",
        target.database,
    )
    manifest = backup.backup_one(site, target, tier="daily").manifest
    assert set(manifest.contents["definitions"]) == {"table t", "view v", "event e", "trigger g"}
    plan = restore.make_plan(site, RestoreRequest(database=target.database, source=target.source))
    with pytest.raises(IntegrityError) as caught, RestoreWork(site, plan) as work:
        work.load()
        work.notes.append("view v could not be made quite so: the cause")
        server.sql("DROP EVENT e; CREATE OR REPLACE VIEW v AS SELECT a + 1 AS a FROM t", plan.side)
        work.compare()
    assert "event e is missing" in caught.value.message
    assert "view v differs" in caught.value.message
    assert "the cause" in caught.value.message
    assert "table t" not in caught.value.message


def test_a_manifest_without_digests_by_name_says_that_something_differs(site: Site, server: DatabaseServer) -> None:
    target = site.targets()[0]
    server.sql("CREATE TABLE t (a INT)", target.database)
    manifest = backup.backup_one(site, target, tier="daily").manifest
    older = manifest.model_copy(
        update={"contents": {name: each for name, each in manifest.contents.items() if name != "definitions"}}
    )
    source = site.source(target.source)
    plan = restore.make_plan(site, RestoreRequest(database=target.database, source=target.source))
    assert source.compare(older, target.database, plan.request.selection).equal
    server.sql("CREATE VIEW v AS SELECT 1 AS a", target.database)
    found = source.compare(older, target.database, plan.request.selection)
    assert found.problems == ["the definitions (tables, views, triggers, routines, events) differ from the backup's"]


def test_views_that_were_broken_at_the_backup_are_named_after_a_restore(site: Site, server: DatabaseServer) -> None:
    target = site.targets()[0]
    server.sql("CREATE TABLE t (a INT); CREATE VIEW v AS SELECT a FROM t; DROP TABLE t", target.database)
    manifest = backup.backup_one(site, target, tier="daily").manifest
    assert manifest.rows == {}
    done = put_back(site, into=target.database)
    said = " ".join(done.notes)
    assert "broken at the backup are not in it: v;" in said and "contents.broken_views" in said
    assert "adopted" not in said


def test_a_server_that_hangs_is_reported_soon_and_can_be_tried_again(mariadb_factory: Any) -> None:
    server = mariadb_factory()
    source = source_for(server)
    source.patience = 2.0
    assert source.databases() == []
    patient = source.connect()
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unreachable, match="the server did not answer for 2 s") as asked:
            source.databases()
        assert is_retryable(asked.value)
        with pytest.raises(Unreachable, match="the server did not answer for 10 s") as connecting:
            source.databases()  # a new session, as the old one was given up
        assert is_retryable(connecting.value)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert source.databases() == []
    assert patient.open
    patient.close()
    source.close()


def test_a_session_that_counts_or_waits_for_locks_is_not_cut(mariadb: DatabaseServer) -> None:
    source = source_for(mariadb)
    source.patience = 1.0
    with pytest.raises(Unreachable, match="did not answer for 1 s"):
        query(source.session, "SELECT SLEEP(3)")
    with contextlib.closing(source.connect()) as session:
        assert query(session, "SELECT SLEEP(3)") == [(0,)]
    source.close()


def test_a_port_where_no_mysql_server_answers_is_reported_soon(mariadb: DatabaseServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # as a PostgreSQL server, which waits to be spoken to
        source = source_for(mariadb, port=silent.getsockname()[1])
        with pytest.raises(Unreachable, match="did not answer for 10 s") as caught:
            source.server()
        assert "MySQL" in (caught.value.remedy or "")
