"""Several backups on their way to one replica at once: proven by a store that lets none go alone."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.cli import shipping
from deployments.cli.run import Run
from deployments.cli.terminal import Terminal
from engine import backup, names
from engine.config import ObjectStoreConfig
from engine.errors import Cancelled, CredentialsRefused, IntegrityError
from engine.pacing import Pace
from engine.progress import silent
from engine.replicas import bring, catch_up, replicate
from engine.shipping import logs_lacking
from engine.site import Site
from engine.status import status
from engine.stopping import CURRENT
from engine.stores.base import StagedWrite, Stored
from flows import backup_run, shipping_run
from tasks.base import SiteHandle
from tasks.report import Ledger
from tests.functional.bucket_machine import machine, put
from tests.functional.test_archives import DAY, assert_nothing_stray, assert_whole, config, made
from tests.functional.test_prune import HOUR, log
from tests.functional.vault_helpers import files, flip, replica
from tests.servers.s3 import S3Server


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory on a disk of its own."""
    folder = Path(tempfile.mkdtemp(prefix="bf-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def on(disk: Path, **more: Any) -> dict[str, Any]:
    """The configuration of a replica there."""
    return {"name": "copy", "directory": str(disk), **more}


class Gate:
    """Uploads of data go on when so many are under way; counts how many there were at most."""

    def __init__(self, site: Site, parties: int) -> None:
        self.most = 0
        self.meeting = threading.Barrier(parties, timeout=60)
        self._under_way = 0
        self._guard = threading.Lock()
        store = site.vault.store("copy")
        self._stage = store.stage
        store.stage = self.stage  # type: ignore[method-assign]

    def stage(self, key: str, **how: Any) -> StagedWrite:
        if ".accounts." in key:
            return self._stage(key, **how)
        with self._guard:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        self.meeting.wait()  # breaks when nobody else comes
        self.passed()
        staged = self._stage(key, **how)
        with self._guard:
            self._under_way -= 1
        return staged

    def passed(self) -> None:
        """For what is to happen while they are under way."""


@pytest.mark.parametrize("where", ["disk", "moto"])
def test_as_many_are_copied_at_a_time_as_the_site_file_says(
    tmp_path: Path, disk: Path, moto_s3: S3Server, where: str
) -> None:
    place = on(disk) if where == "disk" else replica(moto_s3, "copy")
    with Site(config(tmp_path / "v", {**place, "concurrency": 3})) as site:
        for night in range(6):
            made(site.vault, names.now() - night * DAY)
        gate = Gate(site, 3)
        assert [each.error for each in backup.replicate_all(site)] == [None] * 6
        assert gate.most == 3 and status(site).rows[0].lacking == {}
        assert_whole(site, "copy")
        assert list((tmp_path / "v/.backup-flows/shop/publishing").glob("*.jsonl")) == []


def test_two_at_a_time_unless_told_otherwise_and_one_when_told_so(tmp_path: Path, disk: Path) -> None:
    for number, (more, at_once) in enumerate([({}, 2), ({"concurrency": 1}, 1)]):
        (disk / str(number)).mkdir()
        with Site(config(tmp_path / f"v{number}", on(disk / str(number), **more))) as site:
            for night in range(4):
                made(site.vault, names.now() - night * DAY)
            gate = Gate(site, at_once)
            backup.replicate_all(site)
            assert gate.most == at_once
    for wrong in (0, 17):
        with pytest.raises(ValidationError, match="concurrency"):
            ObjectStoreConfig(name="copy", bucket="bucket", concurrency=wrong)


def test_one_that_is_damaged_here_holds_up_no_other(tmp_path: Path, disk: Path) -> None:
    with Site(config(tmp_path / "v", on(disk))) as site:
        entries = [made(site.vault, names.now() - night * DAY) for night in range(5)]
        flip(site.vault.root / entries[1].key, 30)
        results = backup.replicate_all(site)
        others = {each.file for each in entries} - {entries[1].file}
        assert {each.file for each in results if each.error is None} == others
        (failed,) = [each for each in results if each.error is not None]
        assert failed.file == entries[1].file and isinstance(failed.error, IntegrityError)
        assert status(site).rows[0].lacking == {"copy": 1}


@pytest.mark.sampled
def test_a_place_that_refuses_the_key_is_asked_no_further(tmp_path: Path, rclone_s3: S3Server) -> None:
    place = replica(rclone_s3, "copy")
    with Site(config(tmp_path / "v", place)) as site:
        entries = [made(site.vault, names.now() - night * DAY) for night in range(5)]
    with Site(config(tmp_path / "v", {**place, "secret_key": "FAKE-other-secret"})) as site:
        brought = catch_up(site, "copy", entries)
    assert isinstance(brought.over, CredentialsRefused) and not brought.copied
    assert len(brought.failed) <= 2 and len(brought.missing) == 5


@pytest.mark.sampled
def test_two_snapshots_of_a_bucket_are_no_hindrance_to_each_other(tmp_path: Path, moto_s3: S3Server) -> None:
    with machine(moto_s3, tmp_path / "v", moto_s3) as shop:
        for number in range(3):
            put(moto_s3, shop.bucket, {f"object{number}": b"content %d" % number})
            shop.back_up()
        assert [each.error for each in backup.replicate_all(shop.site)] == [None] * 3
        assert shop.contents("copy0") == shop.contents()


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self._guard = threading.Lock()

    def sleep(self, seconds: float) -> None:
        with self._guard:
            self.now += seconds


def test_they_share_the_bandwidth_and_contents_of_buckets_keep_to_it_too(
    tmp_path: Path, disk: Path, moto_s3: S3Server
) -> None:
    clock = Clock()
    with machine(moto_s3, tmp_path / "v", moto_s3) as shop:
        put(moto_s3, shop.bucket, {f"object{number}": bytes([number]) * 200_000 for number in range(3)})
        shop.back_up()
        handle = SiteHandle(shop.config)
        with handle.open() as one, handle.open() as other:
            assert one.vault.pace("copy0") is other.vault.pace("copy0"), "tasks of a run keep to it together"
        shop.site.vault.paces["copy0"] = Pace(1, lambda: clock.now, clock.sleep)
        (result,) = backup.replicate_all(shop.site)
        assert result.error is None
        sent = sum(each.size for each in shop.site.vault.contents("copy0", "media", shop.bucket).listing())
        assert clock.now >= sent > 0
    clock = Clock()
    with Site(config(tmp_path / "w", on(disk))) as site:
        entries = [made(site.vault, names.now() - night * DAY, noise=400_000) for night in range(4)]
        site.vault.paces["copy"] = Pace(100_000, lambda: clock.now, clock.sleep)
        gate = Gate(site, 2)
        backup.replicate_all(site)
        total = sum(each.size for each in entries)
        assert gate.most == 2 and clock.now >= total / 100_000 - 1 > 3, "not twice as fast by two"


def test_a_stop_ends_all_that_is_under_way_and_the_next_run_copies_it(tmp_path: Path, disk: Path) -> None:
    ended: list[BaseException] = []
    with Site(config(tmp_path / "v", on(disk))) as site:
        for night in range(4):
            made(site.vault, names.now() - night * DAY)

        class Stopped(Gate):
            def passed(self) -> None:
                if self.meeting.wait() == 0:  # both are under way: now somebody stops the run
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                stop = CURRENT.get()
                assert stop is not None
                come = threading.Event()
                stop.register(come.set)
                assert come.wait(60)

        def copy(entry: Any) -> Stored:
            try:
                return replicate(site, entry, "copy", progress=silent)
            except BaseException as error:
                ended.append(error)
                raise

        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        Stopped(site, 2)
        try:
            with pytest.raises(KeyboardInterrupt):
                bring(site.vault.lacking("copy"), copy, 2)
        finally:
            signal.signal(signal.SIGINT, before)
        assert [type(each) for each in ended] == [Cancelled, Cancelled]
    with Site(site.config) as site:
        assert [each for each in files(disk) if each.endswith(".enc")] == []
        assert [each.error for each in backup.replicate_all(site)] == [None] * 4
        assert_whole(site, "copy")


def test_killed_with_two_under_way_neither_lists_and_the_next_run_clears_and_copies_them(
    tmp_path: Path, disk: Path
) -> None:
    configured = config(tmp_path / "v", on(disk))
    with Site(configured) as site:
        for night in range(4):
            made(site.vault, names.now() - night * DAY)
    child = os.fork()
    if child == 0:
        try:
            site = Site(configured)
            meeting = threading.Barrier(2, timeout=60)

            def put(key: str, data: bytes) -> Stored:
                meeting.wait()  # the data of both is there, and no manifest
                os.kill(os.getpid(), signal.SIGKILL)
                raise AssertionError

            site.vault.store("copy").put = put  # type: ignore[method-assign]
            backup.replicate_all(site)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    with Site(configured) as site:
        left = [each for each in files(disk) if each.endswith(".enc")]
        assert len(left) == 4 and not list(site.vault.catalog("copy").entries()), "two backups with a companion each"
        assert len(site.sweep().done) >= 2
        assert [each for each in files(disk) if each.endswith(".enc")] == []
        assert [each.error for each in backup.replicate_all(site)] == [None] * 4
        assert_whole(site, "copy")
        assert_nothing_stray(site, "copy")


def test_a_flow_copies_side_by_side_and_tells_what_is_missing_and_why(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body of the flows, its tasks replaced by what they do."""
    said: list[str] = []

    class Log:
        def error(self, text: str, *words: object) -> None:
            said.append(text % words)

    configured = config(tmp_path / "v", on(disk))
    ledger = Ledger("shop", "daily")
    with Site(configured) as site:
        entries = [made(site.vault, names.now() - night * DAY) for night in range(6)]
        flip(site.vault.root / entries[4].key, 30)
        gate = Gate(site, 2)
        monkeypatch.setattr("tasks.vault.replicate", lambda _, entry, to, own: replicate(site, entry, to, own=own))
        monkeypatch.setattr("tasks.vault.get_run_logger", Log)
        monkeypatch.setattr(backup_run, "get_run_logger", Log)
        monkeypatch.setattr(backup_run, "find_lacking", lambda _, to: site.vault.lacking(to))
        monkeypatch.setattr(backup_run, "copy_site_files", lambda *_: [])
        backup_run.bring_up_to_date(SiteHandle(configured), "copy", ledger)
        assert gate.most == 2 and len(ledger.caught_up) == 5
        missing, error = ledger.gaps["copy"]
        assert missing == [entries[4].file] and isinstance(error, IntegrityError)
        assert any(f"{entries[4].file} is not at copy" in line for line in said)


def test_logs_are_copied_side_by_side_too_and_a_damaged_one_keeps_no_later_one_from_the_replica(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = config(tmp_path / "v", on(disk))
    with Site(configured) as site:
        logs = [log(site.vault, number, names.now() - (9 - number) * HOUR) for number in range(4)]
        flip(site.vault.root / logs[1].key, 30)
        monkeypatch.setattr("tasks.vault.replicate", lambda _, entry, to, own: replicate(site, entry, to, own=own))
        monkeypatch.setattr("tasks.vault.get_run_logger", lambda: logging.getLogger("test"))
        monkeypatch.setattr(shipping_run, "get_run_logger", lambda: logging.getLogger("test"))
        monkeypatch.setattr(shipping_run.logs, "find_lacking", lambda _, to, bases: logs_lacking(site, to))
        shipment = shipping_run.Shipment()
        gate = Gate(site, 2)
        shipping_run._copy(SiteHandle(configured), "copy", shipment)
        assert gate.most == 2 and shipment.copied == 3
        assert isinstance(shipment.failures["copies to copy"], IntegrityError)
        gate.meeting = threading.Barrier(1)
        assert [each.file for each in logs_lacking(site, "copy")] == [logs[1].file]
        told: list[str] = []
        monkeypatch.setattr(Run, "refuse", lambda _, error, *, about: told.append(about) or error)
        (error,) = shipping._copy(Run("ship", None, True, False, Terminal(quiet=True, silent=True)), site, logs_lacking)
        assert isinstance(error, IntegrityError) and told == [f"copy lacks {logs[1].file}: "]
