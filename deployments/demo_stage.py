"""The demo's private machines: two database servers, an S3 endpoint, a Prefect server and a worker.

All of it in one directory, on free ports of the loopback, with passwords made for the occasion. Started
by one process and stopped by another.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from deployments.background import Background
from deployments.embedded import MariaDB, PostgreSQL, free_port, postgres_programs
from deployments.server import LocalServer, state_directory
from engine.errors import ConfigError, ToolMissing, Unreachable

BUCKET = "demo-backups"
UI_PORT = 4200


class Stage:
    """Everything the demo starts. ``home`` is private; ``databases`` lets the servers' own users in."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = home or state_directory() / "demo"
        # A database server that root starts runs as another user, which may not pass /root.
        self.databases = (
            Path(f"/var/tmp/backup-flows-demo-{os.getuid()}") if os.getuid() == 0 else self.home / "databases"
        )
        self.prefect = LocalServer(self.home / "prefect", extra_env={"BACKUP_FLOWS_RETRY_SECONDS": "2"})
        self.s3 = Background(self.home, "s3")

    def start(self) -> None:
        """Start all of it, side by side."""
        self._make_directories()
        self._facts()
        with ThreadPoolExecutor() as pool:
            jobs = [
                pool.submit(self._start_prefect),
                pool.submit(self.mariadb.start),
                pool.submit(self.postgres.start),
                pool.submit(self._start_s3),
            ]
            for job in jobs:
                job.result()
        self._write_env_file()

    def clear(self) -> list[str]:
        """Stop everything and delete every file; says what was running."""
        stopped = []
        if self.home.exists():
            stopped = self.prefect.stop()
            if self.s3.stop():
                stopped.append("s3")
        for name, server in (("mariadb", MariaDB), ("postgres", PostgreSQL)):
            if (self.databases / name).exists():
                running = server(self.databases / name, password="")
                if running.pid:
                    stopped.append(name)
                running.remove()
        shutil.rmtree(self.databases, ignore_errors=True)
        shutil.rmtree(self.home, ignore_errors=True)
        return stopped

    @property
    def mariadb(self) -> MariaDB:
        return MariaDB(self.databases / "mariadb", password=self._facts()["mariadb"])

    @property
    def postgres(self) -> PostgreSQL:
        return PostgreSQL(self.databases / "postgres", password=self._facts()["postgres"])

    def site_env(self) -> dict[str, str]:
        """The names that ``deployments/sites/demo.yaml`` uses."""
        facts = self._facts()
        return {
            "DEMO_ROOT": str(self.home),
            "DEMO_BACKUP_KEY": facts["key"],
            "DEMO_S3_BUCKET": BUCKET,
            "DEMO_S3_ENDPOINT": f"http://127.0.0.1:{facts['s3_port']}",
            "DEMO_S3_KEY": facts["s3_key"],
            "DEMO_S3_SECRET": facts["s3_secret"],
            "DEMO_MARIADB_PORT": str(self.mariadb.port),
            "DEMO_MARIADB_PASSWORD": facts["mariadb"],
            "DEMO_POSTGRES_PORT": str(self.postgres.port),
            "DEMO_POSTGRES_PASSWORD": facts["postgres"],
        }

    def mariadb_sql(self, text: str) -> bytes:
        """What the stock client prints."""
        argv = [
            "mariadb",
            "--no-defaults",
            "--host=127.0.0.1",
            f"--port={self.mariadb.port}",
            "--user=root",
            "--default-character-set=utf8mb4",
            "--batch",
            "--skip-column-names",
        ]
        return _run(argv, text, {"MYSQL_PWD": self.mariadb.password})

    def postgres_sql(self, text: str, database: str = "postgres") -> bytes:
        """What the stock client prints."""
        argv = [
            str(postgres_programs() / "psql"),
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.postgres.port),
            "-U",
            "postgres",
            "-d",
            database,
        ]
        return _run(argv, text, {"PGPASSWORD": self.postgres.password, "PGCLIENTENCODING": "UTF8"})

    def _make_directories(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.home.chmod(0o700)
        self.databases.mkdir(parents=True, exist_ok=True)
        found = self.databases.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise ConfigError(f"{self.databases} belongs to somebody else.", remedy="move it away and start again")
        if os.getuid() == 0:
            self.databases.chmod(0o755)

    def _facts(self) -> dict[str, str]:
        path = self.home / "demo.json"
        if not path.exists():
            made = {name: secrets.token_urlsafe(24) for name in ("mariadb", "postgres", "s3_secret")}
            made |= {
                "key": secrets.token_urlsafe(36),
                "s3_key": secrets.token_hex(10).upper(),
                "s3_port": str(free_port()),
            }
            path.touch(mode=0o600)
            path.write_text(json.dumps(made))
        facts: dict[str, str] = json.loads(path.read_text())
        return facts

    def _start_prefect(self) -> None:
        try:
            self.prefect.start(UI_PORT)
        except ConfigError:
            self.prefect.start(0)

    def _start_s3(self) -> None:
        facts = self._facts()
        root = self.home / "s3"
        root.mkdir(exist_ok=True, mode=0o700)
        program = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
        if program is None:
            raise ToolMissing("The demo's S3 endpoint needs rclone, which is not here.", remedy="run: make setup")
        env = {
            **os.environ,
            "RCLONE_AUTH_KEY": f'"{facts["s3_key"]},{facts["s3_secret"]}"',
            "RCLONE_CONFIG": str(self.home / "rclone.conf"),
        }
        argv = [program, "serve", "s3", str(root), f"--addr=127.0.0.1:{facts['s3_port']}", "--dir-cache-time=1s"]
        self.s3.start(argv, env)
        self._make_bucket(facts)

    def _make_bucket(self, facts: dict[str, str]) -> None:
        config = Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
        )
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{facts['s3_port']}",
            region_name="us-east-1",
            aws_access_key_id=facts["s3_key"],
            aws_secret_access_key=facts["s3_secret"],
            config=config,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                client.create_bucket(Bucket=BUCKET)
                return
            except (BotoCoreError, ClientError) as error:
                self.s3.ensure_alive()
                if time.monotonic() > deadline:
                    raise Unreachable(f"The demo's S3 endpoint does not answer: {error}") from None
                time.sleep(0.1)

    def _write_env_file(self) -> None:
        """``demo.env``: for ``set -a; . demo.env; set +a; backups list -f demo``."""
        path = self.home / "demo.env"
        path.touch(mode=0o600)
        names = {**self.site_env(), **self.prefect.client_env()}
        path.write_text("".join(f"{name}={value}\n" for name, value in names.items()))


def fingerprint(rows: bytes) -> tuple[int, str]:
    """How many lines a client printed, and their digest."""
    return rows.count(b"\n"), hashlib.sha256(rows).hexdigest()


def _run(argv: list[str], text: str, secret: dict[str, str]) -> bytes:
    done = subprocess.run(argv, input=text.encode(), capture_output=True, env={**os.environ, **secret}, check=False)
    if done.returncode:
        raise ConfigError(f"{Path(argv[0]).name} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
