"""Weekly and monthly archives on real stores: promoted without dumping, whole at every moment, in their own class."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments.cli.main import run as backups
from engine import backup
from engine.archiving import archive
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.manifest import LogPosition, Manifest, Server
from engine.prune import look
from engine.site import Site
from engine.source import Facts
from engine.stores import LocalStore, S3Store
from engine.stores.multipart import MIB
from engine.stores.s3_copy import CopySizes
from engine.vault import Vault
from tests.functional.vault_helpers import PASSPHRASE, files, flip, replica
from tests.servers.s3 import S3Server
from tests.soak import trials

NOW = datetime(2026, 3, 30, 3, 0, 0, tzinfo=UTC)  # a Monday; its week begins in the night when clocks changed
DAY = timedelta(days=1)
SERVER = Server(flavour="mariadb", version="10.11")


def dump(rows: int, noise: int = 0) -> bytes:
    """As a dump program writes it; with a comment of so many bytes that nothing can compress well."""
    comment = b"-- " + random.Random(noise).randbytes(noise // 2).hex().encode() + b"\n"
    inserts = b"".join(b"INSERT INTO `t` VALUES (%d,'%d');\n" % (row, row * 7919 % 1000) for row in range(rows))
    return comment + b"CREATE TABLE `t` (\n  `a` int\n);\n" + inserts + b"-- Dump completed\n"


def config(root: Path, *replicas: dict[str, Any], databases: tuple[str, ...] = ("app",), **vault: Any) -> SiteConfig:
    given = {
        "root": str(root),
        "keys": {"current": "main", "keys": {"main": PASSPHRASE}},
        "replicas": list(replicas),
        **vault,
    }
    return SiteConfig.model_validate({"site": "shop", "vault": given, "mysql": {"databases": list(databases)}})


def made(
    vault: Vault, at: datetime, *, database: str = "app", tier: str = "daily", noise: int = 0, proven: bool = True
) -> Entry:
    """A backup of that moment with a companion; all of one moment are one recovery point."""
    facts = Facts(server=SERVER, rows={"t": 50}, log=LogPosition(binlog_file="bin.000001", binlog_position=4))
    point = f"{at:%Y%m%d_%H%M%S}-point"
    with vault._begin("mysql", "mysql", tier, database, "sql.gz.enc", at, "", point) as writer:
        writer.data().write(dump(50, noise))
        writer.companion("accounts").write(b"CREATE USER app;\n")
        entry, manifest = writer.publish(facts)
    if proven:
        vault.mark(entry, "verified", sha256=manifest.data.sha256)
    return entry


def nights(vault: Vault, *ago: int) -> list[Entry]:
    """A backup of some of the nights before ``NOW``; night 0 is this very one, which is in no week that is over."""
    return [made(vault, NOW - timedelta(hours=1) - night * DAY) for night in ago]


def archived(vault: Vault, tier: str = "weekly", location: str = "local") -> list[tuple[Entry, Manifest]]:
    catalog = vault.catalog(location)
    return [(entry, catalog.load(entry)) for entry in catalog.entries(tier=tier)]


def assert_whole(site: Site, location: str = "local") -> None:
    """Every manifest has all its data; every archive opens and is what it says."""
    store = site.vault.store(location)
    for entry in site.vault.catalog(location).entries():
        manifest = site.vault.catalog(location).load(entry)
        for part in manifest.files:
            info = store.stat(entry.beside(part.file))
            assert info is not None and info.size == part.size, part.file
    for entry, _ in archived(site.vault, location=location):
        backup.verify(site, entry)


def assert_nothing_stray(site: Site, location: str) -> None:
    """Every file is a part of some backup, its manifest, or a mark."""
    catalog = site.vault.catalog(location)
    own = {
        key
        for entry in catalog.entries()
        for key in (entry.manifest_key, *(entry.beside(part.file) for part in catalog.load(entry).files))
    }
    stray = [info.key for info in site.vault.store(location).list("shop/") if info.key not in own]
    assert [key for key in stray if not key.startswith("shop/marks/")] == []


def test_a_week_gets_its_newest_recovery_point_by_hard_link_and_a_manifest_that_names_its_origin(
    tmp_path: Path,
) -> None:
    with Site(config(tmp_path)) as site:
        dailies = nights(site.vault, 0, 1, 2)
        before = {entry.key: (tmp_path / entry.key).stat().st_ino for entry in dailies}
        (done,) = archive(site, "weekly", now=NOW)
        assert (str(done.period), done.failed, len(done.made)) == ("week 2026-W13", False, 1)
        ((entry, manifest),) = archived(site.vault)
        newest = dailies[1]  # the very last is of this week
        assert manifest.origin is not None
        assert (manifest.origin.file, manifest.origin.tier) == (newest.file, "daily")
        assert manifest.origin.taken_at == newest.name.taken_at
        assert entry.file != newest.file, "tiers may share a folder at a replica"
        assert (tmp_path / entry.key).stat().st_ino == before[newest.key], "no byte was written twice"
        original = site.vault.catalog().load(newest)
        assert manifest.data.sha256 == original.data.sha256 and manifest.rows == original.rows
        assert manifest.recovery_point == original.recovery_point and done.point == original.recovery_point
        assert b"".join(site.vault.read_part(entry, manifest, "accounts")) == b"CREATE USER app;\n"
        assert_whole(site)
        (tmp_path / newest.key).unlink()
        assert b"".join(site.vault.read_part(entry, manifest)) == dump(50), "it outlives its origin"


def test_done_again_nothing_changes_and_weeks_that_were_missed_are_made_up_for(tmp_path: Path) -> None:
    with Site(config(tmp_path)) as site:
        nights(site.vault, 0, 1, 2, 8, 15, 22, 29, 30, 39)
        first = archive(site, "weekly", now=NOW)
        assert [str(each.period) for each in first] == [f"week 2026-W{week}" for week in (13, 12, 11, 10)]
        assert all(len(each.made) == 1 and not each.failed for each in first)
        before = files(tmp_path)
        again = archive(site, "weekly", now=NOW + DAY)
        assert [(len(each.made), len(each.stood)) for each in again] == [(0, 1)] * 4
        assert files(tmp_path) == before
        (march, february) = archive(site, "monthly", now=datetime(2026, 4, 1, 3, tzinfo=UTC))
        assert (str(march.period), str(february.period)) == ("month 2026-03", "month 2026-02")
        assert march.made[0][1].started_at == NOW - timedelta(hours=1)
        kept = {each.item.tier for each in look(site, now=NOW)[0].planned if each.action == "keep"}
        assert {"weekly", "monthly"} <= kept


@pytest.mark.sampled
def test_the_recovery_point_with_most_of_the_site_wins_and_what_it_lacks_is_told(tmp_path: Path) -> None:
    with Site(config(tmp_path, databases=("app", "crm", "old"))) as site:
        whole, later = NOW - 3 * DAY, NOW - 2 * DAY
        for database in ("app", "crm"):
            made(site.vault, whole, database=database)
        made(site.vault, later, database="app")
        made(site.vault, later, database="crm", proven=False)
        (done,) = archive(site, "weekly", now=NOW)
        assert {manifest.started_at for _, manifest in archived(site.vault)} == {whole}
        assert done.failed and [str(each) for each in done.lacking] == ["mysql/old"]


def test_a_backup_that_rotted_is_passed_over_marked_and_told(tmp_path: Path) -> None:
    with Site(config(tmp_path)) as site:
        dailies = nights(site.vault, 0, 1, 2, 3)
        flip(tmp_path / dailies[1].key, 200)
        (done,) = archive(site, "weekly", now=NOW)
        assert done.made[0][1].started_at == dailies[2].name.taken_at
        assert done.failed and dailies[1].file in done.problems[0].message
        assert site.vault.marks(dailies[1])[-1]["kind"] == "broken"


def test_a_week_without_a_verified_backup_is_told_but_not_before_there_was_any(tmp_path: Path) -> None:
    with Site(config(tmp_path)) as site:
        made(site.vault, NOW)
        assert archive(site, "weekly", now=NOW) == []
        made(site.vault, NOW - 2 * DAY, proven=False)
        (done,) = archive(site, "weekly", now=NOW)
        assert done.failed and "has no verified backup" in done.verdict()


@pytest.mark.parametrize("sizes", [CopySizes(), CopySizes(limit=6 * MIB, part=5 * MIB)], ids=["whole", "in parts"])
def test_a_bucket_copies_by_itself_into_the_archive_s_class(
    tmp_path: Path, moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch, sizes: CopySizes
) -> None:
    """What is above the limit in parts; the limit is lowered for the test."""
    where = {**replica(moto_s3, "copy"), "storage_class": "STANDARD_IA", "archive_class": "GLACIER_IR"}
    with Site(config(tmp_path, where)) as site:
        vault = site.vault
        config_of_copy = site.config.vault.replicas[0]
        vault._stores["copy"] = S3Store(config_of_copy, copies=sizes)
        noise = 0 if sizes == CopySizes() else 13 * MIB
        daily = made(vault, NOW - 2 * DAY, noise=noise)
        assert (daily.size > sizes.limit) == bool(noise)
        vault.replicate(daily, "copy")
        archive(site, "weekly", now=NOW)
        sent: list[int] = []
        read = LocalStore.read

        def counted(self: LocalStore, key: str, start: int = 0, length: int | None = None) -> Any:
            for chunk in read(self, key, start, length):
                sent.append(len(chunk))
                yield chunk

        monkeypatch.setattr(LocalStore, "read", counted)
        ((entry, manifest),) = archived(vault)
        stored = vault.replicate(entry, "copy")
        assert stored.proof == "server-copy+sample"
        assert not noise or sum(sent) < 300_000 < daily.size, "samples and manifests only"
        client, bucket = moto_s3.client(), config_of_copy.bucket
        classes = {}
        for each in client.list_objects_v2(Bucket=bucket)["Contents"]:
            head = client.head_object(Bucket=bucket, Key=each["Key"])
            classes[each["Key"]] = head.get("StorageClass", "STANDARD")
        assert classes[entry.key] == "GLACIER_IR" and classes[daily.key] == "STANDARD_IA"
        assert classes[entry.manifest_key] == classes[daily.manifest_key] == "STANDARD"
        vault.store("copy").delete(daily.key)
        ((there, copied),) = archived(vault, location="copy")
        assert copied == manifest and b"".join(vault.read_part(there, copied)) == dump(50, noise)
        assert vault.lacking("copy") == []


@pytest.mark.sampled
def test_what_the_replica_lacks_or_has_broken_is_sent(tmp_path: Path, rclone_s3: S3Server) -> None:
    with Site(config(tmp_path, replica(rclone_s3, "copy"))) as site:
        older, newer = made(site.vault, NOW - 9 * DAY), made(site.vault, NOW - 2 * DAY)
        site.vault.replicate(newer, "copy")
        (there,) = site.vault.catalog("copy").entries()
        site.vault.mark(there, "broken", reason="a test")
        archive(site, "weekly", now=NOW)
        proofs = {
            manifest.origin.file: site.vault.replicate(entry, "copy").proof
            for entry, manifest in archived(site.vault)
            if manifest.origin
        }
        assert set(proofs) == {older.file, newer.file}
        assert "server-copy+sample" not in proofs.values()
        assert_whole(site, "copy")


@pytest.mark.sampled
def test_a_replica_in_which_all_tiers_share_a_folder_holds_both(tmp_path: Path, rclone_s3: S3Server) -> None:
    where = {**replica(rclone_s3, "copy"), "path": "{yyyy}/{mm}/{dd}"}
    with Site(config(tmp_path, where, path="{tier}")) as site:
        daily = made(site.vault, NOW - 2 * DAY)
        archive(site, "weekly", now=NOW)
        for entry in (daily, archived(site.vault)[0][0]):
            site.vault.replicate(entry, "copy")
        tiers = {entry.tier for tier in ("daily", "weekly") for entry in site.vault.catalog("copy").entries(tier=tier)}
        assert tiers == {"daily", "weekly"} and site.vault.lacking("copy") == []
        assert_whole(site, "copy")


class Dying:
    """A store whose process is killed right before, or right after, its n-th change."""

    def __init__(self, store: Any, countdown: list[int]) -> None:
        self._store = store
        self._countdown = countdown

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in ("put", "delete", "duplicate", "stage"):
            return found

        def dying(*arguments: Any, **options: Any) -> Any:
            self._step()
            done = found(*arguments, **options)
            self._step()
            return done

        return dying

    def _step(self) -> None:
        self._countdown[0] -= 1
        if self._countdown[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def archive_and_die(configured: SiteConfig, step: int) -> bool:
    """Archive and copy in a process of its own that dies at its n-th step; says whether it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            site = Site(configured)
            countdown = [step]
            for location in site.vault.locations():
                store = site.vault.store(location)
                site.vault._stores[location] = Dying(store, countdown)  # type: ignore[assignment]
            archive(site, "weekly", now=NOW)
            for replica_name in site.vault.locations()[1:]:
                for entry in site.vault.lacking(replica_name):
                    site.vault.replicate(entry, replica_name)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status)


def assert_finished(site: Site, *locations: str) -> None:
    """One archive of each database everywhere, nothing to be swept, nothing staged, no journal."""
    assert site.sweep().done == []
    for location in locations:
        assert sorted(manifest.database for _, manifest in archived(site.vault, location=location)) == ["app", "crm"]
        assert_whole(site, location)
        assert_nothing_stray(site, location)
    unfinished = [name for name in files(Path(site.config.vault.root)) if "publishing" in name or "staging" in name]
    assert unfinished == []


@pytest.mark.soak
def test_killed_at_any_step_it_leaves_a_clean_vault_and_the_next_run_finishes(tmp_path: Path) -> None:
    configured = config(tmp_path / "v", databases=("app", "crm"))
    with Site(configured) as site:
        for database in ("app", "crm"):
            made(site.vault, NOW - 2 * DAY, database=database)
    shutil.copytree(tmp_path / "v", tmp_path / "before")
    step, ended = 0, False
    while not ended:
        step += trials(4, 1)
        shutil.rmtree(tmp_path / "v")
        shutil.copytree(tmp_path / "before", tmp_path / "v")
        ended = archive_and_die(configured, step)
        with Site(configured) as site:
            listed = {entry.file for entry, _ in archived(site.vault)}
            site.sweep()
            assert {entry.file for entry, _ in archived(site.vault)} == listed, "what lists is whole"
            (done,) = archive(site, "weekly", now=NOW)
            assert not done.failed
            assert_finished(site, "local")
    assert step > 2 * 2 * 5, "before and after each link, manifest and mark"


@pytest.mark.soak
def test_copies_of_archives_that_die_again_and_again_come_to_their_end(tmp_path: Path, rclone_s3: S3Server) -> None:
    configured = config(tmp_path / "v", replica(rclone_s3, "copy"), databases=("app", "crm"))
    with Site(configured) as site:
        for database in ("app", "crm"):
            site.vault.replicate(made(site.vault, NOW - 2 * DAY, database=database), "copy")
        deaths = 0
        while not archive_and_die(configured, 2 + deaths * trials(5, 1)):
            site.sweep()
            deaths += 1
            assert deaths < 90
        assert deaths > 3
        assert_finished(site, "local", "copy")


@pytest.mark.sampled
def test_the_command_archives_copies_and_tells(
    tmp_path: Path, rclone_s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    configured = config(tmp_path / "v", replica(rclone_s3, "copy"))
    last_week = datetime.now(UTC) - 7 * DAY
    with Site(configured) as site:
        made(site.vault, last_week.replace(microsecond=0))
    path = tmp_path / "shop.yaml"
    path.write_text(json.dumps(_written(configured)))
    assert backups(["archive", "-f", str(path), "weekly", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [len(each["made"]) for each in told["periods"]] == [1] and told["periods"][0]["lacking"] == []
    assert sorted(each["ok"] for each in told["copies"]) == [True, True]
    assert backups(["archive", "-f", str(path), "weekly"]) == 0
    assert "0 promoted, 1 stood already" in capsys.readouterr().out
    assert backups(["archive", "-f", str(path), "weakly"]) == 2
    assert "Did you mean 'weekly'?" in capsys.readouterr().err


def _written(configured: SiteConfig) -> dict[str, Any]:
    """The site as its file says it, with its fake secrets."""
    told = configured.model_dump(exclude_none=True)
    told["vault"]["keys"] = {"current": "main", "main": PASSPHRASE}
    for one, other in zip(told["vault"]["replicas"], configured.vault.replicas, strict=True):
        assert other.access_key is not None and other.secret_key is not None
        one["access_key"], one["secret_key"] = other.access_key.get_secret_value(), other.secret_key.get_secret_value()
    return {"site": told["site"], "vault": told["vault"], "mysql": {"databases": ["app"]}}
