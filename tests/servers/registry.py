"""A registry of images: Debian's ``docker-registry`` on loopback, where an engine asks for no certificate."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from deployments.embedded import free_port

READY_SECONDS = 60.0
_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "{address}"}}
"""


@dataclass(frozen=True)
class Registry:
    """A running registry.

    Attributes:
        address: What the names of its images begin with: ``127.0.0.1:PORT``.
        root: The directory that it keeps everything in.
    """

    address: str
    root: Path

    def blob(self, digest: str) -> Path:
        """The file of a ``sha256:...``: a layer, a configuration or a manifest."""
        digits = digest.partition(":")[2]
        return self.root / "docker/registry/v2/blobs/sha256" / digits[:2] / digits / "data"


@contextlib.contextmanager
def registry(directory: Path) -> Iterator[Registry]:
    """Start an empty one that keeps its images in ``directory``."""
    program = shutil.which("docker-registry", path=f"{os.environ['PATH']}:/usr/bin")
    assert program, "docker-registry is not installed; run scripts/setup.sh dev"
    directory.mkdir()
    made = Registry(f"127.0.0.1:{free_port()}", directory / "images")
    config, log = directory / "config.yml", directory / "server.log"
    config.write_text(_CONFIG.format(root=made.root, address=made.address))
    with log.open("wb") as out:
        process = subprocess.Popen(
            [program, "serve", str(config)], cwd=directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
    try:
        _wait_until_ready(made, process, log)
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(made: Registry, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://{made.address}/v2/", timeout=10).status_code == 200:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise AssertionError(f"the registry does not answer:\n{tail}")
        time.sleep(0.1)
