"""The command line, run in processes of its own that need not import it anew.

Starting ``backups`` costs over a second of processor time on a slow machine, nearly all of it for imports. A process
that has made them forks for every command: the command has a process, an environment, a working directory and output
files of its own, as a started one has. That it starts by itself is shown by the tests that run it on a terminal.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]
_NEEDED = (
    "boto3", "docker", "pymysql", "psycopg", "rich.progress", "rich.table", "deployments.cli.main",
    "deployments.site_file", "engine.backup", "engine.drill", "engine.point_in_time", "engine.prune", "engine.restore",
    "engine.shipping", "engine.site", "engine.snapshots", "engine.status", "engine.verify",
)  # fmt: skip


def backups(
    *arguments: str, env: dict[str, str], cwd: Path = ROOT, timeout: float = 300.0
) -> subprocess.CompletedProcess[str]:
    """Run ``backups`` with exactly this environment and nothing on its standard input.

    Raises:
        subprocess.TimeoutExpired: It was killed after ``timeout`` seconds.
    """
    with _lock:
        return _server().run(list(arguments), env, cwd, timeout)


class _Server:
    """The process that has imported all, for this one."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.preloaded"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        atexit.register(self.stop)

    def run(
        self, arguments: list[str], env: dict[str, str], cwd: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            order = {"argv": arguments, "env": env, "cwd": str(cwd), "out": str(out), "err": str(err)}
            assert self.process.stdin is not None and self.process.stdout is not None
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            pid = int(self.process.stdout.readline())
            killer = threading.Timer(timeout, os.kill, (pid, signal.SIGKILL))
            killer.start()
            begun = time.monotonic()
            code = int(self.process.stdout.readline())
            killer.cancel()
            if code == -signal.SIGKILL and time.monotonic() - begun >= timeout:
                raise subprocess.TimeoutExpired(["backups", *arguments], timeout, out.read_text(), err.read_text())
            return subprocess.CompletedProcess(["backups", *arguments], code, out.read_text(), err.read_text())

    def stop(self) -> None:
        """It ends with its input."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


_lock = threading.Lock()
_started: list[_Server] = []


def _server() -> _Server:
    if not _started or _started[0].process.poll() is not None:
        _started[:] = [_Server()]
    return _started[0]


def _serve() -> None:
    """Fork for every line of the input; answer with the process's number, then with its exit code."""
    for name in _NEEDED:
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _become(order: dict[str, Any]) -> NoReturn:
    """Be the command, and end as it ends: by leaving the interpreter."""
    from deployments.cli.main import main

    for number, path, how in ((0, os.devnull, os.O_RDONLY), (1, order["out"], _NEW), (2, order["err"], _NEW)):
        os.dup2(os.open(path, how, 0o600), number)
    sys.stdin = open(0)  # noqa: SIM115 - the old one has read ahead
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    os.chdir(order["cwd"])
    sys.argv = ["backups", *order["argv"]]
    main()


_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC

if __name__ == "__main__":
    _serve()
