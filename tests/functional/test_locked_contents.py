"""What bucket lists, records of containers and restore-site lean on at a locked replica: locked as long as they are."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments import recovery
from deployments.cli.main import run as backups
from engine import backup, names, sealed
from engine.backup import BackupResult
from engine.buckets.plan import BucketRequest, make_plan
from engine.buckets.restore import run as restore
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.credentials import LENGTHEN, check
from engine.errors import CredentialsRefused
from engine.images import record, saved
from engine.images.load import copies_of
from engine.keyring.reencrypt import re_encrypt
from engine.manifest import Server
from engine.prune import prune
from engine.restore_site.plan import SiteRequest
from engine.restore_site.plan import make_plan as plan_of_site
from engine.site import Site, Target
from engine.source import Facts
from engine.stores import S3Store
from engine.undelete import undelete
from tests.functional.bucket_machine import SOURCE, holds, put, source
from tests.functional.test_archives import _written
from tests.functional.test_endpoints import DAY, attack, lockable
from tests.functional.vault_helpers import PASSPHRASE
from tests.servers.digest_gate import digest_gate
from tests.servers.s3 import S3Server

IMAGE = "ab" * 32
OLD = {"plain.txt": b"plain\n", "same as plain.txt": b"plain\n", "folder/two": b"two " * 1000, "empty": b""}


def shop_of(root: Path, server: S3Server, bucket: str, replica: dict[str, Any], **vault: Any) -> SiteConfig:
    given = {
        "root": str(root),
        "keys": {"current": "main", "keys": {"main": PASSPHRASE}},
        "replicas": [replica],
        **vault,
    }
    return SiteConfig.model_validate({"site": "shop", "vault": given, **sources(server, bucket)})


def sources(server: S3Server, bucket: str) -> dict[str, Any]:
    return {"buckets": source(server, bucket), "images": {"project": "shop"}}


def snapshot(site: Site, bucket: str, *, tier: str = "daily", point: str = "") -> BackupResult:
    """A snapshot of the bucket, and its copy at the replica."""
    made = backup.backup_one(site, Target(SOURCE, bucket), tier=tier, recovery_point=point)
    site.vault.replicate(made.entry, "copy")
    return made


def stored_image(site: Site, at: datetime) -> Entry:
    """An image that was stored then, and its copy."""
    facts = Facts(server=Server(flavour="docker", version="1"), dump_format=saved.DUMP_FORMAT, contents={"id": IMAGE})
    with site.vault._begin("images", saved.KIND, names.IMAGE, IMAGE, "tar.gz.enc", at, "", "") as writer:
        writer.data().write(b"all the layers of an image")
        entry, manifest = writer.publish(facts)
    site.vault.mark(entry, "verified", sha256=manifest.data.sha256)
    site.vault.replicate(entry, "copy")
    return entry


def recorded(site: Site, at: datetime, point: str = "") -> Entry:
    """A record of containers that needs that image, and its copy."""
    found = record.Record("shop", names.iso(at), [], [record.Image(f"sha256:{IMAGE}", ["app:1"], size=26, saved=True)])
    facts = Facts(
        server=Server(flavour="docker", version="1"), dump_format=record.DUMP_FORMAT, contents=found.facts()
    )  # fmt: skip
    ext = f"{names.RECORD_EXT}.json.gz.enc"
    with site.vault._begin("images", record.KIND, "daily", "images", ext, at, "", point) as writer:
        writer.data().write(found.to_bytes())
        entry, manifest = writer.publish(facts)
    site.vault.mark(entry, "verified", sha256=manifest.data.sha256)
    site.vault.replicate(entry, "copy")
    return entry


def locked(site: Site, prefix: str) -> dict[str, datetime | None]:
    """Until when each object is locked at the replica."""
    store = site.vault.store("copy")
    return {info.key: store.retained_until(info.key) for info in store.list(prefix)}


def nearly_over(client: Any, bucket: str, keys: list[str], seconds: float = 3.0) -> None:
    """Have the locks of objects be as old ones are."""
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    for key in keys:
        retention = {"Mode": "GOVERNANCE", "RetainUntilDate": until}
        client.put_object_retention(Bucket=bucket, Key=key, Retention=retention, BypassGovernanceRetention=True)


def asked(site: Site) -> dict[str, list[str]]:
    """What is asked of the endpoint from now on, by operation: the keys."""
    store = site.vault.store("copy")
    assert isinstance(store, S3Store)
    seen: dict[str, list[str]] = {"HeadObject": [], "PutObjectRetention": []}
    for operation, keys in seen.items():

        def note(params: Any, keys: list[str] = keys, **_: Any) -> None:
            keys.append(params["url_path"].split("?")[0].removeprefix(f"/{store.bucket.place.bucket}").strip("/"))

        store.bucket.client.meta.events.register(f"before-call.s3.{operation}", note)
    return seen


def test_after_an_attack_a_locked_bucket_list_restores_and_old_images_and_the_site_file_are_there(
    tmp_path: Path, moto_s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    given, bucket, client = lockable(moto_s3), moto_s3.new_bucket("media"), moto_s3.client()
    configured = shop_of(tmp_path / "v", moto_s3, bucket, given)
    put(moto_s3, bucket, OLD)
    point = names.recovery_point()
    with Site(configured) as site:
        snapshot(site, bucket)
        image = stored_image(site, names.now() - 40 * DAY)
        old = [*locked(site, "shop/contents/"), *locked(site, "shop/images/image/")]
        assert len(old) == 3 + 2
        nearly_over(client, given["bucket"], old)
        put(moto_s3, bucket, {"new": b"new"})
        newest = snapshot(site, bucket, point=point)
        recorded(site, names.now(), point)
        sealed.seal_site(site.vault, sealed.written_out(configured), point, "daily")
        sealed.copy_sealed(site.vault, "copy")
    truth = holds(moto_s3, bucket)
    time.sleep(3.5)  # the locks that they were stored with are over
    begun = datetime.now(UTC)
    attack(client, given["bucket"])
    shutil.rmtree(tmp_path / "v" / "shop")
    with Site(configured) as site:
        assert not list(site.vault.store("copy").list("shop/"))
    path = tmp_path / "shop.yaml"
    told = _written(configured)
    path.write_text(json.dumps({"site": "shop", "vault": told["vault"], **sources(moto_s3, bucket)}))
    command = ["undelete", "-f", str(path), "--location", "copy", "--since", names.iso(begun - DAY), "--json"]
    assert backups([*command, "--dry-run"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (len(planned["back"]), planned["contents"], len(planned["site_files"])) == (4, 4, 1)
    assert backups(command) == 0
    done = json.loads(capsys.readouterr().out)
    assert {name: done[name] for name in ("back", "contents", "site_files", "lost", "lacking")} == {
        name: planned[name] for name in ("back", "contents", "site_files", "lost", "lacking")
    } and not done["lost"] and not done["lacking"]  # fmt: skip
    with Site(configured) as site:
        result = restore(site, make_plan(site, BucketRequest(bucket=bucket, location="copy")))
        assert result.written == len(OLD) + 1 and holds(moto_s3, result.into) == truth
        (stands,) = copies_of(site, "images", IMAGE)
        assert stands[0].file == image.file
        assert b"".join(site.vault.read_part(*stands)) == b"all the layers of an image"
        plan = plan_of_site(site, SiteRequest(only=(SOURCE,)))
        assert (plan.point.id, [each.key for each in plan.steps]) == (point, [f"{SOURCE}/{bucket}"])
        assert plan.as_dict()["backups"][f"{SOURCE}/{bucket}"] == newest.entry.file
        again = undelete(site.vault, "copy")
        assert (again.back, again.contents, again.site_files) == ([], 0, []), "done again nothing changes"
    place = {
        "BACKUPS_BUCKET": given["bucket"], "BACKUPS_ENDPOINT": moto_s3.endpoint, "BACKUPS_REGION": moto_s3.region,
        "BACKUPS_ACCESS_KEY": moto_s3.access_key, "BACKUPS_SECRET_KEY": moto_s3.secret_key,
        "BACKUP_ENCRYPTION_KEY": PASSPHRASE,
    }  # fmt: skip
    found = recovery.recover(recovery.Bucket.of(place, addressing="path"), PASSPHRASE).site_text
    assert (found.site, found.point, bucket in found.text) == ("shop", point, True), "bucket and key are enough"


def test_a_new_list_locks_what_it_leans_on_and_asks_only_for_what_is_not_known_to_last(
    tmp_path: Path, moto_s3: S3Server
) -> None:
    given, bucket, client = lockable(moto_s3), moto_s3.new_bucket("media"), moto_s3.client()
    put(moto_s3, bucket, OLD)
    with Site(shop_of(tmp_path / "v", moto_s3, bucket, given)) as site:
        first = snapshot(site, bucket).manifest
        at_first = locked(site, "shop/contents/")
        assert len(at_first) == 3 and set(at_first.values()) == {first.taken_at.replace(microsecond=0) + 28 * DAY}
        keys = sorted(at_first)
        nearly_over(client, given["bucket"], keys[:2], 3600)
        seen = asked(site)
        put(moto_s3, bucket, {"new": b"new"})
        second = snapshot(site, bucket).manifest
        lasts = second.taken_at.replace(microsecond=0) + 28 * DAY
        after = locked(site, "shop/contents/")
        assert sorted(seen["PutObjectRetention"]) == keys[:2]
        assert [after[key] for key in keys] == [lasts, lasts, at_first[keys[2]]] and set(after.values()) <= {
            lasts, at_first[keys[2]],
        }  # fmt: skip
        snapshot(site, bucket)  # what came with the second is asked for once
        for each in seen.values():
            each.clear()
        snapshot(site, bucket)
        assert not seen["PutObjectRetention"] and not [each for each in seen["HeadObject"] if each in keys]
        time.sleep(1.1)  # times have whole seconds there
        client.copy_object(
            Bucket=given["bucket"], Key=keys[0], CopySource={"Bucket": given["bucket"], "Key": keys[0]},
            Metadata={"who": "somebody"}, MetadataDirective="REPLACE",
        )  # fmt: skip
        assert locked(site, keys[0])[keys[0]] is None
        last = snapshot(site, bucket).manifest
        assert locked(site, keys[0])[keys[0]] == last.taken_at.replace(microsecond=0) + 28 * DAY
        (notes,) = (site.vault.state / "locked").iterdir()
        notes.write_bytes(b"torn " * 5000)  # without the notes all is asked, and nothing is lost
        snapshot(site, bucket)
        with sqlite3.connect(notes) as base:
            assert base.execute("SELECT count(*) FROM pairs").fetchone() == (4,)
        plan = next(each for each in prune(site, confirmed=True) if each.location == "copy")
        assert plan.error is None


def test_no_lock_outlives_what_retention_keeps_and_none_is_shortened(tmp_path: Path, moto_s3: S3Server) -> None:
    given, bucket = lockable(moto_s3), moto_s3.new_bucket("media")
    put(moto_s3, bucket, OLD)
    rules = {"hourly": "2d", "daily": "20d"}
    with Site(shop_of(tmp_path / "v", moto_s3, bucket, given, retention=rules)) as site:
        hourly = snapshot(site, bucket, tier="hourly").manifest.taken_at.replace(microsecond=0)
        assert set(locked(site, "shop/contents/").values()) == {hourly + 2 * DAY}
        daily = snapshot(site, bucket).manifest.taken_at.replace(microsecond=0)
        assert set(locked(site, "shop/contents/").values()) == {daily + 20 * DAY}
        snapshot(site, bucket, tier="hourly")
        assert set(locked(site, "shop/contents/").values()) == {daily + 20 * DAY}
        point = names.recovery_point()
        sealed.seal_site(site.vault, "site: shop\n", point, "daily")
        (key,) = sealed.copy_sealed(site.vault, "copy")
        found = sealed.of_key(key)
        assert found is not None and locked(site, key)[key] == found.at + 15 * DAY
        nearly_over(moto_s3.client(), given["bucket"], [key], 3600)
        assert sealed.copy_sealed(site.vault, "copy") == []
        until = locked(site, key)[key]
        assert until is not None and until > names.now() + 14 * DAY, "of hourly runs not each has one of its own"


def test_where_locks_may_not_be_lengthened_the_list_is_refused_and_the_check_of_the_key_says_so(
    tmp_path: Path, moto_s3: S3Server
) -> None:
    given, bucket = lockable(moto_s3), moto_s3.new_bucket("media")
    put(moto_s3, bucket, OLD)
    with Site(shop_of(tmp_path / "v", moto_s3, bucket, given)) as site:
        snapshot(site, bucket)
        keys = list(locked(site, "shop/contents/"))
        made = backup.backup_one(site, Target(SOURCE, bucket), tier="daily")
    nearly_over(moto_s3.client(), given["bucket"], keys, 3600)
    with digest_gate(moto_s3.endpoint, denies="retention") as gate:
        configured = shop_of(tmp_path / "v", moto_s3, bucket, {**given, "endpoint_url": gate})
        with Site(configured) as site:
            with pytest.raises(CredentialsRefused) as refused:
                site.vault.replicate(made.entry, "copy")
            assert "Could not lengthen the lock of shop/contents/" in refused.value.message
            assert "do s3:PutObjectRetention and s3:GetObjectRetention on" in refused.value.remedy
            assert [each.file for each in site.vault.lacking("copy")] == [made.entry.file], "it is not there by halves"
            rights = check(configured.vault.replicas[0], site.vault.layout("copy"), SOURCE)
    assert rights.of(LENGTHEN) == "no" and "(s3:PutObjectRetention): bucket lists" in rights.verdict()
    with Site(shop_of(tmp_path / "v", moto_s3, bucket, given)) as site:
        site.vault.replicate(made.entry, "copy")
        rights = check(site.config.vault.replicas[0], site.vault.layout("copy"), SOURCE)
    assert rights.of(LENGTHEN) == "yes" and "PutObjectRetention" not in rights.verdict()


def test_contents_that_are_in_no_version_any_more_are_told_with_the_list_that_names_them(
    tmp_path: Path, moto_s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    given, bucket, client = lockable(moto_s3), moto_s3.new_bucket("media"), moto_s3.client()
    configured = shop_of(tmp_path / "v", moto_s3, bucket, given)
    put(moto_s3, bucket, OLD)
    with Site(configured) as site:
        older, newer = snapshot(site, bucket), snapshot(site, bucket)
        keys = list(locked(site, "shop/contents/"))
    (version,) = client.list_object_versions(Bucket=given["bucket"], Prefix=keys[0])["Versions"]
    client.delete_object(
        Bucket=given["bucket"], Key=keys[0], VersionId=version["VersionId"], BypassGovernanceRetention=True
    )
    client.delete_object(Bucket=given["bucket"], Key=keys[1])
    client.delete_object(Bucket=given["bucket"], Key=f"{older.entry.key}.json")
    path = tmp_path / "shop.yaml"
    told = _written(configured)
    path.write_text(json.dumps({"site": "shop", "vault": told["vault"], **sources(moto_s3, bucket)}))
    since = names.iso(names.now() + DAY)
    assert backups(["undelete", "-f", str(path), "--location", "copy", "--since", since, "--json"]) == 5
    done = json.loads(capsys.readouterr().out)
    assert (done["back"], done["contents"], done["lacking"]) == ([], 1, {newer.entry.key: 1}), "a list that stands"
    assert backups(["undelete", "-f", str(path), "--location", "copy"]) == 5
    shown = capsys.readouterr()
    assert "1 contents that" in shown.err and "1 backups, 0 contents of buckets, 0 site files" in shown.out


def test_a_list_that_is_encrypted_anew_in_a_locked_replica_has_its_contents_locked(
    tmp_path: Path, moto_s3: S3Server
) -> None:
    given, bucket = lockable(moto_s3), moto_s3.new_bucket("media")
    put(moto_s3, bucket, OLD)
    with Site(shop_of(tmp_path / "v", moto_s3, bucket, given)) as site:
        snapshot(site, bucket)
        before = locked(site, "shop/contents/")
    shutil.rmtree(tmp_path / "v" / "shop")
    ring = {"current": "k2", "keys": {"main": PASSPHRASE, "k2": "another-key-that-is-long-enough-for-a-test"}}
    with Site(shop_of(tmp_path / "v", moto_s3, bucket, given, keys=ring)) as site:
        report = re_encrypt(site)
        assert (len(report.done), report.failed) == (1, {})
        after = locked(site, "shop/contents/")
        new = {key: until for key, until in after.items() if key not in before}
        list_name = names.parse_file(report.done[0].new)
        assert list_name is not None and len(new) == 3
        assert set(new.values()) == {list_name.taken_at + 28 * DAY}
