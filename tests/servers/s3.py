"""Two S3 servers of different character: moto's (features, any key) and rclone's (signatures, streaming)."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from deployments.embedded import free_port

READY_SECONDS = 60.0


@dataclass(frozen=True)
class S3Server:
    """A running S3 server with one bucket made; see the package's docstring."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    root: Path | None = None

    def client(self) -> Any:
        """A boto3 client that sends no checksum a fussy endpoint would choke on."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
            ),
        )

    def new_bucket(self, prefix: str = "bucket") -> str:
        """Make another, empty bucket and return its name."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        self.client().create_bucket(Bucket=name)
        return name


@contextlib.contextmanager
def moto(directory: Path) -> Iterator[S3Server]:
    """moto's server; its objects live in its memory."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = S3Server(f"http://127.0.0.1:{port}", "vault", "fake-access-key-of-moto", "fake-secret-key-of-moto")
    with _running(command, directory, {}, server):
        yield server


@contextlib.contextmanager
def rclone(directory: Path) -> Iterator[S3Server]:
    """rclone's S3 face over a directory; every sub-directory is a bucket."""
    port = free_port()
    buckets = directory / "buckets"
    buckets.mkdir(parents=True)
    beside = Path(sys.executable).parent
    program = shutil.which("rclone", path=f"{beside}:{os.environ['PATH']}")
    assert program, "rclone is not installed; run scripts/setup.sh dev"
    command = [program, "serve", "s3", str(buckets), f"--addr=127.0.0.1:{port}", "--dir-cache-time=1s"]
    key, secret = "FAKEACCESSKEYOFRCLONE", "fake-secret-key-of-rclone-0123456789"
    server = S3Server(f"http://127.0.0.1:{port}", "vault", key, secret, root=buckets)
    environment = {"RCLONE_AUTH_KEY": f'"{key},{secret}"', "RCLONE_CONFIG": str(directory / "rclone.conf")}
    with _running(command, directory, environment, server):
        yield server


@contextlib.contextmanager
def _running(
    command: Sequence[str], directory: Path, environment: Mapping[str, str], server: S3Server
) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=directory,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        _wait_until_ready(server, process, log)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            server.client().create_bucket(Bucket=server.bucket)
            return
        except (BotoCoreError, ClientError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise AssertionError(f"the S3 server at {server.endpoint} does not answer:\n{tail}") from error
            time.sleep(0.1)
