"""The server in a container is its first process: what dies beside it must not look like its own child."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.progress import silent
from tests.functional.postgres.kit import Bytes, MemoryParts, capture, source_for
from tests.servers.databases import DatabaseServer

ROOT = Path(__file__).parents[3]
CAPTURE = """
import json, sys, time
from engine.config import PostgresConfig
from engine.postgres import PostgresSource
from engine.progress import silent
class Stuck:
    def write(self, data):
        print("begun", flush=True); time.sleep(600)
class Parts:
    def data(self): return Stuck()
    def companion(self, role, ext="sql"): return open("/dev/null", "wb")
PostgresSource(PostgresConfig(**json.loads(sys.argv[1])), site="workbench").capture(sys.argv[2], Parts(), silent)
"""


class _Failing(Bytes):
    def write(self, data: bytes) -> None:
        raise OSError("no space left, says the test")


class _FailingParts(MemoryParts):
    def data(self) -> Bytes:
        return _Failing()


def dumps(server: DatabaseServer) -> list[Any]:
    return server.sql("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'backup-flows%'")


def nothing_runs(server: DatabaseServer) -> bool:
    deadline = time.monotonic() + 20
    while dumps(server) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not dumps(server)


@pytest.mark.parametrize("how", ["well", "by an error", "by kill -9"])
def test_other_sessions_live_on_when_a_capture_ends(postgres17_container: DatabaseServer, how: str) -> None:
    server = postgres17_container
    with server.database() as name, server.connect() as bystander:
        server.sql("CREATE TABLE t AS SELECT n, repeat('x', 200) AS x FROM generate_series(1, 100000) n", name)
        if how == "well":
            capture(source_for(server), name)
        elif how == "by an error":
            with pytest.raises(OSError, match="says the test"):
                source_for(server).capture(name, _FailingParts(), silent)
        else:
            _kill(server, name)
        assert nothing_runs(server)
        assert bystander.execute("SELECT 1").fetchone() == (1,)  # a crashed server would have ended it


def _kill(server: DatabaseServer, name: str) -> None:
    config = {
        "user": server.user,
        "password": server.password,
        "service": server.service,
        "project": server.project,
        "docker_host": server.docker_host,
    }
    program = [sys.executable, "-c", CAPTURE, json.dumps(config), name]
    with subprocess.Popen(program, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"begun\n"
        assert dumps(server)
        child.send_signal(signal.SIGKILL)
