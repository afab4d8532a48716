"""Views whose definers have rights on their own database only, are not known to the server, or were dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import backup, restore
from engine.config import SiteConfig
from engine.mysql.server import MySQLSource
from engine.restore import RestoreRequest, RestoreResult
from engine.site import Site
from tests.servers import DatabaseServer

pytestmark = pytest.mark.sampled

APP = "'defapp'@'%'"
CREATE_APP = f"CREATE USER {APP} IDENTIFIED BY 'FAKE-password-1-of-Tests'"
MODES = ("beside", "in place", "after loss")


@pytest.fixture(params=["mariadb", "mysql9_container"])
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    found: DatabaseServer = request.getfixturevalue(request.param)
    trusted = found.sql("SELECT @@global.log_bin_trust_function_creators")[0][0]
    found.sql(f"SET GLOBAL log_bin_trust_function_creators = 1; DROP USER IF EXISTS {APP}; {CREATE_APP}")
    yield found
    found.sql(f"SET GLOBAL log_bin_trust_function_creators = {trusted}; DROP USER IF EXISTS {APP}")


@pytest.fixture
def database(server: DatabaseServer) -> Iterator[str]:
    with server.database("definers") as name:
        server.sql(f"GRANT ALL ON `{name}`.* TO {APP}")
        server.sql("CREATE TABLE t (a INT PRIMARY KEY); INSERT INTO t VALUES (1), (2)", name)
        yield name
        server.sql(f"CREATE DATABASE IF NOT EXISTS `{name}`")
    for (left,) in server.sql("SHOW DATABASES"):
        if str(left).startswith(f"{name}_"):
            server.sql(f"DROP DATABASE `{left}`")


@pytest.fixture
def site(tmp_path: Path, server: DatabaseServer, database: str) -> Iterator[Site]:
    where = {"service": server.service, "project": server.project, "docker_host": server.docker_host}
    source = {
        "host": server.host, "port": server.port, "user": server.user, "password": server.password,
        "databases": [database], **(where if server.service else {}),
    }  # fmt: skip
    keys = {"current": "main", "keys": {"main": "FAKE-key-of-the-definer-tests-0123456789"}}
    config = {"site": "definers", "vault": {"root": str(tmp_path / "vault"), "keys": keys}, "mysql": [source]}
    with Site(SiteConfig.model_validate(config)) as opened:
        yield opened


def restored(site: Site, server: DatabaseServer, database: str, mode: str) -> RestoreResult:
    """One restore; the production database is changed or dropped before, where it is replaced."""
    if mode == "in place":
        server.sql("DELETE FROM t", database)
    elif mode == "after loss":
        server.sql(f"DROP DATABASE `{database}`")
    into = f"{database}_side" if mode == "beside" else database
    request = RestoreRequest(source=site.config.mysql[0].name, database=database, into=into)
    done = restore.run(site, restore.make_plan(site, request), approved=mode != "beside")
    assert done.into == into
    assert server.sql("SELECT a FROM t ORDER BY a", into) == [("1",), ("2",)]
    return done


def with_a_function(server: DatabaseServer, database: str) -> None:
    server.sql(
        f"CREATE DEFINER={APP} FUNCTION f (x INT) RETURNS INT DETERMINISTIC RETURN x + 1;"
        f"CREATE DEFINER={APP} VIEW v AS SELECT a, f(a) AS b FROM t WHERE '`x`.' <> 'it''s';"
        f"CREATE DEFINER={APP} VIEW a_upon_v AS SELECT b FROM v;"
        f"CREATE DEFINER={APP} VIEW plain AS SELECT a FROM t WHERE a > 0 WITH CHECK OPTION",
        database,
    )


@pytest.mark.parametrize("mode", MODES)
def test_views_that_call_a_function_are_restored_although_their_definer_has_rights_on_production_only(
    site: Site, server: DatabaseServer, database: str, mode: str
) -> None:
    with_a_function(server, database)
    backup.backup_one(site, site.targets()[0], tier="daily")
    done = restored(site, server, database, mode)
    if mode == "beside":
        assert any(note.startswith("view v is not in the side copy") for note in done.notes)
        return
    assert server.sql("SELECT a, b FROM v ORDER BY a", database) == [("1", "2"), ("2", "3")]
    assert server.sql("SELECT b FROM a_upon_v ORDER BY b", database) == [("2",), ("3",)]
    definers = server.sql(
        f"SELECT table_name, definer FROM information_schema.views WHERE table_schema = '{database}' ORDER BY 1"
    )
    assert definers == [("a_upon_v", "defapp@%"), ("plain", "defapp@%"), ("v", "defapp@%")]


@pytest.mark.parametrize("mode", MODES)
def test_a_server_without_the_definers_gets_the_data_and_a_note_that_names_them(
    site: Site, server: DatabaseServer, database: str, mode: str
) -> None:
    with_a_function(server, database)
    server.sql(f"CREATE DEFINER={APP} TRIGGER of_t BEFORE INSERT ON t FOR EACH ROW SET NEW.a = NEW.a + 0", database)
    server.sql(f"CREATE DEFINER={APP} EVENT e ON SCHEDULE EVERY 1 YEAR DISABLE DO DELETE FROM t WHERE a < 0", database)
    backup.backup_one(site, site.targets()[0], tier="daily")
    server.sql(f"DROP USER {APP}")
    done = restored(site, server, database, mode)
    (note,) = [note for note in done.notes if note.startswith("these definers do not exist")]
    assert "defapp@%" in note and "docs/restore-by-hand.md" in note
    if mode == "beside":
        return
    made = {str(name) for (name,) in server.sql(
        f"SELECT table_name FROM information_schema.views WHERE table_schema = '{database}'")}  # fmt: skip
    assert "plain" in made
    server.sql(f"{CREATE_APP}; GRANT ALL ON `{database}`.* TO {APP}")
    for name in ("v", "a_upon_v"):  # what the server would not make comes with the statement that makes it
        if name not in made:
            (note,) = [each for each in done.notes if each.startswith(f"view {name} could not be made")]
            server.sql(note[note.index("USE `") :])
    assert server.sql("SELECT a FROM plain ORDER BY a", database) == [("1",), ("2",)]
    assert server.sql("SELECT b FROM a_upon_v ORDER BY b", database) == [("2",), ("3",)]
    assert server.sql("SELECT action_statement FROM information_schema.triggers "
                      f"WHERE trigger_schema = '{database}' AND definer = 'defapp@%'") != []  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_a_view_whose_definer_was_dropped_is_restored_and_warned_of_at_the_backup(
    site: Site, server: DatabaseServer, database: str, mode: str
) -> None:
    with_a_function(server, database)
    server.sql(f"DROP USER {APP}")
    manifest = backup.backup_one(site, site.targets()[0], tier="daily").manifest
    (warning,) = [each for each in manifest.warnings if each.startswith("the definer defapp@% does not exist")]
    assert "view plain" in warning
    done = restored(site, server, database, mode)
    server.sql(f"{CREATE_APP}; GRANT ALL ON `{database}`.*  TO {APP}; GRANT ALL ON `{done.into}`.* TO {APP}")
    assert server.sql("SELECT a FROM plain ORDER BY a", done.into) == [("1",), ("2",)]
    if mode != "beside":
        return
    server.sql(f"DELETE FROM `{database}`.t")  # the copy's view reads the copy
    assert server.sql("SELECT COUNT(*) FROM plain", done.into) == [("2",)]


@pytest.mark.parametrize("mode", MODES)
def test_a_view_that_also_reads_another_database_reads_the_tables_of_its_own_copy(
    site: Site, server: DatabaseServer, database: str, mode: str
) -> None:
    with server.database("other") as other:
        server.sql("CREATE TABLE t (z INT); INSERT INTO t VALUES (7)", other)
        server.sql(f"CREATE VIEW x AS SELECT `{database}`.t.a, o.z FROM `{database}`.t JOIN `{other}`.t AS o", database)
        backup.backup_one(site, site.targets()[0], tier="daily")
        done = restored(site, server, database, mode)
        if mode == "beside":
            server.sql(f"DELETE FROM `{database}`.t")
        assert server.sql("SELECT a, z FROM x ORDER BY a", done.into) == [("1", "7"), ("2", "7")]
        if done.swap is not None and done.swap.kept_as:
            assert server.sql("SELECT COUNT(*) FROM x", done.swap.kept_as) == [("0",)]


def test_a_table_that_differs_is_refused_although_a_definer_is_missing_too(
    site: Site, server: DatabaseServer, database: str
) -> None:
    with_a_function(server, database)
    target = site.targets()[0]
    manifest = backup.backup_one(site, target, tier="daily").manifest
    server.sql(f"DROP USER {APP}")
    restored(site, server, database, "beside")
    server.sql(f"ALTER TABLE `{database}_side`.t ADD COLUMN late INT")
    source = site.source(target.source)
    assert isinstance(source, MySQLSource)
    problems = source.compare(manifest, f"{database}_side", RestoreRequest(database=database).selection).problems
    assert problems == ["table t differs"]
