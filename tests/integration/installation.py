"""One Prefect server and worker, and the sites that the tests set up on it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from deployments.api import PrefectApi, Run
from deployments.server import LocalServer
from tests.servers.databases import DatabaseServer
from tests.servers.s3 import S3Server

PYTHON = sys.executable
KEY = "FAKE-encryption-key-of-the-tests-0123456789"
S3_SECRET_NAME = "ITEST_S3_SECRET"


@dataclass
class Site:
    """A site of its own: databases, vault and bucket that no other test touches."""

    name: str
    file: Path
    vault: Path
    bucket: str
    shop: str
    platform: str
    env: dict[str, str] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)
    scheduled: bool = False
    """Do its schedules make runs? They would keep two cores busy beside every other test of the session."""
    held: bool = False

    def write(self) -> None:
        """Write the site file anew, after a change of ``document``."""
        self.file.write_text(yaml.safe_dump(self.document))

    def files(self, ending: str = ".json") -> list[Path]:
        """What the vault holds, without this package's own state."""
        aside = {".backup-flows", "marks", "site-file"}
        found = self.vault.rglob(f"*{ending}")
        return sorted(each for each in found if not aside & {*each.parts})

    def staged(self) -> list[Path]:
        """Data that was being written."""
        state = self.vault / ".backup-flows"
        return [each for each in state.rglob("*") if each.is_file() and "stag" in str(each.relative_to(state)).lower()]


@dataclass
class Installation:
    """Where the tests run flows."""

    server: LocalServer
    api: PrefectApi
    directory: Path
    mariadb: DatabaseServer
    postgres: DatabaseServer
    s3: S3Server
    common: Site | None = None
    """The site that modules share; each leaves its databases with the rows that they had."""

    def site(self, name: str, *, scheduled: bool = False) -> Site:
        """A new site with a small shop in MariaDB and a small platform in PostgreSQL."""
        name = f"{name}-{secrets.token_hex(2)}"
        shop, platform = (f"{kind}_{name.replace('-', '_')}" for kind in ("shop", "platform"))
        make_shop(self.mariadb, shop)
        make_platform(self.postgres, platform)
        bucket = self.s3.new_bucket(name)
        root = self.directory / name
        root.mkdir()
        made = Site(name, root / f"{name}.yaml", root / "vault", bucket, shop, platform, scheduled=scheduled)
        made.env = {
            "ITEST_KEY": KEY,
            "ITEST_MARIADB": self.mariadb.password,
            "ITEST_POSTGRES": self.postgres.password,
            S3_SECRET_NAME: self.s3.secret_key,
        }
        made.document = {
            "site": name,
            "vault": {
                "root": str(made.vault),
                "keys": {"current": "main", "main": "${ITEST_KEY}"},
                "replicas": [
                    {
                        "name": "s3",
                        "bucket": bucket,
                        "endpoint_url": self.s3.endpoint,
                        "addressing": "path",
                        "access_key": self.s3.access_key,
                        "secret_key": f"${{{S3_SECRET_NAME}}}",
                    }
                ],
            },
            "mysql": _server(self.mariadb, "${ITEST_MARIADB}", shop),
            "postgres": _server(self.postgres, "${ITEST_POSTGRES}", platform),
        }
        made.write()
        return made

    def apply(self, site: Site, *options: str) -> subprocess.CompletedProcess[str]:
        """``backups apply``, as a person runs it."""
        command = ("-m", "deployments.cli", "apply", str(site.file), *options)
        if site.scheduled or site.held:
            return self.command(*command, env=site.env)
        self._let_runs_begin(False)
        try:
            done = self.command(*command, env=site.env)
            self.hold(site)
            site.held = done.returncode == 0
        finally:
            self._let_runs_begin(True)
        return done

    def hold(self, site: Site) -> None:
        """Pause every deployment of a site: no schedule makes a run any more, people still can.

        The server plans runs in passes; one that was under way still plans some, so those are looked for a while.
        """
        wanted = {"deployments": {"name": {"any_": [site.name]}}}
        for each in self.api.call("POST", "/deployments/filter", wanted):
            self.api.call("POST", f"/deployments/{each['id']}/pause_deployment")
        planned = {**wanted, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        quiet_since = time.monotonic()
        while time.monotonic() < quiet_since + 4:
            for run in self.api.call("POST", "/flow_runs/filter", planned):
                if run["auto_scheduled"]:
                    self.api.call("DELETE", f"/flow_runs/{run['id']}")
                    quiet_since = time.monotonic()
            time.sleep(0.5)

    def _let_runs_begin(self, begin: bool) -> None:
        """Between the making of a deployment and its pause a worker might take up its first run."""
        pools = self.api.call("POST", "/work_pools/filter", {})
        for pool in pools:
            self.api.call("PATCH", f"/work_pools/{pool['name']}", {"is_paused": not begin})

    def prefect(self, *arguments: str, timeout: float = 480) -> subprocess.CompletedProcess[str]:
        """The ``prefect`` command, logged in."""
        return self.command("-m", "prefect", *arguments, timeout=timeout)

    def command(
        self, *arguments: str, env: dict[str, str] | None = None, timeout: float = 480
    ) -> subprocess.CompletedProcess[str]:
        """A Python program in the server's client environment."""
        return subprocess.run(
            [PYTHON, *arguments],
            env={**os.environ, **self.server.client_env(), "NO_COLOR": "1", "COLUMNS": "200", **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def run(self, deployment: str, *, timeout: float = 480, **parameters: Any) -> Run:
        """Start a deployment over the API and wait for its end."""
        return self.api.wait(self.api.start(deployment, **parameters), timeout=timeout)

    def log(self, run: Run) -> list[str]:
        """The whole log of a run that has ended: its last lines arrive a moment after its state."""
        deadline = time.monotonic() + 120
        says = run.first_line[:20]  # its tasks say that they finished, too
        while True:
            lines = self.api.logs(run.id)
            ended = any(line.startswith("Finished in state") and says in line for line in lines)
            if ended or run.state == "CRASHED" or time.monotonic() > deadline:
                return lines
            time.sleep(0.5)

    def table(self, run: Run, key: str) -> list[dict[str, Any]]:
        """The rows of a table artifact of that run."""
        for artifact in self.api.artifacts(run.id):
            if artifact["key"] == key:
                rows: list[dict[str, Any]] = json.loads(artifact["data"])
                return rows
        raise AssertionError(f"no artifact {key!r} among {[a['key'] for a in self.api.artifacts(run.id)]}")

    def markdown(self, run_id: str, key: str) -> str:
        """The text of a markdown artifact of that run."""
        found = [each["data"] for each in self.api.artifacts(run_id) if each["key"] == key]
        assert found, f"no artifact {key!r}"
        return str(found[0])

    def flow_process(self, run_id: str) -> psutil.Process:
        """The process that runs this flow run, found below the worker."""

        def find() -> psutil.Process | None:
            worker = self.server.worker.pid()
            assert worker is not None
            for child in psutil.Process(worker).children(recursive=True):
                try:
                    if child.environ().get("PREFECT__FLOW_RUN_ID", "").replace("-", "") == run_id.replace("-", ""):
                        return child
                except psutil.Error:
                    continue
            return None

        return until(find, "the flow's process")


def until(find: Callable[[], Any], what: str, timeout: float = 240.0) -> Any:
    """Ask again until there is an answer that is not None or False."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = find()
        if found is not None and found is not False:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {timeout:.0f} s in vain for {what}")


@contextmanager
def installation(
    directory: Path, mariadb: DatabaseServer, postgres: DatabaseServer, s3: S3Server
) -> Iterator[Installation]:
    """Start a server with a password, and a worker; stop both."""
    quick = {"BACKUP_FLOWS_RETRIES": "2", "BACKUP_FLOWS_RETRY_SECONDS": "0.2", "BACKUP_FLOWS_THAW_SECONDS": "1"}
    server = LocalServer(directory / "prefect", extra_env=quick)
    try:
        server.start(0, timeout=300)
        api = PrefectApi(f"{server.url}/api", server.auth)
        yield Installation(server, api, directory, mariadb, postgres, s3)
        api.close()
    finally:
        server.stop()


def make_shop(server: DatabaseServer, name: str) -> None:
    """A database with two tables and 2,000 orders."""
    server.sql(f"CREATE DATABASE {name}")
    server.sql(
        """
        CREATE TABLE customers (id INT PRIMARY KEY, name VARCHAR(50) NOT NULL) ENGINE=InnoDB;
        CREATE TABLE orders (id INT PRIMARY KEY, customer INT NOT NULL, note VARCHAR(80), amount DECIMAL(9,2),
          FOREIGN KEY (customer) REFERENCES customers (id)) ENGINE=InnoDB;
        INSERT INTO customers SELECT seq, CONCAT('Zoë ', seq, ' 🙂') FROM seq_1_to_100;
        INSERT INTO orders SELECT seq, 1 + seq % 100, IF(seq % 5, CONCAT('it''s "', seq, '"'), NULL), seq / 7
          FROM seq_1_to_2000;
        """,
        name,
    )


def make_platform(server: DatabaseServer, name: str) -> None:
    """A database with two schemas and 2,000 readings."""
    server.sql(f"CREATE DATABASE {name}")
    server.sql(
        """
        CREATE SCHEMA bronze; CREATE SCHEMA silver;
        CREATE TABLE bronze.readings (id int PRIMARY KEY, value numeric, tags text[]);
        CREATE TABLE silver.daily (day date PRIMARY KEY, mean float8);
        INSERT INTO bronze.readings SELECT n, n / 7.0, ARRAY['a', 'b ' || n] FROM generate_series(1, 2000) n;
        INSERT INTO silver.daily SELECT date '2025-01-01' + n, sqrt(n) FROM generate_series(1, 300) n;
        """,
        name,
    )


def _server(server: DatabaseServer, password: str, database: str) -> dict[str, Any]:
    return {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": password,
        "databases": [database],
    }
