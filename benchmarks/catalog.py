"""A vault of 100,000 backups: what ``status``, a look of the watch, ``list`` and a prune plan take, in seconds and
memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.measure import Figure, plain
from engine import names
from engine.codec import KeyRing
from engine.manifest import Cipher, Manifest, Server, StoredFile
from engine.signed import seal

SIZES = (25_000, 100_000)
DATABASES = 20
KEY = "fake-key-of-a-benchmark-0123456789abcdef"
COMMANDS = {
    "list": ["list", "--json"],
    "status": ["status", "--json"],
    "watch": ["status", "--check"],
    "prune_plan": ["prune", "--dry-run", "--json"],
}
# its own peak: what the system tells of a child begins with what its parent had
_CHILD = """
import sys
from deployments.cli.main import run
code = run(sys.argv[1:])
sys.stdout.flush()
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1], file=sys.stderr)
sys.exit(code)
"""


def run(directory: Path) -> list[Figure]:
    """Seconds and peak memory at the full size, and growth from a quarter of it: 4 is linear."""
    taken: dict[tuple[str, int], tuple[float, float]] = {}
    for size in SIZES:
        site = make(directory / str(size), size)
        for name, command in COMMANDS.items():
            taken[name, size] = min(measured(site, command) for _ in range(2))
    figures = []
    small, large = SIZES
    for name in COMMANDS:
        (before, _), (after, memory) = taken[name, small], taken[name, large]
        figures.append(plain(f"catalog.{name}.of_{large}", after, "s"))
        figures.append(plain(f"catalog.{name}_growth.of_4_times", after / before, "x"))
        figures.append(plain(f"catalog.{name}_memory.of_{large}", memory, "MiB"))
    return figures


def measured(site: Path, command: list[str]) -> tuple[float, float]:
    """Wall seconds of a command from its start to its end, and its peak resident memory (MiB)."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _CHILD, *command, "-f", str(site)], capture_output=True, check=False)
    seconds = time.perf_counter() - begun
    assert done.returncode in (0, 1, 2, 3) and done.stdout, done.stderr.decode()  # a check exits with what it found
    return seconds, int(done.stderr.split()[-1]) / 1024


def make(directory: Path, count: int) -> Path:
    """A site whose vault holds so many hourly backups, each with a signed manifest and a mark that it was verified."""
    directory.mkdir(parents=True)
    root = directory / "vault"
    databases = [f"shop{number:02}" for number in range(DATABASES)]
    keys = KeyRing({"main": KEY}, "main")
    folder, marks = root / "big/mysql/hourly", root / "big/marks/mysql/hourly"
    folder.mkdir(parents=True, mode=0o700)
    marks.mkdir(parents=True)
    newest = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = count // DATABASES
    for hour in range(hours):
        for database in databases:
            _put(folder, marks, keys, database, newest - timedelta(hours=hour))
    document = {
        "site": "big",
        "vault": {
            "root": str(root),
            "keys": {"current": "main", "main": KEY},
            # the oldest hundredth is to go
            "retention": {"hourly": f"{int(hours * 0.99)}h"},
        },
        "mysql": {"databases": databases, "point_in_time": "false"},
    }
    file = directory / "big.yaml"
    file.write_text(json.dumps(document))
    return file


def _put(folder: Path, marks: Path, keys: KeyRing, database: str, at: datetime) -> None:
    name = names.BackupName(at, database, "sql.gz.enc")
    stored = StoredFile(
        file=name.file, size=1, sha256="0" * 64, plain_size=1, compression="gzip", cipher=Cipher(key_id="main")
    )
    manifest = Manifest(
        site="big", source="mysql", kind="mysql", tier="hourly", database=database, file=name.file, started_at=at,
        finished_at=at, files=[stored], server=Server(flavour="mariadb", version="10.11"), rows={"orders": 5},
    )  # fmt: skip
    (folder / name.file).write_bytes(b"x")
    (folder / f"{name.file}.json").write_bytes(seal(manifest.model_dump(mode="json"), keys, "main"))
    stamp = f"{at:{names.STAMP}}-00000000"
    said = {
        "type": "mark", "format": 1, "site": "big", "location": "local", "key": f"big/mysql/hourly/{name.file}",
        "kind": "verified", "at": at.isoformat(), "facts": {"sha256": "0" * 64},
    }  # fmt: skip
    (marks / f"{name.file}.verified.{stamp}.json").write_bytes(seal(said, keys, "main"))
