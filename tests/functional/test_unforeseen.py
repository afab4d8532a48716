"""What fails in a way that nobody put into words costs itself alone: every other source is backed up and copied."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.cli.main import run
from engine.config_files.source import ConfigFilesSource
from engine.errors import BackupError, Unforeseen, in_words
from engine.journal import Journal
from engine.site import Site, Target
from flows import backup_run
from tasks.base import SiteHandle
from tasks.report import Ledger
from tests.functional.test_archives import config
from tests.functional.vault_helpers import PASSPHRASE

pytestmark = pytest.mark.functional
SECRET = "FAKE-secret-in-the-text-of-an-error"
_SITE = """\
site: bench
vault:
  root: {root}/vault
  keys: {{current: main, main: "${{BACKUP_ENCRYPTION_KEY}}"}}
  replicas: [{{name: copy, directory: {disk}}}]
config:
"""


@pytest.fixture
def disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bf-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_run_goes_on_copies_and_seals_and_names_the_source_without_quoting_what_went_wrong(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BACKUP_ENCRYPTION_KEY", PASSPHRASE)
    path = tmp_path / "bench.yaml"
    text = _SITE.format(root=tmp_path, disk=disk)
    for name in ("aa", "bb", "cc"):
        (tmp_path / name).write_text(name)
        text += f"  - {{name: {name}, paths: [{tmp_path / name}]}}\n"
    path.write_text(text)
    capture, databases, preflight = ConfigFilesSource.capture, ConfigFilesSource.databases, ConfigFilesSource.preflight

    def breaking(whose: str, real: Any) -> Any:
        def call(self: ConfigFilesSource, *given: Any) -> Any:
            if self.name == whose:
                raise ValueError(SECRET)
            return real(self, *given)

        return call

    monkeypatch.setattr(ConfigFilesSource, "capture", breaking("aa", capture))
    monkeypatch.setattr(ConfigFilesSource, "databases", breaking("bb", databases))
    assert run(["backup", "--tier", "daily", "-f", str(path), "--json"]) == 1
    out = capsys.readouterr().out
    told = json.loads(out)
    assert {each["source"] for each in told["failed"]} == {"aa", "bb"} and SECRET not in out
    messages = [each["message"] for each in told["errors"]]
    assert "The backup of aa/aa failed in a way that nobody foresaw: ValueError." in messages
    assert "Looking at bb failed in a way that nobody foresaw: ValueError." in messages
    assert [each["source"] for each in told["backups"]] == ["cc"] and told["recovery_point"]
    assert [each["ok"] for each in told["copies"]] == [True]
    assert [each for each in disk.rglob("*") if "site-file" in each.as_posix()], "the sealed site file is there, too"
    monkeypatch.setattr(ConfigFilesSource, "preflight", breaking("aa", preflight))
    assert run(["check", "-f", str(path), "--json"]) == 1
    checks = {each["what"]: each["ok"] for each in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["cc"] and not checks["aa"]


def test_a_flow_notes_it_as_a_loss_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> Any:
        raise ValueError(SECRET)

    ledger = Ledger("shop", "daily")
    handle = SiteHandle(config(tmp_path / "v"))
    for name in ("preflight", "find_lacking", "find_databases", "seal_site_file", "load_text"):
        monkeypatch.setattr(backup_run, name, broken)
    backup_run._back_up(handle, Target("etc", "etc"), "daily", "", ledger)
    backup_run._seal(handle, ledger)
    backup_run.bring_up_to_date(handle, "copy", ledger)
    assert {"etc/etc", "the site file"} <= set(ledger.losses) and "copy" in ledger.gaps and ledger.failed
    assert SECRET not in ledger.verdict() and "ValueError" in ledger.verdict()


def test_what_a_dead_run_left_and_nobody_can_end_holds_up_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(config(tmp_path / "v")) as site:
        Journal.create(site.journals, "config-restore", source="gone", database="etc").release()

        def broken(name: str) -> Any:
            raise ValueError(SECRET)

        monkeypatch.setattr(site, "any_source", broken)
        (problem,) = site.sweep().problems
        assert "gone/etc" in problem and "ValueError" in problem and SECRET not in problem


def test_an_error_in_words_stays_itself() -> None:
    known = BackupError("in words")
    assert in_words(known, "It") is known and isinstance(in_words(KeyError(SECRET), "It"), Unforeseen)
