"""Snapshots and restores of buckets that are killed anywhere: no half of one counts, the next run goes on from what is
there; and objects larger than one part may be, with flat memory."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine import backup
from engine.buckets.plan import BucketRequest, make_plan
from engine.buckets.restore import BucketRestore, run
from engine.site import Site
from engine.stores.multipart import MIB
from tests.functional.bucket_machine import Machine, holds, machine, put
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


@pytest.mark.soak
def test_a_restore_that_is_killed_anywhere_leaves_each_object_whole_and_the_next_one_ends(
    moto_s3: S3Server, tmp_path: Path, counted_trials: Callable[[int], None]
) -> None:
    """Among the objects are some that go in parts; it dies before or after a request that writes."""
    lots = random.Random(f"{SEED}/bucket restore kills")
    large = {f"large {number}": os.urandom(11 * MIB) for number in range(2)}
    good = {f"{number:02}": b"good %d" % number for number in range(12)} | large
    client = moto_s3.client()
    for trial in range(trials(1, 20)):
        with machine(moto_s3, tmp_path / f"vault{trial}") as shop:
            put(moto_s3, shop.bucket, good)
            shop.back_up()
            saved = holds(moto_s3, shop.bucket)
            for key in saved:
                client.put_object(Bucket=shop.bucket, Key=key, Body=b"bad" + key.encode())
            client.put_object(Bucket=shop.bucket, Key="only now", Body=b"stays")
            client.delete_object(Bucket=shop.bucket, Key="07")
            bad = holds(moto_s3, shop.bucket)
            # the first one dies amid uploads in parts: of one of them it does not know yet that it has begun
            assert _restore_dies(shop, *(WRITES[-1] if trial == 0 else lots.choice(WRITES)))
            now = holds(moto_s3, shop.bucket)
            assert set(bad) <= set(now) and all(now[key] in (bad.get(key), saved.get(key)) for key in now)
            swept = shop.site.sweep()
            assert swept.problems == [] and shop.site.sweep().done == []
            assert not client.list_multipart_uploads(Bucket=shop.bucket).get("Uploads"), swept.done
            if trial == 0:
                assert any("abandoned the unfinished upload of 'large" in line for line in swept.done)
            plan = make_plan(shop.site, BucketRequest(shop.bucket, into=shop.bucket))
            run(shop.site, plan, approved=True)
            assert holds(moto_s3, shop.bucket) == saved | {"only now": bad["only now"]}
    counted_trials(trials(1, 20))


WRITES = [
    *(("put_object", number, False) for number in (1, 5, 11)),
    *(("upload_part", number, False) for number in range(1, 7)),
    *(("complete_multipart_upload", number, after) for number in (1, 2) for after in (False, True)),
    *(("create_multipart_upload", number, after) for number in (1, 2) for after in (False, True)),
]


def _restore_dies(shop: Machine, call: str, count: int, after: bool) -> bool:
    """A restore in place in a process of its own, which is killed before its n-th call of that name, or right after."""
    child = os.fork()
    if child == 0:
        try:
            with Site(shop.config) as site:
                plan = make_plan(site, BucketRequest(shop.bucket, into=shop.bucket, safety_backup=False))
                with BucketRestore(site, plan, approved=True, whole=5 * MIB, parts=lambda number: 5 * MIB) as work:
                    real, one = getattr(work.there.client, call), threading.Lock()
                    left = [count]

                    def dying(**given: Any) -> Any:
                        with one:
                            left[0] -= 1
                            last = not left[0]
                        told = None if last and not after else real(**given)
                        if last:
                            os.kill(os.getpid(), signal.SIGKILL)
                        return told

                    setattr(work.there.client, call, dying)
                    work.put()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.timeout(3600)
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
