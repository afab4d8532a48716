"""A Prefect server and worker of one's own, for one machine: ``backups up`` and ``backups down``.

Everything stands in one home directory, 0700: the SQLite database, logs, and two secrets made once,
``secrets.json`` 0600: the password of the UI and API, and the key that encrypts blocks at rest (kept
outside the database, else a copied database opens itself). The server listens on the loopback only.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from cryptography.fernet import Fernet

from deployments.background import Background
from engine.errors import ConfigError, Unreachable

WORK_POOL = "backups"
FIRST_QUEUE = "deploys"
ROOT = Path(__file__).resolve().parent.parent
USER = "backups"


def default_home() -> Path:
    """``${XDG_STATE_HOME:-~/.local/state}/backup-flows/prefect``."""
    return state_directory() / "prefect"


def state_directory() -> Path:
    """``${XDG_STATE_HOME:-~/.local/state}/backup-flows``."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "backup-flows"


@dataclass
class LocalServer:
    """A server and a process worker that belong to ``home``."""

    home: Path
    extra_env: dict[str, str] = field(default_factory=dict)
    worker_name: str = "backups"

    @property
    def server(self) -> Background:
        return Background(self.home, "server")

    @property
    def worker(self) -> Background:
        return Background(self.home, "worker")

    @property
    def port(self) -> int:
        """The port of the last start, or 0."""
        try:
            return int(json.loads((self.home / "server.json").read_text())["port"])
        except (FileNotFoundError, ValueError, KeyError):
            return 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def user(self) -> str:
        return USER

    @property
    def auth(self) -> str:
        """``user:password`` as the UI's login and the API's basic authentication take it."""
        return self._secrets()["auth"]

    def client_env(self) -> dict[str, str]:
        """What a Prefect client needs in its environment to talk to this server."""
        return {
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_API_AUTH_STRING": self.auth,
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }

    def start(self, port: int = 4200, *, worker: bool = True, timeout: float = 180.0) -> LocalServer:
        """Start what does not run yet, and wait until it answers.

        Args:
            port: Port on the loopback; 0 takes the last one, or any free one.

        Raises:
            ConfigError: The port is taken, or a process ended as it started. Unreachable: no answer in time.
        """
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.home.chmod(0o700)
        if self.server.pid() is None:
            self._choose_port(port)
            argv = ["server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
            self.server.start(_launch(*argv), self._server_env())
        self._wait(timeout)
        self._write_env_file()
        if worker:
            self.start_worker()
        return self

    def start_worker(self) -> int:
        """Start the process worker (its pool is made if it is not there)."""
        argv = ["worker", "start", "--pool", WORK_POOL, "--type", "process", "--name", self.worker_name]
        return self.worker.start(_launch(*argv), self._worker_env())

    def stop(self) -> list[str]:
        """Stop worker and server, and only these; says what was running."""
        return [each.name for each in (self.worker, self.server) if each.stop()]

    def _choose_port(self, wanted: int) -> None:
        for port in [wanted] if wanted else [self.port, 0]:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                chosen = probe.getsockname()[1]
            (self.home / "server.json").write_text(json.dumps({"port": chosen}))
            return
        raise ConfigError(
            f"Port {wanted} is taken by another program.",
            remedy="choose another: backups up --port 4201 (0 takes a free one)",
        )

    def _wait(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        with httpx.Client(timeout=5) as client:  # one for all looks: making one costs more than a look
            while time.monotonic() < deadline:
                self.server.ensure_alive()
                try:
                    if client.get(f"{self.url}/api/health", auth=_pair(self.auth)).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.2)
        raise Unreachable(
            f"The Prefect server at {self.url} did not answer within {timeout:.0f} s.", remedy=f"see {self.server.log}"
        )

    def _secrets(self) -> dict[str, str]:
        path = self.home / "secrets.json"
        if not path.exists():
            made = {
                "auth": f"{USER}:{secrets.token_urlsafe(18)}",
                "encryption_key": Fernet.generate_key().decode(),
            }
            _write_private(path, json.dumps(made))
        loaded: dict[str, str] = json.loads(path.read_text())
        return loaded

    def _server_env(self) -> dict[str, str]:
        return {
            **_clean_environment(),
            **self.client_env(),
            "PREFECT_SERVER_API_AUTH_STRING": self.auth,
            "PREFECT_SERVER_ENCRYPTION_KEY": self._secrets()["encryption_key"],
            "PREFECT_SERVER_UI_API_URL": f"{self.url}/api",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "PREFECT_CLI_PROMPT": "false",
        }

    def _worker_env(self) -> dict[str, str]:
        return {
            **_clean_environment(),
            **self.client_env(),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
            "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
            **self.extra_env,
        }

    def _write_env_file(self) -> None:
        """``client.env``: for ``set -a; . client.env; set +a; prefect deployment run ...``."""
        lines = [f"{name}={value}" for name, value in self.client_env().items()]
        _write_private(self.home / "client.env", "\n".join(lines) + "\n")


def _launch(*argv: str) -> list[str]:
    return [sys.executable, "-m", "deployments.launch", *argv]


def _pair(auth: str) -> tuple[str, str]:
    user, _, password = auth.partition(":")
    return user, password


def _clean_environment() -> dict[str, str]:
    """Ours without any other server's Prefect settings, with the project importable."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    path = [str(ROOT), *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path))
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    return env


def _write_private(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
