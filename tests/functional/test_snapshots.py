"""Snapshots before a deployment, on real servers: one per key, kept until released; the way back really goes back."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.cli.main import run as backups
from deployments.site_file import find
from engine import names, pins, releases
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.errors import ConfigError, LockHeld, NotFound, UnknownName
from engine.locks import held, patiently
from engine.manifest import Server
from engine.prune import look, prune
from engine.prune.contents import claims_of
from engine.site import Site
from engine.snapshots import DEPLOY, Deploy, snapshots, state_of
from engine.source import Facts
from flows.snapshot_run import _failed
from tests.functional.vault_helpers import PASSPHRASE, files, replica
from tests.servers.databases import DatabaseServer
from tests.servers.s3 import S3Server

ROOT = Path(__file__).parents[2]
NOW = datetime.now(UTC).replace(microsecond=0)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def config(root: Path, *replicas: dict[str, Any], **vault: Any) -> SiteConfig:
    given = {
        "root": str(root),
        "keys": {"current": "main", "keys": {"main": PASSPHRASE}},
        "replicas": list(replicas),
        **vault,
    }
    return SiteConfig.model_validate({"site": "shop", "vault": given, "mysql": {"databases": ["app", "crm"]}})


def taken(site: Site, age: timedelta, release: str, *databases: str, tier: str = "pre-deployment") -> list[Entry]:
    """A verified snapshot of that age, as far as the vault can tell."""
    at = NOW - age
    deploy = Deploy(release, "3f9a1c2", "alice", f"key-of-{release}")
    facts = Facts(server=Server(flavour="mariadb", version="10.11"), contents={DEPLOY: deploy.facts()})
    made = []
    for database in databases or ("app", "crm"):
        with site.vault._begin(
            "mysql", "mysql", tier, database, "sql.gz.enc", at, deploy.label, f"{at:%Y%m%d_%H%M%S}-{release}"
        ) as writer:
            writer.data().write(b"-- a dump\n")
            entry, manifest = writer.publish(facts)
        site.vault.mark(entry, "verified", sha256=manifest.data.sha256)
        made.append(entry)
    return made


def left(site: Site, location: str = "local", tier: str = "pre-deployment") -> set[str]:
    """Releases whose snapshot a place still holds."""
    catalog = site.vault.catalog(location)
    return {str(catalog.load(each).contents[DEPLOY]["release"]) for each in catalog.entries(tier=tier)}


def pruned(site: Site, after: timedelta = timedelta(0)) -> None:
    """Expired, and gone a day later."""
    prune(site, now=NOW + after + HOUR)
    prune(site, now=NOW + after + HOUR + DAY)


def test_nothing_goes_until_a_release_and_then_all_but_the_newest_whose_deployment_succeeded(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    with Site(config(tmp_path, replica(rclone_s3, "copy"))) as site:
        for entry in [*taken(site, 40 * DAY, "v1"), *taken(site, 20 * DAY, "v2"), *taken(site, HOUR, "v3")]:
            site.vault.replicate(entry, "copy")
        pruned(site)
        assert left(site) == left(site, "copy") == {"v1", "v2", "v3"}
        done = releases.release(site, "v2")
        assert [each.deploy.release for each in done.older] == ["v1"]
        assert done.marked == {"local": 4, "copy": 4} and not done.errors
        again = releases.release(site, "key-of-v2")
        assert again.older == [] and again.marked == {"local": 0, "copy": 0}
        assert [state_of(site.vault, each) for each in snapshots(site.vault)] == ["waiting", "released", "released"]
        pruned(site, 2 * DAY)
        assert left(site) == left(site, "copy") == {"v2", "v3"}
        releases.release(site, "latest")
        pruned(site, 4 * DAY)
        assert left(site) == left(site, "copy") == {"v3"}


def test_a_failed_deployment_keeps_its_snapshot_also_when_a_later_one_let_it_go(tmp_path: Path) -> None:
    """Deployments may overlap: the later one succeeds first. The latest word counts, within one second too."""
    with Site(config(tmp_path)) as site:
        taken(site, 3 * HOUR, "v1")
        taken(site, 2 * HOUR, "v2")
        releases.release(site, "v2")
        outcome = releases.withhold(site, "v1")
        assert outcome.marked == {"local": 2} and releases.withhold(site, "v1").marked == {"local": 0}
        pruned(site)
        assert left(site) == {"v1", "v2"}
        assert [state_of(site.vault, each) for each in snapshots(site.vault)] == ["released", "failed"]
        taken(site, HOUR, "v3")
        assert [each.deploy.release for each in releases.release(site, "v3").older] == ["v1"]
        pruned(site, 2 * DAY)
        assert left(site) == {"v3"}


def test_the_way_back_that_a_flow_tells_finds_the_sites_own_file_and_no_shipped_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(config(tmp_path / "v")) as site:
        taken(site, HOUR, "v1")
        told = _failed("workset", releases.withhold(site, "v1"))
    line = shlex.split(told.rpartition("site file: ")[2])
    given = line[line.index("-f") + 1]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownName):
        find(given)
    (tmp_path / "workset.yaml").write_text("site: workset\n")
    assert find(given).resolve() == tmp_path / "workset.yaml"


def test_the_newest_good_one_stays_where_the_released_one_is_not_good(tmp_path: Path) -> None:
    with Site(config(tmp_path)) as site:
        taken(site, 2 * DAY, "v1")
        (app, _) = taken(site, DAY, "v2")
        site.vault.mark(app, "broken", reason="a test")
        releases.release(site, "v2")
        pruned(site)
        kept = {(each.name.name, each.name.taken_at) for each in site.vault.catalog().entries()}
        assert ("app", NOW - 2 * DAY) in kept and ("crm", NOW - DAY) in kept and ("crm", NOW - 2 * DAY) not in kept


@pytest.mark.parametrize("which", ["v9", "", "app_20200101_000000.sql.gz.enc", "latest"])
def test_a_release_that_names_no_snapshot_is_refused_with_the_reason(tmp_path: Path, which: str) -> None:
    with Site(config(tmp_path)) as site:
        with pytest.raises(UnknownName, match="no snapshot") as caught:
            releases.release(site, which)
        assert "take one" in caught.value.remedy
        if which == "latest":
            return
        taken(site, HOUR, "v1")
        for say in (releases.release, releases.withhold):
            with pytest.raises(UnknownName, match=f"no snapshot '{which}'"):
                say(site, which)
        assert state_of(site.vault, snapshots(site.vault)[0]) == "waiting"


@pytest.mark.sampled
def test_a_replica_that_was_away_is_told_when_it_is_back(tmp_path: Path, rclone_s3: S3Server) -> None:
    where = replica(rclone_s3, "copy")
    with Site(config(tmp_path, where)) as site:
        for entry in [*taken(site, 2 * DAY, "v1"), *taken(site, DAY, "v2")]:
            site.vault.replicate(entry, "copy")
    with Site(config(tmp_path, {**where, "endpoint_url": "http://127.0.0.1:9"})) as site:
        done = releases.release(site, "v2")
        assert list(done.errors) == ["copy"] and done.marked == {"local": 4}
        pruned(site)
        assert left(site) == {"v2"}
    with Site(config(tmp_path, where)) as site:
        assert left(site, "copy") == {"v1", "v2"}
        assert releases.release(site, "v2").marked == {"local": 0, "copy": 4}
        pruned(site)
        assert left(site, "copy") == {"v2"}


def test_a_copy_made_later_knows_what_was_said_before_and_what_may_go_is_not_copied(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    with Site(config(tmp_path, replica(rclone_s3, "copy"))) as site:
        (one, _) = taken(site, 2 * DAY, "v1")
        (two, other) = taken(site, DAY, "v2")
        releases.release(site, "v2")
        pins.pin(site.vault, other, site.vault.catalog().load(other), reason="a test")
        assert {each.key for each in site.vault.lacking("copy")} == {two.key, other.key}
        for entry in (two, other):
            site.vault.replicate(entry, "copy")
        said = {each.name.name: claims_of(site.vault, each) for each in site.vault.catalog("copy").entries()}
        assert all(each.released and each.claim == "good" for each in said.values())
        assert (said["app"].pinned, said["crm"].pinned) == ("", "pinned")
        assert one.key not in {each.key for each in site.vault.catalog("copy").entries()}


@pytest.mark.sampled
def test_a_replica_of_dated_folders_is_told_without_reading_every_manifest(tmp_path: Path, rclone_s3: S3Server) -> None:
    where = {**replica(rclone_s3, "copy"), "path": "{yyyy}/{mm}/{dd}"}
    with Site(config(tmp_path, where)) as site:
        entries = [each for n in range(6) for each in taken(site, (n + 1) * DAY, f"d{n}", "app", tier="daily")]
        for entry in [*entries, *taken(site, 2 * HOUR, "v1"), *taken(site, HOUR, "v2")]:
            site.vault.replicate(entry, "copy")
        before = site.vault.catalog("copy").manifests_read
        assert releases.release(site, "v2").marked == {"local": 4, "copy": 4}
        assert site.vault.catalog("copy").manifests_read - before == 4


def test_pinned_a_backup_stays_everywhere_and_unpinned_it_goes(tmp_path: Path, rclone_s3: S3Server) -> None:
    with Site(config(tmp_path, replica(rclone_s3, "copy"))) as site:
        vault = site.vault
        for age in (45, 40, 35, 1):
            (entry,) = taken(site, age * DAY, f"d{age}", "app", tier="daily")
            vault.replicate(entry, "copy")
        old = vault.catalog().newest_before("mysql", "app", NOW - 42 * DAY)
        assert old is not None
        manifest = vault.catalog().load(old)
        assert all(each.changed for each in pins.pin(vault, old, manifest, reason="an audit"))
        assert not any(each.changed for each in pins.pin(vault, old, manifest))
        for _ in range(2):
            prune(site, now=NOW, confirmed=True)
            prune(site, now=NOW + DAY, confirmed=True)
        assert left(site, tier="daily") == left(site, "copy", tier="daily") == {"d45", "d1"}
        assert all(each.changed for each in pins.unpin(vault, old, manifest))
        prune(site, now=NOW + DAY, confirmed=True)
        prune(site, now=NOW + 2 * DAY, confirmed=True)
        assert left(site, tier="daily") == left(site, "copy", tier="daily") == {"d1"}


def between_look_and_removal(site: Site, monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Done once, when the next prune is about to remove its first backup."""
    store, left_to_do = site.vault.store("local"), [do]
    real = store.retained_until

    def asked(key: str) -> datetime | None:
        if left_to_do:
            left_to_do.pop()()
        return real(key)

    monkeypatch.setattr(store, "retained_until", asked)


def test_what_is_pinned_or_withheld_while_a_prune_is_at_work_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(config(tmp_path)) as site:
        dailies = [taken(site, age * DAY, f"d{age}", "app", tier="daily")[0] for age in (45, 40, 35, 1)]
        for hours in (5, 4, 3):
            taken(site, hours * HOUR, f"v{hours}")
        releases.release(site, "v3")
        prune(site, now=NOW + HOUR, confirmed=True)

        def say() -> None:
            for entry in dailies[:3]:
                pins.pin(site.vault, entry, site.vault.catalog().load(entry))
            assert not releases.withhold(site, "v5").errors

        between_look_and_removal(site, monkeypatch, say)
        (plan,) = prune(site, now=NOW + HOUR + DAY, confirmed=True)
        assert (plan.count("reprieve"), plan.count("remove")) == (5, 2)
        prune(site, now=NOW + HOUR + 2 * DAY, confirmed=True)
        assert left(site, tier="daily") == {"d45", "d40", "d35", "d1"}
        assert left(site) == {"v5", "v3"}


def test_what_is_pinned_while_it_is_being_copied_is_pinned_at_the_copy_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rclone_s3: S3Server
) -> None:
    with Site(config(tmp_path / "v", replica(rclone_s3, "copy"))) as site:
        (entry,) = taken(site, HOUR, "d1", "app", tier="daily")
        store = site.vault.store("copy")
        real = store.put

        def put(key: str, data: bytes) -> None:
            if key.endswith(".enc.json"):  # its marks stand there, its manifest does not yet
                pins.pin(site.vault, entry, site.vault.catalog().load(entry))
            real(key, data)

        monkeypatch.setattr(store, "put", put)
        stored = site.vault.replicate(entry, "copy")
        copy = Entry("copy", stored.key, entry.name, entry.source, entry.tier, stored.size)
        assert claims_of(site.vault, copy).pinned == "pinned"


def test_a_word_that_came_too_late_for_its_backup_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(config(tmp_path)) as site:
        dailies = [taken(site, age * DAY, f"d{age}", "app", tier="daily")[0] for age in (45, 1)]
        manifest = site.vault.catalog().load(dailies[0])
        prune(site, now=NOW, confirmed=True)
        said: list[pins.Said] = []
        late = threading.Thread(target=lambda: said.extend(pins.pin(site.vault, dailies[0], manifest)))
        store = site.vault.store("local")
        real = store.delete

        def delete(key: str) -> None:
            if not late.ident:
                late.start()
            real(key)

        with monkeypatch.context() as patched:
            patched.setattr(store, "delete", delete)
            prune(site, now=NOW + DAY, confirmed=True)
        late.join()
        assert [type(each.error) for each in said] == [NotFound]
        assert left(site, tier="daily") == {"d1"}
        assert not [each for each in files(tmp_path) if dailies[0].file in each]


def test_a_manual_backup_with_a_last_day_goes_after_it_and_others_never_do(tmp_path: Path, rclone_s3: S3Server) -> None:
    with Site(config(tmp_path, replica(rclone_s3, "copy"))) as site:
        (for_ever,) = taken(site, 90 * DAY, "forever", "app", tier="manual")
        (limited,) = taken(site, 10 * DAY, "limited", "app", tier="manual")
        (longer,) = taken(site, 10 * DAY, "longer", "app", tier="manual")
        taken(site, DAY, "daily", "app", tier="daily")
        how_long = pins.parse_keep("30d", "manual")
        assert how_long is not None
        for entry, keep in ((limited, how_long), (longer, 10 * how_long)):
            pins.keep_until(site.vault, entry, entry.name.taken_at + keep)
        for entry in (for_ever, limited, longer):
            site.vault.replicate(entry, "copy")
        pruned(site)
        assert left(site, tier="manual") == {"forever", "limited", "longer"}
        (why,) = [each.reason for each in look(site)[0].planned if each.item.key == limited.key]
        assert "to be kept until" in why
        later = timedelta(days=21)
        taken(site, -later + HOUR, "fresh", "app", tier="daily")  # else the clock looks wrong
        for entry in site.vault.lacking("copy"):
            site.vault.replicate(entry, "copy")
        pruned(site, later)
        assert left(site, tier="manual") == left(site, "copy", tier="manual") == {"forever", "longer"}


@pytest.mark.parametrize(("keep", "tier"), [("soon", "manual"), ("12", "manual"), ("0d", "manual"), ("30d", "daily")])
def test_a_keep_that_is_no_age_or_of_another_tier_is_refused(keep: str, tier: str) -> None:
    with pytest.raises(ConfigError):
        pins.parse_keep(keep, tier)


@pytest.mark.parametrize("word", ["two\nlines", "x" * 201, "\x1b[31mred"])
def test_what_is_no_line_of_text_labels_no_snapshot(word: str) -> None:
    with pytest.raises(ConfigError, match="one line"):
        Deploy(release=word)


def test_whoever_holds_a_lock_is_waited_for_and_named_once(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    told: list[str] = []
    free = threading.Event()
    taken_up = threading.Event()

    def holder() -> None:
        with held(path, "the shop"):
            taken_up.set()
            free.wait(30)

    thread = threading.Thread(target=holder)
    thread.start()
    taken_up.wait(30)
    with pytest.raises(LockHeld), patiently(lambda: held(path, "the shop"), 0.3, told.append):
        raise AssertionError("it was held by another")
    assert len(told) == 1 and "the shop" in told[0]
    threading.Timer(0.5, free.set).start()
    with patiently(lambda: held(path, "the shop"), 30, told.append):
        assert free.is_set()
    thread.join()


@dataclass(frozen=True)
class Place:
    """A site with real servers, and the program pointed at it."""

    file: Path
    vault: Path
    shop: str
    platform: str
    mariadb: DatabaseServer
    postgres: DatabaseServer
    told: Callable[[], tuple[str, str]]

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run ``backups`` in this process; it must end with ``code``. What it wrote."""
        ended = backups([*arguments, "-f", str(self.file)])
        out, err = self.told()
        assert ended == code, out + err
        return out + err if "--json" not in arguments else out

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(*arguments, "--json", code=code))
        return found


@pytest.fixture
def place(
    tmp_path: Path,
    mariadb: DatabaseServer,
    postgres15: DatabaseServer,
    rclone_s3: S3Server,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Place]:
    with mariadb.database("shop") as shop, postgres15.database("platform") as platform:
        mariadb.sql("CREATE TABLE t (a INT PRIMARY KEY); INSERT INTO t VALUES (1), (2)", shop)
        postgres15.sql("CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1), (2)", platform)
        where = replica(rclone_s3, "copy")
        document = {
            "site": "shop",
            "vault": {"root": str(tmp_path / "v"), "keys": {"current": "main", "main": PASSPHRASE},
                      "replicas": [where]},
            **{
                name: {"host": server.host, "port": server.port, "user": server.user,
                       "password": server.password, "databases": [database]}
                for name, server, database in (("mysql", mariadb, shop), ("postgres", postgres15, platform))
            },
        }  # fmt: skip
        file = tmp_path / "shop.yaml"
        file.write_text(yaml.safe_dump(document))

        def told() -> tuple[str, str]:
            captured = capfd.readouterr()
            return captured.out, captured.err

        yield Place(file, tmp_path / "v", shop, platform, mariadb, postgres15, told)


def test_the_databases_of_one_server_are_dumped_side_by_side(place: Place) -> None:
    with contextlib.ExitStack() as stack:
        document = yaml.safe_load(place.file.read_text())
        for name, server in (("mysql", place.mariadb), ("postgres", place.postgres)):
            for _ in range(2):
                database = stack.enter_context(server.database("more"))
                server.sql("CREATE TABLE t (a INT PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)", database)
                document[name]["databases"].append(database)
        place.file.write_text(yaml.safe_dump(document))
        done = place.json("snapshot", "--release", "v2")
        assert done["failed"] == [] and len(done["backups"]) == 6
    manifests = [json.loads(each.read_text()) for each in place.vault.rglob("pre-deployment/*.enc.json")]
    assert sorted(sum(each["rows"].values()) for each in manifests) == [2, 2, 3, 3, 3, 3]
    for source in ("mysql", "postgres"):
        spans = sorted((each["started_at"], each["finished_at"]) for each in manifests if each["source"] == source)
        assert any(later < ended for (_, ended), (later, _) in pairwise(spans)), spans


def test_from_a_snapshot_over_a_failed_deployment_and_back_by_one_command(place: Place) -> None:
    asked = ("snapshot", "--release", "v1.4.2", "--commit", "3f9a1c2d", "--actor", "alice", "--key", "run-1")
    first = place.json(*asked)
    assert first["same"] is False and first["failed"] == [] and first["copies"] == []
    assert {each["tier"] for each in first["backups"]} == {"pre-deployment"}
    assert {each["label"] for each in first["backups"]} == {"before v1.4.2 (3f9a1c2) by alice"}
    again = place.json(*asked)
    assert again["same"] is True and again["snapshot"]["id"] == first["snapshot"]["id"]
    (listed,) = place.json("snapshots")["snapshots"]
    assert (listed["release"], listed["commit"], listed["actor"], listed["key"], listed["state"]) == (
        "v1.4.2", "3f9a1c2d", "alice", "run-1", "waiting",
    )  # fmt: skip
    assert listed["proven_at"] is None and "never proven by a drill" in place.run("snapshots")

    place.mariadb.sql("DROP TABLE t; CREATE TABLE migrated (a INT)", place.shop)
    place.postgres.sql("UPDATE t SET a = a + 10", place.platform)
    failed = place.json("release", "v1.4.2", "--failed")
    for command in failed["way_back"].split(" && "):
        program, *arguments = shlex.split(command)
        assert program == "backups" and backups(arguments) == 0
    place.told()
    assert place.mariadb.sql("SELECT a FROM t ORDER BY a", place.shop) == [("1",), ("2",)]
    assert place.mariadb.sql("SHOW TABLES", place.shop) == [("t",)]
    assert place.postgres.sql("SELECT a FROM t ORDER BY a", place.platform) == [("1",), ("2",)]

    second = place.json("snapshot", "--release", "v1.4.3", "--key", "run-2", "--copy")
    assert len(second["backups"]) == 2 and all(each["ok"] for each in second["copies"])
    released = place.run("release", "run-2")
    assert "v1.4.3" in released and "v1.4.2 (3f9a1c2) by alice) may go now" in released
    assert place.json("snapshot", "--release", "v1.4.3", "--key", "run-2")["same"] is False, "that one is over"
    refused = place.json("release", "v1.5", code=2)
    assert refused["error"]["class"] == "UnknownName" and "no snapshot 'v1.5'" in refused["error"]["message"]

    place.mariadb.sql("ALTER TABLE t DISCARD TABLESPACE", place.shop)  # it cannot be read any more
    half = place.json("snapshot", "--release", "v1.5", code=1)
    assert len(half["backups"]) == len(half["failed"]) == 1
    listed = {each["release"]: each for each in place.json("snapshots")["snapshots"]}
    assert listed["v1.5"]["lacking"] == [f"mysql/{place.shop}"] and listed["v1.4.3"]["lacking"] == []
    assert "it lacks mysql/" in place.run("release", "v1.5", "--failed")


@pytest.mark.sampled
def test_two_runs_of_one_key_side_by_side_take_one_snapshot(place: Place) -> None:
    """As when a pipeline asks twice: each of them ends well, and one of them finds the other's."""
    command = [sys.executable, "-m", "deployments.cli", "snapshot", "--key", "same", "--json", "-f", str(place.file)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT) for _ in range(2)]
    told = [json.loads(each.communicate(timeout=120)[0]) for each in both]
    assert [each["exit_code"] for each in told] == [0, 0]
    assert sorted(each["same"] for each in told) == [False, True]
    assert len({each["snapshot"]["id"] for each in told}) == 1
    assert len(place.json("snapshots")["snapshots"]) == 1


@pytest.mark.sampled
def test_a_server_that_is_away_means_no_snapshot_and_the_next_try_takes_a_whole_one(place: Place) -> None:
    document = yaml.safe_load(place.file.read_text())
    right = document["postgres"]["port"]
    document["postgres"]["port"] = 9
    place.file.write_text(yaml.safe_dump(document))
    told = place.json("snapshot", "--key", "k", code=1)
    assert told["error"]["class"] == "Unreachable" or told["failed"]
    document["postgres"]["port"] = right
    place.file.write_text(yaml.safe_dump(document))
    whole = place.json("snapshot", "--key", "k")
    assert whole["same"] is False and len(whole["backups"]) == 2
    assert place.json("snapshot", "--key", "k")["snapshot"]["id"] == whole["snapshot"]["id"]
    assert place.run("backup", "--source", "mysql", "--keep", "30d")
    with_keep = list((place.vault / "shop/marks").rglob("*.keep-until.*"))
    assert len(with_keep) == 1 and f"{names.now() + 30 * DAY:%Y-%m-%d}" in with_keep[0].read_text()
