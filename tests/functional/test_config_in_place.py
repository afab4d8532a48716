"""Config files put back in place: what they replace is kept, on one file system or several; nothing is half done."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.config_files.plan import ConfigRequest, make_plan
from engine.config_files.restore import ConfigRestore, ConfigResult, run
from engine.errors import DiskFull, RestoreRefused
from tests.functional.config_machine import Machine, change, shell


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    (made.root / "etc/nginx/odd/large").write_bytes(os.urandom(300_000))
    made.back_up()
    return made


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Machine]:
    """One whose letsencrypt is on a file system of its own, of 4 MiB."""
    made = Machine(tmp_path)
    with own_file_system(made.root / "etc/letsencrypt"):
        made.back_up()
        yield made


def test_what_was_replaced_can_be_copied_back_and_stock_tar_finds_nothing_else_changed(machine: Machine) -> None:
    before = digests(machine.root)
    change(machine)
    replaced = digests(machine.root)
    env = (machine.root / "opt/app/.env").stat()
    result = put_back(machine)
    assert (machine.root / "opt/app/.env").stat().st_ino == env.st_ino, (
        "of right content: it got its mode back, no more"
    )
    (file,) = (machine.vault / "workbench/config").rglob("config_*.tar.gz.enc")
    told = shell(
        'openssl enc -d -aes-256-cbc -pbkdf2 -pass env:BACKUP_ENCRYPTION_KEY -in "$FILE" | gunzip'
        " | tar --compare --xattrs --xattrs-include='user.*' -C / 2>&1"
        " | grep -Ev 'Mod time differs|hdrcharset' || true",
        FILE=str(file),
    )
    assert told.stdout == "" and told.stderr == "", "as the archive has it"
    kept = Path(*result.kept)
    assert kept.parent == machine.vault / "restored" and kept.stat().st_mode & 0o777 == 0o700
    lines = [json.loads(line) for line in (kept / "before.jsonl").read_text().splitlines()]
    was = {f"/{line['path']}": line for line in lines}
    assert was[f"{machine.root}/opt/app/.env"]["mode"] == "0644"
    assert was[f"{machine.root}/etc/letsencrypt/archive/example.org/cert1.pem"]["type"] == "absent"
    assert shell(result.how_back[0]).returncode == 0
    now = digests(machine.root)
    assert now == {**before, **replaced, "etc/nginx/hard two": before["etc/nginx/hard two"]}, "what was added stays"


def test_each_file_system_keeps_what_was_replaced_on_it(apart: Machine) -> None:
    change(apart)
    certificate = apart.root / "etc/letsencrypt/archive/example.org/privkey1.pem"
    certificate.write_text("renewed\n")
    result = put_back(apart)
    here, there = sorted(map(Path, result.kept), key=lambda each: certificate.parents[2] in each.parents)
    assert here.parent == apart.vault / "restored" and there.parent == apart.root / "etc/letsencrypt"
    assert there.name.startswith(".config_before_"), "no pattern of a server finds it"
    assert (there / f"files{certificate}").read_text() == "renewed\n"
    assert (here / f"files{apart.root}/etc/nginx/nginx.conf").read_text() == "worker_processes 9;\n"
    assert "FAKE privkey" in certificate.read_text()
    apart.back_up()
    with apart.open() as site:
        listed = make_plan(site, ConfigRequest(into="/")).members
    assert not [each.path for each in listed if "_before_" in each.path], "what is kept is no part of a backup"


def test_no_room_is_told_before_anything_is_touched(apart: Machine) -> None:
    change(apart)
    certificate = apart.root / "etc/letsencrypt/archive/example.org/privkey1.pem"
    certificate.write_text("renewed\n")
    filler = apart.root / "etc/letsencrypt/filler"
    filler.write_bytes(b"x" * (os.statvfs(filler.parent).f_bavail * 4096))
    before = digests(apart.root)
    with pytest.raises(DiskFull) as told:
        put_back(apart)
    assert told.value.kept == "nothing was changed"
    assert digests(apart.root) == before and not list((apart.vault / "restored").iterdir())
    filler.unlink()
    assert len(put_back(apart).kept) == 2


def test_a_read_only_file_system_and_a_file_mounted_by_itself_are_refused_by_the_plan(apart: Machine) -> None:
    folder, conf = apart.root / "etc/letsencrypt", apart.root / "etc/nginx/nginx.conf"
    (folder / "archive/example.org/privkey1.pem").write_text("renewed\n")
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    with apart.open() as site, pytest.raises(RestoreRefused, match="letsencrypt/archive/example.org is on a read-only"):
        make_plan(site, ConfigRequest(into="/"))
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    other = apart.root.parent / "other.conf"
    other.write_text("of the host\n")
    subprocess.run(["mount", "--bind", str(other), str(conf)], check=True)
    try:
        with apart.open() as site, pytest.raises(RestoreRefused, match="nginx.conf is mounted there by itself"):
            make_plan(site, ConfigRequest(into="/"))
    finally:
        subprocess.run(["umount", str(conf)], check=True)
    assert other.read_text() == "of the host\n"


def test_what_somebody_writes_meanwhile_is_kept_too_and_what_stands_in_the_way_is_refused(machine: Machine) -> None:
    conf = machine.root / "etc/nginx/nginx.conf"
    change(machine)
    with machine.open() as site:
        plan = make_plan(site, ConfigRequest(into="/", safety_backup=False))
        with ConfigRestore(site, plan) as work:
            work.put()
            assert conf.read_text() == "worker_processes 9;\n", "nothing is touched yet"
            conf.unlink()
            conf.write_text("by hand meanwhile\n")
            (kept,) = work.swap()
            work.compare()
    assert (Path(kept) / f"files{conf}").read_text() == "by hand meanwhile\n"
    conf.write_text("broken again\n")
    before = digests(machine.root)
    with machine.open() as site:
        plan = make_plan(site, ConfigRequest(into="/", safety_backup=False))
        with pytest.raises(RestoreRefused, match=f"failed at {conf}"), ConfigRestore(site, plan) as work:
            work.put()
            conf.unlink()
            conf.mkdir()
            work.swap()
    conf.rmdir()
    conf.write_text("broken again\n")
    assert digests(machine.root) == before and list((machine.vault / "restored").iterdir()) == [Path(kept)]


def test_a_second_name_that_was_lost_is_a_name_of_the_file_that_stands(machine: Machine) -> None:
    one, two = machine.root / "etc/nginx/hard two", machine.root / "etc/nginx/odd/hard one"  # as the archive has them
    inode = one.stat().st_ino
    two.unlink()
    result = put_back(machine)
    assert one.stat().st_ino == two.stat().st_ino == inode and one.stat().st_nlink == 2
    assert result.kept == [], "nothing was replaced"
    assert not list((machine.vault / "restored").iterdir())


def put_back(machine: Machine, **more: Any) -> ConfigResult:
    with machine.open() as site:
        return run(site, make_plan(site, ConfigRequest(into="/", safety_backup=False, **more)), approved=True)


def digests(root: Path) -> dict[str, str]:
    """Of every file and link below a directory, by find and sha256sum."""
    command = "find . -type f -print0 | xargs -0 sha256sum -z; find . -type l -printf '%l  %p\\0'"
    found = subprocess.run(["bash", "-c", command], cwd=root, capture_output=True, check=True).stdout
    lines = [line.decode("utf-8", "surrogateescape").rsplit("  ./", 1) for line in found.split(b"\0") if line]
    return {path: digest for digest, path in lines}


@contextmanager
def own_file_system(folder: Path) -> Iterator[None]:
    """The same files, on a file system of 4 MiB that is mounted there."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    try:
        subprocess.run(["cp", "-a", f"{aside}/.", str(folder)], check=True)
        subprocess.run(["rm", "-r", str(aside)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
