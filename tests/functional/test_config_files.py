"""Config files: a tree like a real machine's, backed up, read with stock tools, restored and put back in place."""

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
from engine.backup import BackupResult, backup_one
from engine.config import SiteConfig
from engine.config_files.plan import ConfigRequest, make_plan
from engine.config_files.restore import ConfigRestore, run
from engine.errors import (
    ConfigError,
    ConfirmationNeeded,
    IntegrityError,
    LockHeld,
    RestoreRefused,
    UnknownName,
)
from engine.site import Site, Target
from engine.source import Facts
from engine.status import status
from tests.functional.test_cli import _documented
from tests.functional.vault_helpers import PASSPHRASE, flip, replica
from tests.servers.s3 import S3Server

TARGET = Target("config", "config")
SECRET = "FAKE-secret-of-the-tests-0123456789"


class Machine:
    """A tree of config files below a directory, and a site that backs it up."""

    def __init__(self, root: Path) -> None:
        self.root = root / "machine"
        self.vault = root / "vault"
        self.paths = [self.root / "etc", self.root / "opt/app/.env", self.root / "opt/app/current"]
        self.exclude = ["*.log", f"{self.root}/etc/nginx/cache"]
        self.document: dict[str, Any] = {}
        make_tree(self.root)

    def config(self, **more: Any) -> SiteConfig:
        body = {
            "site": "workbench",
            "vault": {"root": str(self.vault), "keys": {"current": "main", "keys": {"main": PASSPHRASE}}, **more},
            "config": {"paths": [str(path) for path in self.paths], "exclude": self.exclude},
        }
        return SiteConfig.model_validate(body)

    def open(self, **more: Any) -> Site:
        return Site(self.config(**more))

    def back_up(self, **more: Any) -> BackupResult:
        with self.open(**more) as site:
            return backup_one(site, TARGET, tier="daily", recovery_point="20250116_020000-00000000")

    def facts(self, below: Path | None = None) -> list[str]:
        """Everything about every file, as find tells it; excluded files left out."""
        return facts(below or self.root)


def make_tree(root: Path) -> None:
    """nginx, letsencrypt with its links, an .env, odd names, odd modes, odd owners."""
    nginx, ssl, app = root / "etc/nginx", root / "etc/letsencrypt", root / "opt/app/releases/42"
    for folder in (nginx / "sites-available", nginx / "sites-enabled", nginx / "empty", nginx / "cache"):
        folder.mkdir(parents=True)
    for folder in (ssl / "archive/example.org", ssl / "live/example.org", app):
        folder.mkdir(parents=True)
    (nginx / "nginx.conf").write_text("worker_processes 2;\n")
    (nginx / "sites-available/app").write_text("server { listen 80; }\n")
    (nginx / "sites-enabled/app").symlink_to(nginx / "sites-available/app")
    (nginx / "error.log").write_text("not wanted\n")
    (nginx / "cache/page").write_text("not wanted\n")
    for name in ("cert", "privkey"):
        (ssl / f"archive/example.org/{name}1.pem").write_text(f"FAKE {name} {SECRET}\n" * 40)
        (ssl / f"live/example.org/{name}.pem").symlink_to(f"../../archive/example.org/{name}1.pem")
    (ssl / "archive/example.org/privkey1.pem").chmod(0o600)
    odd = nginx / "odd"
    odd.mkdir()
    for name in ("ünïcødé 🙂", "with space", "-rf", "new\nline", "tab\there", "x" * 200, "quote'\"`$(id)"):
        (odd / name).write_text(name)
    (odd / os.fsdecode(b"latin1-\xe9\xff")).write_bytes(bytes(range(256)))
    (odd / "dangling").symlink_to("nowhere\nat all")
    (odd / "empty file").touch()
    (odd / "script").write_text("#!/bin/sh\n")
    (odd / "script").chmod(0o4750)
    (odd / "hard one").write_text("two names\n")
    os.link(odd / "hard one", nginx / "hard two")
    os.mkfifo(odd / "pipe", 0o640)
    os.setxattr(odd / "with space", "user.origin", b"by \x00 hand\n=%\xff")
    with open(odd / "large", "wb") as large:
        large.write(os.urandom(9_000_001))
    (root / "opt/app/.env").write_text(f"BACKUP_ENCRYPTION_KEY={SECRET}\n")
    (root / "opt/app/.env").chmod(0o600)
    (app / "compose.yaml").write_text("services: {}\n")
    (root / "opt/app/current").symlink_to("releases/42")
    os.chown(nginx / "sites-available/app", 33, 33)
    os.chown(odd / "dangling", 1000, 1001, follow_symlinks=False)
    (root / "opt/app").chmod(0o2750)
    os.utime(odd / "script", ns=(0, 981_173_106_123_456_789))
    os.utime(odd / "empty file", ns=(0, -1_500_000_000))
    for folder in (nginx / "empty", odd, root / "opt"):
        os.utime(folder, ns=(0, 1_000_000_000_000_000_001))


def facts(root: Path) -> list[str]:
    """Path, type, mode, owner, time, link target, inode's name count, and digest of all below a directory."""
    form = r"%P\t%y\t%m\t%U:%G\t%T@\t%l"
    names = ["(", "-type", "d", "-printf", form + r"\0", ")", "-o", "-printf", form + r"\t%n\0"]
    found = subprocess.run(["find", ".", "-mindepth", "1", *names], cwd=root, capture_output=True, check=True).stdout
    sums = subprocess.run(
        "find . -type f -print0 | sort -z | xargs -0 sha256sum -z",
        shell=True,
        cwd=root,
        capture_output=True,
        check=True,
    ).stdout
    lines = [line.decode("utf-8", "backslashreplace") for line in (found + sums).split(b"\0") if line]
    return sorted(line for line in lines if not any(each in line for each in ("error.log", "nginx/cache")))


def shell(command: str, **env: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "BACKUP_ENCRYPTION_KEY": PASSPHRASE, **env}
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{command}"], env=given, capture_output=True, text=True,
        errors="backslashreplace", check=False,
    )  # fmt: skip


def change(machine: Machine) -> None:
    """What a bad evening does to a machine."""
    nginx = machine.root / "etc/nginx"
    (nginx / "nginx.conf").write_text("worker_processes 9;\n")
    (nginx / "sites-enabled/app").unlink()
    (nginx / "sites-enabled/app").symlink_to("elsewhere")
    (nginx / "hard two").unlink()
    (nginx / "odd/hard one").write_text("changed under both names\n")
    (machine.root / "opt/app/.env").chmod(0o644)
    os.chown(nginx / "sites-available/app", 0, 0)
    (machine.root / "etc/letsencrypt/archive/example.org/cert1.pem").unlink()
    (nginx / "new.conf").write_text("only here\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def made(machine: Machine) -> BackupResult:
    return machine.back_up()


def restored(machine: Machine, into: str, **more: Any) -> Any:
    with machine.open() as site:
        return run(site, make_plan(site, ConfigRequest(into=into, **more)), approved=True)


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
    listed = shell(_documented("config list"), FILE=str(data)).stdout
    assert "error.log" not in listed and "cache" not in listed and "nginx.conf" in listed


def test_no_name_and_no_content_can_be_read_in_the_vault_without_the_key(machine: Machine, made: BackupResult) -> None:
    for file in machine.vault.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert SECRET.encode() not in data and b"sites-available" not in data
    manifest = json.loads((machine.vault / made.entry.manifest_key).read_text())
    assert manifest["contents"]["files"] == 18 and len(json.dumps(manifest)) < 5000


def test_a_restore_into_a_directory_gives_the_same_tree_and_never_half_of_it(
    machine: Machine, made: BackupResult, tmp_path: Path
) -> None:
    into = tmp_path / "back"
    result = restored(machine, str(into))
    there = into / str(machine.root).lstrip("/")
    assert facts(there) == machine.facts()
    assert result.notes == []
    assert os.stat(into).st_mode & 0o777 == 0o700
    assert [each.name for each in tmp_path.iterdir() if "back" in each.name] == ["back"]
    with pytest.raises(RestoreRefused, match="not an empty directory"):
        restored(machine, str(into))
    default = restored(machine, "")
    assert Path(default.into).parent == machine.vault / "restored"


def test_a_few_paths_come_alone_and_a_hard_link_without_its_first_name_brings_the_content(
    machine: Machine, made: BackupResult, tmp_path: Path
) -> None:
    two, env = machine.root / "etc/nginx/odd/hard one", machine.root / "opt/app/.env"
    restored(machine, str(tmp_path / "some"), paths=(str(two), str(env)))
    there = tmp_path / "some" / str(machine.root).lstrip("/")
    found = sorted(str(each.relative_to(there)) for each in there.rglob("*") if not each.is_dir())
    assert found == ["etc/nginx/odd/hard one", "opt/app/.env"]
    assert (there / "etc/nginx/odd/hard one").read_text() == "two names\n"
    assert (there / "opt/app").stat().st_mode & 0o7777 == 0o2750
    with pytest.raises(UnknownName, match="nginx.con") as refused:
        restored(machine, str(tmp_path / "none"), paths=(str(machine.root / "etc/nginx/nginx.con"),))
    assert "nginx.conf" in refused.value.remedy
    assert not (tmp_path / "none").exists()


def test_in_place_only_what_differs_is_written_and_the_old_is_in_a_safety_backup(
    machine: Machine, made: BackupResult, tmp_path: Path
) -> None:
    before = machine.facts()
    same = (machine.root / "etc/nginx/odd/large").stat()
    change(machine)
    with machine.open() as site:
        plan = make_plan(site, ConfigRequest(into="/"))
        told = "\n".join(plan.lines())
        assert f"changed: {machine.root}/etc/nginx/nginx.conf (content, time)" in told
        assert f"changed: {machine.root}/opt/app/.env (mode 0644 to 0600)" in told
        assert "owner 0:0 to 33:33" in told and "where the link leads" in told
        assert f"only here: {machine.root}/etc/nginx/new.conf" in told and "cert1.pem (file)" in told
        assert SECRET not in told and SECRET not in json.dumps(plan.as_dict()) and "worker_processes" not in told
        with pytest.raises(ConfirmationNeeded, match="put config back in place"):
            run(site, plan)
        assert (machine.root / "etc/nginx/nginx.conf").read_text() == "worker_processes 9;\n"
        result = run(site, plan, approved=True)
    (machine.root / "etc/nginx/new.conf").unlink()
    changed_folders = {"etc/nginx", "etc/nginx/odd", "etc/nginx/sites-enabled", "etc/letsencrypt/archive/example.org"}
    assert _without_times(machine.facts(), changed_folders) == _without_times(before, changed_folders)
    now = (machine.root / "etc/nginx/odd/large").stat()
    assert (now.st_ino, now.st_mtime_ns) == (same.st_ino, same.st_mtime_ns)
    assert not [each for each in machine.root.rglob("*") if each.name.startswith(".backup-flows-")]
    assert result.safety is not None and result.safety.tier == "safety"
    restored(machine, str(tmp_path / "old"), backup=result.safety.file)
    old = tmp_path / "old" / str(machine.root).lstrip("/")
    assert (old / "etc/nginx/nginx.conf").read_text() == "worker_processes 9;\n"
    assert (old / "etc/nginx/new.conf").read_text() == "only here\n"
    with machine.open() as site:  # nothing left to do, so nothing is asked and nothing is saved again
        again = make_plan(site, ConfigRequest(into="/"))
        assert again.manifest.file == made.manifest.file, "latest is not the safety copy"
        assert again.changes == 0 and run(site, again).safety is None


def _without_times(lines: list[str], folders: set[str]) -> list[str]:
    return [line for line in lines if line.split("\t")[0] not in folders]


def test_what_is_in_the_way_is_refused_before_anything_is_written(machine: Machine, made: BackupResult) -> None:
    outside = machine.root.parent / "outside"
    outside.mkdir()
    nginx = machine.root / "etc/nginx"
    nginx.rename(machine.root / "etc/nginx.away")
    nginx.symlink_to(outside)
    with machine.open() as site, pytest.raises(RestoreRefused, match="in the way"):
        make_plan(site, ConfigRequest(into="/"))
    assert list(outside.iterdir()) == []


def test_a_link_put_in_the_way_after_the_plan_is_not_followed(machine: Machine, made: BackupResult) -> None:
    outside = machine.root.parent / "outside"
    outside.mkdir()
    change(machine)
    with machine.open() as site:
        plan = make_plan(site, ConfigRequest(into="/", safety_backup=False))
        (machine.root / "etc/nginx").rename(machine.root / "etc/nginx.away")
        (machine.root / "etc/nginx").symlink_to(outside)
        with pytest.raises(RestoreRefused, match="in the way"):
            run(site, plan, approved=True)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    "evil",
    [
        Member("../../etc/passwd", "file"),
        Member("/etc/passwd", "file"),
        Member("etc/./x", "file"),
        Member("etc/\0x", "file"),
        Member("dev/sda", "b"),
        Member("etc/shadow", "hardlink", target="../../../etc/shadow"),
        Member("etc/shadow", "hardlink", target="/etc/shadow"),
    ],
    ids=["up", "absolute", "odd", "nul", "device", "link up", "link absolute"],
)
def test_a_listing_that_leads_out_is_refused_although_its_signature_holds(
    machine: Machine, tmp_path: Path, evil: Member
) -> None:
    with machine.open() as site:
        with site.vault.begin(source="config", kind="config", tier="daily", database="config", ext="tar") as writer:
            writer.data().write(END)
            writer.companion(LISTING, "jsonl").write(evil.line())
            writer.publish(Facts(server=None, dump_format="tar"))  # type: ignore[arg-type]
        with pytest.raises(IntegrityError, match="leads out|never restored"):
            run(site, make_plan(site, ConfigRequest(into=str(tmp_path / "out"))))
        with pytest.raises(IntegrityError):
            backup.verify(site, next(site.vault.catalog().entries()))
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_through_a_link_of_the_archive_itself(machine: Machine, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    trap = [
        Member("etc", "directory", 0o755),
        Member("etc/x", "link", target=str(outside)),
        Member("etc/x/owned", "fifo"),
    ]
    with machine.open() as site:
        with site.vault.begin(source="config", kind="config", tier="daily", database="config", ext="tar") as writer:
            for member in trap:
                writer.data().write(header(member))
                writer.companion(LISTING, "jsonl").write(member.line())
            writer.data().write(END)
            writer.publish(Facts(server=None, dump_format="tar"))  # type: ignore[arg-type]
        with pytest.raises(RestoreRefused, match="in the way"):
            run(site, make_plan(site, ConfigRequest(into=str(tmp_path / "out"))))
    assert list(outside.iterdir()) == [] and not (tmp_path / "out").exists()


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


def test_an_interrupted_restore_in_place_leaves_every_file_whole_and_the_next_run_clears_up(
    machine: Machine, made: BackupResult, tmp_path: Path
) -> None:
    old = {}
    for name in ("nginx.conf", "odd/large", "odd/with space"):
        file = machine.root / "etc/nginx" / name
        file.write_text(f"changed {name}\n")
        old[name] = file.read_bytes()
    new = {name: _content(machine, name, tmp_path) for name in old}
    script = tmp_path / "die.py"
    script.write_text(_DYING)
    env = {**os.environ, "PYTHONPATH": os.getcwd(), "SITE": machine.config().model_dump_json(), "KEY": PASSPHRASE}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    for name, content in old.items():
        assert (machine.root / "etc/nginx" / name).read_bytes() in (content, new[name])
    left = [each for each in machine.root.rglob("*") if each.name.startswith(".backup-flows-")]
    assert len(left) == 1, "it died in the middle of a file"
    with machine.open() as site:
        swept = site.sweep()
        assert any("being restored" in each for each in swept.done) and not swept.problems
        assert not left[0].exists()
        run(site, make_plan(site, ConfigRequest(into="/")), approved=True)
    for name, content in new.items():
        assert (machine.root / "etc/nginx" / name).read_bytes() == content


def _content(machine: Machine, name: str, tmp_path: Path) -> bytes:
    into = tmp_path / f"content-{name.replace('/', '-')}"
    path = machine.root / "etc/nginx" / name
    restored(machine, str(into), paths=(str(path),))
    return (into / str(path).lstrip("/")).read_bytes()


_DYING = """
import json, os, signal
from pydantic import SecretStr
from engine.config import SiteConfig
from engine.archive import place
from engine.config_files.plan import ConfigRequest, make_plan
from engine.config_files.restore import run
from engine.site import Site

body = json.loads(os.environ["SITE"])
body["vault"]["keys"]["keys"] = {"main": os.environ["KEY"]}
put = place.Placer.put

def dying(self, member, content=()):
    def half(chunks):
        for chunk in chunks:
            yield chunk[: len(chunk) // 2]
            os.kill(os.getpid(), signal.SIGKILL)
    put(self, member, half(content) if member.path.endswith("large") else content)

place.Placer.put = dying
with Site(SiteConfig.model_validate(body)) as site:
    run(site, make_plan(site, ConfigRequest(into="/", safety_backup=False)), approved=True)
"""


def test_two_runs_at_a_time_are_one_too_many(machine: Machine, made: BackupResult) -> None:
    with machine.open() as site, machine.open() as other:
        with ConfigRestore(site, make_plan(site, ConfigRequest(into="/"))):
            with pytest.raises(LockHeld):
                backup_one(other, TARGET, tier="daily")


def test_without_root_the_content_comes_back_and_what_cannot_be_given_back_is_told(
    machine: Machine, made: BackupResult, tmp_path: Path
) -> None:
    script = tmp_path / "plain.py"
    script.write_text(_PLAIN)
    for folder in (tmp_path, machine.vault):
        subprocess.run(["chown", "-R", "65534:65534", str(folder)], check=True)
    env = {**os.environ, "PYTHONPATH": os.getcwd(), "SITE": machine.config().model_dump_json(), "KEY": PASSPHRASE}
    env |= {"INTO": str(tmp_path / "mine"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*_AS_NOBODY, sys.executable, str(script)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    notes = json.loads(done.stdout)
    assert any("owners are given back only by root" in each for each in notes)
    there = tmp_path / "mine" / str(machine.root).lstrip("/")
    assert (there / "etc/nginx/odd/script").stat().st_mode & 0o7777 == 0o750, "no setuid of somebody else"
    assert (there / "opt/app/.env").read_text().endswith(f"{SECRET}\n")


# Nobody, but for reading: where this interpreter stands may be root's own.
_AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
_AS_NOBODY += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
_PLAIN = """
import json, os
from engine.config import SiteConfig
from engine.config_files.plan import ConfigRequest, make_plan
from engine.config_files.restore import run
from engine.site import Site

body = json.loads(os.environ["SITE"])
body["vault"]["keys"]["keys"] = {"main": os.environ["KEY"]}
with Site(SiteConfig.model_validate(body)) as site:
    print(json.dumps(run(site, make_plan(site, ConfigRequest(into=os.environ["INTO"]))).notes))
"""


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
import os, resource
from engine.backup import backup_one
from engine.config import SiteConfig
from engine.site import Site, Target

site = SiteConfig.model_validate({"site": "memory", "vault": {"root": os.environ["VAULT"], "keys": {"keys":
    {"main": "fake-passphrase-for-tests-0123456789"}}}, "config": {"paths": [os.environ["TREE"]]}})
with Site(site) as opened:
    result = backup_one(opened, Target("config", "config"), tier="daily")
    assert result.manifest.incomplete == []
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_the_command_line_does_all_of_it_and_its_exit_codes_tell(machine: Machine, tmp_path: Path) -> None:
    gone = machine.root / "etc/gone.conf"
    file = tmp_path / "workbench.yaml"

    def backups(*arguments: str, code: int = 0) -> dict[str, Any]:
        env = {**os.environ, "PYTHONPATH": os.getcwd(), "KEY": PASSPHRASE}
        command = [sys.executable, "-m", "deployments.cli", *arguments, "-f", str(file), "--json"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
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
