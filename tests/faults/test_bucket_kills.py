"""Snapshots of buckets that are killed anywhere: no half of one counts, and the next run goes on from what is there;
and objects larger than one part may be, with flat memory."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from engine import backup
from engine.buckets.plan import BucketRequest, make_plan
from engine.buckets.restore import run
from tests.functional.bucket_machine import Machine, machine, put
from tests.functional.vault_helpers import PASSPHRASE
from tests.servers.s3 import S3Server
from tests.soak import SEED, trials

OBJECTS = {f"{number:03}": bytes([number]) * (100 + number * 2000) for number in range(150)}
LARGE = int(os.environ.get("BACKUP_FLOWS_LARGE_OBJECT", 5 * 1024**3 + 12_345))
"""Bytes: more than S3 takes in one put."""
GROWTH = 300 * 1024**2


@pytest.mark.soak
def test_a_snapshot_that_is_killed_anywhere_is_none_and_the_next_one_is_whole(
    moto_s3: S3Server, tmp_path: Path
) -> None:
    lots = random.Random(f"{SEED}/bucket kills")
    for trial in range(trials(1, 10)):
        with machine(moto_s3, tmp_path / f"vault{trial}") as shop:
            put(moto_s3, shop.bucket, OBJECTS)
            _kill_one(shop, tmp_path, lots.randint(0, len(OBJECTS)))
            for entry in shop.site.vault.catalog().entries():  # it may have ended first
                backup.verify(shop.site, entry)
            shop.site.sweep()
            left = shop.contents()
            made = shop.back_up()
            assert made.manifest.contents["objects"] == len(OBJECTS) and not made.manifest.incomplete
            assert made.manifest.contents["stored"] == len(OBJECTS) - len(left), "what was stored is not stored again"
            backup.verify(shop.site, made.entry)


def _kill_one(shop: Machine, folder: Path, at: int) -> None:
    """Start a backup and kill it once so many contents are stored (or it has ended)."""
    document = json.loads(shop.config.model_dump_json())
    document["vault"]["keys"] = {"current": "main", "main": PASSPHRASE}
    document["vault"].pop("replicas")
    (source,) = document["buckets"]
    source |= {"access_key": shop.server.access_key, "secret_key": shop.server.secret_key}
    given = {name: document[name] for name in ("site", "vault", "buckets")}
    file = folder / "site.yaml"
    file.write_text(yaml.safe_dump(given))
    process = subprocess.Popen(
        [sys.executable, "-m", "deployments.cli", "backup", "-f", str(file), "--tier", "daily", "-q"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        while process.poll() is None and len(shop.contents()) < at:
            time.sleep(0.05)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.soak(sample=False)
def test_an_object_larger_than_one_put_comes_and_goes_with_flat_memory(rclone_s3: S3Server, tmp_path: Path) -> None:
    with machine(rclone_s3, tmp_path / "vault") as shop:
        assert rclone_s3.root is not None
        file = rclone_s3.root / shop.bucket / "large.bin"
        with file.open("wb") as out:
            out.truncate(LARGE)
            for at in range(0, LARGE, 512 * 1024**2):
                out.seek(at)
                out.write(os.urandom(1024))
        idle = _resident()
        made = shop.back_up()
        plan = make_plan(shop.site, BucketRequest(shop.bucket))
        run(shop.site, plan)
        assert _resident() - idle < GROWTH
        assert made.manifest.contents["bytes"] == LARGE
        same = subprocess.run(["cmp", file, rclone_s3.root / plan.into / "large.bin"], check=False)
        assert same.returncode == 0
        for path in (file, rclone_s3.root / plan.into / "large.bin"):
            path.unlink()


def _resident() -> int:
    """The most that this process ever held, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
