"""Two hosts on one bucket: a lease keeps a prune and a new list apart, outlives no dead holder, stops who lost it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments.cli.main import run as backups
from engine import backup, names
from engine.buckets.contents import Contents
from engine.buckets.sweeping import sweep_contents
from engine.config import SiteConfig
from engine.endpoints import in_short, remembered
from engine.errors import LeaseLost, LockHeld
from engine.leases import Lease
from engine.prune import prune
from engine.site import Site
from engine.stores.abilities import probe_conditions
from engine.stores.lease_object import LeaseObject
from engine.undelete import undelete
from engine.vault_check import Request, verify_place
from tests.functional.bucket_machine import SOURCE, put, source
from tests.functional.test_endpoints import WRITER, user
from tests.functional.vault_helpers import PASSPHRASE, replica
from tests.servers.proxy import Proxy
from tests.servers.s3 import S3Server

TERM = 3.0
LATER = timedelta(days=2)


@dataclass
class Hosts:
    """Some hosts of one site, whose replica is one bucket."""

    server: S3Server
    folder: Path
    bucket: str
    copies: dict[str, Any]

    def document(self, host: str, **more: Any) -> dict[str, Any]:
        vault = {
            "root": str(self.folder / host), "keys": {"current": "main", "keys": {"main": PASSPHRASE}},
            "replicas": [{**self.copies, **more}],
        }  # fmt: skip
        return {"site": "shop", "vault": vault, "buckets": source(self.server, self.bucket)}

    @contextlib.contextmanager
    def site(self, host: str, **more: Any) -> Iterator[Site]:
        with Site(SiteConfig.model_validate(self.document(host, **more))) as site:
            site.vault.check()
            site.vault.leases.term = TERM
            yield site

    @contextlib.contextmanager
    def at_work(self, host: str, what: str, term: float = TERM) -> Iterator[subprocess.Popen[bytes]]:
        """A process of that host, as soon as it has its lease."""
        file = self.folder / f"{host}.json"
        file.write_text(json.dumps(self.document(host)))
        command = [sys.executable, "-m", "tests.functional.lease_host", str(file), str(term), what]
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )  # fmt: skip
        assert child.stdout is not None and child.stdin is not None
        try:
            assert child.stdout.readline() == b"held\n"
            yield child
        finally:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
            child.wait(60)
            child.stdout.close()

    def leases(self) -> list[dict[str, Any]]:
        client, bucket = self.server.client(), self.copies["bucket"]
        found = client.list_objects_v2(Bucket=bucket, Prefix=".backup-flows/").get("Contents", [])
        keys = [each["Key"] for each in found if each["Key"].endswith(".lease")]  # beside what a probe had to leave
        return [json.loads(client.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys]

    def steal(self) -> None:
        """Somebody who does not ask writes over every lease."""
        client, bucket = self.server.client(), self.copies["bucket"]
        for each in client.list_objects_v2(Bucket=bucket, Prefix=".backup-flows/")["Contents"]:
            told = {"state": "held", "host": "elsewhere", "pid": 1, "since": "2026-01-01T00:00:00Z", "run": "other"}
            client.put_object(Bucket=bucket, Key=each["Key"], Body=json.dumps(told).encode())


def hosts_on(server: S3Server, folder: Path) -> Hosts:
    return Hosts(server, folder, server.new_bucket("media"), replica(server, "copy0"))


@pytest.fixture
def hosts(moto_s3: S3Server, tmp_path: Path) -> Hosts:
    return hosts_on(moto_s3, tmp_path)


def taken_up_again(hosts: Hosts, site: Site) -> str:
    """Snapshots of which the newest, not yet copied, names a content that stands in the replica and that no list there
    names any more; that content."""
    put(hosts.server, hosts.bucket, {"back": b"back" * 50, "stays": b"stays" * 50})
    first = backup.backup_one(site, site.targets(SOURCE)[0], tier="daily")
    site.vault.replicate(first.entry, "copy0")
    before = held_there(site, hosts)
    hosts.server.client().delete_object(Bucket=hosts.bucket, Key="back")
    second = backup.backup_one(site, site.targets(SOURCE)[0], tier="daily")
    site.vault.replicate(second.entry, "copy0")
    store = site.vault.store("copy0")
    there = next(each for each in site.vault.catalog("copy0").entries() if each.file == first.entry.file)
    for key in (there.manifest_key, there.key):
        store.delete(key)
    put(hosts.server, hosts.bucket, {"back": b"back" * 50})
    backup.backup_one(site, site.targets(SOURCE)[0], tier="daily")
    assert len(before) == 2
    (unnamed,) = before - named_by(site, second)
    return unnamed


def named_by(site: Site, made: backup.BackupResult) -> set[str]:
    from engine.buckets import record

    plain = site.vault.read_part(made.entry, made.manifest)
    return set(record.stored_names(plain, made.entry.file))


def held_there(site: Site, hosts: Hosts) -> set[str]:
    return {each.name for each in site.vault.contents("copy0", SOURCE, hosts.bucket).listing()}


def sweep(site: Site, hosts: Hosts) -> Any:
    return sweep_contents(site.vault, "copy0", SOURCE, hosts.bucket, now=names.now() + LATER)


def test_a_prune_of_another_host_takes_nothing_from_a_list_on_its_way_and_the_other_way_round(hosts: Hosts) -> None:
    with hosts.site("one") as one, hosts.site("two") as two:
        content = taken_up_again(hosts, one)
        with hosts.at_work("one", "copy") as copying:
            swept = sweep(two, hosts)
            assert swept.removed == 0 and f"process {copying.pid} on " in swept.problem
            assert "the contents of media" in swept.problem and "held it since 20" in swept.problem
        assert copying.returncode == 0 and hosts.leases() == []
        assert (sweep(two, hosts).problem, content in held_there(two, hosts)) == ("", True)
        newest = next(iter(one.vault.catalog("copy0").entries()))
        backup.verify(one, newest)
        put(hosts.server, hosts.bucket, {"new": b"new"})
        backup.backup_one(one, one.targets(SOURCE)[0], tier="daily")
        with two.vault.filling("copy0", SOURCE, hosts.bucket):
            for result in backup.replicate_all(one):
                assert isinstance(result.error, LockHeld) and f"process {os.getpid()} on " in result.error.message
                assert "its lease runs out by itself in" in result.error.remedy
        assert [each.error for each in backup.replicate_all(one)] == [None, None], "the first list, and the new one"


@pytest.mark.sampled
def test_two_hosts_never_prune_one_place_at_a_time_and_other_places_have_their_turn(hosts: Hosts) -> None:
    with hosts.site("one") as one, hosts.site("two") as two:
        taken_up_again(hosts, one)
        with two.vault.pruning_in("copy0"):
            plans = {each.location: each for each in prune(one, confirmed=True)}
        assert (
            isinstance(plans["copy0"].error, LockHeld)
            and "the pruning of shop in copy0" in plans["copy0"].error.message
        )
        assert (plans["copy0"].planned, plans["local"].error) == ([], None)
        assert [each.error for each in prune(one, confirmed=True)] == [None, None]


def test_a_killed_holder_keeps_its_lease_until_it_ran_out_by_the_clock_of_the_store(hosts: Hosts) -> None:
    client, bucket = hosts.server.client(), hosts.copies["bucket"]
    with hosts.site("two") as two, hosts.at_work("one", "hold") as holder:
        time.sleep(1.5 * TERM)  # it is renewed
        with pytest.raises(LockHeld), two.vault.filling("copy0", SOURCE, hosts.bucket):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        (lease,) = client.list_objects_v2(Bucket=bucket, Prefix=".backup-flows/")["Contents"]
        refused = 0
        while True:
            try:
                with two.vault.filling("copy0", SOURCE, hosts.bucket) as hold:
                    gone = (datetime.now(UTC) - lease["LastModified"]).total_seconds()
                    hold.check("a test")
                    break
            except LockHeld as error:
                refused += 1
                assert f"process {holder.pid} on " in error.message
                time.sleep(0.2)
        assert refused and TERM < gone < TERM + 10
    assert hosts.leases() == []


@pytest.mark.sampled
def test_what_a_killed_run_of_this_host_left_is_had_at_once(hosts: Hosts) -> None:
    with hosts.site("one") as one, hosts.at_work("one", "hold", 120.0) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert [each["pid"] for each in hosts.leases()] == [holder.pid]
        with one.vault.filling("copy0", SOURCE, hosts.bucket):
            pass
        assert hosts.leases() == []


def test_who_lost_the_lease_removes_nothing_more(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    with hosts.site("one") as one:
        put(hosts.server, hosts.bucket, {"stays": b"stays"})
        made = backup.backup_one(one, one.targets(SOURCE)[0], tier="daily")
        one.vault.replicate(made.entry, "copy0")
        contents = one.vault.contents("copy0", SOURCE, hosts.bucket)
        for digit in "123":
            contents.store.put(contents.key(digit * 64), b"named by no list")
        remove = Contents.remove

        def removed(self: Contents, name: str) -> None:
            remove(self, name)
            hosts.steal()
            time.sleep(0.8 * TERM)

        monkeypatch.setattr(Contents, "remove", removed)
        swept = sweep(one, hosts)
        assert swept.removed == 1 and len(held_there(one, hosts)) == 3
        assert "Lost the lease on the contents of media" in swept.problem
        assert "taken over (process 1 on elsewhere has held it since 2026-01-01T00:00:00Z)" in swept.problem
        assert {each["run"] for each in hosts.leases()} == {"other"}, "it is left to whoever took it"


@pytest.mark.sampled
def test_who_lost_the_lease_publishes_no_list(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    with hosts.site("one") as one:
        put(hosts.server, hosts.bucket, {"a": b"a"})
        made = backup.backup_one(one, one.targets(SOURCE)[0], tier="daily")

        def said(*_: Any) -> None:
            hosts.steal()
            time.sleep(0.8 * TERM)

        monkeypatch.setattr(one.vault, "_say_of_copy", said)
        with pytest.raises(LeaseLost, match="before .* was made a backup of copy0") as lost:
            one.vault.replicate(made.entry, "copy0")
        assert lost.value.retryable and list(one.vault.catalog("copy0").entries()) == []


@pytest.mark.sampled
def test_a_lease_that_cannot_be_renewed_ends_for_its_holder_before_it_does_for_others(hosts: Hosts) -> None:
    with Proxy(hosts.server.endpoint) as proxy:
        with hosts.site("one", endpoint_url=proxy.endpoint) as one, hosts.site("two") as two:
            with one.vault.pruning_in("copy0"):
                proxy.lose_answer("PUT .*prune.lease")  # a renewal that came through and was not answered
                time.sleep(TERM)
                with one.vault.filling("copy0", SOURCE, hosts.bucket):
                    pass
            with one.vault.pruning_in("copy0") as hold:
                proxy.cut("up", after=0, times=1000)
                lost = None
                while lost is None:
                    with pytest.raises(LockHeld), two.vault.pruning_in("copy0"):
                        pass
                    try:
                        hold.check("a removal")
                    except LeaseLost as error:
                        lost = error
                    time.sleep(0.1)
                assert "could not be renewed in time (Could not write .backup-flows/shop/leases/prune" in lost.message


@pytest.mark.sampled
def test_a_key_that_may_not_delete_lets_go_all_the_same(hosts: Hosts) -> None:
    with hosts.site("one", deletes=False) as one, hosts.site("two") as two:
        with one.vault.pruning_in("copy0"), pytest.raises(LockHeld), two.vault.pruning_in("copy0"):
            pass
        assert [each["state"] for each in hosts.leases()] == ["free"]
        with two.vault.pruning_in("copy0"):
            assert [each["state"] for each in hosts.leases()] == ["held"]
        assert hosts.leases() == []
        with user(hosts.server, *WRITER) as keys, hosts.site("three", **keys) as three:
            for _ in range(2):
                with three.vault.pruning_in("copy0"):
                    pass
        assert [each["state"] for each in hosts.leases()] == ["free"]


def test_an_endpoint_that_ignores_conditions_is_found_out_and_host_locks_are_all_there_is(
    rclone_s3: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = hosts_on(rclone_s3, tmp_path)
    with hosts.site("one") as one, hosts.site("two") as two:
        assert probe_conditions(one.config.vault.replicas[0]) == ("no", "no")
        with one.vault.filling("copy0", SOURCE, hosts.bucket) as hold:
            with two.vault.filling("copy0", SOURCE, hosts.bucket):
                hold.check("nothing")
            with pytest.raises(LockHeld), one.vault.filling("copy0", SOURCE, hosts.bucket):
                pass
        noted = remembered(one.vault.state)["copy0"]
        assert "does not keep hosts apart; asked 20" in in_short(noted) and "delete" not in in_short(noted)
    file = tmp_path / "shop.yaml"
    document = hosts.document("one")
    document["vault"]["keys"] = {"current": "main", "main": PASSPHRASE}
    file.write_text(json.dumps(document))
    backups(["check-endpoints", "-f", str(file)])
    assert "keeps runs of several hosts apart: no: only runs of one host" in capsys.readouterr().out
    backups(["status", "-f", str(file)])
    assert "does not keep hosts apart, its key may delete" in capsys.readouterr().out


@pytest.mark.sampled
def test_what_was_noted_of_another_bucket_is_not_believed(hosts: Hosts) -> None:
    with hosts.site("one") as one, one.vault.pruning_in("copy0"):
        assert (noted := remembered(one.vault.state)["copy0"])["conditional_replace"] == "yes"
    other = hosts.server.new_bucket()
    with hosts.site("one", bucket=other) as one, one.vault.pruning_in("copy0"):
        assert other in remembered(one.vault.state)["copy0"]["place"] != noted["place"]


@pytest.mark.sampled
def test_a_lease_is_in_nobodys_way(hosts: Hosts) -> None:
    versioned = {"Bucket": hosts.copies["bucket"], "VersioningConfiguration": {"Status": "Enabled"}}
    hosts.server.client().put_bucket_versioning(**versioned)
    with hosts.site("one") as one:
        taken_up_again(hosts, one)
        store, vault = one.vault.store("copy0"), one.vault
        before = [each.key for each in store.list()]
        with vault.pruning_in("copy0"), vault.filling("copy0", SOURCE, hosts.bucket):
            assert len(hosts.leases()) == 2 and [each.key for each in store.list()] == before
            assert not any(each.startswith(".") for each in store.folders())
            found = verify_place(one, "copy0", Request(dry_run=False)).findings
            assert [each for each in found if "lease" in each.what or ".backup-flows" in each.what] == []
        done = undelete(vault, "copy0", dry_run=True)
        assert not any("lease" in key for key in (*done.back, *done.site_files, *done.lost, *done.failed))


@pytest.mark.sampled
def test_a_lease_whose_first_answer_was_lost_is_ones_own(hosts: Hosts) -> None:
    with Proxy(hosts.server.endpoint) as proxy, hosts.site("one", endpoint_url=proxy.endpoint) as one:
        proxy.lose_answer("PUT .*x.lease")
        lease = Lease(LeaseObject(one.config.vault.replicas[0], "shop", "x"), "a test", term=TERM)
        lease.take()
        lease.check("nothing")
        lease.release()
        assert hosts.leases() == [] and proxy.done
