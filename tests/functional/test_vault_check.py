"""Verifying the vault: every damage is found, named and healed, and nothing that is whole is called damaged."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.cli.main import run as backups
from engine import backup, names, removal, sealed
from engine.archiving import archive
from engine.buckets.sweeping import sweep_contents
from engine.catalog import Entry
from engine.cold.move import move_all
from engine.config import KeyRingConfig, ObjectStoreConfig, SiteConfig
from engine.keyring.reencrypt import re_encrypt
from engine.logs import CONTENTS, LogFile
from engine.pins import pin
from engine.prune import look, prune
from engine.site import Site, Target
from engine.source import Facts
from engine.status import status
from engine.stores.base import ObjectInfo
from engine.vault import Vault
from engine.vault_check import Finding, PlaceReport, Request, Share, outcome_of, verify_vault
from engine.vault_check.census import Census
from tests.functional.bucket_machine import SOURCE
from tests.functional.damaged_vault import (
    COPY,
    DAY,
    HOUR,
    LATER,
    NOW,
    OLD_KEY,
    SERVER,
    Bucket,
    Built,
    Folder,
    Vandal,
    built,
    digests,
    dump,
    log,
    vault_site,
)
from tests.functional.vault_helpers import PASSPHRASE, replica
from tests.servers.s3 import S3Server
from tests.soak import SEED, trials

ALL = Request(share=Share(1.0), settle=0.05, set_aside=True)
AT_ONCE = 50


def told(reports: list[PlaceReport]) -> str:
    lines = [f"{each.severity} {each.kind} {each}" for report in reports for each in report.findings]
    return "\n".join([*lines, *(f"{report.location}: {report.error}" for report in reports if report.error)])


def found(reports: list[PlaceReport]) -> list[Finding]:
    return [each for report in reports for each in report.findings]


def assert_clean(reports: list[PlaceReport]) -> None:
    """All was read, and there is nothing to say."""
    assert told(reports) == ""
    for report in reports:
        assert report.read + report.cold == report.stored > 0 and report.contents_read == report.contents


def before(made: Built) -> dict[str, dict[str, str]]:
    return {place.name: digests(place) for place in (made.local, made.copy)}


@pytest.mark.soak
@pytest.mark.parametrize("number", range(trials(1, 10)))
def test_every_damage_is_found_and_healed_from_the_good_copy(
    number: int, tmp_path: Path, rclone_s3: S3Server, counted_trials: Callable[[int], None]
) -> None:
    counted_trials(AT_ONCE)
    with built(tmp_path / "vault", rclone_s3, dumps=34, logs=10, objects=10) as made:
        whole = before(made)
        vandal = Vandal(made, random.Random(f"{SEED}/{number}"))
        vandal.damage(AT_ONCE)
        reports = verify_vault(made.site, ALL, now=LATER)
        named = {(each.location, each.what) for each in found(reports)}
        missed = [(each.how, each.place, each.missing(named)) for each in vandal.done if each.missing(named)]
        assert missed == [], told(reports)
        assert [str(each) for each in found(reports) if not each.healed] == []
        assert before(made) == whole, "every file is what it was"
        assert_clean(verify_vault(made.site, ALL, now=LATER))


def of_all_kinds(root: Path, server: S3Server, bucket: str, disk: Path) -> SiteConfig:
    """Every kind of source, a bucket and a second disk as replicas."""
    config = vault_site(root, server, bucket)
    usb = ObjectStoreConfig(name="usb", directory=str(disk), path="{site}/{tier}/{source}")
    vault = config.vault.model_copy(update={"replicas": [*config.vault.replicas, usb]})
    more = {
        "postgres": [{"databases": ["platform"]}], "volumes": [{"volumes": ["notes"]}],
        "config": [{"paths": ["/etc/x"]}], "images": [{}], "n8n": [{}],
    }  # fmt: skip
    document = {**config.model_dump(), "vault": vault.model_dump(), **more}
    return SiteConfig.model_validate(document)


def stored(vault: Vault, source: str, kind: str, tier: str, name: str, ext: str, at: datetime, log: str = "") -> Entry:
    """Some backup of that kind, said to be verified."""
    told = {CONTENTS: LogFile(name=name, number=1, chain="x", end=9).model_dump(mode="json")} if log else {}
    with vault._begin(source, kind, tier, name, ext, at, "", "", log) as writer:
        writer.data().write(f"{source} {tier} {at}".encode() * 9)
        if kind == "volume":
            writer.companion("listing").write(b"{}\n")
        entry, manifest = writer.publish(Facts(server=SERVER, contents=told, dump_format=ext.split(".")[0]))
    vault.mark(entry, "verified", sha256=manifest.data.sha256)
    return entry


KINDS = [
    ("postgres", "postgres", "hourly", "platform", "sql.gz.enc", ""),
    ("postgres", "postgres", "base", "base", "tar.gz.enc", ""),
    ("postgres", "wal", "wal", "000000010000000000000001", "gz.enc", "wal"),
    ("volumes", "volume", "daily", "notes", "tar.gz.enc", ""),
    ("config", "config", "daily", "config", "tar.gz.enc", ""),
    ("images", "images", "daily", "images", "containers.gz.enc", ""),
    ("images", "images", "image", "img~0123", "tar.gz.enc", ""),
    ("n8n", "n8n", "daily", "n8n", "json.gz.enc", ""),
    ("mysql", "mysql", "pre-deployment", "app", "sql.gz.enc", ""),
    ("mysql", "mysql", "safety", "app", "sql.gz.enc", ""),
    ("mysql", "mysql", "recovered", "app", "sql.gz.enc", ""),
    ("mysql", "mysql", "manual", "a b/c", "sql.gz.enc", ""),
]


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory on a disk of its own: the one in memory that every Linux has."""
    folder = Path(tempfile.mkdtemp(prefix="bf-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_vault_with_every_kind_of_content_is_clean(tmp_path: Path, rclone_s3: S3Server, disk: Path) -> None:
    bucket = rclone_s3.new_bucket("media")
    config = of_all_kinds(tmp_path / "vault", rclone_s3, bucket, disk)
    old = config.model_copy(update={"vault": config.vault.model_copy(update={"keys": ring("old")})})
    with Site(old) as site:
        dump(site.vault, 9 * DAY)
        dump(site.vault, 70 * DAY)  # past its 60 days
    with Site(config) as site:
        vault = site.vault
        for number, (source, kind, tier, name, ext, log_tier) in enumerate(KINDS):
            stored(vault, source, kind, tier, name, ext, NOW - number * HOUR, log_tier)
        for days in (40, 10, 3, 1):
            dump(vault, days * DAY)
        for number in range(1, 5):
            log(vault, number, NOW - (5 - number) * HOUR)
        rclone_s3.client().put_object(Bucket=bucket, Key="one", Body=b"object")
        backup.backup_one(site, Target(SOURCE, bucket), tier="daily")
        archive(site, "monthly")
        assert re_encrypt(site).failed == {}
        sealed.seal_site(vault, "site: shop\n", names.recovery_point())
        for place in (COPY, "usb"):
            sealed.copy_sealed(vault, place)
            for entry in vault.lacking(place):
                vault.replicate(entry, place)
        assert any(plan.count("expire") for plan in prune(site, confirmed=True))
        assert vault.lacking("usb") == [] and len(list(vault.catalog().entries())) > len(KINDS) + 8
        assert_clean(verify_vault(site, ALL, now=LATER))


def ring(current: str) -> KeyRingConfig:
    return KeyRingConfig.model_validate({"current": current, "keys": {"main": PASSPHRASE, "old": OLD_KEY}})


def test_nothing_is_called_damaged_while_backups_copies_and_prunes_are_at_work(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    config = vault_site(tmp_path / "vault", rclone_s3, retention={"daily": "5d", "binlogs": "3d"})
    stopped = threading.Event()
    failures: list[BaseException] = []

    def at_work() -> None:
        try:
            with Site(config) as site:
                for number in range(40):
                    if stopped.is_set():
                        return
                    site.vault.replicate(dump(site.vault, number * timedelta(hours=7)), COPY)
                    prune(site, confirmed=True, now=NOW + (number % 4) * DAY)
        except BaseException as error:
            failures.append(error)

    with Site(config) as site:
        dump(site.vault, HOUR)
        thread = threading.Thread(target=at_work)
        thread.start()
        try:
            for _ in range(6):
                reports = verify_vault(site, Request(share=Share(1.0), settle=0.5))
                loud = [each for each in found(reports) if each.severity != "note"]
                assert [str(each) for each in loud] == [] and [each.error for each in reports] == [None, None]
        finally:
            stopped.set()
            thread.join()
    assert failures == []


@pytest.mark.sampled
def test_nothing_is_called_damaged_while_snapshots_of_a_bucket_come_and_go(tmp_path: Path, rclone_s3: S3Server) -> None:
    bucket = rclone_s3.new_bucket("media")
    config = vault_site(tmp_path / "vault", rclone_s3, bucket)
    client = rclone_s3.client()
    waited: list[str] = []
    with Site(config) as site, Site(config) as other:
        for number in range(3):
            client.put_object(Bucket=bucket, Key="changes", Body=f"body {number}".encode())
            made = backup.backup_one(other, Target(SOURCE, bucket), tier="daily")
            other.vault.replicate(made.entry, COPY)
        first = min(site.vault.catalog(COPY).entries(source=SOURCE), key=lambda each: each.name.taken_at)
        store = site.vault.store(COPY)
        contents = site.vault.contents(COPY, SOURCE, bucket)

        def prune_now() -> Iterator[ObjectInfo]:
            """The list goes, and what it alone names, after the lists were read."""
            if not waited:
                waited.append(first.file)
                manifest = other.vault.catalog(COPY).load(first)
                removal.remove(other.vault.removals, other.vault.store(COPY), other.vault.layout(COPY), first.key, [
                    first.beside(part.file) for part in manifest.files
                ])  # fmt: skip
                swept = sweep_contents(other.vault, COPY, SOURCE, bucket, now=LATER)
                assert swept.removed == 1, swept
            return listing(contents.prefix)

        listing = store.list
        with pytest.MonkeyPatch.context() as watched:
            watched.setattr(store, "list", lambda key="": prune_now() if key == contents.prefix else listing(key))
            assert told(verify_vault(site, ALL, now=LATER)) == ""
        assert waited == [first.file]
        assert [(each.kind, each.file) for each in found(verify_vault(site, ALL, now=LATER))] == [
            ("not copied", first.file)
        ], "it went there, and stands in the local root"


def test_damage_without_a_good_copy_is_named_and_counted_on_no_more(tmp_path: Path, rclone_s3: S3Server) -> None:
    config = vault_site(tmp_path / "vault", rclone_s3)
    with Site(config) as site:
        good, bad = dump(site.vault, 2 * DAY), dump(site.vault, DAY)
        for entry in (good, bad):
            site.vault.replicate(entry, COPY)
        Folder(tmp_path / "vault").write(bad.key, b"nothing like it")
        Bucket(rclone_s3, config.vault.replicas[0].bucket).write(bad.key, b"nothing like it, either")
        reports = verify_vault(site, ALL)
        assert [(each.location, each.kind, each.what, bool(each.healed)) for each in found(reports)] == [
            ("local", "damaged", bad.key, False), (COPY, "damaged", bad.key, False),
        ]  # fmt: skip
        assert "stands whole nowhere else" in found(reports)[0].left
        row = next(each for each in status(site).rows if each.target == Target("mysql", "app"))
        assert (row.newest and row.newest.file, row.broken) == (good.file, [bad.file])
        for plan in look(site, now=NOW + 90 * DAY):
            kept = {each.item.file for each in plan.planned if each.action == "keep"}
            assert kept == {good.file}, "the broken one does not count as the last good one"
        again = verify_vault(site, Request(share=Share(0.01), settle=0.05))
        assert [each.what for each in found(again)] == [bad.key] * 2, "what is broken is looked at each time"


@pytest.mark.sampled
def test_a_backup_that_goes_anyway_is_not_healed_and_not_brought_back(tmp_path: Path, rclone_s3: S3Server) -> None:
    with Site(vault_site(tmp_path / "vault", rclone_s3, retention={"daily": "5d", "binlogs": "3d"})) as site:
        for days in (1, 20):
            site.vault.replicate(dump(site.vault, days * DAY), COPY)
        old = next(each for each in site.vault.catalog().entries() if (NOW - each.name.taken_at).days >= 19)
        prune(site, confirmed=True)
        folder = Folder(tmp_path / "vault")
        folder.delete(old.manifest_key)  # as a prune on another machine that is at it
        reports = verify_vault(site, ALL, now=LATER)
        assert [(each.severity, each.what, each.healed) for each in found(reports)] == [("note", old.key, "")]
        for key in [each for each in folder.listed() if old.name.stem in each and "/marks/" not in each]:
            folder.delete(key)
        (finding,) = found(verify_vault(site, ALL, now=LATER))
        assert (finding.kind, finding.healed) == ("expired", "they were removed")
        assert not any(old.name.stem in key for key in folder.listed())


@pytest.mark.sampled
def test_files_of_another_tool_are_told_and_left_alone_until_a_person_says_so(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    with Site(vault_site(tmp_path / "vault", rclone_s3)) as site:
        site.vault.replicate(dump(site.vault, DAY), COPY)
        folder = Folder(tmp_path / "vault")
        key = "shop/mysql/daily/app_20200101_020000.sql.gz.enc"
        folder.write(key, b"made by a script")
        folder.write("shop/mysql/daily/notes.txt", b"of a person")
        young = verify_vault(site, ALL)
        assert_clean(young)
        before = digests(folder)
        reports = verify_vault(site, Request(share=Share(1.0), settle=0.05), now=LATER)
        assert [(each.severity, each.what, each.healed) for each in found(reports)] == [("stray", key, "")]
        assert outcome_of(reports) == "clean" and digests(folder) == before
        (moved,) = found(verify_vault(site, ALL, now=LATER))
        assert folder.read(moved.healed.removeprefix("moved to ")) == b"made by a script"
        assert_clean(verify_vault(site, ALL, now=LATER))


@pytest.mark.sampled
@pytest.mark.parametrize("step", range(8))
def test_a_healing_that_dies_anywhere_loses_nothing_and_is_finished_by_the_next(
    step: int, tmp_path: Path, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(vault_site(tmp_path / "vault", rclone_s3)) as site:
        entry = dump(site.vault, DAY)
        site.vault.replicate(entry, COPY)
        folder, copy = Folder(tmp_path / "vault"), Bucket(rclone_s3, site.config.vault.replicas[0].bucket)
        whole, there = digests(folder), digests(copy)
        folder.write(entry.key, b"nothing like it")
        folder.delete(entry.beside(entry.name.companion("accounts", "sql.gz.enc")))
        folder.write(entry.manifest_key, b"{}")
        left = step

        def dying(method: Callable[..., Any]) -> Callable[..., Any]:
            def call(*given: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
                return method(*given, **more)

            return call

        with monkeypatch.context() as broken:
            for name in ("delete", "duplicate", "put"):
                broken.setattr(site.vault.store("local"), name, dying(getattr(site.vault.store("local"), name)))
            with pytest.raises(KeyboardInterrupt):
                verify_vault(site, ALL, location="local")
        assert digests(copy) == there, "the good copy is only read"
        reports = verify_vault(site, ALL, now=LATER)
        assert [each for each in found(reports) if each.open] == []
        assert digests(folder) == whole
        assert_clean(verify_vault(site, ALL, now=LATER))


def test_what_is_cold_is_compared_in_presence_and_size_and_not_read(tmp_path: Path, moto_s3: S3Server) -> None:
    config = vault_site(tmp_path / "vault", moto_s3)
    cooling = config.vault.replicas[0].model_copy(update={"cold_class": "GLACIER", "cold_after": "60d"})
    config = config.model_copy(update={"vault": config.vault.model_copy(update={"replicas": [cooling]})})
    with Site(config) as site:
        entries = [dump(site.vault, days * DAY, "monthly") for days in (10, 100)]
        for entry in entries:
            site.vault.replicate(entry, COPY)
        assert [each.moved for each in move_all(site)] == [[entries[1].file]]
        reports = verify_vault(site, ALL, now=LATER)
        assert_clean(reports)
        assert [(each.read, each.cold) for each in reports] == [(2, 0), (1, 1)]
        for part in site.vault.catalog().load(entries[1]).files:
            assert site.vault.store(COPY).cold(entries[1].beside(part.file)) is not None, "nothing was thawed"
        Folder(tmp_path / "vault").write(entries[1].key, b"damaged")
        (finding,) = found(verify_vault(site, ALL, location="local", now=LATER))
        assert finding.open and "cold storage" in finding.left
        Bucket(moto_s3, cooling.bucket).delete(entries[1].key)
        (finding,) = found(verify_vault(site, ALL, location=COPY, now=LATER))
        assert finding.open and "its data does not" in finding.words


def test_a_plan_reads_nothing_and_changes_nothing_and_the_command_says_what_it_found(
    tmp_path: Path, rclone_s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    config = vault_site(tmp_path / "vault", rclone_s3)
    with Site(config) as site:
        entries = [dump(site.vault, days * DAY) for days in range(1, 5)]
        for entry in entries:
            site.vault.replicate(entry, COPY)
    file = tmp_path / "shop.yaml"
    file.write_text(written(config))
    folder = Folder(tmp_path / "vault")

    def says(*more: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = backups(["verify-vault", "-f", str(file), "--json", *more])
        return code, json.loads(capsys.readouterr().out)

    before = folder.listed()
    code, plan = says("--dry-run")
    local, copy = plan["places"]
    assert (code, local["stored"], local["due"], copy["due"], local["read"]) == (0, 4, 1, 1, 0)
    assert names.parse_moment(local["oldest_proof"]) <= names.parse_moment(local["now"]) and folder.listed() == before
    code, told_of = says()
    assert (code, [each["read"] for each in told_of["places"]]) == (0, [1, 1])
    folder.write(entries[0].key, b"damaged")
    code, left = says("--all", "--no-heal")
    assert (code, left["places"][0]["findings"][0]["what"]) == (5, entries[0].key)
    code, healed = says("--all")
    assert (code, healed["places"][0]["findings"][0]["healed"]) == (0, f"from {COPY}")
    assert says("--all", "--share", "0.5")[0] == 2
    document = config.model_copy(deep=True)
    document.vault.replicas[0].endpoint_url = "http://127.0.0.1:9"
    file.write_text(written(document))
    code, partly = says("--location", COPY)
    assert code == 3 and partly["errors"][0]["class"] == "Unreachable"


def written(config: SiteConfig) -> str:
    """A site file with its secrets, which are fake."""
    document = config.model_dump(mode="json", exclude_defaults=True)
    vault = document["vault"]
    vault["keys"] = {
        "current": "main",
        **{each: key.get_secret_value() for each, key in config.vault.keys.keys.items()},
    }
    for shown, each in zip(vault["replicas"], config.vault.replicas, strict=True):
        for name in ("access_key", "secret_key"):
            secret = getattr(each, name)
            shown[name] = secret.get_secret_value()
    return yaml.safe_dump(document)


@pytest.mark.soak
def test_memory_does_not_grow_with_the_number_of_names(tmp_path: Path, rclone_s3: S3Server) -> None:
    layout = Vault(vault_site(tmp_path, rclone_s3)).layout("local")
    peaks = []
    for count in (trials(500, 10_000), trials(5_000, 100_000)):
        tracemalloc.start()
        census = Census(Names(count), layout, LATER)  # type: ignore[arg-type]
        census.choose(Share.daily(30 * DAY))
        assert census.count == count and census.suspects() == []
        assert sum(1 for _ in census.due()) >= count // 30
        census.close()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + trials(1, 8) * 1_000_000, peaks


class Names:
    """A place with so many backups, as its listing tells."""

    def __init__(self, count: int) -> None:
        self._count = count

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        wanted = prefix.startswith(("shop/mysql/daily", "shop/marks"))
        for number in reversed(range(self._count if wanted else 0)):
            at = NOW - number * timedelta(minutes=5)
            stem = f"mysql/daily/app_{at:%Y%m%d_%H%M%S}"
            if "marks" in prefix:
                key = f"shop/marks/{stem}.sql.gz.enc.verified.{at:%Y%m%d_%H%M%S}-00000000.json"
                yield ObjectInfo(key, 300, at)
                continue
            for ext in ("accounts.sql.gz.enc", "sql.gz.enc", "sql.gz.enc.json"):
                yield ObjectInfo(f"shop/{stem}.{ext}", 300, at)


def test_a_damaged_word_on_a_backup_is_said_again_where_it_is_known_and_kept_where_it_is_not(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    with Site(vault_site(tmp_path / "vault", rclone_s3)) as site:
        vault, entry = site.vault, dump(site.vault, DAY)
        vault.replicate(entry, COPY)
        pin(vault, entry, vault.catalog().load(entry), reason="of a test")
        folder, copy = Folder(tmp_path / "vault"), Bucket(rclone_s3, site.config.vault.replicas[0].bucket)
        (mark,) = [key for key in folder.listed() if ".pinned." in key]
        folder.write(mark, folder.read(mark)[:-40])
        (finding,) = found(verify_vault(site, ALL, now=LATER))
        assert (finding.what, finding.kind) == (mark, "mark") and finding.healed.startswith("moved to ")
        (word,) = [each for each in vault.marks(entry) if each["kind"] == "pinned"]
        assert word["facts"]["reason"] == "of a test" and word["facts"]["origin"] == COPY
        assert_clean(verify_vault(site, ALL, now=LATER))
        for place in (folder, copy):
            for key in [each for each in place.listed() if ".pinned." in each and "set-aside" not in each]:
                place.write(key, b"{}")
        left = found(verify_vault(site, ALL, now=LATER))
        assert len(left) == 2 and all("no other place knows what it said (pinned)" in each.left for each in left)


@pytest.mark.sampled
def test_a_hole_in_the_logs_fails_until_a_full_is_made_after_it(tmp_path: Path, rclone_s3: S3Server) -> None:
    config = vault_site(tmp_path / "vault", rclone_s3)
    with Site(config) as site:
        dump(site.vault, 30 * HOUR)
        for number in (1, 2, 3, 5, 6):
            log(site.vault, number, NOW - (24 - number) * HOUR)
        for entry in site.vault.lacking(COPY):
            site.vault.replicate(entry, COPY)
        reports = verify_vault(site, ALL)
        (finding,) = found(reports)
        assert finding.words == "one log is missing between mysql-bin.000003 and mysql-bin.000005"
        assert (outcome_of(reports), finding.kind) == ("damaged", "log gap") and "make a new full" in finding.left
        site.vault.replicate(dump(site.vault, HOUR), COPY)
        reports = verify_vault(site, ALL)
        assert (outcome_of(reports), [each.severity for each in found(reports)]) == ("clean", ["note"])


@pytest.mark.sampled
def test_under_an_object_lock_a_good_version_is_put_on_top_and_the_bad_one_stays(
    tmp_path: Path, moto_s3: S3Server
) -> None:
    client, given = moto_s3.client(), replica(moto_s3, COPY)
    bucket = f"{given['bucket']}-lock"
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    locked = {**given, "bucket": bucket, "lock": "governance", "lock_days": 14}
    with Site(vault_site(tmp_path / "vault", moto_s3, replicas=[locked])) as site:
        entry = dump(site.vault, DAY)
        site.vault.replicate(entry, COPY)
        place = Bucket(moto_s3, bucket)
        whole = digests(place)
        place.write(entry.key, b"ransom")
        place.write(entry.manifest_key, b"{}")
        reports = verify_vault(site, ALL, now=LATER)
        assert [(each.what, each.healed) for each in found(reports)] == [(entry.key, "from local")], told(reports)
        assert digests(place) == whole
        assert site.vault.store(COPY).retained_until(entry.key) is not None
        versions = client.list_object_versions(Bucket=bucket, Prefix=entry.key)["Versions"]
        assert len([each for each in versions if each["Key"] == entry.key]) == 3, "nothing locked was taken away"
        assert_clean(verify_vault(site, ALL, now=LATER))
