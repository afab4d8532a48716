"""Versioning, CORS and policy of a bucket whose restore broke off: they come with the run that ends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.buckets.plan import BucketRequest, make_plan
from engine.buckets.restore import BucketRestore, run
from engine.restore_site.plan import SiteRequest
from engine.restore_site.points import Piece, Point
from engine.restore_site.services import restore_bucket
from engine.restore_site.state import State
from engine.restore_site.work import Work
from tests.functional.bucket_machine import Machine, machine, put
from tests.servers.s3 import S3Server

RULES = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["https://shop.example.org"]}]
NOTHING = (None, None, None)


@pytest.fixture
def shop(moto_s3: S3Server, tmp_path: Path) -> Iterator[Machine]:
    """A bucket that was set up, backed up, and lost."""
    with machine(moto_s3, tmp_path / "vault") as made:
        client, name = made.server.client(), made.bucket
        put(made.server, name, {"a": b"a", "b": b"b"})
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        client.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": RULES})
        client.put_bucket_policy(Bucket=name, Policy=json.dumps(_policy(name)))
        made.back_up()
        for key in ("a", "b"):
            client.delete_object(Bucket=name, Key=key)
            for each in client.list_object_versions(Bucket=name, Prefix=key).get("DeleteMarkers", []):
                client.delete_object(Bucket=name, Key=key, VersionId=each["VersionId"])
            for each in client.list_object_versions(Bucket=name, Prefix=key).get("Versions", []):
                client.delete_object(Bucket=name, Key=key, VersionId=each["VersionId"])
        client.delete_bucket(Bucket=name)
        yield made


def _policy(bucket: str, action: str = "s3:GetObject") -> dict[str, Any]:
    rule = {"Effect": "Allow", "Principal": "*", "Action": action, "Resource": f"arn:aws:s3:::{bucket}/*"}
    return {"Version": "2012-10-17", "Statement": [rule]}


def _set(shop: Machine, bucket: str = "") -> tuple[Any, Any, Any]:
    from engine.buckets.endpoint import Endpoint

    found = Endpoint.of(shop.config.buckets[0], bucket or shop.bucket).settings()
    return found.versioning, found.cors, found.policy


def _as_before(shop: Machine) -> tuple[Any, Any, Any]:
    return "Enabled", RULES, _policy(shop.bucket)


def test_a_restore_that_broke_off_before_the_settings_sets_them_when_it_is_run_again(shop: Machine) -> None:
    asked = BucketRequest(bucket=shop.bucket, into=shop.bucket)
    first = make_plan(shop.site, asked)
    with BucketRestore(shop.site, first, approved=False) as work:
        work.put()  # and no more: as if it was killed then
    assert first.makes and _set(shop) == NOTHING
    again = make_plan(shop.site, asked)
    assert not again.makes and again.settings and (again.new, again.same) == (0, 2)
    run(shop.site, again)
    assert _set(shop) == _as_before(shop)
    # what somebody changes afterwards is not undone by a restore of objects
    shop.server.client().delete_bucket_policy(Bucket=shop.bucket)
    later = make_plan(shop.site, asked)
    assert not later.settings and any("only restore-bucket --settings" in note for note in later.notes)
    run(shop.site, later)
    assert _set(shop)[2] is None
    # nor is a bucket beside set up, whether it was made or found
    beside = BucketRequest(bucket=shop.bucket, into=f"{shop.bucket}-beside")
    for _ in range(2):
        run(shop.site, make_plan(shop.site, beside))
    assert _set(shop, beside.into) == NOTHING


def test_the_restore_of_a_machine_sets_up_what_it_made_and_tells_of_what_stood_there(shop: Machine) -> None:
    (entry,) = shop.site.vault.catalog().entries(source=shop.target.source)
    piece = Piece(shop.target, [(entry, shop.site.vault.catalog().load(entry))])
    point = Point("20260301_020000-0000aaaa", entry.name.taken_at, {shop.target: piece})
    state = State.begin(shop.site.vault.state, site="shop", point=point.id, request={})
    work = Work(shop.site, SiteRequest(), point, state, key=str(shop.target))

    def broken(step: str, done: int, total: int | None = None) -> None:
        if step.startswith("restore into"):
            raise KeyboardInterrupt

    work.progress = broken
    with pytest.raises(KeyboardInterrupt):
        restore_bucket(work, piece)
    assert _set(shop) == NOTHING, "it was made, and no more"
    work.progress = lambda step, done, total=None: None
    assert restore_bucket(work, piece).left == [] and _set(shop) == _as_before(shop)
    assert restore_bucket(work, piece).left == [], "it stood there as it was"
    shop.server.client().put_bucket_policy(Bucket=shop.bucket, Policy=json.dumps(_policy(shop.bucket, "s3:*")))
    (left,) = restore_bucket(work, piece).left
    assert "set up otherwise than in the backup (policy)" in left and left.endswith(f"--into {shop.bucket} --settings")
    assert _set(shop)[2] == _policy(shop.bucket, "s3:*")
