"""Restore drills of buckets: every object into a scratch bucket or server, read back there, and gone again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.embedded import free_port
from engine.backup import backup_one
from engine.buckets import record
from engine.buckets.endpoint import Endpoint
from engine.buckets.record import EXTENSION
from engine.config import SiteConfig
from engine.drill.buckets import BucketsDrill
from engine.drill.run import DrillRequest, drill
from engine.drill.verdict import Check, DrillResult, PieceResult
from engine.errors import BackupError
from engine.processes.place import docker_client
from engine.scratch import boxed, leftovers
from engine.site import Site, Target
from engine.source import Facts
from tests.functional.bucket_machine import OBJECTS, SOURCE, Machine, holds, machine, put, source
from tests.functional.drilling import everything, orders_for, scratch_left
from tests.functional.vault_helpers import PASSPHRASE, flip
from tests.servers.docker import DockerEngine
from tests.servers.s3 import S3Server

ROOT = Path(__file__).parents[2]
KEEPS = {"somebody's": b"not ours"}


@pytest.fixture
def shop(moto_s3: S3Server, tmp_path: Path) -> Iterator[Machine]:
    """A bucket that is backed up, and a versioned scratch bucket that holds something of somebody else's."""
    bucket = moto_s3.new_bucket("scratch")
    versioned = {"Status": "Enabled"}
    moto_s3.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versioned)
    put(moto_s3, bucket, KEEPS)
    with machine(moto_s3, tmp_path / "vault", scratch_bucket=bucket, scratch_prefix="drills/") as made:
        put(moto_s3, made.bucket, OBJECTS)
        yield made


def scratch_of(shop: Machine) -> str:
    return shop.config.buckets[0].scratch_bucket


def versions(shop: Machine) -> set[str]:
    """Keys of every version and mark of deletion in the scratch bucket."""
    told = shop.server.client().list_object_versions(Bucket=scratch_of(shop))
    return {each["Key"] for each in (*told.get("Versions", []), *told.get("DeleteMarkers", []))}


def clean(shop: Machine) -> bool:
    """Is nothing left of any drill?"""
    uploads = shop.server.client().list_multipart_uploads(Bucket=scratch_of(shop)).get("Uploads")
    return versions(shop) == set(KEEPS) and not uploads and not journals(shop.site)


def journals(site: Site) -> list[Path]:
    return list(site.journals.glob("*"))


def piece_of(result: DrillResult) -> PieceResult:
    (piece,) = result.pieces()
    return piece


def check(piece: PieceResult, what: str) -> Check:
    (found,) = (each for each in piece.checks if each.what == what)
    return found


def test_every_object_is_restored_below_a_prefix_of_its_own_read_back_and_removed(shop: Machine) -> None:
    shop.back_up()
    before = holds(shop.server, shop.bucket)
    result = drill(shop.site, DrillRequest())
    piece = piece_of(result)
    assert result.verdict == "proven", result.trouble()
    assert f"s3://{scratch_of(shop)}/" in result.sources[0].place and "drills/" in result.sources[0].place
    assert check(piece, "every object and no other").said == f"{len(OBJECTS)} keys, each once"
    size = sum(map(len, OBJECTS.values()))
    assert check(piece, "objects and bytes").said == f"{len(OBJECTS)} objects, {size:,} bytes, as listed"
    assert "read back: bytes, content type, metadata, tags" in check(piece, "every object's digest").said
    assert result.rto_seconds > 0 and clean(shop)
    assert holds(shop.server, shop.bucket) == before, "the source is not touched"
    assert holds(shop.server, scratch_of(shop)).keys() == set(KEEPS), "nor what else is in the scratch bucket"


TOUCHES: dict[str, tuple[dict[str, Any], str]] = {
    "plain.txt": ({"Body": b"other\n"}, "plain.txt: other content than in the snapshot"),
    "empty": ({"Body": b"more"}, "empty: 4 bytes, 0 in the snapshot"),
    "a//b": ({"ContentType": "text/x-other"}, "a//b: ContentType is 'text/x-other', 'text/x-kind4' in the snapshot"),
    "/leading": ({"Metadata": {"number": "5"}}, "/leading: other metadata (owner)"),
    "large.bin": ({"Tagging": "number=0"}, "large.bin: other tags"),
}


def test_each_object_that_is_otherwise_missing_or_too_many_is_named(
    shop: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = shop.back_up()
    client, original = shop.server.client(), BucketsDrill.restore

    def tampering(self: Any, place: Any, piece: Any, *copy: Any) -> Any:
        notes = original(self, place, piece, *copy)
        there = {"Bucket": scratch_of(shop)}
        under = place.prefix(piece.database)
        for number, (key, body) in enumerate(OBJECTS.items()):
            if key in TOUCHES:
                whole: dict[str, Any] = {
                    "Body": body, "ContentType": f"text/x-kind{number}", "CacheControl": "max-age=60",
                    "ContentDisposition": "inline", "Metadata": {"number": str(number), "owner": "somebody"},
                    "Tagging": f"number={number}&colour=deep+blue",
                }  # fmt: skip
                client.put_object(**there, Key=under + key, **{**whole, **TOUCHES[key][0]})
        client.delete_object(**there, Key=under + "folder/")
        client.put_object(**there, Key=under + "new one", Body=b"x")
        return notes

    monkeypatch.setattr(BucketsDrill, "restore", tampering)
    piece = piece_of(drill(shop.site, DrillRequest()))
    assert piece.verdict == "failed" and clean(shop)
    wrong = check(piece, "every object's digest")
    assert sorted(wrong.problems) == sorted(words for _, words in TOUCHES.values())
    assert wrong.said.startswith(f"{len(TOUCHES)} objects read back otherwise")
    assert check(piece, "every object and no other").problems == ("folder/ is not there", "new one is in no list")
    marks = {str(mark["kind"]) for mark in shop.site.vault.marks(made.entry)}
    assert "drill-failed" in marks and "broken" not in marks, "what is stored may be whole"


@pytest.mark.sampled
def test_a_content_that_is_damaged_in_the_vault_fails_the_drill_with_the_name_of_its_object(shop: Machine) -> None:
    made = shop.back_up()
    (entry,) = shop.site.vault.catalog().entries()
    plain = shop.site.vault.read_part(entry, made.manifest)
    (hurt,) = (each for each in record.records(plain, entry.file) if each.key == "large.bin")
    file = shop.file_of(hurt.content.stored)
    file.chmod(0o600)
    flip(file, 1000)
    piece = piece_of(drill(shop.site, DrillRequest()))
    assert piece.verdict == "failed" and "that of 'large.bin'" in piece.checks[-1].said
    assert "broken" in {str(mark["kind"]) for mark in shop.site.vault.marks(entry)} and clean(shop)


@pytest.mark.sampled
def test_what_a_drill_left_when_it_was_killed_goes_with_the_next_sweep_to_the_last_version(shop: Machine) -> None:
    shop.back_up()
    orders = json.loads(orders_for(shop.config, SOURCE))
    orders["site"]["buckets"][0] |= {"access_key": shop.server.access_key, "secret_key": shop.server.secret_key}
    done = subprocess.run(
        [sys.executable, "-m", "tests.functional.dying_drill"], input=json.dumps(orders).encode(),
        capture_output=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    left = versions(shop) - set(KEEPS)
    assert len(left) == len(OBJECTS) and all(leftovers.PREFIX in key for key in left)
    client, under = shop.server.client(), f"{min(left).split('/')[0]}/{min(left).split('/')[1]}/"
    client.create_multipart_upload(Bucket=scratch_of(shop), Key=f"{under}half")
    client.put_object(Bucket=scratch_of(shop), Key=max(left), Body=b"a second version")
    client.delete_object(Bucket=scratch_of(shop), Key=min(left))
    swept = shop.site.sweep()
    assert swept.problems == [] and f"below {under}" in swept.done[0], swept
    assert clean(shop) and shop.site.sweep().done == []


def refused(shop: Machine, **other: Any) -> str:
    """Why nothing could be verified with these settings."""
    config = shop.config.buckets[0].model_copy(update=other)
    with Site(shop.config.model_copy(update={"buckets": [config]})) as site:
        result = drill(site, DrillRequest())
        assert result.verdict == "could not verify" and not journals(site), result.trouble()
        return result.sentence()


def test_where_the_scratch_place_is_no_good_nothing_is_written_and_nothing_proven(
    shop: Machine, dockerd: DockerEngine
) -> None:
    shop.back_up()
    assert "no throwaway place could be had" in refused(shop, scratch_bucket="not-there")
    other = shop.server.new_bucket("also")
    beside = shop.config.buckets[0].model_copy(update={"name": "also", "buckets": [other]})
    with Site(shop.config.model_copy(update={"buckets": [shop.config.buckets[0], beside]})) as site:
        site.config.buckets[0].scratch_bucket = other
        result = drill(site, DrillRequest(source=SOURCE))
        assert f"is backed up as also/{other}" in result.sentence()
        site.config.buckets[0].scratch_bucket = scratch_of(shop)
    elsewhere = str(shop.config.buckets[0].endpoint_url).replace("127.0.0.1", "localhost")
    assert elsewhere != shop.config.buckets[0].endpoint_url
    same = {"scratch_bucket": shop.bucket, "scratch_endpoint_url": elsewhere}
    assert "which holds data or backups of this site" in refused(shop, **same)
    held = shop.server.client().list_objects_v2(Bucket=shop.bucket)["Contents"]
    assert {each["Key"] for each in held} == set(OBJECTS)
    locked = f"locked-{other}"
    shop.server.client().create_bucket(Bucket=locked, ObjectLockEnabledForBucket=True)
    rule: Any = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    shop.server.client().put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=rule)
    assert "locks what is written there" in refused(shop, scratch_bucket=locked)
    gone = {"scratch_bucket": "", "container": "not-there", "docker_host": dockerd.host}
    assert "The container of media is not there, so its image is not known" in refused(shop, **gone)


HUGE = 10**16
"""Bytes."""
KEYS = {"access_key": "FAKEACCESSKEYOFTHESOURCE", "secret_key": "fake-secret-key-of-the-source-0123456789"}


def test_a_server_in_a_container_is_drilled_in_an_empty_one_of_its_image_with_other_keys(
    dockerd: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rclone = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert rclone
    client, port = dockerd.client(), free_port()
    made = client.containers.create(
        dockerd.load("busybox"), ["/rclone", "serve", "s3", "/data", "--addr=:80"], name="shop-s3", detach=True,
        environment={"RCLONE_AUTH_KEY": f'"{KEYS["access_key"]},{KEYS["secret_key"]}"', "RCLONE_CONFIG": "/data/conf"},
        volumes={rclone: {"bind": "/rclone", "mode": "ro"}, "shop_s3": {"bind": "/data", "mode": "rw"}},
        ports={"80/tcp": ("127.0.0.1", port)},
    )  # fmt: skip
    seen: list[dict[str, Any]] = []
    original = boxed.ContainerServer._make

    def noting(self: Any, *given: Any) -> None:
        original(self, *given)
        seen.append(docker_client(dockerd.host).containers.get(self.name).attrs)

    monkeypatch.setattr(boxed.ContainerServer, "_make", noting)
    try:
        made.start()
        there = S3Server(f"http://{dockerd.address(made)}", "x", KEYS["access_key"], KEYS["secret_key"])
        vault = {"root": str(tmp_path / "vault"), "keys": {"current": "main", "keys": {"main": PASSPHRASE}}}
        section = source(there, "media", container="shop-s3", docker_host=dockerd.host)
        with Site(SiteConfig.model_validate({"site": "shop", "vault": vault, "buckets": section})) as site:
            _wait(site)
            there.client().create_bucket(Bucket="media")
            for key in ("a.txt", "folder/b", "large.bin"):
                there.client().put_object(Bucket="media", Key=key, Body=OBJECTS.get(key, key.encode()),
                                          ContentType="text/plain", Metadata={"owner": "somebody"})  # fmt: skip
            backup_one(site, Target(SOURCE, "media"), tier="daily")
            before = everything(dockerd)
            result = drill(site, DrillRequest())
            assert result.verdict == "proven", result.trouble()
            assert "a scratch S3 server, container backup-flows-scratch-" in result.sources[0].place
            assert check(piece_of(result), "every object and no other").said == "3 keys, each once"
            assert everything(dockerd) == before and scratch_left(site) == []
            (attributes,) = seen
            environment = " ".join(attributes["Config"]["Env"])
            assert "RCLONE_AUTH_KEY=" in environment and not [key for key in KEYS.values() if key in environment]
            (network,) = attributes["NetworkSettings"]["Networks"]
            assert network.startswith(leftovers.PREFIX) and "shop_s3" not in str(attributes["Mounts"])

            _say_that_it_is_large(site)
            full = drill(site, DrillRequest())
            assert full.verdict == "could not verify" and scratch_left(site) == []
            assert f"A drill of media needs about {HUGE:,} bytes in {dockerd.host[7:].rpartition('/')[0]}" in (
                full.sentence()
            )
    finally:
        made.remove(force=True, v=True)
        client.volumes.get("shop_s3").remove(force=True)


def _say_that_it_is_large(site: Site) -> None:
    """A newer backup whose manifest, properly signed, says so."""
    entry, manifest = site.vault.catalog().find(SOURCE, "media")
    data = b"".join(site.vault.read_part(entry, manifest))
    with site.vault.begin(source=SOURCE, kind="bucket", tier="manual", database="media", ext=EXTENSION) as writer:
        writer.data().write(data)
        assert manifest.server is not None
        contents = manifest.contents | {"bytes": HUGE}
        writer.publish(Facts(server=manifest.server, dump_format=manifest.dump_format, contents=contents))


def _wait(site: Site) -> None:
    """Until the server in the container answers."""
    deadline = time.monotonic() + 120
    while True:
        try:
            Endpoint.of(site.config.buckets[0], "media").exists()
            return
        except BackupError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
