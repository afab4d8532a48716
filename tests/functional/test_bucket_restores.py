"""Restores of buckets on real S3 servers: whole, by prefix, one object, beside, in place, elsewhere, broken off."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from engine import backup, names
from engine.buckets.headers import meaning
from engine.buckets.plan import BucketPlan, BucketRequest, check_confirmation, make_plan, selected
from engine.buckets.put import Putter
from engine.buckets.restore import BucketRestore, run
from engine.config import SiteConfig
from engine.errors import ConfirmationNeeded, IntegrityError, Lacking, RestoreRefused, StoreError, UnknownName
from engine.site import Site
from engine.stores.multipart import MIB
from tests.functional.bucket_machine import LARGE, OBJECTS, SOURCE, Machine, holds, machine, put, source
from tests.functional.vault_helpers import flip
from tests.servers.s3 import S3Server


@pytest.fixture
def shop(moto_s3: S3Server, tmp_path: Path) -> Iterator[Machine]:
    with machine(moto_s3, tmp_path / "vault", moto_s3) as made:
        yield made


def planned(shop: Machine, **fields: Any) -> BucketPlan:
    return make_plan(shop.site, BucketRequest(bucket=shop.bucket, **fields))


def buckets(server: S3Server) -> set[str]:
    return {each["Name"] for each in server.client().list_buckets()["Buckets"]}


def test_by_default_a_new_bucket_beside_gets_every_object_with_all_that_belongs_to_it(shop: Machine) -> None:
    put(shop.server, shop.bucket, OBJECTS)
    shop.back_up()
    before = holds(shop.server, shop.bucket)
    plan = planned(shop)
    assert plan.makes and plan.into.startswith(f"{shop.bucket}-restored-") and len(plan.into) <= 63
    assert (plan.new, plan.same, plan.differing) == (len(OBJECTS), 0, 0)
    assert plan.into not in buckets(shop.server), "a plan changes nothing"
    with BucketRestore(shop.site, plan, approved=False, whole=5 * MIB, parts=lambda number: 5 * MIB) as work:
        assert work.safety_backup() is None
        work.put()
        work.settings()
        work.compare()
        done = work.result()
    assert (done.written, done.same) == (len(OBJECTS), 0)
    assert not [note for note in done.notes if "tags" in note], "they are kept there"
    assert holds(shop.server, plan.into) == before == holds(shop.server, shop.bucket)
    etag = shop.server.client().head_object(Bucket=plan.into, Key="large.bin")["ETag"]
    assert etag.strip('"').endswith("-2"), "above the limit it went in parts"
    # run again, it finds everything as it was: nothing is written, nothing is asked
    again = planned(shop, into=plan.into)
    assert (again.new, again.same, again.differing) == (0, len(OBJECTS), 0)
    assert run(shop.site, again).written == 0


def test_objects_come_back_as_they_were_on_a_date_by_prefix_and_one_by_one(shop: Machine) -> None:
    put(shop.server, shop.bucket, {"a/1": b"old 1", "a/2": b"old 2", "b/1": b"old b"})
    old = shop.back_up()
    put(shop.server, shop.bucket, {"a/1": b"new 1"})
    shop.server.client().delete_object(Bucket=shop.bucket, Key="a/2")
    new = shop.back_up()
    before = f"before {names.iso(old.manifest.taken_at)}"
    assert run(shop.site, planned(shop, prefix="a/", backup=before, under="restored/")).written == 2
    found = holds(shop.server, shop.bucket)
    assert found["restored/a/1"][0] == b"old 1" and found["restored/a/2"][0] == b"old 2" and "restored/b/1" not in found
    assert found["a/1"][0] == b"new 1", "beside, not in place"
    # the deleted object alone goes back to its own key: nothing is overwritten, nothing to confirm
    plan = planned(shop, objects=("a/2",), backup=old.entry.file, into=shop.bucket)
    assert (plan.objects, plan.new, plan.makes) == (1, 1, False)
    run(shop.site, plan)
    assert holds(shop.server, shop.bucket)["a/2"][0] == b"old 2"
    with pytest.raises(UnknownName) as told:
        planned(shop, objects=("a/3",), backup=new.entry.file)
    assert "Did you mean 'a/1'?" in told.value.remedy
    with pytest.raises(UnknownName, match="has no object 'c/'"):
        planned(shop, prefix="c/")


def test_nothing_living_is_overwritten_unless_confirmed_and_a_snapshot_is_taken_first(shop: Machine) -> None:
    put(shop.server, shop.bucket, OBJECTS)
    shop.back_up()
    before = holds(shop.server, shop.bucket)
    client = shop.server.client()
    client.put_object(Bucket=shop.bucket, Key="plain.txt", Body=b"broken by a mistake")
    client.delete_object_tagging(Bucket=shop.bucket, Key="empty")
    client.copy_object(
        Bucket=shop.bucket, Key="a//b", CopySource={"Bucket": shop.bucket, "Key": "a//b"}, MetadataDirective="REPLACE",
        ContentType="text/other",
    )  # fmt: skip
    client.delete_object(Bucket=shop.bucket, Key="/leading")
    client.put_object(Bucket=shop.bucket, Key="only here", Body=b"stays")
    plan = planned(shop, into=shop.bucket)
    assert (plan.new, plan.differing) == (1, 3) and set(plan.named) == {"plain.txt", "a//b", "empty"}
    with pytest.raises(ConfirmationNeeded, match="overwrite 3 objects"):
        run(shop.site, plan)
    with pytest.raises(ConfirmationNeeded, match="is not the name of the bucket"):
        check_confirmation(plan, "yes")
    assert client.get_object(Bucket=shop.bucket, Key="plain.txt")["Body"].read() == b"broken by a mistake"
    done = run(shop.site, plan, approved=check_confirmation(plan, shop.bucket))
    assert done.written == 4 and done.safety is not None and done.safety.tier == names.SAFETY
    after = holds(shop.server, shop.bucket)
    assert after.pop("only here")[0] == b"stays"
    assert after == before
    # what was overwritten is in the safety snapshot, which is never the latest
    saved = planned(shop, backup=done.safety.file, objects=("plain.txt",))
    run(shop.site, saved)
    assert holds(shop.server, saved.into)["plain.txt"][0] == b"broken by a mistake"
    assert planned(shop).manifest.file != done.safety.file


def test_what_is_written_after_the_safety_snapshot_is_never_overwritten(shop: Machine) -> None:
    put(shop.server, shop.bucket, {"a": b"old a", "b": b"old b", "c": b"old c"})
    shop.back_up()
    client = shop.server.client()
    client.put_object(Bucket=shop.bucket, Key="a", Body=b"broken")
    client.delete_object(Bucket=shop.bucket, Key="b")
    plan = planned(shop, into=shop.bucket)
    for key in ("a", "b"):  # otherwise than the snapshot and the safety snapshot have it; there at all
        with BucketRestore(shop.site, plan, approved=True) as work:
            assert work.safety_backup() is not None
            client.put_object(Bucket=shop.bucket, Key=key, Body=b"of a customer, just now")
            with pytest.raises(RestoreRefused, match=f"^{key} in .* was written while this restore ran") as told:
                work.put()
        assert "run it again" in told.value.remedy
        assert holds(shop.server, shop.bucket)[key][0] == b"of a customer, just now"
        done = run(shop.site, planned(shop, into=shop.bucket), approved=True)
        assert holds(shop.server, shop.bucket)[key][0] == f"old {key}".encode() and done.safety is not None
        saved = run(shop.site, planned(shop, backup=done.safety.file, objects=(key,), into=f"{shop.bucket}-{key}"))
        assert holds(shop.server, saved.into)[key][0] == b"of a customer, just now"


def test_an_approval_given_beforehand_overwrites_nothing_that_no_snapshot_has(shop: Machine) -> None:
    put(shop.server, shop.bucket, {"a": b"old a"})
    shop.back_up()
    client = shop.server.client()
    client.delete_object(Bucket=shop.bucket, Key="a")
    plan = planned(shop, into=shop.bucket)
    assert plan.differing == 0
    client.put_object(Bucket=shop.bucket, Key="a", Body=b"uploaded meanwhile")
    with pytest.raises(RestoreRefused, match="no safety snapshot has it"):
        run(shop.site, plan, approved=True)
    assert client.get_object(Bucket=shop.bucket, Key="a")["Body"].read() == b"uploaded meanwhile"
    run(shop.site, planned(shop, into=shop.bucket, safety_backup=False), approved=True)
    assert client.get_object(Bucket=shop.bucket, Key="a")["Body"].read() == b"old a"


def test_a_lost_bucket_is_made_again_with_its_settings_from_a_replica_alone(shop: Machine) -> None:
    client = shop.server.client()
    client.put_bucket_versioning(Bucket=shop.bucket, VersioningConfiguration={"Status": "Enabled"})
    rules = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["https://shop.example.org"]}]
    client.put_bucket_cors(Bucket=shop.bucket, CORSConfiguration={"CORSRules": rules})
    policy = {"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
        "Resource": [f"arn:aws:s3:::{shop.bucket}/*", f"arn:aws:s3:::{shop.bucket}"],
    }]}  # fmt: skip
    client.put_bucket_policy(Bucket=shop.bucket, Policy=json.dumps(policy))
    put(shop.server, shop.bucket, {"a": b"a", "large": LARGE})
    made = shop.back_up()
    before = holds(shop.server, shop.bucket)
    assert all(each.error is None for each in backup.replicate_all(shop.site))
    for version in client.list_object_versions(Bucket=shop.bucket)["Versions"]:
        client.delete_object(Bucket=shop.bucket, Key=version["Key"], VersionId=version["VersionId"])
    client.delete_bucket(Bucket=shop.bucket)
    # local contents are damaged and gone: each object comes from the replica
    for name in shop.contents():
        flip(shop.file_of(name), 40)
    plan = planned(shop, into=shop.bucket)
    assert plan.makes and plan.settings and [each.location for each, _ in plan.copies] == ["local", "copy0"]
    done = run(shop.site, plan)
    assert any("came from the next place" in note for note in done.notes)
    assert holds(shop.server, shop.bucket) == before
    assert client.get_bucket_versioning(Bucket=shop.bucket)["Status"] == "Enabled"
    assert json.loads(client.get_bucket_policy(Bucket=shop.bucket)["Policy"]) == policy
    assert client.get_bucket_cors(Bucket=shop.bucket)["CORSRules"] == rules
    # beside, settings come when asked for, and the policy speaks of the new bucket
    beside = planned(shop, settings=True, location="copy0", backup=made.entry.file)
    run(shop.site, beside)
    told = json.loads(client.get_bucket_policy(Bucket=beside.into)["Policy"])["Statement"][0]["Resource"]
    assert told == [f"arn:aws:s3:::{beside.into}/*", f"arn:aws:s3:::{beside.into}"]
    assert not planned(shop, location="copy0").settings


@pytest.mark.sampled
def test_a_restore_that_was_broken_off_goes_on_where_it_stopped(shop: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    put(shop.server, shop.bucket, {f"{number:03}": b"%d" % number for number in range(24)})
    shop.back_up()
    plan = planned(shop)
    sent = Putter.put

    def failing(self: Putter, each: Any) -> None:
        if each.key == "012":
            raise StoreError("the line was cut")
        sent(self, each)

    with monkeypatch.context() as patched:
        patched.setattr(Putter, "put", failing)
        with pytest.raises(StoreError, match="the line was cut"):
            run(shop.site, plan)
    half = len(holds(shop.server, plan.into))
    assert 0 < half < 24
    done = run(shop.site, planned(shop, into=plan.into))
    assert (done.same, done.written) == (half, 24 - half)
    assert holds(shop.server, plan.into) == holds(shop.server, shop.bucket)


@pytest.mark.sampled
def test_what_appears_after_the_plan_is_not_overwritten(shop: Machine) -> None:
    put(shop.server, shop.bucket, {"a": b"a"})
    shop.back_up()
    into = shop.server.new_bucket("other")
    plan = planned(shop, into=into)
    shop.server.client().put_object(Bucket=into, Key="a", Body=b"somebody else's")
    with pytest.raises(RestoreRefused, match="otherwise than in the snapshot"):
        run(shop.site, plan)
    assert shop.server.client().get_object(Bucket=into, Key="a")["Body"].read() == b"somebody else's"


@pytest.mark.sampled
def test_objects_go_to_another_endpoint_and_never_among_the_backups(
    moto_s3: S3Server, rclone_s3: S3Server, tmp_path: Path
) -> None:
    with machine(moto_s3, tmp_path / "v", moto_s3) as shop:
        put(moto_s3, shop.bucket, {"a": b"a", "f/b": b"b", "large.bin": LARGE})
        shop.back_up()
        body = shop.config.model_dump()
        body["buckets"] = [*body["buckets"], source(rclone_s3, name="elsewhere")]
        with Site(SiteConfig.model_validate(body)) as site:
            plan = make_plan(site, BucketRequest(shop.bucket, SOURCE, endpoint="elsewhere", into="copied"))
            assert plan.makes
            without_tags = f"{rclone_s3.endpoint} keeps no tags of objects: the 3 objects that have some come there"
            assert [note for note in run(site, plan).notes if without_tags in note]
            client = rclone_s3.client()
            got = client.get_object(Bucket="copied", Key="f/b")
            assert got["Body"].read() == b"b" and got["ContentType"] == "text/x-kind1"
            assert {key.lower() for key in got["Metadata"]} == {"number", "owner"}
            assert client.get_object(Bucket="copied", Key="large.bin")["Body"].read() == LARGE
            again = make_plan(site, BucketRequest(bucket=shop.bucket, endpoint="elsewhere", into="copied"))
            assert (again.same, again.differing) == (3, 0)
            assert [line for line in again.lines() if without_tags in line], "by now that can be told before"
            with pytest.raises(UnknownName, match="no endpoint 'elsewher'"):
                make_plan(site, BucketRequest(bucket=shop.bucket, endpoint="elsewher"))
            vault = site.config.vault.replicas[0]
            with pytest.raises(RestoreRefused, match="holds this site's backups"):
                make_plan(site, BucketRequest(bucket=shop.bucket, endpoint=vault.name, into=vault.bucket))


@pytest.mark.sampled
def test_a_content_that_is_damaged_in_every_place_is_refused_before_one_byte_is_sent(shop: Machine) -> None:
    put(shop.server, shop.bucket, {"a": b"a" * 50, "large": LARGE})
    shop.back_up()
    for name in shop.contents():
        flip(shop.file_of(name), 60)
    plan = planned(shop)
    with pytest.raises(IntegrityError, match="is damaged"):
        run(shop.site, plan)
    assert holds(shop.server, plan.into) == {}
    assert not shop.server.client().list_multipart_uploads(Bucket=plan.into).get("Uploads")


def test_what_no_place_has_whole_is_named_and_everything_else_comes_back(shop: Machine) -> None:
    put(shop.server, shop.bucket, {f"{number:03}": b"content %d" % number for number in range(20)} | {"z": LARGE})
    shop.back_up()
    before = holds(shop.server, shop.bucket)
    stored = {
        each.key: shop.file_of(each.content.stored)
        for each in selected(shop.site, planned(shop).copies[0], BucketRequest())
    }
    whole = {key: stored[key].read_bytes() for key in ("003", "007", "z")}
    flip(stored["003"], 60)
    stored["007"].unlink()
    flip(stored["z"], 1000)
    into = planned(shop).into
    for again in range(2):
        told: list[str] = []
        with pytest.raises(Lacking) as lacking:
            run(shop.site, planned(shop, into=into), tell=told.append)
        message = lacking.value.message
        assert "3 objects could not be restored" in message
        assert "003 (the content" in message and "is damaged" in message and "007 (Could not read" in message, message
        assert "z (the content" in message and "the 18 other objects are there" in lacking.value.kept, again
        assert holds(shop.server, into) == {key: facts for key, facts in before.items() if key not in whole}
    for key, data in whole.items():
        stored[key].write_bytes(data)
    assert run(shop.site, planned(shop, into=into)).written == 3
    assert holds(shop.server, into) == before


def test_metadata_and_headers_in_utf8_come_back_as_they_were_and_are_the_same_from_then_on(
    moto_s3: S3Server, rclone_s3: S3Server, tmp_path: Path
) -> None:
    sent = {
        "x-amz-meta-name": "Zoë 日本".encode(), "x-amz-meta-spaced": b"a b", "Content-Length": b"1",
        "Content-Type": 'text/plain; charset="ü"'.encode(),
        "Content-Disposition": 'attachment; filename="ü.txt"'.encode(),
    }  # fmt: skip
    with machine(moto_s3, tmp_path / "v", rclone_s3) as shop:
        where = urlsplit(moto_s3.endpoint)
        line = http.client.HTTPConnection(where.hostname or "", where.port)
        line.putrequest("PUT", f"/{shop.bucket}/raw")
        for name, value in sent.items():
            line.putheader(name, value)
        line.endheaders(b"x")
        assert line.getresponse().status == 200
        shop.back_up()

        def head(bucket: str, server: S3Server = moto_s3) -> tuple[dict[str, str], str, str]:
            found = server.client().head_object(Bucket=bucket, Key="raw")
            metadata = {name.lower(): value for name, value in found["Metadata"].items()}
            return metadata, found["ContentType"], found["ContentDisposition"]

        before = head(shop.bucket)
        assert before[0]["name"].encode("latin-1") == "Zoë 日本".encode() and "\u00c3\u00bc" in before[1]
        plan = planned(shop)
        run(shop.site, plan)
        assert head(plan.into) == before, "byte for byte"
        assert planned(shop, into=plan.into).same == 1
        # elsewhere in the form that every S3 server takes, and the same from then on, too
        beside = planned(shop, endpoint="copy0", into="elsewhere")
        run(shop.site, beside)
        assert meaning(head("elsewhere", rclone_s3)[0]["name"]) == "Zoë 日本"
        assert head("elsewhere", rclone_s3)[0]["name"].isascii()
        assert planned(shop, endpoint="copy0", into="elsewhere").same == 1
