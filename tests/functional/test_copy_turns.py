"""Several runs copy the same backup to the same place: one does, the others wait, and nobody takes it away again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import Entry
from engine.config import SiteConfig
from engine.errors import BackupError, CopyUnderWay
from engine.journal import Journal
from engine.replicas import bring
from engine.sweeping import begin_publishing
from engine.vault import Vault
from engine.verify import verify_backup
from tests.functional.vault_helpers import inspect, make, site
from tests.servers.s3 import S3Server

PATIENT = 60.0


@pytest.fixture(params=["moto", "rclone"])
def config(request: pytest.FixtureRequest, tmp_path: Path, moto_s3: S3Server, rclone_s3: S3Server) -> SiteConfig:
    return site(tmp_path / "root", moto_s3 if request.param == "moto" else rclone_s3)


class Run:
    """One run with a vault of its own, whose copy stands still before its data or its manifest if a test wants it."""

    def __init__(self, config: SiteConfig) -> None:
        self.vault = Vault(config)
        self.at_data, self.at_manifest = threading.Event(), threading.Event()
        self.data, self.manifest, self.waits = threading.Event(), threading.Event(), threading.Event()
        self.data.set()
        self.manifest.set()
        self._pool = ThreadPoolExecutor(1)
        store = self.vault.store("copy0")
        self._stage, self._put = store.stage, store.put
        store.stage, store.put = self.stage, self.put  # type: ignore[method-assign]

    def copy(self, entry: Entry, patience: float = PATIENT) -> Future[Any]:
        return self._pool.submit(self.vault.replicate, entry, "copy0", self.told, patience)

    def told(self, step: str, done: int, total: int | None = None) -> None:
        if step.startswith("Another run works on"):
            self.waits.set()

    def stage(self, key: str, **how: Any) -> Any:
        self.at_data.set()
        assert self.data.wait(PATIENT)
        return self._stage(key, **how)

    def put(self, key: str, data: bytes) -> Any:
        if "/marks/" not in key:
            self.at_manifest.set()
            assert self.manifest.wait(PATIENT)
        return self._put(key, data)


def _wait(*events: Callable[[], bool]) -> None:
    """Until one of them is so."""
    for _ in range(int(PATIENT * 50)):
        if any(each() for each in events):
            return
        threading.Event().wait(0.02)
    raise AssertionError("nothing of it happened")


def _whole(config: SiteConfig, entry: Entry) -> None:
    """One who knows nothing of these runs finds the copy and reads it to its end."""
    fresh = Vault(config)
    (there,) = fresh.catalog("copy0").entries()
    assert there.file == entry.file and fresh.lacking("copy0") == []
    verify_backup(fresh, "copy0", there, inspect)


def test_two_runs_that_copy_one_backup_at_a_time_leave_it_whole(config: SiteConfig) -> None:
    one, two = Run(config), Run(config)
    entry, _ = make(one.vault)
    for gate in (one.data, one.manifest, two.data):
        gate.clear()
    first = one.copy(entry)
    assert one.at_data.wait(PATIENT)
    second = two.copy(entry)
    _wait(two.waits.is_set, two.at_data.is_set)
    one.data.set()
    _wait(first.done, one.at_manifest.is_set)  # its data is there, its manifest is not yet
    two.data.set()
    _wait(second.done, two.waits.is_set)
    one.manifest.set()
    assert first.result(PATIENT).proof != second.result(PATIENT).proof == "size+sample", "the second found it there"
    _whole(config, entry)
    assert list((one.vault.state / "locks").glob("@copy*")) == []


def test_a_copy_of_another_run_is_not_awaited_for_ever_and_is_no_failure(config: SiteConfig) -> None:
    one, two = Run(config), Run(config)
    entry, _ = make(one.vault)
    other, _ = make(one.vault, database="other")
    one.data.clear()
    first = one.copy(entry)
    assert one.at_data.wait(PATIENT)
    brought = bring([entry, other], lambda each: two.vault.replicate(each, "copy0", patience=0), 1)
    ((elsewhere, why),) = brought.elsewhere
    assert elsewhere == entry and isinstance(why, CopyUnderWay)
    assert entry.file in why.message and f"process {os.getpid()}" in why.message
    assert brought.error is None and brought.missing == [] and [each for each, _ in brought.copied] == [other]
    one.data.set()
    first.result(PATIENT)
    assert Vault(config).lacking("copy0") == []


def test_a_sweep_takes_nothing_from_a_run_that_copies_what_a_dead_one_began(config: SiteConfig) -> None:
    one = Run(config)
    entry, manifest = make(one.vault)
    parts = [(entry.beside(part.file), part) for part in manifest.files]
    dead = Journal.create(one.vault.publishing, "copy", site="shop", key=entry.key)
    begin_publishing(dead, "copy0", entry.key, parts)
    dead.release()
    one.manifest.clear()
    copying = one.copy(entry)
    _wait(copying.done, one.at_manifest.is_set)
    assert Vault(config).sweep() == []
    one.manifest.set()
    copying.result(PATIENT)
    _whole(config, entry)
    assert Vault(config).sweep() == [] and list(one.vault.publishing.glob("*.jsonl")) == []


def test_the_turn_of_a_run_that_fails_is_free_again(config: SiteConfig) -> None:
    one, two = Run(config), Run(config)
    entry, _ = make(one.vault)

    def refuse(key: str, **how: Any) -> Any:
        raise BackupError("the line broke")

    one.vault.store("copy0").stage = refuse  # type: ignore[method-assign]
    with pytest.raises(BackupError, match="the line broke"):
        one.copy(entry).result(PATIENT)
    two.copy(entry, 0).result(PATIENT)
    _whole(config, entry)
