"""Every alert, provoked for real on a running server: a webhook of its route hears of it once, and once more when it is
over. And what nobody may miss: runs that hang, runs that nobody takes, a scheduler that is dead."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments import site_file
from engine import names
from engine.backup import backup_one, replicate_all
from engine.postgres.base_backup import base_backup
from engine.postgres.wal_ship import ship
from engine.removal import remove
from engine.site import Site as Opened
from engine.site import Target
from engine.watch.look import look
from tests.functional.test_archives import made
from tests.integration.hooks import SECRET, Hooks
from tests.integration.installation import Installation, Site, until
from tests.servers.fixtures import Factory

COMMON = True
SILENT = "BACKUP_FLOWS_SILENT_SECONDS"
LATE = {"log-shipping/postgres", "recovery-point/postgres"}
"""Warnings that become critical while the test goes on."""
ASKED = """
import json, sys
from datetime import timedelta
from engine import names
from tasks import runs
found = runs.stand(sys.argv[1], now=names.now() + timedelta(minutes=float(sys.argv[2])))
print(json.dumps([[each.id, each.level.word, each.said] for each in found]))
"""


@pytest.mark.sampled
def test_a_run_that_hangs_and_one_that_nobody_takes_are_findings(prefect: Installation, site: Site) -> None:
    def findings(minutes: int) -> dict[str, list[str]]:
        done = prefect.command("-c", ASKED, site.name, str(minutes))
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        return {identity: [level, said] for identity, level, said in found if identity.split("/")[0] != "run"}

    deployment = prefect.api.call("GET", f"/deployments/name/daily-full/{site.name}")
    later = (names.now() + timedelta(hours=2)).isoformat()
    runs = [
        prefect.api.call(
            "POST",
            f"/deployments/{deployment['id']}/create_flow_run",
            {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": later}}, "parameters": {}},
        )["id"]
        for _ in range(2)
    ]
    try:
        running = {"state": {"type": "RUNNING"}, "force": True}
        prefect.api.call("POST", f"/flow_runs/{runs[0]}/set_state", running)
        assert findings(5) == {}
        assert set(findings(20)) == {"zombie/daily-full"}
        found = findings(140)
        assert [found[each][0] for each in ("zombie/daily-full", "late/daily-full")] == ["critical", "warning"]
        assert "shows as running for 2 h" in found["zombie/daily-full"][1]
        assert findings(160)["late/daily-full"][0] == "critical"
    finally:
        for each in runs:
            prefect.api.call("DELETE", f"/flow_runs/{each}")
    assert findings(160) == {}


SINCE = """
import json, sys
from datetime import timedelta
from engine import names
from tasks import runs
since = names.noted_moment(sys.argv[2])
found = {each.about: each for each in runs.stand(sys.argv[1], since=since)}
its = found.get(sys.argv[3])
print(json.dumps([its.level.word, [each.said for each in its.setbacks], its.again and its.again.isoformat()]))
"""


@pytest.mark.sampled
def test_runs_that_failed_and_were_followed_by_a_good_one_are_known_also_when_the_same_run_was_started_again(
    prefect: Installation, site: Site
) -> None:
    begun = names.now()
    deployment = prefect.api.call("GET", f"/deployments/name/weekly-report/{site.name}")
    made: list[str] = []
    since = begun + timedelta(minutes=10)  # it asks for so much more

    def ended(*states: str) -> None:
        pending = {"state": {"type": "PENDING"}, "parameters": {"site": site.name}, "name": f"owl-{len(made)}"}
        made.append(prefect.api.call("POST", f"/deployments/{deployment['id']}/create_flow_run", pending)["id"])
        for state in states:
            wanted = {"type": state, "message": f"it {state.lower()}\nmore"}
            prefect.api.call("POST", f"/flow_runs/{made[-1]}/set_state", {"state": wanted, "force": True})

    def asked() -> list[Any]:
        done = prefect.command("-c", SINCE, site.name, since.isoformat(), "weekly-report")
        assert done.returncode == 0, done.stderr
        found: list[Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    try:
        ended("RUNNING", "FAILED")
        assert asked()[:2] == ["critical", ["owl-0 failed: it failed"]]
        ended("RUNNING", "CRASHED")
        ended("RUNNING", "FAILED", "RUNNING", "COMPLETED")
        level, said, again = asked()
        assert level == "ok" and again > begun.isoformat()
        assert said == ["owl-0 failed: it failed", "owl-1 crashed: it crashed", "owl-2 failed: it failed"]
    finally:
        for each in made:
            prefect.api.call("DELETE", f"/flow_runs/{each}")


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    made = Hooks()
    yield made
    made.close()


@pytest.mark.sampled
def test_the_address_outside_is_asked_after_each_look_that_somebody_could_be_told_of(
    prefect: Installation, hooks: Hooks
) -> None:
    site = prefect.site("pinged")
    site.env |= {"ITEST_OPS": hooks.url("ops"), "ITEST_PING": f"{hooks.base}/alive"}
    for server in ("mysql", "postgres"):
        del site.document[server]
    site.document["config"] = {"paths": [str(site.file)]}
    site.document["watch"] = {"ping": "${ITEST_PING}", "disk": 99}
    site.document["alerts"] = [{"name": "ops", "url": "${ITEST_OPS}", "levels": ["critical"]}]
    with Opened(site_file.load(_written(site), site.env)) as opened:
        opened.vault.check()
    _apply(prefect, site)
    hooks.down = True
    assert "did not take the message" in _watch(prefect, site) and hooks.pings == []
    hooks.down = False
    for looks in (1, 2):
        assert "critical: " in _watch(prefect, site) and hooks.pings == ["/alive"] * looks
    assert len(hooks.subjects("ops")) == 1, "it is told once, and is critical still"
    del site.document["alerts"]
    _apply(prefect, site)
    assert "critical: " in _watch(prefect, site) and hooks.pings == ["/alive"] * 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m,mode=0700", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def watched(
    prefect: Installation, postgres_factory: Factory, hooks: Hooks, small_disk: Path
) -> tuple[Installation, Site]:
    """A site on that disk whose warnings go one way and critical things another."""
    its = replace(prefect, postgres=postgres_factory("max_slot_wal_keep_size=128MB"))
    site = its.site("alarmed")
    site.vault = small_disk / "vault"
    site.env |= {f"ITEST_{name.upper()}": hooks.url(name) for name in ("night", "day")}
    site.env |= {"ITEST_PING": f"{hooks.base}/alive"}
    site.document["vault"]["root"] = str(site.vault)
    site.document["mysql"]["point_in_time"] = False
    site.document["postgres"]["point_in_time"] = True
    site.document["watch"] = {"ping": "${ITEST_PING}", "disk": 80, "logs": "3m", "drill": "1d"}
    site.document["alerts"] = [
        {"name": "night", "url": "${ITEST_NIGHT}", "levels": ["critical"]},
        {"name": "day", "url": "${ITEST_DAY}", "levels": ["warning"]},
    ]
    site.document["drill"] = {
        "queries": {"mysql": [{"name": "customers", "query": "SELECT count(*) FROM customers", "equals": "99"}]}
    }
    _apply(its, site)
    return its, site


@pytest.mark.soak(sample=False)
@pytest.mark.timeout(3600)
def test_each_alert_is_told_once_to_its_route_and_once_more_when_it_is_over(
    watched: tuple[Installation, Site], hooks: Hooks
) -> None:
    its, site = watched
    with Opened(site_file.load(site.file, site.env)) as opened:
        filler = _go_wrong(its, site, opened)
        until(lambda: _late(opened), "the logs to be late", timeout=600)
    hooks.down = True  # a webhook that is down fails nothing, and hears of it later
    said = _watch(its, site)
    assert "did not take the message: it answers 503" in said and hooks.pings == []
    hooks.down = False
    for _ in range(2):
        _watch(its, site)
    night, day = hooks.turns("night"), hooks.turns("day")
    critical = {
        f"backup-age/mysql/{site.shop}", f"drill/mysql/{site.shop}", "drill/last", "vault-damage/local",
        "run/manual-backup", "run/hourly-db", "run/monthly-restore-drill", "run/verify-vault",
    }  # fmt: skip
    warning = {"disk/local", "slot/postgres"}
    assert critical == night.keys() - LATE and warning == day.keys() - LATE, (night, day)
    assert night.keys() | day.keys() >= LATE
    assert all(turns == ["told"] for told in (night, day) for each, turns in told.items() if each not in LATE)
    assert hooks.subjects("night")[0].startswith(f"[critical] {site.name}: ")
    assert f"Type: backups backup -f {site.name} --source mysql --database {site.shop}\n" in hooks.text("night")

    filler.unlink()
    _put_right(its, site)
    _watch(its, site)
    assert "was healed" in hooks.text("day"), "damage that was healed is told as well"
    assert its.run(f"verify-vault/{site.name}", share=1).state == "COMPLETED"
    _ship(its, site)
    assert _watch(its, site).startswith("all is well")
    for told in (hooks.turns("night"), hooks.turns("day")):
        assert all(turns.count("resolved") == 1 and turns[-1] == "resolved" for turns in told.values()), told
    assert hooks.turns("night")["run/hourly-db"] == ["told", "resolved"] == hooks.turns("day")["slot/postgres"]
    assert hooks.pings == ["/alive"] * 4, "the address outside hears nothing of the look that nobody could be told of"

    assert SECRET not in _everything_kept(its, site), "no secret stands in logs, artifacts, events or automations"


@pytest.mark.soak(sample=False)
@pytest.mark.timeout(1800)
def test_a_dead_scheduler_is_told_once_and_the_address_outside_hears_nothing_until_somebody_looks_again(
    prefect: Installation, hooks: Hooks
) -> None:
    site = prefect.site("unwatched")
    site.env |= {"ITEST_OPS": hooks.url("ops"), "ITEST_PING": f"{hooks.base}/alive", SILENT: "90"}
    for server in ("mysql", "postgres"):
        del site.document[server]
    (prefect.directory / "site.env").write_text("A=1\n")
    site.document["config"] = {"paths": [str(prefect.directory / "site.env")]}
    site.document["watch"] = {"ping": "${ITEST_PING}", "disk": 99}
    site.document["alerts"] = [{"name": "ops", "url": "${ITEST_OPS}", "levels": ["critical"]}]
    with Opened(site_file.load(_written(site), site.env)) as opened:
        opened.vault.check()
        backup_one(opened, Target("config", "config"), tier="daily")
        replicate_all(opened)
    try:
        _apply(prefect, site)
        assert _watch(prefect, site).startswith("all is well") and hooks.pings == ["/alive"]
        prefect.server.worker.stop()
        silence = f"[critical] {site.name}: nobody watches the backups"
        until(lambda: silence in hooks.subjects("ops"), "the silence to be told", timeout=900)
        time.sleep(110)  # it would be told again by now
        assert hooks.subjects("ops") == [silence] and hooks.pings == ["/alive"]
        prefect.server.extra_env[SILENT] = "90"
        prefect.server.start_worker()
        assert _watch(prefect, site).startswith("all is well")
        assert hooks.subjects("ops") == [silence, f"[resolved] {site.name}: the watch is back"], hooks.times
        assert hooks.pings == ["/alive"] * 2
        assert SECRET not in _everything_kept(prefect, site)
    finally:
        prefect.server.extra_env.pop(SILENT, None)
        prefect.server.worker.stop()
        prefect.server.start_worker()


def _written(site: Site) -> Path:
    site.write()
    return site.file


def _go_wrong(its: Installation, site: Site, opened: Opened) -> Path:
    """An old backup, a damaged one, a disk that fills, WAL that nobody ships; runs that fail and crash, a drill that
    proves nothing, a verification that may not heal. Gives what fills the disk."""
    opened.vault.check()
    made(opened.vault, names.now() - timedelta(hours=60), database=site.shop)
    damaged = backup_one(opened, Target("postgres", site.platform), tier="daily").entry
    backup_one(opened, Target("postgres", site.platform), tier="daily")
    base_backup(opened, "postgres")
    ship(opened, "postgres")
    replicate_all(opened)
    _flip(site.vault / damaged.key)
    filler, disk = site.vault.parent / "filler", psutil.disk_usage(str(site.vault))
    filler.write_bytes(bytes(int(disk.total * 0.86) - disk.used))
    for number in range(7):
        its.postgres.sql(f"CREATE TABLE moved{number} (a int)", site.platform)
        its.postgres.sql("SELECT pg_switch_wal()")
    assert its.run(f"manual-backup/{site.name}", source="mysql", database="is_not_there").state == "FAILED"
    crashed = its.api.start(f"hourly-db/{site.name}")
    its.flow_process(crashed).kill()
    assert its.api.wait(crashed).state == "CRASHED"
    assert its.run(f"monthly-restore-drill/{site.name}", source="mysql", point_in_time=False).state == "FAILED"
    assert its.run(f"verify-vault/{site.name}", share=1, heal=False, location="local").state == "FAILED"
    return filler


def _put_right(its: Installation, site: Site) -> None:
    del site.document["drill"]
    _apply(its, site)
    runs: list[tuple[str, dict[str, Any]]] = [
        ("manual-backup", {"source": "mysql"}), ("hourly-db", {}),
        ("monthly-restore-drill", {"source": "mysql", "point_in_time": False}), ("verify-vault", {"share": 1}),
    ]  # fmt: skip
    for deployment, how in runs:
        done = its.run(f"{deployment}/{site.name}", **how)
        assert done.state == "COMPLETED", done.message
    _remove_the_old(site)
    _ship(its, site)


def _remove_the_old(site: Site) -> None:
    """The backup that failed its drill is told of as long as it is kept, though a newer one is proven."""
    with Opened(site_file.load(site.file, site.env)) as opened:
        vault = opened.vault
        for place in vault.locations():
            catalog = vault.catalog(place)
            for entry in list(catalog.entries(source="mysql")):
                if names.now() - entry.name.taken_at > timedelta(days=1):
                    keys = [entry.beside(part.file) for part in catalog.load(entry).files]
                    remove(vault.removals, vault.store(place), vault.layout(place), entry.key, keys)


def _apply(its: Installation, site: Site) -> None:
    site.write()
    done = its.apply(site)
    assert done.returncode == 0, done.stdout + done.stderr


def _watch(its: Installation, site: Site) -> str:
    """One look; what its state says."""
    run = its.run(f"watch-backups/{site.name}")
    assert run.state == "COMPLETED", run.message
    return run.message


def _ship(its: Installation, site: Site) -> None:
    its.postgres.sql("CREATE TABLE IF NOT EXISTS ticks (a int); INSERT INTO ticks VALUES (1)", site.platform)
    done = its.run(f"wal-ship/{site.name}")
    assert done.state == "COMPLETED", done.message


def _late(opened: Opened) -> bool:
    return {each.id for each in look(opened, servers=False).trouble} >= LATE


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.unlink()  # not into a copy that shares its inode
    path.write_bytes(bytes(data))


def _everything_kept(its: Installation, site: Site) -> str:
    """What a person can read of it afterwards."""
    wanted = {"deployments": {"name": {"any_": [site.name]}}, "limit": 200}
    runs = its.api.call("POST", "/flow_runs/filter", wanted)
    kept = [runs, its.api.call("POST", "/automations/filter", {"limit": 200})]
    events = {"filter": {"resource": {"id_prefix": ["backup-flows."]}}, "limit": 50}
    kept.append(its.api.call("POST", "/events/filter", events))
    for run in runs:
        kept += [its.api.logs(run["id"]), its.api.artifacts(run["id"])]
    logs = [each.log.read_text(errors="replace") for each in (its.server.server, its.server.worker)]
    return json.dumps(kept) + "\n".join(logs)
