"""A whole PostgreSQL server on a new machine, or in a new container, by the command line alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.postgres.grounds import UNFINISHED
from tests.functional.postgres.pitr_kit import running
from tests.servers.databases import DatabaseServer
from tests.servers.docker import Container, DockerEngine
from tests.servers.fixtures import PASSWORD, _in_container

KEY = "FAKE-encryption-key-of-the-tests-0123456789"
ROLES = "SELECT rolname, rolpassword, rolsuper, rolcanlogin FROM pg_authid WHERE rolname !~ '^pg_' ORDER BY 1"
FAR = "/var/lib/postgresql/far"


@dataclass
class Installed:
    """A server that is backed up by the command line."""

    server: DatabaseServer
    folder: Path

    def __post_init__(self) -> None:
        server = self.server
        self.folder.mkdir(mode=0o755, exist_ok=True)
        where: dict[str, Any] = {"user": server.user, "password": server.password}
        if server.container:
            where |= {"service": server.service, "project": server.project, "docker_host": server.docker_host}
        else:
            where |= {"host": server.host, "port": server.port}
        vault = {"root": str(self.folder / "vault"), "keys": {"current": "main", "main": KEY}}
        self.file.write_text(yaml.safe_dump({"site": "whole", "vault": vault, "postgres": where}))

    @property
    def file(self) -> Path:
        return self.folder / "site.yaml"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "deployments.cli", *arguments, "-f", str(self.file), "--json"]

    def backups(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False, env=_environment())
        assert done.returncode == code, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def _environment() -> dict[str, str]:
    return {**os.environ, "NO_COLOR": "1"}


def _rows(server: DatabaseServer, table: str, database: str) -> list[Any]:
    return server.sql(f"SELECT * FROM {table} ORDER BY 1", database)


def _quiet_moment() -> datetime:
    time.sleep(0.3)
    moment = datetime.now(UTC)
    time.sleep(0.3)
    return moment


@pytest.fixture
def in_container(dockerd: DockerEngine, postgres17_container: DatabaseServer, servers_directory: Path) -> Installed:
    subprocess.run(
        ["docker", "--host", dockerd.host, "exec", postgres17_container.container, "sh", "-c",
         f"mkdir -p {FAR} && chown postgres {FAR}"],
        check=True,
    )  # fmt: skip
    return Installed(postgres17_container, servers_directory / "whole17")


def _create(engine: DockerEngine, name: str, **volumes: str) -> Container:
    client = engine.client()
    return client.containers.create(
        engine.load("postgres17"),
        name=name,
        environment={"POSTGRES_PASSWORD": "FAKE-another-password"},
        labels={"com.docker.compose.project": "new", "com.docker.compose.service": name},
        volumes=[f"{volume}:{path}" for volume, path in volumes.items()],
    )


def test_a_whole_server_comes_back_in_a_new_container_as_it_was_at_a_second(
    in_container: Installed, dockerd: DockerEngine
) -> None:
    old = in_container.server
    old.sql(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}-app'; CREATE ROLE readers; GRANT readers TO app")
    old.sql(f"CREATE TABLESPACE far LOCATION '{FAR}'")
    old.sql("CREATE DATABASE whole OWNER app")
    old.sql("CREATE DATABASE second")
    old.sql("CREATE TABLE distant TABLESPACE far AS SELECT n, md5(n::text) h FROM generate_series(1, 3000) n", "whole")
    in_container.backups("base")
    old.sql(
        "CREATE TABLE later AS SELECT n FROM generate_series(1, 500) n; UPDATE distant SET h = 'x' WHERE n < 9", "whole"
    )
    old.sql("CREATE TABLE beside (n int); INSERT INTO beside VALUES (7)", "second")
    tables = [("distant", "whole"), ("later", "whole"), ("beside", "second")]
    wanted = {table: _rows(old, table, database) for table, database in tables} | {"roles": old.sql(ROLES)}
    moment = _quiet_moment()
    old.sql("DELETE FROM distant; DROP TABLE later; ALTER ROLE app PASSWORD 'FAKE-changed'", "whole")
    in_container.backups("ship")
    new = _create(dockerd, "anew", far_of_new=FAR)
    to = ("--container", "anew", "--to", moment.isoformat())
    plan = in_container.backups("restore-cluster", *to, "--dry-run")["plan"]
    assert plan["tablespaces"] == {FAR: FAR} and "whole" in plan["databases"]
    done = in_container.backups("restore-cluster", *to)
    new.reload()
    assert new.status == "created" and {"whole", "second"} <= set(done["databases"]) and done["timeline"] == 2
    text = "\n".join(done["steps"])
    assert "docker start anew" in text and "those of that time" in text and "archiving off" in text
    assert not [each.name for each in dockerd.client().containers.list(all=True) if "scratch" in str(each.name)]
    new.start()
    there = _in_container("postgres", dockerd, new, 5432, "postgres")  # lets in with the password of that time
    assert {table: _rows(there, table, database) for table, database in tables} | {"roles": there.sql(ROLES)} == wanted
    assert there.sql("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'far'") == [(FAR,)]
    assert there.sql("SHOW archive_mode") == [("off",)]
    there.sql("INSERT INTO later VALUES (501)", "whole")
    told = in_container.backups("restore-cluster", *to, code=4)["error"]
    assert "anew is running" in told["message"]
    there.stop()
    told = in_container.backups("restore-cluster", *to, code=4)["error"]
    assert "not empty" in told["message"]


def test_a_container_that_cannot_take_the_server_is_refused_before_anything_is_done(
    in_container: Installed, dockerd: DockerEngine
) -> None:
    old = in_container.server
    if not old.sql("SELECT 1 FROM pg_tablespace WHERE spcname = 'far'"):
        old.sql(f"CREATE TABLESPACE far LOCATION '{FAR}'")
    in_container.backups("base")
    bare = _create(dockerd, "bare")
    client = dockerd.client()
    other = client.containers.create(
        dockerd.load("busybox"), name="other", environment={"PGDATA": "/data", "PG_MAJOR": "15"},
        volumes=["other_data:/data", f"other_far:{FAR}"],
    )  # fmt: skip
    shared = client.containers.create(
        dockerd.load("busybox"), name="shared", environment={"PGDATA": "/data"},
        volumes=["busy_data:/data", f"other_far:{FAR}"],
    )  # fmt: skip
    user = client.containers.run(
        dockerd.load("busybox"), ["sleep", "600"], name="user", volumes=["busy_data:/x"], detach=True
    )
    for name, code, words in (
        ("bare", 4, "on no volume"),
        ("other", 1, "not one of PostgreSQL 17"),
        ("shared", 4, "in use by user"),
        (old.container, 4, "is running"),
        ("nobody", 2, "There is no container"),
    ):
        told = in_container.backups("restore-cluster", "--container", name, code=code)["error"]
        assert words in told["message"] and told["remedy"], told
    for each in (bare, other, shared, user):
        each.remove(force=True, v=True)


@pytest.fixture
def on_host(postgres15: DatabaseServer, servers_directory: Path) -> Iterator[Installed]:
    with postgres15.database("whole"):
        yield Installed(postgres15, servers_directory / "whole15")


def test_a_restore_that_was_killed_is_no_server_and_the_next_run_begins_anew(on_host: Installed) -> None:
    server, data = on_host.server, on_host.folder / "new" / "data"
    name = str(server.sql("SELECT datname FROM pg_database WHERE datname LIKE 'whole%'")[0][0])
    server.sql("CREATE TABLE rows AS SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n", name)
    on_host.backups("base")
    server.sql("INSERT INTO rows VALUES (20001, 'late')", name)
    on_host.backups("ship")
    wanted = _rows(server, "rows", name)
    arguments = ("restore-cluster", "--directory", str(data))
    run = subprocess.Popen(on_host.command(*arguments), stdout=subprocess.DEVNULL, env=_environment())
    deadline = time.monotonic() + 60
    while not (data / "base").is_dir():
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert (data / UNFINISHED).is_file() and (data / "recovery.signal").is_file()
    assert "begins anew" in (data / UNFINISHED).read_text()
    done = on_host.backups(*arguments)
    assert any("had not ended, and was begun anew" in step for step in done["steps"])
    assert not (data / UNFINISHED).exists() and not (data / "recovery.signal").exists()
    with running(data, name) as connection:
        found = connection.execute("SELECT * FROM rows ORDER BY 1").fetchall()
    assert [(str(n), text) for n, text in found] == wanted
    told = on_host.backups(*arguments, code=4)["error"]
    assert "not empty" in told["message"]
    for wrong, words in (([], "name one of them"), (["--directory", "relative"], "not an absolute path")):
        assert words in on_host.backups("restore-cluster", *wrong, code=2)["error"]["message"]
