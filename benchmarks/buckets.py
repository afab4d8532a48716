"""Snapshots of a bucket of 20,000 objects: the first, and one after 1% of them changed."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.backup import KEY
from benchmarks.measure import Figure, against, plain
from deployments.embedded import free_port

OBJECTS = 20_000
CHANGED = OBJECTS // 100
SIZES = (500, 60_000)
"""Bytes of an object, evenly drawn from between these."""
_ACCESS, _SECRET = "BENCHACCESSKEY", "bench-secret-key-0123456789"
READY_SECONDS = 60.0


@dataclass
class Bucket:
    """A directory that rclone serves as a bucket."""

    directory: Path

    def __post_init__(self) -> None:
        self.files = self.directory / "buckets/media"
        self.files.mkdir(parents=True)
        self._random = random.Random(7)

    def fill(self, numbers: range) -> None:
        """Objects of these numbers, each of a content of its own; half of it can be compressed."""
        for number in numbers:
            file = self.files / f"{number // 1000:02}/{number:05}.bin"
            file.parent.mkdir(exist_ok=True)
            size = self._random.randint(*SIZES)
            file.write_bytes(self._random.randbytes(size // 2) + bytes(size - size // 2))

    @contextlib.contextmanager
    def served(self) -> Iterator[str]:
        """The endpoint, while it runs."""
        port = free_port()
        program = shutil.which("rclone", path=str(Path(sys.executable).parent)) or "rclone"
        process = subprocess.Popen(
            [program, "serve", "s3", str(self.directory / "buckets"), f"--addr=127.0.0.1:{port}",
             "--dir-cache-time=1s", "--auth-key", f"{_ACCESS},{_SECRET}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            endpoint = f"http://127.0.0.1:{port}"
            _wait(endpoint)
            yield endpoint
        finally:
            process.terminate()
            process.wait(20)

    def site(self, endpoint: str) -> Path:
        """The file of a site that backs it up into a vault of its own."""
        vault = {"root": str(self.directory / "vault"), "keys": {"current": "main", "keys": {"main": KEY}}}
        source = {"name": "media", "buckets": ["media"], "endpoint_url": endpoint}
        document = {
            "site": "bench", "vault": vault,
            "buckets": [{**source, "access_key": _ACCESS, "secret_key": _SECRET}],
        }  # fmt: skip
        file = self.directory / "site.json"
        file.write_text(json.dumps(document))
        return file


def run(directory: Path) -> list[Figure]:
    """The time of both, captured and verified, and how far the process grew; all of it holds a few megabytes."""
    bucket = Bucket(directory)
    bucket.fill(range(OBJECTS))
    with bucket.served() as endpoint:
        site = bucket.site(endpoint)
        first = _ours(site)
        time.sleep(2)  # rclone looks at its directory again
        bucket.fill(range(0, OBJECTS, OBJECTS // CHANGED))
        time.sleep(2)
        second = _ours(site)
    assert (first["copied"], second["copied"]) == (OBJECTS, CHANGED), (first, second)
    name = "bucket.snapshot"
    return [
        plain(f"{name}.objects", first["objects"], "objects"),
        plain(f"{name}.first", first["seconds"], "s"),
        plain(f"{name}.first_memory_growth", first["grown"] / 2**20, "MiB"),
        plain(f"{name}.second_copied", second["copied"], "objects"),
        plain(f"{name}.second_memory_growth", second["grown"] / 2**20, "MiB"),
        against(f"{name}.second_of_1_percent.vs_first", second["seconds"], "the first snapshot", first["seconds"]),
    ]  # fmt: skip


def _ours(site: Path) -> dict[str, float]:
    argv = [sys.executable, "-m", "benchmarks.ours_bucket", str(site)]
    return dict(json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout))


def _wait(endpoint: str) -> None:
    import httpx

    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            httpx.get(endpoint)
            return
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
