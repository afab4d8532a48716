"""A server in a container whose stock pg_hba.conf refuses replication from outside is reached from inside."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from engine.config import PostgresConfig
from engine.errors import ToolMissing, Unreachable
from engine.postgres.connection import Connector
from engine.postgres.replication import replication
from engine.processes import Command, Runner, runner_for
from engine.processes.relay import relay
from tests.functional.postgres.kit import unused
from tests.servers.databases import DatabaseServer
from tests.servers.docker import DockerEngine

ROOT = Path(__file__).parents[3]
DYING = """
import json, sys, time
from engine.config import PostgresConfig
from engine.postgres.connection import Connector
from engine.postgres.replication import replication
from engine.processes import runner_for
config = PostgresConfig(**json.loads(sys.argv[1]))
runner = runner_for(config, site="workbench")
with replication(Connector(config, "workbench", lambda: runner), runner) as session:
    print(session.identify().system_id, flush=True)
    time.sleep(600)
"""


def config_of(server: DatabaseServer) -> dict[str, str]:
    return {
        "user": server.user, "password": server.password, "service": server.service, "project": server.project,
        "docker_host": server.docker_host,
    }  # fmt: skip


@contextmanager
def place(server: DatabaseServer) -> Iterator[tuple[Connector, Runner]]:
    config = PostgresConfig.model_validate(config_of(server))
    runner = runner_for(config, site="workbench")
    yield Connector(config, "workbench", lambda: runner), runner


def inside(server: DatabaseServer) -> str:
    """Command lines of what runs in the container because of us."""
    with place(server) as (_, runner):
        script = (
            "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f 2>/dev/null; echo; done "
            "| grep -e dev/tcp -e '^cat' | grep -v grep"
        )
        return runner.run(Command(("bash", "-c", f"{script} | grep -v 'for f in' || true"))).text


def senders(server: DatabaseServer) -> int:
    return int(server.sql("SELECT count(*) FROM pg_stat_replication")[0][0] or 0)


def until(condition: object) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.1)
    return bool(condition())  # type: ignore[operator]


def test_replication_from_outside_is_refused_and_through_the_relay_it_works(
    postgres17_container: DatabaseServer, servers_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = postgres17_container
    sockets = servers_directory / "relay"
    sockets.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(sockets))
    with pytest.raises(psycopg.OperationalError, match="no pg_hba.conf entry for replication"):
        psycopg.connect(
            host=server.host, port=server.port, user=server.user, password=server.password, replication="true"
        )
    with place(server) as (connector, runner), replication(connector, runner) as session:
        expected = server.sql("SELECT system_identifier FROM pg_control_system()")
        assert session.identify().system_id == expected[0][0]
        assert list(sockets.iterdir()) == []  # nobody else can come in after us
    assert until(lambda: inside(server) == "") and senders(server) == 0


def test_nothing_is_left_inside_when_we_are_killed(postgres17_container: DatabaseServer) -> None:
    server = postgres17_container
    with server.connect() as bystander:
        program = [sys.executable, "-c", DYING, json.dumps(config_of(server))]
        environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
        with subprocess.Popen(program, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None and child.stdout.readline().strip().isdigit()
            assert senders(server) == 1 and "cat" in inside(server)
            child.send_signal(signal.SIGKILL)
        assert until(lambda: inside(server) == "") and until(lambda: senders(server) == 0)
        assert bystander.execute("SELECT 1").fetchone() == (1,)  # the postmaster took nothing for a crash


def test_a_server_that_ends_the_session_ends_the_relay(postgres17_container: DatabaseServer) -> None:
    server = postgres17_container
    with place(server) as (connector, runner), replication(connector, runner) as session:
        session.identify()
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        with pytest.raises(Unreachable):
            session.identify()
    assert until(lambda: inside(server) == "")


def test_many_bytes_pass_unchanged_in_both_directions(postgres17_container: DatabaseServer) -> None:
    """Through an ordinary session: what goes up comes down again, and its digest is the server's own."""
    server = postgres17_container
    with place(server) as (_, runner), relay(runner, "127.0.0.1", 5432) as way:
        with psycopg.connect(host=str(way.directory), port=5432, user=server.user, dbname="postgres") as session:
            sent = os.urandom(1 << 20) * 8
            row = session.execute("SELECT %b::bytea, md5(%b)", [sent, sent], binary=True).fetchone()
            assert row == (sent, hashlib.md5(sent).hexdigest())


def test_a_port_where_nobody_listens_is_told(postgres17_container: DatabaseServer) -> None:
    with place(postgres17_container) as (connector, runner):
        connector.config.port = 5999
        with pytest.raises(Unreachable, match="refused"), replication(connector, runner):
            pass
    assert inside(postgres17_container) == ""


def test_a_container_without_bash_is_refused_in_words(dockerd: DockerEngine) -> None:
    name = unused("nobash")
    container = dockerd.service("workbench", name, "busybox", command=["sleep", "600"])
    try:
        config = PostgresConfig(container=str(container.name), docker_host=dockerd.host)
        runner = runner_for(config, site="workbench")
        with pytest.raises(ToolMissing, match="no bash") as caught, relay(runner, "127.0.0.1", 5432):
            pass
        assert "pg_hba.conf" in caught.value.remedy
    finally:
        container.remove(force=True)
