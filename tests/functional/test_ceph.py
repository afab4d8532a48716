"""On a Ceph object gateway, whose locks, lifecycle and classes are real: an attack, promotion, cold storage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from engine import backup, names, sealed
from engine.archiving import archive
from engine.buckets.plan import BucketRequest, make_plan
from engine.buckets.restore import run as restore
from engine.cold.move import move_all
from engine.config import ObjectStoreConfig
from engine.credentials import BYPASS, DELETE, DELETE_VERSION, LENGTHEN, check
from engine.endpoints import look
from engine.errors import BackupError, LeaseLost, LockHeld
from engine.images.load import copies_of
from engine.leases import Lease
from engine.site import Site
from engine.stores.abilities import probe_conditions
from engine.stores.lease_object import LeaseObject
from engine.undelete import undelete
from tests.functional.bucket_machine import holds, put
from tests.functional.test_archives import NOW, config, dump, made
from tests.functional.test_endpoints import attack
from tests.functional.test_locked_contents import (
    IMAGE,
    OLD,
    locked,
    nearly_over,
    recorded,
    shop_of,
    snapshot,
    stored_image,
)  # fmt: skip
from tests.servers.docker import DockerEngine
from tests.servers.s3 import S3Server

DAY = timedelta(days=1)
READY_SECONDS = 300.0
USERS = ("owner", "writer")


@pytest.fixture(scope="module")
def gateway(dockerd: DockerEngine) -> Iterator[dict[str, S3Server]]:
    """A gateway and its users; one that may do everything with its own, one that is given rights by policies."""
    secrets = {name: (f"FAKEKEYOF{name.upper()}", f"fake-secret-of-the-{name}-0123456789") for name in USERS}
    told = " ".join(f"{name}:{key}:{secret}" for name, (key, secret) in secrets.items())
    container = dockerd.service("ceph", "gateway", "ceph", environment={"CEPH_USERS": told})
    endpoint = f"http://{dockerd.address(container)}:8000"
    users = {name: S3Server(endpoint, "vault", *pair, region="default") for name, pair in secrets.items()}
    try:
        _wait(lambda: users["owner"].client().list_buckets(), container)
        yield users
    finally:
        container.remove(force=True, v=True)


def _wait(question: Any, container: Any) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            question()
            return
        except Exception as error:
            container.reload()
            if container.status != "running" or time.monotonic() > deadline:
                raise AssertionError(container.logs(tail=30).decode(errors="replace")) from error
            time.sleep(0.5)


def replica(server: S3Server, name: str = "copy", *, lock: bool = False, **more: Any) -> dict[str, Any]:
    bucket = f"{name}-{names.recovery_point().rsplit('-', 1)[-1]}"
    server.client().create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=lock)
    return {
        "name": name, "bucket": bucket, "endpoint_url": server.endpoint, "region": server.region,
        "access_key": server.access_key, "secret_key": server.secret_key, "addressing": "path",
        **({"lock": "compliance", "lock_days": 14} if lock else {}), **more,
    }  # fmt: skip


def forget_locally(site: Site) -> None:
    for path in (site.vault.root / "shop").rglob("*"):
        if path.is_file():
            path.unlink()


@pytest.mark.soak(sample=False)
def test_its_abilities_are_found_out_and_what_it_cannot_do_is_refused(
    tmp_path: Path, gateway: dict[str, S3Server]
) -> None:
    owner = gateway["owner"]
    configured = config(
        tmp_path, replica(owner, lock=True, archive_class="STANDARD_IA"), replica(owner, "other", storage_class="NONE")
    )
    found = look(configured)
    copy, other = found.found["copy"], found.found["other"]
    assert (copy.versioning, copy.object_lock, copy.deletes, copy.classes) == (
        "yes",
        "yes",
        "yes",
        {"STANDARD_IA": "yes"},
    )
    assert (other.versioning, other.object_lock) == ("no", "no")
    assert len(found.unmet) == 1 and "replica other: the class NONE" in found.unmet[0]


@pytest.mark.soak(sample=False)
def test_locked_backups_survive_a_delete_of_everything_and_restore(
    tmp_path: Path, gateway: dict[str, S3Server]
) -> None:
    owner = gateway["owner"]
    configured = config(tmp_path / "v", replica(owner, lock=True))
    bucket = configured.vault.replicas[0].bucket
    with Site(configured) as site:
        entries = [made(site.vault, names.now() - night * DAY, noise=night * 5000) for night in (1, 2, 3)]
        for entry in entries:
            stored = site.vault.replicate(entry, "copy")
            until = site.vault.store("copy").retained_until(stored.key)
            assert until is not None and abs(until - entry.name.taken_at - 14 * DAY) < timedelta(seconds=2)
        begun = datetime.now(UTC) - timedelta(seconds=5)
        attack(owner.client(), bucket)
        with pytest.raises(ClientError, match="AccessDenied"):  # also one by one, and with a right to lift a lock
            version = owner.client().list_object_versions(Bucket=bucket, Prefix=entries[0].key)["Versions"][-1]
            owner.client().delete_object(
                Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"], BypassGovernanceRetention=True
            )
        forget_locally(site)
    with Site(configured) as site:
        assert list(site.vault.catalog("copy").entries()) == []
        done = undelete(site.vault, "copy", since=begun)
        assert (len(done.back), done.lost, done.failed) == (3, [], {})
        for entry in site.vault.catalog("copy").entries():
            assert backup.verify(site, entry).checks
            manifest = site.vault.catalog("copy").load(entry)
            night = next(number for number, each in enumerate(entries, 1) if each.file == entry.file)
            assert b"".join(site.vault.read_part(entry, manifest)) == dump(50, night * 5000)


@pytest.mark.soak(sample=False)
def test_a_locked_list_restores_and_an_old_image_and_the_site_file_are_there_after_a_delete_of_everything(
    tmp_path: Path, gateway: dict[str, S3Server], moto_s3: S3Server
) -> None:
    """The locks that contents and image were stored with are over when the attack comes."""
    owner = gateway["owner"]
    given = {**replica(owner, lock=True), "lock": "governance"}
    bucket = moto_s3.new_bucket("media")
    configured = shop_of(tmp_path / "v", moto_s3, bucket, given)
    put(moto_s3, bucket, OLD)
    point = names.recovery_point()
    with Site(configured) as site:
        snapshot(site, bucket)
        stored_image(site, names.now() - 40 * DAY)
        nearly_over(
            owner.client(), given["bucket"], [*locked(site, "shop/contents/"), *locked(site, "shop/images/image/")]
        )
        snapshot(site, bucket)
        recorded(site, names.now(), point)
        sealed.seal_site(site.vault, "site: shop\n", point, "daily")
        sealed.copy_sealed(site.vault, "copy")
        begun = datetime.now(UTC) - timedelta(seconds=5)
        time.sleep(3.5)
        attack(owner.client(), given["bucket"])
        forget_locally(site)
    truth = holds(moto_s3, bucket)
    with Site(configured) as site:
        assert not list(site.vault.store("copy").list("shop/"))
        done = undelete(site.vault, "copy", since=begun)
        assert (len(done.back), done.contents, len(done.site_files)) == (4, 3, 1)
        assert (done.lost, done.lacking, done.failed) == ([], {}, {})
        result = restore(site, make_plan(site, BucketRequest(bucket=bucket, location="copy")))
        assert holds(moto_s3, result.into) == truth
        (stands,) = copies_of(site, "images", IMAGE)
        assert b"".join(site.vault.read_part(*stands)) == b"all the layers of an image"
        store = site.vault.store("copy")
        found = sealed.choose(sealed.listed(store))
        assert sealed.open_sealed(store.get(found.key), site.vault.keys, found).text == "site: shop\n"


@pytest.mark.soak(sample=False)
def test_a_promotion_is_copied_by_the_gateway_into_the_class_of_archives(
    tmp_path: Path, gateway: dict[str, S3Server]
) -> None:
    owner = gateway["owner"]
    configured = config(tmp_path, replica(owner, archive_class="STANDARD_IA"))
    with Site(configured) as site:
        site.vault.replicate(made(site.vault, NOW - 2 * DAY, noise=20_000), "copy")
        archive(site, "weekly", now=NOW)
        (entry,) = site.vault.catalog().entries(tier="weekly")
        stored = site.vault.replicate(entry, "copy")
        assert stored.proof == "server-copy+sample"
        assert _class(owner, configured, stored.key) == "STANDARD_IA"
        assert _class(owner, configured, f"{stored.key}.json") == "STANDARD"
        (there,) = site.vault.catalog("copy").entries(tier="weekly")
        assert backup.verify(site, there).checks


def _class(server: S3Server, configured: Any, key: str) -> str:
    head = server.client().head_object(Bucket=configured.vault.replicas[0].bucket, Key=key)
    return str(head.get("StorageClass", "STANDARD"))


@pytest.mark.soak(sample=False)
def test_old_months_move_to_glacier_and_so_does_what_a_lifecycle_moves(
    tmp_path: Path, gateway: dict[str, S3Server]
) -> None:
    """Ceph keeps what is in such a class readable: the move is real, and the settings say that nothing is cold."""
    owner = gateway["owner"]
    configured = config(tmp_path, replica(owner, cold_class="GLACIER", cold_after="60d"))
    assert "is only noted" in look(configured).unmet[0]
    with Site(configured) as site:
        old, new = (made(site.vault, names.now() - days * DAY, tier="monthly", noise=9000) for days in (80, 61))
        keys = {each.file: site.vault.replicate(each, "copy").key for each in (old, new)}
        store = site.vault.store("copy")
        assert store.freeze(keys[old.file], "GLACIER")
        assert _class(owner, configured, keys[old.file]) == "GLACIER"
        (done,) = move_all(site)
        assert isinstance(done.error, BackupError) and "is not in GLACIER" in done.error.message
        rule = {
            "ID": "cool", "Status": "Enabled", "Filter": {"Prefix": keys[new.file]},
            "Transitions": [{"Days": 1, "StorageClass": "GLACIER"}],
        }  # fmt: skip
        owner.client().put_bucket_lifecycle_configuration(
            Bucket=configured.vault.replicas[0].bucket, LifecycleConfiguration={"Rules": [rule]}
        )
        deadline = time.monotonic() + READY_SECONDS
        while _class(owner, configured, keys[new.file]) != "GLACIER":  # a day is ten seconds there
            assert time.monotonic() < deadline
            time.sleep(1)
        for entry in site.vault.catalog("copy").entries():
            assert backup.verify(site, entry).checks


@pytest.mark.soak(sample=False)
def test_a_writer_without_deletes_is_told_apart_from_an_owner(tmp_path: Path, gateway: dict[str, S3Server]) -> None:
    import json

    owner, writer = gateway["owner"], gateway["writer"]
    given = replica(owner, lock=True)
    bucket = given["bucket"]
    grant = {
        "Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/writer"]},
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        "Action": ["s3:GetObject", "s3:PutObject", "s3:PutObjectRetention", "s3:GetObjectRetention", "s3:ListBucket",
                   "s3:ListBucketMultipartUploads", "s3:AbortMultipartUpload", "s3:GetBucketVersioning",
                   "s3:GetBucketObjectLockConfiguration"],
    }  # fmt: skip
    owner.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [grant]}))
    own = {"access_key": writer.access_key, "secret_key": writer.secret_key, "deletes": False}
    configured = config(tmp_path, {**given, **own})
    with Site(configured) as site:
        site.vault.store("copy").check()
        site.vault.replicate(made(site.vault, names.now() - DAY), "copy")
        (entry,) = site.vault.catalog("copy").entries()
        assert backup.verify(site, entry).checks
        rights = check(configured.vault.replicas[0], site.vault.layout("copy"), "mysql")
        assert (rights.of(DELETE), rights.of(DELETE_VERSION), rights.of(BYPASS)) == ("no", "no", "no")
        assert "not destroy it before its lock ends" in rights.verdict() and rights.of(LENGTHEN) == "yes"
        owning = config(tmp_path, {**given, "lock": "governance"}).vault.replicas[0]
        rights = check(owning, site.vault.layout("copy"), "mysql")
        assert (rights.of(DELETE), rights.of(BYPASS), rights.locked) == ("yes", "yes", True)
        assert rights.verdict() == "A thief of this key can destroy everything here: it may lift the lock."


@pytest.mark.soak(sample=False)
def test_of_many_that_want_a_lease_at_once_one_has_it(gateway: dict[str, S3Server]) -> None:
    asked = ObjectStoreConfig(**replica(gateway["owner"]))
    assert probe_conditions(asked) == ("yes", "yes")
    for deletes in (True, False):
        for _ in range(10):
            everybody = [Lease(LeaseObject(asked, "shop", "x"), "x", deletes=deletes) for _ in range(8)]
            with ThreadPoolExecutor(len(everybody)) as pool:
                had = [each for each in pool.map(_taken, everybody) if each is not None]
            (one,) = had
            one.check("a test")
            one.release()
    dead, heir = (Lease(LeaseObject(asked, "shop", "x"), "x", term=4.0) for _ in range(2))
    dead.take()
    dead._ended.set()  # it renews no more
    begun = time.monotonic()
    while _taken(heir) is None:
        time.sleep(0.2)
    assert 4.0 < time.monotonic() - begun < 10.0
    with pytest.raises(LeaseLost):
        dead.check("a test")
    dead.release()
    assert LeaseObject(asked, "shop", "x").look() is not None, "it is not the dead one's any more"
    heir.check("a test")
    heir.release()


def _taken(lease: Lease) -> Lease | None:
    try:
        lease.take()
    except LockHeld:
        return None
    return lease


@pytest.mark.soak(sample=False)
def test_its_versioned_buckets_do_not_heed_conditions_and_that_is_found_out(
    tmp_path: Path, gateway: dict[str, S3Server]
) -> None:
    given = replica(gateway["owner"], lock=True)
    found = look(config(tmp_path, given)).found["copy"]
    with Site(config(tmp_path, given)) as site:
        site.vault.check()
        with site.vault.pruning(), site.vault.pruning_in("copy") as hold:
            hold.check("nothing")
    assert (found.conditional_put, found.leases) == ("no", "no")
