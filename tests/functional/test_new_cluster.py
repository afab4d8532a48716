"""A whole PostgreSQL server on a new machine, or in a new container, by the command line alone."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments import site_file
from engine.cluster import ClusterRequest, plan_cluster
from engine.errors import ConfigError, RestoreRefused, UnknownName, WrongTool
from engine.postgres.grounds import UNFINISHED
from engine.shipping import base, ship
from engine.site import Site
from tests.functional.postgres.pitr_kit import running
from tests.servers import preloaded
from tests.servers.databases import DatabaseServer
from tests.servers.docker import Container, DockerEngine
from tests.servers.fixtures import PASSWORD, server_in

pytestmark = pytest.mark.sampled

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

    def site(self) -> Site:
        """Opened in this process."""
        return Site(site_file.load(self.file))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "deployments.cli", *arguments, "-f", str(self.file), "--json"]

    def backups(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        done = preloaded.backups(*arguments, "-f", str(self.file), "--json", env=_environment())
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


@pytest.fixture(scope="module")
def in_container(dockerd: DockerEngine, postgres17_container: DatabaseServer, servers_directory: Path) -> Installed:
    """A server with roles, two databases and a tablespace, and a base backup of it."""
    old = postgres17_container
    inside = ["docker", "--host", dockerd.host, "exec", old.container, "sh", "-c"]
    subprocess.run([*inside, f"mkdir -p {FAR} && chown postgres {FAR}"], check=True)
    old.sql(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}-app'; CREATE ROLE readers; GRANT readers TO app")
    old.sql(f"CREATE TABLESPACE far LOCATION '{FAR}'")
    old.sql("CREATE DATABASE whole OWNER app")
    old.sql("CREATE DATABASE second")
    old.sql("CREATE TABLE distant TABLESPACE far AS SELECT n, md5(n::text) h FROM generate_series(1, 3000) n", "whole")
    installed = Installed(old, servers_directory / "whole17")
    with installed.site() as site:
        base(site, "postgres")
    return installed


def _create(engine: DockerEngine, recipe: str, name: str, environment: dict[str, str], *volumes: str) -> Container:
    labels = {"com.docker.compose.project": "new", "com.docker.compose.service": name}
    return engine.client().containers.create(
        engine.load(recipe), name=name, environment=environment, labels=labels, volumes=list(volumes)
    )


def _half_done(*names: str) -> bytes:
    """A tar of small files, as a restore that was killed leaves them."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 5
            tar.addfile(member, io.BytesIO(b"begun"))
    return data.getvalue()


def test_a_whole_server_comes_back_in_a_new_container_as_it_was_at_a_second(
    in_container: Installed, dockerd: DockerEngine
) -> None:
    old = in_container.server
    old.sql("CREATE TABLE later AS SELECT n FROM generate_series(1, 500) n", "whole")
    old.sql("UPDATE distant SET h = 'x' WHERE n < 9", "whole")
    old.sql("CREATE TABLE beside (n int); INSERT INTO beside VALUES (7)", "second")
    tables = [("distant", "whole"), ("later", "whole"), ("beside", "second")]
    wanted = {table: _rows(old, table, database) for table, database in tables} | {"roles": old.sql(ROLES)}
    moment = _quiet_moment()
    old.sql("DELETE FROM distant; DROP TABLE later; ALTER ROLE app PASSWORD 'FAKE-changed'", "whole")
    with in_container.site() as site:
        ship(site, "postgres")
    environment = {"POSTGRES_PASSWORD": "FAKE-another-password"}
    new = _create(dockerd, "postgres17", "anew", environment, f"far_of_new:{FAR}")
    new.put_archive("/var/lib/postgresql/data", _half_done(UNFINISHED, "PG_VERSION", ".hidden"))
    to = ("--container", "anew", "--to", moment.isoformat())
    done = in_container.backups("restore-cluster", *to)
    assert done["plan"]["tablespaces"] == {FAR: FAR} and "whole" in done["plan"]["databases"]
    new.reload()
    assert new.status == "created" and {"whole", "second"} <= set(done["databases"]) and done["timeline"] == 2
    text = "\n".join(done["steps"])
    assert "docker start anew" in text and "those of that time" in text and "archiving off" in text
    assert "begun anew: begun" in text
    assert not [each.name for each in dockerd.client().containers.list(all=True) if "scratch" in str(each.name)]
    new.start()
    there = server_in("postgres", dockerd, new, 5432, "postgres")  # lets in with the password of that time
    assert {table: _rows(there, table, database) for table, database in tables} | {"roles": there.sql(ROLES)} == wanted
    assert there.sql("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'far'") == [(FAR,)]
    assert there.sql("SHOW archive_mode") == [("off",)]
    there.sql("INSERT INTO later VALUES (501)", "whole")
    there.stop()
    told = in_container.backups("restore-cluster", *to, code=4)["error"]
    assert "not empty" in told["message"]


def test_a_container_that_cannot_take_the_server_is_refused_before_anything_is_done(
    in_container: Installed, dockerd: DockerEngine
) -> None:
    old = in_container.server
    elsewhere = {"PGDATA": "/data"}
    made = [
        _create(dockerd, "postgres17", "bare", {}),
        _create(dockerd, "busybox", "older", elsewhere | {"PG_MAJOR": "15"}, "older_data:/data", f"other_far:{FAR}"),
        _create(dockerd, "busybox", "shared", elsewhere, "shared_data:/data", f"other_far:{FAR}"),
        _create(dockerd, "busybox", "nowhere", {}),
        dockerd.client().containers.run(
            dockerd.load("busybox"), ["sleep", "600"], name="user", volumes=["shared_data:/x"], detach=True
        ),
    ]
    with in_container.site() as site:
        for name, kind, words in (
            ("bare", RestoreRefused, "on no volume"),
            ("older", WrongTool, "not one of PostgreSQL 17"),
            ("shared", RestoreRefused, "in use by user"),
            ("nowhere", RestoreRefused, "does not say where its data is"),
            (old.container, RestoreRefused, "is running"),
            ("nobody", UnknownName, "There is no container"),
        ):
            with pytest.raises(kind, match=words) as refused:
                plan_cluster(site, ClusterRequest(container=name))
            assert refused.value.kept and refused.value.remedy
    for each in made:
        each.remove(force=True, v=True)


@pytest.fixture
def on_host(postgres15: DatabaseServer, servers_directory: Path) -> Iterator[Installed]:
    with postgres15.database("whole"):
        yield Installed(postgres15, servers_directory / "whole15")


@pytest.mark.soak(sample=False)
def test_a_restore_that_was_killed_is_no_server_and_the_next_run_begins_anew(on_host: Installed) -> None:
    server, data = on_host.server, on_host.folder / "new" / "data"
    name = str(server.sql("SELECT datname FROM pg_database WHERE datname LIKE 'whole%'")[0][0])
    server.sql("CREATE TABLE rows AS SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n", name)
    with on_host.site() as site:
        base(site, "postgres")
        server.sql("INSERT INTO rows VALUES (20001, 'late')", name)
        ship(site, "postgres")
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
    moment = _quiet_moment()
    server.sql(f"DROP DATABASE {name}")  # its files go before it commits
    server.sql(f"CREATE DATABASE {name}")
    with on_host.site() as site:
        ship(site, "postgres")
    before = on_host.folder / "before" / "data"
    done = on_host.backups("restore-cluster", "--directory", str(before), "--to", moment.isoformat())
    assert any("being dropped at that moment" in step for step in done["steps"])
    with running(before, name) as connection:
        found = connection.execute("SELECT * FROM rows ORDER BY 1").fetchall()
    assert [(str(n), text) for n, text in found] == wanted
    with on_host.site() as site:
        for wrong, words in (({}, "name one of them"), ({"directory": "relative"}, "not an absolute path")):
            with pytest.raises(ConfigError, match=words):
                plan_cluster(site, ClusterRequest(**wrong))
