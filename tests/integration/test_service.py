"""Server and worker as a service: started again when they die, stopped together, and a unit for systemd."""

from __future__ import annotations

import configparser
import getpass
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from deployments.server import ROOT, LocalServer
from tests.integration.installation import until


def test_what_dies_is_started_again_and_sigterm_stops_both(tmp_path: Path) -> None:
    local = LocalServer(tmp_path / "home")
    command = [sys.executable, "-m", "deployments.cli", "up", "--stay", "--port", "0", "--home", str(local.home)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as service:
        try:
            first = until(local.worker.pid, "the worker")
            local.worker.kill()
            second = until(lambda: pid if (pid := local.worker.pid()) not in (None, first) else None, "another worker")
            server = local.server.pid()
            assert server is not None
            service.send_signal(signal.SIGTERM)
            out, err = service.communicate(timeout=90)
        finally:
            service.kill()
            local.stop()
    assert service.returncode == 0, err
    assert "Prefect is up: http://127.0.0.1:" in out and "worker died, and will be started again" in err
    assert not any(psutil.pid_exists(pid) for pid in (server, second))


def test_the_unit_keeps_it_running_for_this_user_with_this_checkout(tmp_path: Path) -> None:
    home = tmp_path / "its home"
    command = [sys.executable, "-m", "deployments.cli", "up", "--unit", "--port", "4207", "--home", str(home)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment]
    unit.read_string(done.stdout)
    service = unit["Service"]
    assert service["User"] == getpass.getuser() and service["Restart"] == "always"
    started = shlex.split(service["ExecStart"])
    assert started[0] == sys.executable and started[-2:] == ["--home", str(home)] and "--stay" in started
    known = subprocess.run([*started, "--help"], cwd=service["WorkingDirectory"], env={"PATH": os.defpath}, check=False)
    assert known.returncode == 0 and not home.exists()
    told = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["unit"] == done.stdout
