"""Pruning real stores: marked first and gone a day later, whole at every moment, never what is still needed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments.cli.main import run as backups
from deployments.cli.windows import windows
from engine import marks, names
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.errors import StoreError
from engine.logs import CONTENTS, KIND, LogFile
from engine.manifest import LogPosition, Server
from engine.prune import PlacePlan, look, prune
from engine.recoverable import recoverable
from engine.recovery import Target, make_plan, merged
from engine.site import Site
from engine.source import Facts
from engine.stores.base import ObjectInfo
from engine.vault import Vault
from tests.functional.vault_helpers import PASSPHRASE, files, replica
from tests.servers.s3 import S3Server

NOW = datetime.now(UTC).replace(microsecond=0)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
DUMP = b"INSERT INTO t VALUES (1);\n" * 50
SERVER = Server(flavour="mysql", version="9.7", uuid="uuid")
AGES = (45, 40, 35, 20, 8, 6, 1)
"""Of the daily backups in days: three are past their thirty."""


def config(root: Path, *replicas: dict[str, Any], **retention: str) -> SiteConfig:
    vault = {
        "root": str(root),
        "keys": {"current": "main", "keys": {"main": PASSPHRASE}},
        "replicas": list(replicas),
        "retention": retention,
    }
    return SiteConfig.model_validate({"site": "shop", "vault": vault, "mysql": {"databases": ["app"]}})


def full(vault: Vault, age: timedelta, *, tier: str = "daily", log: int = 0, mark: str = "verified") -> Entry:
    """A full backup of that age with a companion, its logs beginning in that log."""
    at = NOW - age
    facts = Facts(
        server=SERVER,
        rows={"t": 50},
        log=LogPosition(binlog_file=f"mysql-bin.{log:06}" if log else "", binlog_position=100),
        contents={"snapshot_at": names.iso(at)},
    )
    with vault._begin("mysql", "mysql", tier, "app", "sql.gz.enc", at, "", "") as writer:
        writer.data().write(DUMP)
        writer.companion("accounts").write(b"CREATE USER app;\n")
        entry, manifest = writer.publish(facts)
    if mark:
        vault.mark(entry, mark, sha256=manifest.data.sha256)
    return entry


def log(vault: Vault, number: int, shipped: datetime) -> Entry:
    """The log of the six hours before it was shipped."""
    facts = LogFile(
        name=f"mysql-bin.{number:06}", number=number, chain="uuid", end=1000, created_at=shipped - 6 * HOUR,
        covers_until=shipped, last_commit=shipped - timedelta(minutes=1), transactions=1,
    )  # fmt: skip
    with vault._begin("mysql", KIND["binlogs"], "binlogs", facts.name, "gz.enc", shipped, "", "", "binlogs") as writer:
        writer.data().write(b"\xfebin" + b"x" * 60)
        contents = {CONTENTS: facts.model_dump(mode="json")}
        return writer.publish(Facts(server=SERVER, dump_format="binlog", contents=contents))[0]


def dailies(vault: Vault) -> list[Entry]:
    return [full(vault, age * DAY) for age in AGES]


def ages(vault: Vault, location: str = "local", tier: str = "daily") -> list[int]:
    return sorted((NOW - each.name.taken_at).days for each in vault.catalog(location).entries(tier=tier))


def actions(plans: list[PlacePlan], location: str = "local") -> dict[str, int]:
    plan = next(each for each in plans if each.location == location)
    return {action: plan.count(action) for action in {each.action for each in plan.planned}}


def assert_whole(vault: Vault, location: str = "local") -> None:
    """Every manifest has all of its data, and the data is what it says."""
    store = vault.store(location)
    keys = {info.key: info.size for info in store.list("shop/")}
    for key in keys:
        if key.endswith(".json") and "/marks/" not in key:
            manifest = vault.catalog(location).load(
                next(each for each in vault.catalog(location).entries() if each.manifest_key == key)
            )
            folder = key.rpartition("/")[0]
            assert all(keys.get(f"{folder}/{part.file}") == part.size for part in manifest.files), key


def stored(vault: Vault, location: str = "local") -> list[str]:
    return sorted(info.key for info in vault.store(location).list("shop/"))


def test_what_expired_is_marked_first_and_gone_a_day_later_in_every_place(tmp_path: Path, rclone_s3: S3Server) -> None:
    with Site(config(tmp_path / "v", replica(rclone_s3, "copy"))) as site:
        vault = site.vault
        for entry in dailies(vault):
            vault.replicate(entry, "copy")
        before = stored(vault), stored(vault, "copy")
        assert actions(look(site, now=NOW)) == {"expire": 3, "keep": 4}
        assert (stored(vault), stored(vault, "copy")) == before, "a look changes nothing"

        first = prune(site, now=NOW)
        assert actions(first) == actions(first, "copy") == {"expire": 3, "keep": 4}
        assert ages(vault) == ages(vault, "copy") == sorted(AGES)
        assert actions(prune(site, now=NOW + HOUR)) == {"wait": 3, "keep": 4}
        assert ages(vault) == sorted(AGES)

        done = prune(site, now=NOW + DAY)
        assert actions(done) == actions(done, "copy") == {"remove": 3, "keep": 4}
        for place in ("local", "copy"):
            assert ages(vault, place) == [1, 6, 8, 20]
            assert_whole(vault, place)
            gone = {f"{NOW - age * DAY:{names.STAMP}}" for age in (35, 40, 45)}
            assert not [key for key in stored(vault, place) if any(stamp in key for stamp in gone)]
        assert actions(prune(site, now=NOW + DAY)) == {"keep": 4}
        assert vault.lacking("copy") == []
        assert not list(vault.removals.iterdir())


class Dying:
    """A store whose process is killed right before its n-th change."""

    def __init__(self, store: Any, countdown: list[int]) -> None:
        self._store = store
        self._countdown = countdown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, key: str, data: bytes) -> Any:
        self._step()
        return self._store.put(key, data)

    def delete(self, key: str) -> None:
        self._step()
        self._store.delete(key)

    def _step(self) -> None:
        self._countdown[0] -= 1
        if self._countdown[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def prune_and_die(made: SiteConfig, step: int, now: datetime, location: str = "all") -> bool:
    """Prune in a process of its own that dies before its n-th change; says whether it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            site = Site(made)
            countdown = [step]
            for location in site.vault.locations():
                store = site.vault.store(location)
                site.vault._stores[location] = Dying(store, countdown)  # type: ignore[assignment]
            prune(site, location=location, now=now)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status)


def test_a_prune_that_is_killed_at_any_step_leaves_whole_backups_and_the_next_run_finishes(tmp_path: Path) -> None:
    made = config(tmp_path / "v")
    with Site(made) as site:
        dailies(site.vault)
        prune(site, now=NOW - DAY)
        full(site.vault, timedelta(days=30, minutes=5))  # besides those that go, one that is marked
    shutil.copytree(tmp_path / "v", tmp_path / "before")
    step, ended = 0, False
    while not ended:
        step += 1
        shutil.rmtree(tmp_path / "v")
        shutil.copytree(tmp_path / "before", tmp_path / "v")
        ended = prune_and_die(made, step, NOW)
        with Site(made) as site:
            assert_whole(site.vault)
            if step % 2:
                site.sweep()  # any run sweeps; the next prune finishes by itself, too
            prune(site, now=NOW)
            assert_finished(site, [1, 6, 8, 20, 30])
    assert step > 3 * 5, "it was killed before each manifest, file and mark"


def test_a_prune_of_a_bucket_that_dies_again_and_again_comes_to_its_end(tmp_path: Path, rclone_s3: S3Server) -> None:
    made = config(tmp_path / "v", replica(rclone_s3, "copy"))
    with Site(made) as site:
        for entry in dailies(site.vault)[1:]:
            site.vault.replicate(entry, "copy")
        prune(site, location="copy", now=NOW - DAY)
        deaths = 0
        while not prune_and_die(made, 2 + deaths % 6, NOW, "copy"):
            assert_whole(site.vault, "copy")
            deaths += 1
            assert deaths < 40
        assert deaths > 2
        assert_finished(site, [1, 6, 8, 20], "copy")


def assert_finished(site: Site, left: list[int], location: str = "local") -> None:
    """Just these are left, of the others no file and no mark, and nothing to be swept."""
    assert ages(site.vault, location) == left
    assert_whole(site.vault, location)
    gone = {f"{NOW - age * DAY:{names.STAMP}}" for age in AGES if age not in left}
    assert not [key for key in stored(site.vault, location) if any(stamp in key for stamp in gone)]
    assert not list(site.vault.removals.iterdir()) and site.sweep().done == []


def test_each_place_keeps_its_own_last_good_backup(tmp_path: Path, rclone_s3: S3Server) -> None:
    """A replica that fell behind is not judged by what the local root has."""
    with Site(config(tmp_path / "v", replica(rclone_s3, "copy"))) as site:
        entries = dailies(site.vault)
        for entry in entries[:3]:
            site.vault.replicate(entry, "copy")
        plans = prune(site, now=NOW, confirmed=True)
        assert actions(plans) == {"expire": 3, "keep": 4}
        assert actions(plans, "copy") == {"expire": 2, "keep": 1}
        prune(site, now=NOW + DAY, confirmed=True)
        assert ages(site.vault, "copy") == [35]


def test_a_copy_of_what_was_found_broken_elsewhere_protects_nothing(tmp_path: Path, rclone_s3: S3Server) -> None:
    with Site(config(tmp_path / "v", replica(rclone_s3, "copy"))) as site:
        old, new = full(site.vault, 40 * DAY), full(site.vault, 35 * DAY)
        for entry in (old, new):
            site.vault.replicate(entry, "copy")
        site.vault.mark(new, "broken", reason="too small")
        for plan in look(site, now=NOW, confirmed=True):
            kept = {each.item.file: each.reason for each in plan.planned if each.action == "keep"}
            assert old.file in kept and "last good" in kept[old.file], plan.location


def test_a_place_that_cannot_be_listed_loses_nothing_and_holds_up_no_other(tmp_path: Path, rclone_s3: S3Server) -> None:
    dead = {**replica(rclone_s3, "dead"), "endpoint_url": "http://127.0.0.1:9"}
    with Site(config(tmp_path / "v", dead, replica(rclone_s3, "copy"))) as site:
        for entry in dailies(site.vault):
            site.vault.replicate(entry, "copy")
        prune(site, now=NOW)
        store = site.vault.store("copy")

        class Breaking(Dying):
            def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
                yield from list(self._store.list(prefix))[:5]
                raise StoreError("the listing broke off")

        site.vault._stores["copy"] = Breaking(store, [0])  # type: ignore[assignment]
        site.vault._catalogs.clear()
        plans = prune(site, now=NOW + DAY)
        assert [(plan.location, plan.error is not None) for plan in plans] == [
            ("local", False), ("dead", True), ("copy", True)
        ]  # fmt: skip
        assert all(not plan.planned for plan in plans[1:])
        site.vault._stores["copy"] = store
        site.vault._catalogs.clear()
        assert ages(site.vault, "copy") == sorted(AGES) and ages(site.vault) == [1, 6, 8, 20]


def test_a_longer_rule_takes_the_mark_back(tmp_path: Path) -> None:
    with Site(config(tmp_path / "v")) as site:
        dailies(site.vault)
        prune(site, now=NOW)
    with Site(config(tmp_path / "v", daily="60d")) as site:
        assert actions(prune(site, now=NOW + DAY)) == {"reprieve": 3, "keep": 4}
        assert ages(site.vault) == sorted(AGES)
    with Site(config(tmp_path / "v")) as site:
        assert actions(prune(site, now=NOW + DAY + HOUR)) == {"expire": 3, "keep": 4}, "its day begins anew"


def test_a_mark_that_nobody_signed_removes_nothing(tmp_path: Path) -> None:
    with Site(config(tmp_path / "v")) as site:
        dailies(site.vault)
        prune(site, now=NOW)
        for info in list(site.vault.store("local").list("shop/marks/")):
            if ".expired." in info.key:
                path = tmp_path / "v" / info.key
                path.write_bytes(path.read_bytes().replace(b"30d", b"31d"))
        done = prune(site, now=NOW + DAY)
        assert actions(done) == {"keep": 7}
        assert sum("cannot be judged" in each.reason for each in done[0].planned) == 3
        assert ages(site.vault) == sorted(AGES)


def test_while_a_run_works_on_a_database_its_backups_stay(tmp_path: Path) -> None:
    with Site(config(tmp_path / "v")) as site:
        dailies(site.vault)
        prune(site, now=NOW)
        with site.vault.lock("mysql", "app"):
            done = prune(site, now=NOW + DAY)
        assert actions(done) == {"in use": 3, "keep": 4}
        assert ages(site.vault) == sorted(AGES)
        assert actions(prune(site, now=NOW + DAY)) == {"remove": 3, "keep": 4}


def test_too_much_at_once_and_a_wrong_clock_wait_for_a_persons_word(tmp_path: Path) -> None:
    with Site(config(tmp_path / "v", daily="7d")) as site:
        dailies(site.vault)
        held = prune(site, now=NOW)
        assert actions(held) == {"held": 5, "keep": 2} and "more than 50%" in held[0].held["mysql/app/daily"]
        assert not [mark for mark in stored(site.vault) if ".expired." in mark]
        for wrong in (NOW - 2 * DAY, NOW + 20 * DAY):
            jumped = prune(site, now=wrong)
            assert jumped[0].brake and set(actions(jumped)) <= {"held", "keep"}
        assert actions(prune(site, now=NOW, confirmed=True)) == {"expire": 5, "keep": 2}
        assert actions(prune(site, now=NOW + 20 * DAY)).get("remove") is None, "a clock that jumped shortens no day"
        assert actions(prune(site, now=NOW + DAY)) == {"remove": 5, "keep": 2}


def test_what_an_object_lock_keeps_is_retained_until_and_no_error(tmp_path: Path, moto_s3: S3Server) -> None:
    bucket = moto_s3.new_bucket("plain") + "-locked"
    client = moto_s3.client()
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    with Site(config(tmp_path / "v", {**replica(moto_s3, "locked"), "bucket": bucket})) as site:
        entries = dailies(site.vault)
        for entry in entries:
            site.vault.replicate(entry, "locked")
        until = datetime.now(UTC).replace(microsecond=0) + 3 * DAY
        retention = {"Mode": "COMPLIANCE", "RetainUntilDate": until}
        client.put_object_retention(Bucket=bucket, Key=entries[0].key, Retention=retention)
        prune(site, now=NOW)
        done = prune(site, now=NOW + DAY)
        assert [plan.error for plan in done] == [None, None]
        assert actions(done, "locked") == {"retained": 1, "remove": 2, "keep": 4}
        (kept,) = [each for each in done[1].planned if each.action == "retained"]
        assert kept.until == until and kept.item.key == entries[0].key
        assert_whole(site.vault, "locked")
        assert ages(site.vault, "locked") == [1, 6, 8, 20, 45]


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Site]:
    """Fifteen days: a full a day, a log every six hours; the full right before the window is broken."""
    with Site(config(tmp_path / "v")) as site:
        number = 0
        for day in range(15, 0, -1):
            for quarter in range(4):
                number += 1
                log(site.vault, number, NOW - day * DAY + quarter * 6 * HOUR)
            full(site.vault, day * DAY - 19 * HOUR, log=number + 1, mark="broken" if day == 7 else "verified")
        yield site


def test_any_second_of_the_stated_window_is_still_planned_after_a_prune(logged: Site) -> None:
    before = merged(recoverable(logged, "mysql", "app").windows)
    begins = NOW + DAY - 7 * DAY
    prune(logged, now=NOW, confirmed=True)
    done = prune(logged, now=NOW + DAY, confirmed=True)
    after = merged(recoverable(logged, "mysql", "app").windows)
    removed = [each for each in done[0].planned if each.action == "remove"]
    assert len(removed) > 15 and all(each.item.tier == "binlogs" for each in removed)
    reaching = [(one, two) for one, two in after if two > begins]
    assert reaching and reaching[0][0] <= begins and after[-1][1] == before[-1][1]
    found = recoverable(logged, "mysql", "app")
    earliest = min(window.earliest for window in found.windows if window.logs)
    for moment in (earliest, begins):
        plan = make_plan(found.windows, Target("time", moment), now=NOW + 2 * DAY)
        assert plan.logs and plan.logs[0].number == plan.anchor.number
    (told,) = windows(logged)
    assert "are not kept: logs are kept for 7d, older backups stand alone" in told["said"]
    # the broken full counts for nothing: the logs reach back to the good one before it
    kept = [each for each in done[0].planned if each.item.tier == "binlogs" and each.action == "keep"]
    assert any("is replayed with it" in each.reason for each in kept)


def test_a_log_that_was_pruned_is_not_shipped_again_although_the_server_still_has_it() -> None:
    from engine.binlog.chain import work
    from engine.binlog.server import ServerLog

    listed = [ServerLog(f"mysql-bin.{number:06}", 1000) for number in range(1, 31)]
    newest = LogFile(name="mysql-bin.000028", number=28, chain="uuid", end=1000)
    known = {f"mysql-bin.{number:06}" for number in range(20, 29) if number != 24}
    assert [each.name[-2:] for each in work(listed, newest, known).ship] == ["24", "29"]


def test_a_replica_is_not_given_again_what_it_has_let_go(tmp_path: Path, rclone_s3: S3Server) -> None:
    with Site(config(tmp_path / "v", replica(rclone_s3, "copy"))) as site:
        entries = dailies(site.vault)
        for entry in entries:
            site.vault.replicate(entry, "copy")
        prune(site, location="copy", now=NOW)
        prune(site, location="copy", now=NOW + DAY)
        assert ages(site.vault, "copy") == [1, 6, 8, 20] and ages(site.vault) == sorted(AGES)
        assert site.vault.lacking("copy") == []
        lost = next(each for each in site.vault.catalog("copy").entries() if each.file == entries[-1].file)
        for key in (lost.manifest_key, lost.key):
            site.vault.store("copy").delete(key)
        assert [each.file for each in site.vault.lacking("copy")] == [entries[-1].file]


def test_a_place_with_rules_of_its_own_is_judged_by_them_and_gets_what_it_would_keep(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    rules = {"near": "7d", "far": "60d"}
    places = [{**replica(rclone_s3, name), "retention": {"daily": rule}} for name, rule in rules.items()]
    with Site(config(tmp_path / "v", *places)) as site:
        vault = site.vault
        for entry in dailies(vault):
            for name in rules:
                vault.replicate(entry, name)
        prune(site, confirmed=True, now=NOW)
        prune(site, confirmed=True, now=NOW + DAY)
        assert ages(vault) == [age for age in sorted(AGES) if age <= 30]
        assert ages(vault, "near") == [age for age in sorted(AGES) if age <= 7]
        assert ages(vault, "far") == sorted(AGES)
        assert vault.lacking("near") == [], "what it would not keep is not copied to it again"


def test_folders_that_tell_no_tier_or_source_are_judged_by_their_manifests(tmp_path: Path, rclone_s3: S3Server) -> None:
    """Folders by date, and one folder for two sources of archives: as an installation may have had them before."""
    dated = {**replica(rclone_s3, "dated"), "path": "{site}/{yyyy}/{mm}/{dd}"}
    given = config(tmp_path / "vault", dated, daily="30d").model_dump()
    given["vault"]["path"] = "{tier}"
    given["vault"]["keys"]["keys"] = {"main": PASSPHRASE}
    given["vault"]["replicas"][0] = dated
    given["config"] = {"paths": ["/etc/hosts"]}
    given["volumes"] = {"volumes": ["uploads"]}
    with Site(SiteConfig.model_validate(given)) as site:
        for age in AGES:
            site.vault.replicate(full(site.vault, age * DAY), "dated")
            for source, kind, name in (("config", "config", "config"), ("volumes", "volume", "uploads")):
                at = NOW - age * DAY
                with site.vault._begin(source, kind, "daily", name, "tar.gz.enc", at, "", "") as writer:
                    writer.data().write(DUMP)
                    entry, manifest = writer.publish(Facts(server=SERVER, dump_format="tar"))
                site.vault.mark(entry, "verified", sha256=manifest.data.sha256)
        for place in look(site):
            every = 3 if place.location == "local" else 1
            past, young = every * sum(age > 30 for age in AGES), every * sum(age <= 30 for age in AGES)
            assert (place.location, place.count("expire") or place.count("held"), place.count("keep")) == (
                place.location, past, young,
            )  # fmt: skip
            assert not [each for each in place.planned if "cannot be read" in each.reason]


def test_the_command_shows_the_plan_changes_nothing_with_dry_run_and_wants_the_sites_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Site(config(tmp_path / "v")) as site:
        dailies(site.vault)
        for hours in range(40):
            full(site.vault, timedelta(hours=hours, minutes=1), tier="hourly")
    path = tmp_path / "shop.yaml"
    path.write_text(
        f"site: shop\nvault:\n  root: {tmp_path / 'v'}\n  keys: {{main: {PASSPHRASE}}}\n"
        "  retention: {hourly: 10h}\nmysql: {databases: [app]}\n"
    )
    before = files(tmp_path / "v")
    assert backups(["prune", "-f", str(path), "--dry-run", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert files(tmp_path / "v") == before
    (place,) = told["places"]
    assert place["held"] == {"mysql/app/hourly": "30 of 40 would go at once, more than 50%"}
    assert (
        sorted(each["action"] for each in place["backups"] if each["tier"] == "daily") == ["expire"] * 3 + ["keep"] * 4
    )
    assert all(each["reason"] for each in place["backups"])

    assert backups(["prune", "-f", str(path), "--confirm", "other"]) == 4
    assert files(tmp_path / "v") == before
    assert backups(["prune", "-f", str(path), "--confirm", "shop"]) == 0
    shown = capsys.readouterr().out
    assert "33 is marked as expired" in shown and "daily backups are kept for 30d" in shown
    with Site(config(tmp_path / "v")) as site:
        kinds = [each.kind for each in marks.named(site.vault.store("local"), site.vault.layout("local"))]
        assert kinds.count("expired") == 33 and len(ages(site.vault)) == 7
