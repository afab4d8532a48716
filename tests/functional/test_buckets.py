"""Snapshots of buckets on real S3 servers: what is listed, copied, kept and proven, and what is told."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine import backup, names
from engine.buckets import record
from engine.buckets.sweeping import sweep_contents
from engine.config import DrillConfig, SiteConfig
from engine.drill.record import keep, proofs
from engine.drill.run import DrillRequest, drill
from engine.drill.verdict import FAILED, PROVEN, UNVERIFIED
from engine.errors import BackupError, ConfigError, CredentialsRefused, IntegrityError, LockHeld, UnknownName
from engine.prune import prune
from engine.site import Site
from engine.status import status
from engine.watch.findings import Level
from engine.watch.look import look
from tests.functional.bucket_machine import LARGE, OBJECTS, SOURCE, Machine, holds, machine, put, source
from tests.functional.vault_helpers import PASSPHRASE, flip
from tests.servers.s3 import S3Server


@pytest.fixture
def shop(moto_s3: S3Server, tmp_path: Path) -> Iterator[Machine]:
    with machine(moto_s3, tmp_path / "vault", moto_s3) as made:
        yield made


def listed(shop: Machine, made: backup.BackupResult) -> dict[str, record.Record]:
    plain = shop.site.vault.read_part(made.entry, made.manifest)
    return {each.key: each for each in record.records(plain, made.entry.file)}


def test_a_snapshot_lists_every_object_with_all_that_belongs_to_it_and_stores_each_content_once(shop: Machine) -> None:
    client = shop.server.client()
    client.put_bucket_versioning(Bucket=shop.bucket, VersioningConfiguration={"Status": "Enabled"})
    put(shop.server, shop.bucket, OBJECTS)
    policy = {"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{shop.bucket}/*",
    }]}  # fmt: skip
    client.put_bucket_policy(Bucket=shop.bucket, Policy=json.dumps(policy))
    rules = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["https://shop.example.org"]}]
    client.put_bucket_cors(Bucket=shop.bucket, CORSConfiguration={"CORSRules": rules})
    made = shop.back_up()
    found = listed(shop, made)
    assert set(found) == set(OBJECTS)
    for key, (body, kind, cache, disposition, metadata, tags) in holds(shop.server, shop.bucket).items():
        each = found[key]
        head = client.head_object(Bucket=shop.bucket, Key=key)
        assert (each.size, each.etag, each.version) == (len(body), head["ETag"].strip('"'), head["VersionId"])
        assert each.headers == {
            "ContentType": kind, "CacheControl": cache, "ContentDisposition": disposition,
        } and each.metadata == metadata and sorted((each.tags or {}).items()) == tags  # fmt: skip
        contents = shop.site.vault.contents("local", SOURCE, shop.bucket)
        assert b"".join(contents.read(each.content, each.sha256, each.size)) == body
    assert made.manifest.contents["policy"] == policy and made.manifest.contents["versioning"] == "Enabled"
    assert made.manifest.contents["cors"] == rules
    assert len(shop.contents()) == len(set(OBJECTS.values())) == made.manifest.contents["stored"]
    assert made.manifest.holds == "12 objects, 12 copied anew" and made.manifest.incomplete == []
    assert "new contents read and decrypted, the others there" in made.report.checks


@pytest.mark.sampled
def test_a_content_opens_with_stock_tools(shop: Machine) -> None:
    put(shop.server, shop.bucket, {"large": LARGE, "small": b"small", "empty": b""})
    for each in listed(shop, shop.back_up()).values():
        opened = subprocess.run(
            f"openssl enc -d -aes-256-cbc -pbkdf2 -pass env:KEY -in {shop.file_of(each.content.stored)} | gunzip",
            shell=True, check=True, capture_output=True, env={"KEY": PASSPHRASE, "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert opened.stdout == {"large": LARGE, "small": b"small", "empty": b""}[each.key] and not opened.stderr


@pytest.mark.sampled
def test_equal_beginnings_do_not_show_in_what_is_stored(shop: Machine) -> None:
    put(shop.server, shop.bucket, {str(number): bytes(1000) + b"%d" % number for number in range(4)})
    stored = [shop.file_of(name).read_bytes() for name in shop.contents()]
    assert not stored
    shop.back_up()
    stored = [shop.file_of(name).read_bytes() for name in shop.contents()]
    assert len({data[:16] for data in stored}) == 1, "one salt for all"
    assert len({data[32:48] for data in stored}) == 4 == len({data[48:64] for data in stored})


def test_only_what_changed_is_copied_and_what_is_deleted_stays_in_old_snapshots(shop: Machine) -> None:
    put(shop.server, shop.bucket, OBJECTS)
    first = shop.back_up()
    client = shop.server.client()
    client.put_object(Bucket=shop.bucket, Key="plain.txt", Body=b"changed\n")
    client.put_object(Bucket=shop.bucket, Key="new", Body=b"new")
    client.delete_object(Bucket=shop.bucket, Key="large.bin")
    second = shop.back_up()
    facts = second.manifest.contents
    assert (facts["copied"], facts["stored"], facts["objects"]) == (2, 2, len(OBJECTS))
    assert facts["basis"] == first.entry.file
    assert "large.bin" in listed(shop, first) and "large.bin" not in listed(shop, second)
    third = shop.back_up()
    assert third.manifest.contents["copied"] == 0 and third.manifest.contents["stored_bytes"] == 0
    # an object that comes back with a content that is stored already
    client.put_object(Bucket=shop.bucket, Key="again", Body=LARGE)
    fourth = shop.back_up()
    assert (fourth.manifest.contents["copied"], fourth.manifest.contents["stored"]) == (1, 0)
    assert shop.contents() >= {each.content.stored for each in listed(shop, first).values()}
    for made in (first, second, third, fourth):
        assert backup.verify(shop.site, made.entry).checks[3] == "every content, read and decrypted"


def test_an_object_deleted_between_listing_and_reading_makes_the_snapshot_partial(
    shop: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shop.server, shop.bucket, {"a": b"a", "b": b"b", "c": b"c"})
    from engine.buckets.endpoint import Endpoint

    objects = Endpoint.objects

    def deleting(self: Endpoint, prefix: str = "") -> Iterator[Any]:
        for each in list(objects(self, prefix)):
            if each.key == "b":
                self.client.delete_object(Bucket=self.bucket, Key="b")
            yield each

    monkeypatch.setattr(Endpoint, "objects", deleting)
    made = shop.back_up()
    assert made.manifest.incomplete == ["b: it was deleted while the snapshot was made"]
    assert set(listed(shop, made)) == {"a", "c"}
    row = next(each for each in status(shop.site).rows if each.target == shop.target)
    assert row.newest is None and "b: it was deleted" in row.incomplete[made.entry.file], "partial is never good"


@pytest.mark.sampled
def test_unreadable_objects_are_named_and_the_rest_is_there(shop: Machine) -> None:
    client = shop.server.client()
    put(shop.server, shop.bucket, {"a": b"a", "c": b"c"})
    client.put_object(Bucket=shop.bucket, Key="b cold", Body=b"b", StorageClass="GLACIER")
    made = shop.back_up()
    (told,) = made.manifest.incomplete
    assert told.startswith("b cold: ") and "cold storage" in told
    assert set(listed(shop, made)) == {"a", "c"}
    client.delete_objects(Bucket=shop.bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "c"}]})
    with pytest.raises(BackupError, match="cold storage"):
        shop.back_up()


@pytest.mark.sampled
def test_excluded_objects_are_counted_and_left_out(moto_s3: S3Server, tmp_path: Path) -> None:
    with machine(moto_s3, tmp_path / "v", exclude=["cache/*", "*.tmp"]) as shop:
        put(shop.server, shop.bucket, {"cache/a/b": b"1", "x.tmp": b"2", "kept": b"3"})
        made = shop.back_up()
        assert set(listed(shop, made)) == {"kept"} and made.manifest.contents["excluded"] == 2
        assert not made.manifest.incomplete


@pytest.mark.sampled
def test_an_empty_bucket_has_a_snapshot_too(shop: Machine) -> None:
    made = shop.back_up()
    assert made.manifest.holds == "0 objects, 0 copied anew" and listed(shop, made) == {}


@pytest.mark.sampled
def test_an_endpoint_without_tags_and_settings_is_told_once_and_backed_up_all_the_same(
    rclone_s3: S3Server, tmp_path: Path
) -> None:
    with machine(rclone_s3, tmp_path / "v", rclone_s3) as shop:
        for key, body in {"a": b"a", "f/b c": b"b", "large": LARGE}.items():
            rclone_s3.client().put_object(Bucket=shop.bucket, Key=key, Body=body, Metadata={"owner": "me"})
        made = shop.back_up()
        assert any("keeps no tags" in each for each in made.manifest.warnings) and not made.manifest.incomplete
        assert {key.lower() for each in listed(shop, made).values() for key in each.metadata} == {"owner"}
        assert shop.back_up().manifest.contents["copied"] == 0
        assert all(each.error is None for each in backup.replicate_all(shop.site))
        for entry in shop.site.vault.catalog("copy0").entries():
            backup.verify(shop.site, entry)


def test_a_bucket_that_is_not_there_and_refused_keys_are_told_in_words(
    moto_s3: S3Server, rclone_s3: S3Server, tmp_path: Path
) -> None:
    bucket = moto_s3.new_bucket("invoices")
    with _site(tmp_path, source(moto_s3, bucket[:-1])) as site, pytest.raises(UnknownName) as told:
        backup.preflight(site, site.targets(SOURCE)[0])
    assert f"Did you mean {bucket!r}?" in told.value.remedy
    wrong = source(rclone_s3, rclone_s3.bucket, secret_key="fake-secret-that-is-wrong-0123456789")
    with _site(tmp_path, wrong) as site, pytest.raises(CredentialsRefused) as refused:
        backup.preflight(site, site.targets(SOURCE)[0])
    assert "secret_key of source media" in refused.value.remedy and "fake-secret" not in str(refused.value)
    with pytest.raises(ValueError, match="is no name of a bucket"):
        SiteConfig.model_validate({"site": "s", "vault": {"root": "/v"}, "buckets": {"buckets": ["a/b"]}})
    with _site(tmp_path, source(moto_s3)) as site, pytest.raises(ConfigError, match="names no buckets"):
        site.targets(SOURCE)
    with _site(tmp_path, source(moto_s3, bucket)) as site, pytest.raises(ConfigError) as config:
        site.source(SOURCE)
    assert "restore-bucket" in config.value.remedy


def test_a_key_that_may_not_list_is_told_which_permission_it_needs(moto_guarded: S3Server, tmp_path: Path) -> None:
    with _site(tmp_path, source(moto_guarded, moto_guarded.bucket)) as site:
        with pytest.raises(CredentialsRefused) as refused:
            backup.preflight(site, site.targets(SOURCE)[0])
    assert "s3:ListBucket" in refused.value.remedy and "s3:GetObject" in refused.value.remedy


@pytest.fixture
def moto_guarded(moto_s3: S3Server, servers_directory: Path) -> Iterator[S3Server]:
    """moto with its keys checked from here on, and a user who may do nothing."""
    import boto3
    import httpx

    iam = boto3.client(
        "iam",
        endpoint_url=moto_s3.endpoint,
        region_name="us-east-1",
        aws_access_key_id="fake",
        aws_secret_access_key="f",
    )
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_user(UserName="nobody")
    key = iam.create_access_key(UserName="nobody")["AccessKey"]
    httpx.post(f"{moto_s3.endpoint}/moto-api/reset-auth", content=b"0").raise_for_status()
    try:
        yield S3Server(moto_s3.endpoint, moto_s3.bucket, key["AccessKeyId"], key["SecretAccessKey"])
    finally:
        httpx.post(f"{moto_s3.endpoint}/moto-api/reset-auth", content=b"inf").raise_for_status()


def _site(tmp_path: Path, buckets: dict[str, Any]) -> Site:
    return Site(
        SiteConfig.model_validate({
            "site": "shop",
            "vault": {"root": str(tmp_path / "v"), "keys": {"current": "main", "keys": {"main": PASSPHRASE}}},
            "buckets": buckets,
        })
    )  # fmt: skip


def test_damaged_and_missing_contents_are_found_and_the_next_snapshot_reads_them_anew(shop: Machine) -> None:
    put(shop.server, shop.bucket, {"a": b"a" * 100, "b": b"b" * 100, "c": b"c" * 2_000_000})
    first = shop.back_up()
    found = listed(shop, first)
    flip(shop.file_of(found["a"].content.stored), 50)
    shop.file_of(found["c"].content.stored).unlink()
    with pytest.raises(IntegrityError, match="'a'.*'c'"):
        backup.verify(shop.site, first.entry)
    second = shop.back_up()
    again = listed(shop, second)
    assert second.manifest.contents["stored"] == 2, "what is whole is leant on"
    assert again["a"].content.stored != found["a"].content.stored, "nothing is replaced"
    assert again["b"].content.stored == found["b"].content.stored
    backup.verify(shop.site, second.entry)


def test_what_a_run_that_died_left_is_used_by_the_next_and_swept_where_it_is_not(shop: Machine) -> None:
    put(shop.server, shop.bucket, {"a": b"a" * 100, "b": b"b" * 100})
    died = shop.back_up()
    for path in (shop.site.vault.root / died.entry.key, shop.site.vault.root / died.entry.manifest_key):
        path.unlink()
    shop.server.client().delete_object(Bucket=shop.bucket, Key="b")
    left = shop.contents()
    made = shop.back_up()
    assert made.manifest.contents["stored"] == 0 and made.manifest.contents["copied"] == 1
    assert not sweep_contents(shop.site.vault, "local", SOURCE, shop.bucket).removed, "too young to be sure"
    swept = sweep_contents(shop.site.vault, "local", SOURCE, shop.bucket, now=names.now() + timedelta(days=1))
    assert (swept.removed, swept.kept, swept.problem) == (1, 1, "") and len(left - shop.contents()) == 1
    backup.verify(shop.site, made.entry)


def test_contents_that_a_kept_snapshot_names_are_never_pruned_and_others_are(shop: Machine) -> None:
    client = shop.server.client()
    put(shop.server, shop.bucket, {"stays": b"stays" * 50, "goes": b"goes" * 50})
    old = shop.back_up()
    client.delete_object(Bucket=shop.bucket, Key="goes")
    new = shop.back_up()
    assert all(each.error is None for each in backup.replicate_all(shop.site))
    found = listed(shop, old)
    for day in (31, 33):
        now = names.now() + timedelta(days=day)
        plans = prune(shop.site, now=now, confirmed=True)
        assert all(plan.error is None and not any(each.problem for each in plan.swept) for plan in plans)
        if day == 31:
            assert found["goes"].content.stored in shop.contents(), "marked only: it may still be wanted"
    for location in ("local", "copy0"):
        assert [each.file for each in shop.site.vault.catalog(location).entries()] == [new.entry.file]
        assert shop.contents(location) == {found["stays"].content.stored}
        entry = next(shop.site.vault.catalog(location).entries())
        backup.verify(shop.site, entry)


@pytest.mark.sampled
def test_nothing_is_swept_where_a_list_cannot_be_read_or_none_is_there_or_a_run_is_at_work(shop: Machine) -> None:
    put(shop.server, shop.bucket, {"a": b"a"})
    made = shop.back_up()
    later = names.now() + timedelta(days=2)
    list_file = shop.site.vault.root / made.entry.key
    flip(list_file, 30)
    assert "damaged" in sweep_contents(shop.site.vault, "local", SOURCE, shop.bucket, now=later).problem
    with shop.site.vault.lock(SOURCE, shop.bucket):
        assert "Another run" in sweep_contents(shop.site.vault, "local", SOURCE, shop.bucket, now=later).problem
    for path in (list_file, shop.site.vault.root / made.entry.manifest_key):
        path.unlink()
    assert "no list" in sweep_contents(shop.site.vault, "local", SOURCE, shop.bucket, now=later).problem
    assert len(shop.contents()) == 1


def test_a_replica_has_every_content_before_it_has_the_list(shop: Machine) -> None:
    put(shop.server, shop.bucket, OBJECTS)
    made = shop.back_up()
    with shop.site.vault.filling("copy0", SOURCE, shop.bucket):
        (result,) = backup.replicate_all(shop.site)
        assert isinstance(result.error, LockHeld) and not list(shop.site.vault.catalog("copy0").entries())
    (result,) = backup.replicate_all(shop.site)
    assert result.error is None and shop.contents("copy0") == shop.contents()
    (there,) = shop.site.vault.catalog("copy0").entries()
    backup.verify(shop.site, there)
    # a content that is lost there is missed by a verification, and comes again with the next snapshot
    name = listed(shop, made)["plain.txt"].content.stored
    shop.site.vault.contents("copy0", SOURCE, shop.bucket).remove(name)
    with pytest.raises(IntegrityError, match="is missing"):
        backup.verify(shop.site, there)
    second = shop.back_up()
    assert [each.error for each in backup.replicate_all(shop.site)] == [None]
    backup.verify(
        shop.site, next(each for each in shop.site.vault.catalog("copy0").entries() if each.file == second.entry.file)
    )


@pytest.mark.sampled
def test_a_drill_without_a_scratch_place_reads_every_object_and_says_what_to_set_for_more(shop: Machine) -> None:
    put(shop.server, shop.bucket, OBJECTS)
    made = shop.back_up()
    shop.site.config.drill = DrillConfig.model_validate({"rto": "1h"})
    result = drill(shop.site, DrillRequest())
    (piece,) = result.pieces()
    assert piece.verdict == UNVERIFIED and not piece.restored, piece.checks
    assert any("12 objects" in check.said for check in piece.checks)
    assert {check.rung for check in piece.checks} == {"opens"}, "what was only read is no proof of more"
    (lacking,) = (check for check in piece.checks if check.verdict != PROVEN)
    assert lacking.what == "restore" and lacking.said.startswith("only read: put into no bucket")
    assert f"(next: set scratch_bucket of {SOURCE} to a bucket" in lacking.said
    assert lacking.said.endswith(f"or, to have it only read, name {SOURCE} in drill.not_restored)")
    assert result.sources[0].place.startswith("nowhere") and result.rto_seconds == 0
    (target,) = result.checks
    assert target.verdict == UNVERIFIED and "not measured" in target.said
    assert "proven" not in {str(mark["kind"]) for mark in shop.site.vault.marks(made.entry)}


@pytest.mark.sampled
def test_what_the_site_wants_only_read_fails_no_drill_and_is_proof_of_nothing(shop: Machine) -> None:
    put(shop.server, shop.bucket, OBJECTS)
    made = shop.back_up()
    keep(shop.site, drill(shop.site, DrillRequest()))
    doubted = [each for each in look(shop.site).findings if each.id == f"drill/{SOURCE}/{shop.bucket}"]
    assert [each.level for each in doubted] == [Level.CRITICAL]
    shop.site.config.drill = DrillConfig.model_validate({"rto": "1h", "not_restored": [SOURCE]})
    result = drill(shop.site, DrillRequest())
    (piece,) = result.pieces()
    assert result.verdict == PROVEN and not piece.restored, result.trouble()
    assert {(check.rung, check.what) for check in piece.checks} == {
        ("opens", "reading"), ("opens", "objects and bytes"), ("opens", "every object's digest"),
    }  # fmt: skip
    assert piece.notes == ["by the site's word (drill.not_restored) not restored: only read and counted"]
    assert f"{SOURCE}/{shop.bucket} only read (drill.not_restored" in result.sentence()
    assert "RTO" not in result.sentence() and result.checks == [], "nothing was restored that could take long"
    assert "proven" not in {str(mark["kind"]) for mark in shop.site.vault.marks(made.entry)}
    keep(shop.site, result)
    known = proofs(shop.site.vault)
    assert known.newest == {} == known.files and known.doubts == {} == known.sources
    (told,) = (each for each in look(shop.site).findings if each.id == f"drill/{SOURCE}/{shop.bucket}")
    assert told.level is Level.OK and "as drill.not_restored says" in told.said
    hurt = listed(shop, made)["large.bin"]
    file = shop.file_of(hurt.content.stored)
    file.chmod(0o600)
    flip(file, 1000)
    assert drill(shop.site, DrillRequest()).verdict == FAILED, "what is damaged is found all the same"
