"""The local server and worker as a service: kept running, and started again with the machine."""

from __future__ import annotations

import getpass
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deployments.server import ROOT, LocalServer
from engine.errors import BackupError

LOOK_SECONDS = 2.0
AGAIN_SECONDS = 10.0
"""Between two tries to start what does not start."""

_UNIT = """\
[Unit]
Description=backup-flows: Prefect server and worker
Documentation=file://{root}/docs/prefect.md
Wants=network-online.target
After=network-online.target docker.service

[Service]
User={user}
WorkingDirectory={root}
ExecStart={command}
Restart=always
RestartSec={again:.0f}
SuccessExitStatus=143
KillMode=mixed
TimeoutStopSec=90

[Install]
WantedBy=multi-user.target
"""


def unit(home: Path, port: int) -> str:
    """A systemd unit that keeps server and worker running, with this checkout and this user."""
    command = [sys.executable, "-m", "deployments.cli", "up", "--stay", "--port", str(port), "--home", str(home)]
    quoted = shlex.join(command).replace("%", "%%")
    return _UNIT.format(root=ROOT, user=getpass.getuser(), command=quoted, again=AGAIN_SECONDS)


def stay(local: LocalServer, port: int, tell: Callable[[str], None]) -> None:
    """Start what has died again, until Ctrl-C or SIGTERM; then both are stopped.

    Args:
        local: Runs already.
        tell: Hears what had died, and what does not start.
    """
    try:
        while True:
            time.sleep(LOOK_SECONDS)
            dead = [each.name for each in (local.server, local.worker) if each.pid() is None]
            if not dead:
                continue
            tell(f"{' and '.join(dead)} died, and will be started again")
            try:
                local.start(port)
            except BackupError as error:
                tell(str(error))
                time.sleep(AGAIN_SECONDS)
    except KeyboardInterrupt:  # the usual end of a service; so is SIGTERM, see deployments.cli
        pass
    finally:
        local.stop()
