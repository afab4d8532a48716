"""Multipart uploads that a killed run left go with the next sweep; those of a living run never, however old."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from engine.config import SiteConfig
from engine.site import Site
from engine.vault import Vault
from engine.vault_check.run import verify_place
from engine.vault_check.work import Request
from engine.verify import verify_backup
from tests.functional.stores.test_s3 import Objects
from tests.functional.vault_helpers import END, PASSPHRASE, make, site
from tests.servers.s3 import S3Server

LARGE = "".join(f"INSERT INTO t VALUES ({n});\n" for n in range(30_000)).encode() + os.urandom(15_000_000) + END

_CHILD = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from engine.config import SiteConfig
from engine.stores.s3_bucket import Bucket
from engine.vault import Vault
vault = Vault(SiteConfig.model_validate_json(sys.stdin.readline()))
upload, first = Bucket.upload, threading.Lock()
def slow(self, key, number, *rest):
    done = upload(self, key, number, *rest)
    if first.acquire(blocking=False):
        print("sent", flush=True)
        assert sys.stdin.readline() == "go on\\n"
    return done
Bucket.upload = slow
if sys.argv[2] == "backup":
    vault.replicate(next(vault.catalog().entries()), "copy0")
else:
    key = vault.contents("copy0", "mysql", "app").key("ab12")
    with vault.store("copy0").stage(key) as staged:
        staged.write(bytes(20_000_000))
        staged.commit()
"""


@pytest.fixture(params=["moto", "rclone"])
def server(request: pytest.FixtureRequest, moto_s3: S3Server, rclone_s3: S3Server) -> S3Server:
    return moto_s3 if request.param == "moto" else rclone_s3


@contextlib.contextmanager
def uploading(config: SiteConfig, what: str) -> Iterator[subprocess.Popen[str]]:
    """Another run, which has sent the first part of an upload to copy0 and waits for a word."""
    said = config.model_dump(mode="json")
    said["vault"]["keys"]["keys"]["main"] = PASSPHRASE
    for given, replica in zip(said["vault"]["replicas"], config.vault.replicas, strict=True):
        given["access_key"] = replica.access_key.get_secret_value()
        given["secret_key"] = replica.secret_key.get_secret_value()
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(Path(__file__).parents[2]), what],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert child.stdin and child.stdout
        child.stdin.write(json.dumps(said) + "\n")
        child.stdin.flush()
        assert child.stdout.readline() == "sent\n"
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def outside(server: S3Server, config: SiteConfig) -> Objects:
    return Objects(server, config.vault.replicas[0].bucket)


@pytest.mark.parametrize("what", ["backup", "content"])
def test_the_upload_of_a_killed_run_goes_with_the_very_next_sweep(what: str, server: S3Server, tmp_path: Path) -> None:
    config = site(tmp_path, server)
    vault = Vault(config)
    make(vault, LARGE)
    with uploading(config, what) as run:
        assert len(outside(server, config).unfinished()) == 1
        run.kill()
        run.wait()
    (said,) = [line for line in vault.sweep() if "upload" in line]
    assert said.startswith("copy0: unfinished upload of") and outside(server, config).unfinished() == []
    assert vault.sweep() == [] and not list((vault.state / "uploads").iterdir())


@pytest.mark.parametrize("what", ["backup", "content"])
def test_the_upload_of_a_living_run_is_never_too_old_for_a_sweep(
    what: str, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("engine.vault", "engine.vault_check.replicas"):
        monkeypatch.setattr(f"{place}.UPLOADS_DIE_AFTER", timedelta(0))
    config = site(tmp_path, server)
    vault = Vault(config)
    entry, _ = make(vault, LARGE)
    objects = outside(server, config)
    with uploading(config, what) as run:
        strange = objects.client.create_multipart_upload(Bucket=objects.bucket, Key="shop/mysql/daily/other.gz.enc")
        assert vault.sweep() == ["copy0: unfinished upload of shop/mysql/daily/other.gz.enc (unfinished)"], strange
        other_site = config.model_copy(update={"site": "other"})
        assert Vault(other_site).state.parent == vault.state.parent
        Vault(other_site).state.mkdir(mode=0o700)
        Vault(other_site).sweep()
        verify_place(Site(config), "copy0", Request(settle=0))
        assert len(objects.unfinished()) == 1
        assert run.stdin
        run.stdin.write("go on\n")
        run.stdin.flush()
        assert run.wait(60) == 0
    assert objects.unfinished() == [] and not list((vault.state / "uploads").iterdir())
    if what == "backup":
        assert vault.lacking("copy0") == []
        verify_backup(vault, "copy0", next(vault.catalog("copy0").entries()), lambda manifest, chunks: None)
        assert entry.file
