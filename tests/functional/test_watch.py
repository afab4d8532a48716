"""Every condition of the watch provoked for real, on real stores, and over again once it is put right."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.cli.main import run as backups
from engine import releases
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
from engine.watch.findings import CONDITIONS, Level
from engine.watch.look import look
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
        "watch": {"disk": 99, **watch},
    }


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def levels(site: Site, **how: Any) -> dict[str, str]:
    """What is not as it should be."""
    return {each.id: each.level.word for each in look(site, **how).trouble}


def good(site: Site, age: timedelta = HOUR) -> list[Entry]:
    return [made(site.vault, now() - age, database=database) for database in ("app", "crm")]


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
    others = {"copies", "recovery-point", "slot", "run"}
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
            return {name: every[name] for name in ("recovery-point", "slot") if name in every}

        site.vault.check()
        assert found() == {"recovery-point": "critical", "slot": "critical"}
        base_backup(site, "postgres")
        server.sql("CREATE TABLE t (a int)")
        ship(site, "postgres")
        assert found() == {"recovery-point": "ok", "slot": "ok"}
        assert found(now=now() + 2 * HOUR) == {"recovery-point": "warning", "slot": "ok"}
        drop_slots(server)
        assert found() == {"recovery-point": "ok", "slot": "critical"}
        assert found(servers=False) == {"recovery-point": "ok"}
        server.stop()
        assert found() == {"recovery-point": "ok", "slot": "unknown"}


def drilled(site: Site, at: datetime, verdict: Any, file: str) -> None:
    """The record of a drill that came to this."""
    piece = PieceResult("mysql", "app", file, checks=[Check("volume", "row counts", verdict, "as they are")])
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
    assert levels(site) == {"drill/last": "critical", "drill/mysql/crm": "warning"}


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
