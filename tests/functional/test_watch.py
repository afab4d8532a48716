"""Every condition of the watch provoked for real, on real stores, and over again once it is put right."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.logging import disable_run_logger

from deployments.cli.main import run as backups
from engine import names, releases
from engine.backup import verify
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.drill.record import keep
from engine.drill.verdict import Check, DrillResult, PieceResult, SourceResult
from engine.errors import IntegrityError
from engine.keyring.births import FILE as KEYS
from engine.postgres.base_backup import base_backup
from engine.postgres.wal_ship import ship
from engine.site import Site
from engine.status import status
from engine.stores import LocalStore
from engine.vault_check import PlaceReport, Request, Share, last, verify_vault
from engine.watch.findings import CONDITIONS, OF_RUNS, Level
from engine.watch.look import look
from engine.watch.remember import Memory, memory
from tasks.base import SiteHandle
from tasks.watch import write_metrics
from tests.functional.postgres.shipping import drop_slots, site_config
from tests.functional.test_archives import made
from tests.functional.test_snapshots import taken
from tests.functional.vault_helpers import PASSPHRASE, flip, replica
from tests.servers.fixtures import Factory
from tests.servers.s3 import S3Server

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def document(root: Path, *replicas: dict[str, Any], **watch: Any) -> dict[str, Any]:
    keys = {"current": "main", "keys": {"main": PASSPHRASE}}
    return {
        "site": "shop",
        "vault": {"root": str(root), "keys": keys, "replicas": list(replicas)},
        "mysql": {"databases": ["app", "crm"], "point_in_time": False},
        "watch": {"disk": 99, "verified": "90d", **watch},
    }


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def levels(site: Site, **how: Any) -> dict[str, str]:
    """What is not as it should be."""
    return {each.id: each.level.word for each in look(site, **how).trouble}


def good(site: Site, age: timedelta = HOUR) -> list[Entry]:
    return [made(site.vault, now() - age, database=database) for database in ("app", "crm")]


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory on a disk of its own: the one in memory that every Linux has."""
    folder = Path(tempfile.mkdtemp(prefix="bf-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(tmp_path: Path) -> Any:
    with Site(SiteConfig.model_validate(document(tmp_path / "vault"))) as opened:
        opened.vault.check()
        yield opened


def test_nothing_is_critical_and_young_verified_backups_are_well(site: Site) -> None:
    assert levels(site) == {"backup-age/mysql/app": "critical", "backup-age/mysql/crm": "critical"}
    good(site)
    found = look(site)
    assert found.trouble == [] and found.sentence().startswith("all is well")
    rows = {each["what"]: each for each in (reached.cells(now()) for reached in found.reached)}
    assert rows.keys() == {"mysql/app", "mysql/crm"} and rows["mysql/app"]["can be had"] == "its backups only"
    assert rows["mysql/app"]["to, ago"].startswith("1 h 0 min") and rows["mysql/app"]["rests on"].startswith("app_")
    others = {"copies", "recovery-point", "log-shipping", "slot", "vault-damage"} | OF_RUNS
    assert {each.condition for each in found.findings} == CONDITIONS.keys() - others
    assert levels(site, now=now() + 30 * HOUR) == {f"backup-age/mysql/{name}": "warning" for name in ("app", "crm")}
    assert set(levels(site, now=now() + 60 * HOUR).values()) == {"critical"}


def test_a_broken_backup_is_told_of_and_the_one_before_it_counts_by_its_age(site: Site) -> None:
    good(site, 40 * HOUR)
    (newest, _) = good(site)
    flip(site.vault.root / newest.key, 200)
    with pytest.raises(IntegrityError):
        verify(site, newest)
    assert levels(site) == {"backup-damage/mysql/app": "warning", "backup-age/mysql/app": "warning"}


def test_a_backup_half_as_large_as_usual_is_told_of(site: Site) -> None:
    for night in range(5, 0, -1):
        made(site.vault, now() - night * DAY, noise=40_000)
    made(site.vault, now() - HOUR, noise=16_000)
    made(site.vault, now() - HOUR, database="crm")
    (found,) = look(site).trouble
    assert found.id == "backup-size/mysql/app" and "unusually small" in found.said


def test_a_replica_that_lacks_copies_is_behind_and_one_that_is_gone_is_unknown(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    copy = replica(rclone_s3, "copy")
    with Site(SiteConfig.model_validate(document(tmp_path / "vault", copy))) as site:
        site.vault.check()
        entries = good(site, 3 * HOUR)
        assert levels(site) == {"copies/copy": "warning"}
        for entry in entries:
            site.vault.replicate(entry, "copy")
        assert levels(site) == {}
    gone = {**copy, "endpoint_url": "http://127.0.0.1:9"}
    with Site(SiteConfig.model_validate(document(tmp_path / "vault", gone))) as site:
        assert levels(site) == {"copies/copy": "unknown"}


def test_a_vault_whose_disk_is_not_mounted_is_critical(site: Site) -> None:
    good(site)
    shutil.move(site.vault.root, site.vault.root.with_name("away"))
    found = levels(site)
    assert found["vault/local"] == "critical" and found["disk/local"] == "unknown"


def test_logs_that_are_not_shipped_and_a_slot_that_is_gone_are_told_of(
    postgres_factory: Factory, tmp_path: Path
) -> None:
    server = postgres_factory("max_slot_wal_keep_size=256MB")
    with Site(site_config(tmp_path / "vault", server)) as site:

        def found(**how: Any) -> dict[str, str]:
            every = {each.condition: each.level.word for each in look(site, **how).findings}
            assert every.pop("log-shipping") == every["recovery-point"]
            return {name: every[name] for name in ("recovery-point", "slot") if name in every}

        site.vault.check()
        assert found() == {"recovery-point": "critical", "slot": "critical"}
        base_backup(site, "postgres")
        server.sql("CREATE TABLE t (a int)")
        ship(site, "postgres")
        assert found() == {"recovery-point": "ok", "slot": "ok"}
        (reached,) = look(site).reached
        row = reached.cells(now() + 3 * HOUR)
        assert row["what"] == "postgres" and row["can be had"] == "any second" and row["holes"] == "none"
        assert row["from (UTC)"] <= row["to (UTC)"] and row["to, ago"].startswith("3 h")
        assert row["rests on"].startswith("postgres_") and int(row["logs"]) >= 1
        assert found(now=now() + 2 * HOUR) == {"recovery-point": "warning", "slot": "ok"}
        drop_slots(server)
        assert found() == {"recovery-point": "ok", "slot": "critical"}
        assert found(servers=False) == {"recovery-point": "ok"}
        server.stop()
        assert found() == {"recovery-point": "ok", "slot": "unknown"}


def test_each_look_writes_the_metrics_where_the_site_wants_them_and_goes_on_where_it_cannot(tmp_path: Path) -> None:
    file = tmp_path / "metrics" / "shop.prom"
    config = SiteConfig.model_validate(document(tmp_path / "vault", metrics=str(file)))
    with Site(config) as site:
        site.vault.check()
        found = look(site)
    with disable_run_logger():
        assert "metrics" in write_metrics(SiteHandle(config), found)
        file.parent.mkdir()
        assert write_metrics(SiteHandle(config), found) == ""
    assert 'backup_flows_condition{site="shop",condition="backup-age",about="mysql/app"} 2' in file.read_text()


def drilled(site: Site, at: datetime, verdict: Any, file: str, database: str = "app") -> None:
    """The record of a drill that came to this."""
    piece = PieceResult("mysql", database, file, checks=[Check("volume", "row counts", verdict, "as they are")])
    source = SourceResult("mysql", "mysql", pieces=[piece])
    keep(site, DrillResult("shop", f"{at:%Y%m%d_%H%M%S}-0123abcd", 1, False, {}, at, at, sources=[source]))


def test_a_drill_that_is_overdue_or_failed_is_told_of(site: Site) -> None:
    (old, _) = [*good(site, 50 * DAY), *good(site)][:2]
    assert levels(site) == {"drill/mysql/app": "warning", "drill/mysql/crm": "warning"}
    drilled(site, now() - 40 * DAY, "proven", old.file)
    assert levels(site, now=now()) == {"drill/mysql/app": "warning", "drill/mysql/crm": "warning"}
    drilled(site, now() - DAY, "proven", old.file)
    assert levels(site) == {"drill/mysql/crm": "warning"}
    drilled(site, now() - HOUR, "failed", old.file)
    assert levels(site) == {"drill/last": "critical", "drill/mysql/app": "critical", "drill/mysql/crm": "warning"}


def test_what_a_drill_did_not_prove_is_told_until_that_or_something_newer_is_proven(site: Site) -> None:
    older, _, newer, other = [*good(site, 9 * HOUR), *good(site)]
    drilled(site, now() - 6 * HOUR, "proven", newer.file)
    drilled(site, now() - 5 * HOUR, "failed", newer.file)
    drilled(site, now() - 4 * HOUR, "proven", other.file, "crm")
    assert levels(site) == {"drill/mysql/app": "critical"}
    drilled(site, now() - 3 * HOUR, "proven", older.file)
    (found,) = look(site).trouble
    assert found.id == "drill/mysql/app" and f"{newer.file} failed its drill" in found.said
    drilled(site, now() - 2 * HOUR, "proven", newer.file)
    assert levels(site) == {}

    drilled(site, now() - HOUR / 2, "failed", older.file)
    drilled(site, now() - HOUR / 3, "proven", newer.file)
    (found,) = look(site).trouble
    assert found.id == "drill/mysql/app" and found.level is Level.WARNING
    assert f"{older.file} failed its drill, and is still kept" in found.said
    site.vault.store("local").delete(older.manifest_key)
    assert levels(site) == {}, "it is gone, and a newer one is proven"


def test_a_backup_that_is_not_as_large_as_its_manifest_says_is_no_good_one(site: Site) -> None:
    _, _, newer, _ = [*good(site, 9 * HOUR), *good(site)]
    path = site.vault.root / newer.key
    path.chmod(0o600)
    path.write_bytes(b"")
    (row,) = [each for each in status(site).rows if each.target.database == "app"]
    assert row.newest is not None and row.newest.file != newer.file
    assert levels(site)["backup-damage/mysql/app"] == "warning"


def test_a_copy_that_a_drill_proved_is_good_where_the_local_one_was_found_broken(tmp_path: Path, disk: Path) -> None:
    copy = {"name": "usb", "directory": str(disk)}
    with Site(SiteConfig.model_validate(document(tmp_path / "vault", copy))) as site:
        site.vault.check()
        entry, _ = good(site)
        site.vault.replicate(entry, "usb")
        (there,) = site.vault.catalog("usb").entries()
        site.vault.mark(entry, "broken", reason="a bit flipped")
        site.vault.mark(there, "proven", drill="1")
        (row,) = [each for each in status(site).rows if each.target.database == "app"]
        assert row.newest is not None and row.newest.file == entry.file and row.broken == []
        assert row.locations == ["usb"], "the broken one is no copy"
        assert levels(site)["backup-damage/mysql/app"] == "warning"


def test_a_failed_drill_is_told_of_where_its_record_is_gone(site: Site) -> None:
    entry, _ = good(site)
    site.vault.mark(entry, "drill-failed", reason="a row is missing")
    assert levels(site)["drill/mysql/app"] == "critical"
    site.vault.mark(entry, "proven", drill="2")
    assert levels(site) == {}


def test_a_snapshot_that_was_never_released_an_old_key_and_a_full_disk_are_told_of(tmp_path: Path) -> None:
    with Site(SiteConfig.model_validate(document(tmp_path / "vault", disk=1))) as site:
        site.vault.check()
        good(site)
        taken(site, 8 * DAY, "v41")
        check = site.vault.keys.key_check("main")
        since = (now() - 400 * DAY).isoformat()
        (site.vault.state / KEYS).write_text(json.dumps({"main": {"check": check, "since": since}}))
        found = levels(site)
        used = shutil.disk_usage(tmp_path)
        assert found.pop("disk/local") == ("critical" if used.used / used.total > 0.95 else "warning")
        assert found == {"release/snapshots": "warning", "key-age/current": "warning"}
        assert releases.release(site, "v41")
        assert "release/snapshots" not in levels(site)


def verified(site: Site, **how: Any) -> None:
    """Everything is read back, once no word on any backup is dated ahead: a run dates its own behind them."""
    while any(each["at"] > names.now().isoformat() for one in _entries(site) for each in site.vault.marks(one)):
        time.sleep(0.05)
    verify_vault(site, Request(Share(1.0), settle=0.0, **how))


def _entries(site: Site) -> list[Entry]:
    return [entry for place in site.vault.locations() for entry in site.vault.catalog(place).entries()]


def test_damage_is_told_until_it_is_right_again_and_what_was_healed_until_a_look_finds_nothing(
    tmp_path: Path, disk: Path
) -> None:
    copy = {"name": "usb", "directory": str(disk), "path": "{site}/{tier}"}
    with Site(SiteConfig.model_validate(document(tmp_path / "vault", copy))) as site:
        site.vault.check()
        old, spare = made(site.vault, now() - 9 * HOUR), made(site.vault, now() - 8 * HOUR, database="crm")
        good(site)
        for entry in site.vault.lacking("usb"):
            site.vault.replicate(entry, "usb")
        verified(site)
        assert levels(site) == {}
        flip(site.vault.root / old.key, 200)
        verified(site, heal=False)
        (told,) = look(site).trouble
        assert told.id == "vault-damage/local" and told.level is Level.CRITICAL and old.file in told.said
        # A run that reads a share without it says nothing of it: it stays told.
        last.keep(site, PlaceReport("local", now()), everything=False)
        assert levels(site) == {"vault-damage/local": "critical"}
        verified(site)
        assert levels(site) == {"vault-damage/local": "warning"}
        assert "was healed" in look(site).trouble[0].said
        verified(site)
        assert levels(site) == {}
        # No copy to heal it from: it is over once it was put back by hand, and verified.
        path = site.vault.root / spare.key
        whole = path.read_bytes()
        flip(path, 200)
        verified(site, heal=False)
        path.write_bytes(whole)
        assert levels(site) == {"vault-damage/local": "critical"}
        verify(site, spare)
        assert levels(site) == {}
        (site.vault.state / "verified.json").write_text("[")
        assert levels(site) == {"vault-damage/local": "unknown"}


def test_a_vault_that_nobody_reads_back_is_told_of(tmp_path: Path) -> None:
    with Site(SiteConfig.model_validate(document(tmp_path / "vault", verified="3d"))) as site:
        site.vault.check()
        good(site, 5 * DAY)
        good(site)
        assert levels(site) == {"verification/local": "warning"}
        verified(site)
        assert levels(site) == {}
        assert levels(site, now=now() + 4 * DAY)["verification/local"] == "warning"


def test_a_small_disk_is_told_of_as_it_fills_and_a_full_one_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "own"))
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(place)], check=True)
    try:
        with Site(SiteConfig.model_validate(document(place, disk=80))) as site:
            site.vault.check()
            good(site)

            def turns() -> list[str]:
                with memory(site.vault.state) as known:
                    return [f"{each.finding.id} {each.turn}" for each in known.take_in(look(site), now(), None)]

            assert turns() == []
            filler = place / "filler"
            filler.write_bytes(bytes(7 * 1024 * 1024 - 200_000))
            assert levels(site) == {"disk/local": "warning"} and turns() == ["disk/local raised"]
            with filler.open("ab", buffering=0) as more, contextlib.suppress(OSError):
                while more.write(bytes(4096)):
                    pass
            assert [turns(), turns(), turns()] == [["disk/local worse"], [], []]
            filler.unlink()
            assert turns() == ["disk/local resolved"]
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
            assert levels(site) == {"vault/local": "critical"}
            assert [turns(), turns()] == [["vault/local raised"], []]
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_daily_backup_that_stays_out_is_not_hidden_by_hourly_ones(tmp_path: Path) -> None:
    ages = {"mysql": "2h", "*@daily": "26h"}
    with Site(SiteConfig.model_validate(document(tmp_path / "vault", age=ages))) as site:
        site.vault.check()
        good(site, 40 * HOUR)
        for database in ("app", "crm"):
            made(site.vault, now() - HOUR, database=database, tier="hourly")
        assert levels(site) == {f"backup-age/mysql/{name}@daily": "warning" for name in ("app", "crm")}
        good(site, 2 * HOUR)
        assert levels(site) == {}


def test_what_nobody_foresaw_is_a_finding_and_silences_nothing_else(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect in one question must not end the look: what it would have said would be told to nobody."""
    good(site, 60 * HOUR)
    monkeypatch.setattr("engine.watch.look.snapshots", lambda vault: {}["FAKE-secret"])
    found = levels(site)
    assert found == {
        "release/snapshots": "unknown", "backup-age/mysql/app": "critical", "backup-age/mysql/crm": "critical",
    }  # fmt: skip
    assert not any("FAKE" in each.said for each in look(site).findings)
    monkeypatch.setattr("engine.watch.look.status", lambda site, now: {}["FAKE-secret"])
    found = levels(site)
    assert found["vault/backups"] == "unknown" and "FAKE" not in look(site).sentence()


def test_a_place_that_is_down_does_not_end_what_was_told_of_what_only_it_lists(tmp_path: Path, disk: Path) -> None:
    given = document(tmp_path / "vault", {"name": "usb", "directory": str(disk), "path": "{site}/{tier}"})
    del given["mysql"]["databases"]
    with Site(SiteConfig.model_validate(given)) as site:
        site.vault.check()
        entry = made(site.vault, now() - 60 * HOUR)
        site.vault.replicate(entry, "usb")
        known = Memory()
        assert {each.finding.id for each in known.take_in(look(site), now(), None)} == {"backup-age/mysql/app"}
        shutil.move(site.vault.root, tmp_path / "away")
        shutil.rmtree(disk)
        changes = known.take_in(look(site), now(), None)
        assert "vault/local" in {each.finding.id for each in changes} and "backup-age/mysql/app" in known.raised


def test_a_look_lists_a_place_as_often_for_many_databases_as_for_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100,000 backups a listing takes seconds, at a bucket minutes; the watch looks each quarter of an hour."""
    listed: list[str] = []
    real = LocalStore.list

    def counting(self: LocalStore, prefix: str = "") -> Any:
        listed.append(prefix)
        return real(self, prefix)

    monkeypatch.setattr(LocalStore, "list", counting)

    def listings(root: Path, *databases: str) -> int:
        given = document(root)
        given["mysql"]["databases"] = list(databases)
        with Site(SiteConfig.model_validate(given)) as site:
            site.vault.check()
            for database in databases:
                made(site.vault, now() - HOUR, database=database)
            listed.clear()
            assert look(site).trouble == []
            return sum("/marks/" not in each and "/drills/" not in each for each in listed)

    assert listings(tmp_path / "few", "app") == listings(tmp_path / "many", "app", "crm", "shop", "log")


def test_with_prefect_down_and_no_network_the_exit_codes_are_those_of_a_monitoring_plugin(
    site: Site, tmp_path: Path
) -> None:
    """In a process of its own without network, not even a loopback, that cannot import Prefect."""
    (tmp_path / "blocked" / "prefect").mkdir(parents=True)
    (tmp_path / "blocked" / "prefect" / "__init__.py").write_text("raise SystemExit('Prefect was imported')")
    file = tmp_path / "shop.yaml"
    root = Path(__file__).parents[2]

    def check(*more: str, **given: Any) -> tuple[int, list[str]]:
        file.write_text(yaml.safe_dump({**document(site.vault.root), **given}))
        file.chmod(0o600)
        done = subprocess.run(
            ["unshare", "-n", sys.executable, "-m", "deployments.cli", "status", "-f", str(file), "--check", *more],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{tmp_path / 'blocked'}:{root}", "HOME": str(tmp_path)},
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout.splitlines()

    code, lines = check()
    assert code == 2 and lines[0].startswith("BACKUPS CRITICAL - shop: 2 critical: ")
    assert lines[1].startswith("CRITICAL backup-age/mysql/app: mysql/app has no good backup")
    assert lines[1].endswith("(docs/watch.md#backup-age)") and len(lines) == 3
    good(site)
    code, lines = check()
    assert code == 0 and len(lines) == 1 and lines[0].startswith("BACKUPS OK - shop: all is well")
    code, lines = check(watch={"disk": 99, "age": {"*": "40m"}})
    assert code == 1 and lines[0].startswith("BACKUPS WARNING - shop: 2 warning: ")
    away = {
        "name": "s3",
        "bucket": "b",
        "endpoint_url": "http://127.0.0.1:9",
        "access_key": "FAKE",
        "secret_key": "FAKE",
    }
    code, lines = check(vault={**document(site.vault.root)["vault"], "replicas": [away]})
    assert code == 3 and lines[0].startswith("BACKUPS UNKNOWN - shop: 1 unknown: ") and "copies/s3" in lines[1]
    code, lines = check("--json", postgres={"host": "127.0.0.1", "user": "x", "databases": ["y"]})
    body = json.loads("\n".join(lines))
    assert code == 2 and {each["condition"]: each["level"] for each in body["findings"]}["slot"] == "unknown"
    assert all(each["runbook"] == f"docs/watch.md#{each['condition']}" for each in body["findings"])
    code, lines = check(watch={"disk": 101})
    assert code == 3 and lines[0].startswith("BACKUPS UNKNOWN - ")


def test_on_the_command_line_it_is_one_line_with_figures_and_the_exit_code_of_a_plugin(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    file, metrics = tmp_path / "shop.yaml", tmp_path / "shop.prom"
    file.write_text(yaml.safe_dump(document(site.vault.root)))
    file.chmod(0o600)
    asked = ["status", "-f", str(file), "--check", "--quiet", "--metrics", str(metrics)]
    assert backups(asked) == Level.CRITICAL
    assert capsys.readouterr().out.startswith("BACKUPS CRITICAL - shop: 2 critical: mysql/app has no good backup")
    good(site)
    assert backups(asked) == Level.OK
    told = capsys.readouterr().out
    assert (
        told.startswith("BACKUPS OK - shop: all is well")
        and told.count("\n") == 1
        and "'backup-age/mysql/app'=" in told
    )
    assert 'backup_flows_condition{site="shop",condition="backup-age",about="mysql/app"} 0' in metrics.read_text()
    assert os.stat(metrics).st_mode & 0o777 == 0o644 and sorted(tmp_path.glob(".shop*")) == []
    assert backups(["status", "-f", str(tmp_path / "none.yaml"), "--check"]) == Level.UNKNOWN
    assert capsys.readouterr().out.startswith("BACKUPS UNKNOWN - ")
    assert backups(["status", "-f", str(file), "--check", "--json"]) == Level.OK
    body = json.loads(capsys.readouterr().out)
    assert body["level"] == "ok" and {each["condition"] for each in body["findings"]} <= CONDITIONS.keys()
