"""Config files backed up: read with stock tools, proven, incomplete where something could not be read."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import backup
from engine.archive import LISTING, Member, TreeWriter, read_listing
from engine.archive.headers import END, header, padding
from engine.backup import BackupResult
from engine.config_files.plan import ConfigRequest, make_plan
from engine.config_files.restore import run
from engine.config_files.source import shown
from engine.errors import (
    ConfigError,
    IntegrityError,
)
from engine.source import Facts
from engine.status import status
from tests.functional.config_machine import ACL, SECRET, Machine, change, facts, restored, shell
from tests.functional.test_cli import _documented
from tests.functional.vault_helpers import PASSPHRASE, flip, replica
from tests.servers import preloaded
from tests.servers.s3 import S3Server


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def made(machine: Machine) -> BackupResult:
    return machine.back_up()


def test_stock_tools_give_the_same_tree_to_the_last_nanosecond(
    machine: Machine, made: BackupResult, tmp_path: Path
) -> None:
    assert made.manifest.file.startswith("config_") and made.manifest.file.endswith(".tar.gz.enc")
    assert made.manifest.kind == "config" and made.manifest.tier == "daily"
    assert made.manifest.recovery_point == "20250116_020000-00000000"
    assert made.report.checks == [
        "signature",
        "digest",
        "decrypted and unpacked",
        "every file against the listing",
        "size",
    ]
    data = machine.vault / made.entry.key
    out = tmp_path / "out"
    told = shell(_documented("config"), FILE=str(data), INTO=str(out))
    # GNU tar says so of a name that is no UTF-8, and of a time before 1970, and gets both right.
    said = [line for line in told.stderr.splitlines() if "'hdrcharset'" not in line and "old time stamp" not in line]
    assert (told.returncode, said) == (0, [])
    there = out / str(machine.root).lstrip("/")
    assert facts(there) == machine.facts()
    assert shell(f"diff -r --no-dereference -x error.log -x cache -x pipe {there} {machine.root}").stdout == ""
    assert os.getxattr(there / "etc/nginx/odd/with space", "user.origin") == b"by \x00 hand\n=%\xff"
    assert os.getxattr(there / "etc/nginx/odd/with space", "system.posix_acl_access") == ACL
    listed = shell(_documented("config list"), FILE=str(data)).stdout
    assert shown("new\nline \udcff") == "new\\x0aline \\xff", "a name never breaks a line of a log"
    assert "error.log" not in listed and "cache" not in listed and "nginx.conf" in listed


def test_no_name_and_no_content_can_be_read_in_the_vault_without_the_key(machine: Machine, made: BackupResult) -> None:
    for file in machine.vault.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert SECRET.encode() not in data and b"sites-available" not in data
    manifest = json.loads((machine.vault / made.entry.manifest_key).read_text())
    assert manifest["contents"]["files"] == 18 and len(json.dumps(manifest)) < 5000


@pytest.mark.parametrize("differs", ["content", "mode", "missing", "surplus"])
def test_verification_finds_a_tar_that_is_not_its_listing(differs: str, machine: Machine) -> None:
    with machine.open() as site:
        body = b"worker_processes 2;\n"
        good = Member("etc/a", "file", size=len(body), sha256=hashlib.sha256(body).hexdigest())
        with site.vault.begin(source="config", kind="config", tier="daily", database="config", ext="tar") as writer:
            written = replace(good, mode=0o777) if differs == "mode" else good
            stored = body.upper() if differs == "content" else body
            if differs != "missing":
                writer.data().write(header(written) + stored + padding(len(stored)))
            writer.data().write(END)
            listing = writer.companion(LISTING, "jsonl")
            listing.write(b"" if differs == "surplus" else good.line())
            entry, _ = writer.publish(Facts(server=None, dump_format="tar"))  # type: ignore[arg-type]
        with pytest.raises(IntegrityError, match="differ"):
            backup.verify(site, entry)


def test_a_damaged_archive_is_found_and_a_whole_copy_is_taken_instead(
    machine: Machine, rclone_s3: S3Server, tmp_path: Path
) -> None:
    more = {"replicas": [replica(rclone_s3, "spaces")]}
    made = machine.back_up(**more)
    with machine.open(**more) as site:
        assert [copy.error for copy in backup.replicate_all(site)] == [None]
        data = machine.vault / made.entry.key
        flip(data, data.stat().st_size // 2)
        with pytest.raises(IntegrityError, match="damaged"):
            backup.verify(site, made.entry)
        result = run(site, make_plan(site, ConfigRequest(into=str(tmp_path / "whole"))))
        assert result.entry.location == "spaces"
        there = next(site.vault.catalog("spaces").entries(source="config"))
        assert "every file against the listing" in backup.verify(site, there).checks
        listing = machine.vault / made.entry.beside(made.manifest.files[1].file)
        flip(listing, 100)
        result = run(site, make_plan(site, ConfigRequest(into=str(tmp_path / "again"), backup=made.manifest.file)))
        assert result.entry.location == "spaces" and any("not usable" in each for each in result.notes)
    assert facts(tmp_path / "whole") == facts(tmp_path / "again")


def test_what_is_missing_or_unreadable_is_named_the_rest_goes_on_and_is_not_counted_as_good(machine: Machine) -> None:
    machine.paths.append(machine.root / "etc/gone.conf")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(machine.root / "etc/app.sock"))
        made = machine.back_up()
    assert made.manifest.incomplete == [f"{machine.root}/etc/gone.conf is not there"]
    assert any("app.sock: a socket" in each for each in made.manifest.warnings)
    assert made.manifest.contents["files"] == 18
    with machine.open() as site:
        row = status(site).rows[0]
        assert row.newest is None and list(row.incomplete) == [made.manifest.file]
        plan = make_plan(site, ConfigRequest())
        assert plan.manifest.file == made.manifest.file and any("is incomplete" in each for each in plan.notes)
    whole_machine = machine.paths.pop()
    whole = machine.back_up()
    machine.paths.append(whole_machine)
    again = machine.back_up()
    with machine.open() as site:
        row = status(site).rows[0]
        assert row.newest is not None and row.newest.file == whole.manifest.file
        assert list(row.incomplete) == [again.manifest.file]
        assert make_plan(site, ConfigRequest()).manifest.file == whole.manifest.file
    machine.paths = [machine.root / "nowhere", machine.root / "nor-here"]
    with pytest.raises(ConfigError, match="nowhere is not there; .*nor-here is not there"):
        machine.back_up()


def test_the_vault_itself_and_what_a_link_leads_to_are_handled(machine: Machine, tmp_path: Path) -> None:
    machine.vault = machine.root / "opt/app/backups"
    machine.paths = [machine.root / "opt/app", machine.root / "opt/app/current/compose.yaml"]
    made = machine.back_up()
    assert any("backups themselves stand there" in each for each in made.manifest.warnings)
    restored(machine, str(tmp_path / "out"))
    there = tmp_path / "out" / str(machine.root).lstrip("/") / "opt/app"
    assert sorted(each.name for each in there.iterdir()) == [".env", "current", "releases"]
    machine.paths = [machine.root / "opt/app/current/compose.yaml"]
    machine.back_up()
    restored(machine, str(tmp_path / "linked"))
    there = tmp_path / "linked" / str(machine.root).lstrip("/") / "opt/app"
    assert (there / "current").readlink() == Path("releases/42")
    assert (there / "current/compose.yaml").read_text() == "services: {}\n"


class _Sink:
    """Takes bytes; calls back at each write."""

    def __init__(self, told: Any = None) -> None:
        self.data = bytearray()
        self._told = told

    def write(self, data: bytes) -> None:
        self.data += data
        if self._told:
            self._told()


@pytest.mark.parametrize("how", ["shrinks", "grows"])
def test_a_large_file_that_changes_while_it_is_read_is_named_and_the_tar_stays_whole(tmp_path: Path, how: str) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(6_000_000))
    after = tmp_path / "after"
    after.write_text("still here\n")
    once = iter([True])

    def disturb() -> None:
        if len(data.data) > 1_000_000 and next(once, False):
            with open(large, "r+b") as file:
                file.truncate(2_000_000 if how == "shrinks" else 7_000_000)

    data, listing = _Sink(disturb), _Sink()
    writer = TreeWriter(data, listing)
    for path in (large, tmp_path / "vanished", after):
        writer.add(str(path))
    totals = writer.finish()
    what = "shrank" if how == "shrinks" else "changed"
    assert [each.split(": ")[0] for each in totals.incomplete] == [str(large), str(tmp_path / "vanished")]
    assert what in totals.incomplete[0] and "vanished" in totals.incomplete[1]
    told = subprocess.run(
        ["tar", "-xO", str(after).lstrip("/")], input=bytes(data.data), capture_output=True, check=True
    )
    assert told.stdout == b"still here\n"
    assert [each.size for each in read_listing([bytes(listing.data)], "it")] == [6_000_000, 11]


def test_a_small_file_that_is_rewritten_all_the_time_is_whole_or_named(tmp_path: Path) -> None:
    file = tmp_path / "busy.conf"
    file.write_bytes(b"a" * 1_000_000)
    stop = threading.Event()

    def rewrite() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            with open(file, "r+b") as opened:
                opened.write((b"a" if turn % 2 else b"b") * 1_000_000)

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        for _ in range(5):
            data = _Sink()
            writer = TreeWriter(data, _Sink())
            writer.add(str(file))
            named = writer.finish().incomplete
            content = subprocess.run(["tar", "-xO"], input=bytes(data.data), capture_output=True, check=True).stdout
            assert len(content) == 1_000_000
            assert named or len(set(content)) == 1, "a mixture was taken for a whole file"
    finally:
        stop.set()
        thread.join()


def test_a_tree_of_any_size_takes_the_same_memory(tmp_path: Path) -> None:
    """100 MB in one file and 6,000 small ones, against a tenth of both."""
    peaks = []
    for scale in (1, 10):
        root = tmp_path / f"tree{scale}"
        for folder in range(scale):
            (root / f"{folder:03}").mkdir(parents=True)
            for number in range(600):
                (root / f"{folder:03}" / f"{number:04}.conf").touch()
        with open(root / "large", "wb") as large:
            large.truncate(scale * 10_000_000)
        env = {**os.environ, "PYTHONPATH": os.getcwd(), "TREE": str(root), "VAULT": str(tmp_path / "vault")}
        done = subprocess.run([sys.executable, "-c", _MEASURED], env=env, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 5_000, f"kB at a tenth and at full size: {peaks}"


_MEASURED = """
import os
from engine.backup import backup_one
from engine.config import SiteConfig
from engine.site import Site, Target

site = SiteConfig.model_validate({"site": "memory", "vault": {"root": os.environ["VAULT"], "keys": {"keys":
    {"main": "fake-passphrase-for-tests-0123456789"}}}, "config": {"paths": [os.environ["TREE"]]}})
with Site(site) as opened:
    result = backup_one(opened, Target("config", "config"), tier="daily")
    assert result.manifest.incomplete == []
print(int(next(each for each in open("/proc/self/status") if each.startswith("VmHWM")).split()[1]))
"""


def test_the_command_line_does_all_of_it_and_its_exit_codes_tell(machine: Machine, tmp_path: Path) -> None:
    gone = machine.root / "etc/gone.conf"
    file = tmp_path / "workbench.yaml"

    def backups(*arguments: str, code: int = 0) -> dict[str, Any]:
        done = preloaded.backups(*arguments, "-f", str(file), "--json", env={**os.environ, "KEY": PASSPHRASE})
        assert done.returncode == code, done.stdout + done.stderr
        assert SECRET not in done.stdout + done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def write(*paths: Path) -> None:
        file.write_text(
            f'site: workbench\nvault:\n  root: {machine.vault}\n  keys: {{main: "${{KEY}}"}}\n'
            f"config:\n  paths: {json.dumps([str(each) for each in paths])}\n"
        )

    write(*machine.paths, gone)
    told = backups("backup", "--tier", "daily", code=3)
    assert told["backups"][0]["incomplete"] == [f"{gone} is not there"] and "gone.conf" in told["error"]["message"]
    told = backups("status", code=1)
    assert told["databases"][0]["newest"] is None and len(told["databases"][0]["incomplete"]) == 1
    write(*machine.paths)
    made = backups("backup", "--tier", "daily")
    assert made["recovery_point"] and made["backups"][0]["holds"].startswith("20 files")
    assert backups("status")["databases"][0]["newest"]["verified"] is True
    change(machine)
    told = backups("restore-config", "--into", "/", "--paths", f"{machine.root}/ect", code=2)
    assert f"{machine.root}/etc" in told["error"]["remedy"]
    told = backups("restore-config", "--into", "/", "--paths", f"{machine.root}/opt", "--dry-run")
    assert (
        f"{machine.root}/opt/app/.env" in told["plan"]["paths"] and f"{machine.root}/opt" not in told["plan"]["paths"]
    )
    told = backups("restore-config", "--into", "/", "--paths", f"{machine.root}/etc/nginx", code=4)
    assert told["error"]["class"] == "ConfirmationNeeded"
    told = backups("restore-config", "--into", "/", "--confirm", "nginx", code=4)
    told = backups("restore-config", "--into", "/", "--paths", f"{machine.root}/etc/nginx", "--confirm", "config")
    assert told["safety_backup"] and (machine.root / "etc/nginx/nginx.conf").read_text() == "worker_processes 2;\n"
    assert not (machine.root / "etc/letsencrypt/archive/example.org/cert1.pem").exists(), "only what was asked for"
    told = backups("restore", "--source", "config", "--database", "config", code=2)
    assert "restore-config" in told["error"]["remedy"]
