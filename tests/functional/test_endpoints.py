"""What buckets can do and keys may do there: probed, refused when configured, locked, and whole after an attack."""

from __future__ import annotations

import contextlib
import json
import re
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from pydantic import ValidationError

from deployments.cli.main import run as backups
from engine import backup, names
from engine.config import ObjectStoreConfig
from engine.credentials import (
    BYPASS,
    DELETE,
    DELETE_VERSION,
    LIFECYCLE,
    OVERWRITE,
    POLICY,
    VERSIONING,
    check,
)
from engine.endpoints import look, remembered
from engine.errors import ConfigError
from engine.prune import prune
from engine.site import Site
from engine.stores.abilities import probe
from engine.undelete import undelete
from tests.functional.test_archives import _written, config, dump, made
from tests.functional.vault_helpers import replica
from tests.servers.s3 import S3Server

DAY = timedelta(days=1)


def lockable(server: S3Server, **more: Any) -> dict[str, Any]:
    """A replica in a new bucket that was made with object lock."""
    given = replica(server, "copy")
    given["bucket"] += "-lock"
    server.client().create_bucket(Bucket=given["bucket"], ObjectLockEnabledForBucket=True)
    return {**given, "lock": "governance", "lock_days": 14, **more}


def test_abilities_are_found_by_trying_and_nothing_stays_behind(moto_s3: S3Server, rclone_s3: S3Server) -> None:
    plain = ObjectStoreConfig(**replica(moto_s3, "copy"), archive_class="GLACIER_IR", cold_class="GLACIER")
    found = probe(plain)
    assert (found.conditional_put, found.versioning, found.object_lock, found.checksums) == ("yes", "no", "no", "no")
    assert found.classes == {"GLACIER_IR": "yes", "GLACIER": "yes"} and found.deletes == "yes"
    assert not list(_objects(moto_s3, plain.bucket))
    locking = probe(ObjectStoreConfig(**lockable(moto_s3)))
    assert (locking.versioning, locking.object_lock) == ("yes", "yes")
    simple = probe(ObjectStoreConfig(**replica(rclone_s3, "copy"), cold_class="GLACIER"))
    assert (simple.conditional_put, simple.object_lock) == ("no", "no")
    assert simple.classes == {"GLACIER": "is only noted: what is in it can be read at once"}


def _objects(server: S3Server, bucket: str) -> Iterator[str]:
    for each in server.client().list_objects_v2(Bucket=bucket).get("Contents", []):
        yield each["Key"]


def test_what_an_endpoint_cannot_do_is_refused_when_it_is_configured(
    tmp_path: Path, moto_s3: S3Server, rclone_s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {**replica(moto_s3, "copy"), "storage_class": "LUKEWARM", "lock": "governance", "lock_days": 7}
    configured = config(tmp_path / "v", wrong, {**replica(rclone_s3, "other"), "cold_class": "GLACIER"})
    found = look(configured)
    with pytest.raises(ConfigError) as refused:
        found.refuse_unmet()
    for text in (
        "replica copy: the class LUKEWARM is refused by the endpoint (InvalidStorageClass)",
        "is not versioned, and has no object lock",
        "replica other: the class GLACIER is only noted",
    ):
        assert text in refused.value.message
    path = tmp_path / "shop.yaml"
    path.write_text(json.dumps(_written(configured)))
    assert backups(["check-endpoints", "-f", str(path)]) == 2
    assert "no object lock" in capsys.readouterr().err
    down = {**replica(moto_s3, "copy"), "endpoint_url": "http://127.0.0.1:9"}
    assert list(look(config(tmp_path, down)).unseen) == ["copy"], "what cannot be asked is not refused"


@pytest.mark.sampled
def test_what_was_found_is_shown_by_status(
    tmp_path: Path, moto_s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    configured = config(tmp_path / "v", lockable(moto_s3))
    with Site(configured) as site:
        made(site.vault, names.now() - DAY)
    path = tmp_path / "shop.yaml"
    path.write_text(json.dumps(_written(configured)))
    assert backups(["check-endpoints", "-f", str(path)]) == 0
    with Site(configured) as site:
        assert remembered(site.vault.state)["copy"]["object_lock"] == "yes"
    capsys.readouterr()
    assert backups(["status", "-f", str(path)]) == 3, "the replica lacks it"
    told = "copy: locks, versioned, never replaces, keeps hosts apart, its key may delete; asked 20"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "retention", "reason"),
    [
        ({"lock": "governance"}, {}, "lock_days go together"),
        ({"lock_days": 3}, {}, "lock_days go together"),
        ({"lock": "governance", "lock_days": 31}, {}, "longer than daily backups of mysql are kept"),
        ({"lock": "compliance", "lock_days": 20}, {"mysql/daily": "14d"}, "lower lock_days"),
        ({"lock": "compliance", "lock_days": 20, "retention": {"daily": "14d"}}, {}, "lower lock_days"),
        ({"storage_class": "LUKEWARM", "endpoint_url": None}, {}, "storage_class LUKEWARM is none of AWS"),
    ],
)
def test_a_lock_that_outlives_retention_and_a_class_that_aws_has_not_are_refused_when_read(
    tmp_path: Path, settings: dict[str, Any], retention: dict[str, str], reason: str
) -> None:
    given = {"name": "copy", "bucket": "bucket", "endpoint_url": "http://127.0.0.1:9", **settings}
    with pytest.raises(ValidationError, match=reason):
        config(tmp_path, given, retention=retention)


@pytest.mark.sampled
def test_data_and_manifests_are_locked_no_longer_than_they_are_kept_and_marks_are_not(
    tmp_path: Path, moto_s3: S3Server
) -> None:
    with Site(config(tmp_path, lockable(moto_s3), retention={"hourly": "2d"})) as site:
        now = names.now().replace(microsecond=0)
        daily, hourly = (made(site.vault, now - DAY, tier=tier) for tier in ("daily", "hourly"))
        old = made(site.vault, now - 20 * DAY)
        store = site.vault.store("copy")
        for entry, days in ((daily, 14), (hourly, 2), (old, 0)):
            until = entry.name.taken_at + days * DAY if days else None
            stored = site.vault.replicate(entry, "copy")
            companion = f"{stored.key.rsplit('/', 1)[0]}/{entry.name.companion('accounts', 'sql.gz.enc')}"
            for key in (stored.key, f"{stored.key}.json", companion):
                assert store.retained_until(key) == until, key
        marks = [info.key for info in store.list("shop/marks/")]
        assert marks and {store.retained_until(key) for key in marks} == {None}
        plan = next(each for each in prune(site, confirmed=True) if each.location == "copy")
        assert plan.error is None


def test_after_an_attackers_delete_of_everything_a_locked_replica_restores(tmp_path: Path, moto_s3: S3Server) -> None:
    configured = config(tmp_path / "v", lockable(moto_s3))
    bucket = configured.vault.replicas[0].bucket
    client = moto_s3.client()
    with Site(configured) as site:
        entries = [made(site.vault, names.now() - night * DAY, noise=night * 5000) for night in (1, 2, 3)]
        for entry in entries:
            site.vault.replicate(entry, "copy")
        begun = datetime.now(UTC)
        attack(client, bucket)
        for path in (tmp_path / "v" / "shop").rglob("*"):
            if path.is_file():
                path.unlink()
        assert list(site.vault.catalog("copy").entries()) == []
    with Site(configured) as site:
        planned = undelete(site.vault, "copy", since=begun - DAY, dry_run=True)
        assert len(planned.back) == 3 and not list(site.vault.catalog("copy").entries())
        done = undelete(site.vault, "copy", since=begun - DAY)
        assert (done.back, done.lost, done.failed) == (planned.back, [], {})
        found = list(site.vault.catalog("copy").entries())
        assert sorted(each.file for each in found) == sorted(each.file for each in entries)
        for entry in found:
            assert backup.verify(site, entry).checks
        manifest = site.vault.catalog("copy").load(found[0])
        assert b"".join(site.vault.read_part(found[0], manifest)) == dump(50, 5000)
        assert undelete(site.vault, "copy").back == [], "done again nothing changes"


def test_nothing_is_to_be_had_back_of_a_bucket_without_versions_and_that_is_said(
    tmp_path: Path, moto_s3: S3Server
) -> None:
    with Site(config(tmp_path / "v", replica(moto_s3, "copy"))) as site:
        stored = site.vault.replicate(made(site.vault, names.now() - DAY), "copy")
        site.vault.store("copy").delete(f"{stored.key}.json")
        with pytest.raises(ConfigError, match="copy keeps no versions"):
            undelete(site.vault, "copy")


def attack(client: Any, bucket: str) -> None:
    """Overwrite what is there with noise of the same size, delete it, and try to delete every version for good."""
    for each in client.list_objects_v2(Bucket=bucket)["Contents"]:
        client.put_object(Bucket=bucket, Key=each["Key"], Body=b"x" * each["Size"])
        client.delete_object(Bucket=bucket, Key=each["Key"])
    for each in client.list_object_versions(Bucket=bucket)["Versions"]:
        with contextlib.suppress(ClientError):  # what is locked
            client.delete_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])


@contextlib.contextmanager
def user(server: S3Server, *actions: str) -> Iterator[dict[str, str]]:
    """Keys of a user who may do no more than this, on a server that looks at policies meanwhile."""
    iam = boto3.client(
        "iam", endpoint_url=server.endpoint, region_name=server.region, aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )  # fmt: skip
    name = f"user-{names.now():%H%M%S%f}"
    iam.create_user(UserName=name)
    statement = [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]
    document = json.dumps({"Version": "2012-10-17", "Statement": statement})
    iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document)
    keys = iam.create_access_key(UserName=name)["AccessKey"]
    _look_at_policies(server, "0")
    try:
        yield {"access_key": keys["AccessKeyId"], "secret_key": keys["SecretAccessKey"]}
    finally:
        _look_at_policies(server, "inf")


def _look_at_policies(server: S3Server, after: str) -> None:
    url, kind = f"{server.endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
    request = urllib.request.Request(url, data=after.encode(), headers=kind, method="POST")
    urllib.request.urlopen(request).close()


def documented(role: str) -> list[str]:
    """The actions of a role as docs/locks.md names them."""
    text = (Path(__file__).parents[2] / "docs" / "locks.md").read_text()
    policy = json.loads(re.search(rf"### {role}\n\n```json\n(.*?)```", text, re.DOTALL)[1])  # type: ignore[index]
    found = [each["Action"] for each in policy["Statement"]]
    return [action for each in found for action in ([each] if isinstance(each, str) else each)]


WRITER = documented("writer")


def test_a_key_that_may_write_but_not_delete_backs_up_and_is_told_what_it_could_destroy(
    tmp_path: Path, moto_s3: S3Server
) -> None:
    given = replica(moto_s3, "copy")
    versioned = {"Bucket": given["bucket"], "VersioningConfiguration": {"Status": "Enabled"}}
    moto_s3.client().put_bucket_versioning(**versioned)
    with user(moto_s3, *WRITER) as keys:
        configured = config(tmp_path / "v", {**given, **keys, "deletes": False})
        with Site(configured) as site:
            site.vault.check()
            site.vault.store("copy").check()
            entry = made(site.vault, names.now() - 40 * DAY)
            made(site.vault, names.now() - DAY)
            for each in site.vault.lacking("copy"):
                site.vault.replicate(each, "copy")
            site.vault.replicate(entry, "copy")
            assert {plan.location for plan in prune(site, confirmed=True)} == {"local"}
            there = list(site.vault.catalog("copy").entries())
            assert all(backup.verify(site, each).checks for each in there) and len(there) == 2
            rights = check(configured.vault.replicas[0], site.vault.layout("copy"), "mysql")
    with user(moto_s3, *documented("pruner")) as keys:
        with Site(config(tmp_path / "v", {**given, **keys, "deletes": False})) as site:
            (plan,) = prune(site, location="copy", confirmed=True)
            assert (plan.error, plan.count("expire"), plan.count("keep")) == (None, 1, 1)
            (plan,) = prune(site, location="copy", confirmed=True, now=names.now() + DAY)
            assert (plan.error, plan.count("remove")) == (None, 1)
    with user(moto_s3, *documented("restorer")) as keys:
        with Site(config(tmp_path / "v", {**given, **keys})) as site:
            (entry,) = site.vault.catalog("copy").entries()
            manifest = site.vault.catalog("copy").load(entry)
            assert b"".join(site.vault.read_part(entry, manifest)) == dump(50)
    assert [rights.of(what) for what in (OVERWRITE, DELETE, DELETE_VERSION)] == ["yes", "no", "no"]
    assert rights.verdict().startswith(
        "A thief of this key can hide what is there; old versions stay: backups undelete brings it back. Unless it may"
    )


@pytest.mark.sampled
def test_a_key_that_may_do_everything_could_destroy_everything_but_what_is_locked(
    tmp_path: Path, moto_s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    configured = config(tmp_path / "v", replica(moto_s3, "copy"))
    path = tmp_path / "shop.yaml"
    path.write_text(json.dumps(_written(configured)))
    assert backups(["check-credentials", "-f", str(path), "--json"]) == 4
    (told,) = json.loads(capsys.readouterr().out)["replicas"]
    assert told["verdict"] == "A thief of this key can destroy everything here."
    assert told["rights"]["delete an object"] == "yes" and not told["locked"]
    client, bucket = moto_s3.client(), configured.vault.replicas[0].bucket
    assert not list(_objects(moto_s3, bucket))
    rules = {"Rules": [{"ID": "own", "Status": "Disabled", "Filter": {"Prefix": "x"}, "Expiration": {"Days": 3}}]}
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rules)
    before = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    with Site(configured) as site:
        rights = check(configured.vault.replicas[0], site.vault.layout("copy"), "mysql", settings=True)
    assert (rights.of(LIFECYCLE), rights.of(POLICY), rights.of(VERSIONING)) == ("yes", "unknown", "unknown")
    assert client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == before


@pytest.mark.sampled
def test_a_lock_that_the_key_may_not_lift_is_what_saves_everything(tmp_path: Path, moto_s3: S3Server) -> None:
    given = lockable(moto_s3)
    everything = (
        *WRITER,
        "s3:DeleteObject",
        "s3:DeleteObjectVersion",
        "s3:PutObjectRetention",
        "s3:GetBucketVersioning",
    )
    with user(moto_s3, *everything) as keys:
        configured = config(tmp_path / "v", {**given, **keys})
        with Site(configured) as site:
            rights = check(configured.vault.replicas[0], site.vault.layout("copy"), "mysql")
    assert (rights.of(DELETE), rights.locked) == ("yes", True)
    assert "not destroy it before its lock ends" in rights.verdict() or rights.of(BYPASS) == "yes"
