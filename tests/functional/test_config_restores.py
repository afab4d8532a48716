"""Config files restored: into a directory, or put back in place, whatever stands in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine import backup, names
from engine.archive import LISTING, Member
from engine.archive.headers import END, header
from engine.backup import BackupResult, backup_one
from engine.config_files.plan import ConfigRequest, make_plan
from engine.config_files.restore import ConfigRestore, run
from engine.drill.record import keep
from engine.drill.told import of_all, of_drills, of_each
from engine.drill.verdict import Check, DrillResult, PieceResult, SourceResult, Verdict
from engine.errors import (
    ConfirmationNeeded,
    IntegrityError,
    LockHeld,
    RestoreRefused,
    UnknownName,
)
from engine.source import Facts
from tasks.restore_files import approval_text
from tests.functional.config_machine import ACL, SECRET, TARGET, Machine, change, facts, restored
from tests.functional.vault_helpers import PASSPHRASE


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def made(machine: Machine) -> BackupResult:
    return machine.back_up()


def test_a_restore_into_a_directory_gives_the_same_tree_and_never_half_of_it(
    machine: Machine, made: BackupResult, tmp_path: Path
) -> None:
    into = tmp_path / "back"
    result = restored(machine, str(into))
    there = into / str(machine.root).lstrip("/")
    assert facts(there) == machine.facts()
    assert result.notes == []
    assert os.getxattr(there / "etc/nginx/odd/with space", "user.origin") == b"by \x00 hand\n=%\xff"
    assert os.getxattr(there / "etc/nginx/odd/with space", "system.posix_acl_access") == ACL
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


def test_a_plan_says_when_a_drill_proved_the_backup_and_warns_loudly_where_its_last_one_failed(
    machine: Machine, made: BackupResult
) -> None:
    file = made.manifest.file

    def drilled(days: int, verdict: Verdict) -> None:
        at = names.now() - timedelta(days=days)
        piece = PieceResult("config", "config", file, checks=[Check("content", "every file", verdict, "as they are")])
        source = SourceResult("config", "config", pieces=[piece])
        with machine.open() as site:
            id_ = f"{at:%Y%m%d_%H%M%S}-0123abcd"
            keep(site, DrillResult(site.name, id_, 1, False, {}, at, at, sources=[source]))

    def plan() -> tuple[str, dict[str, Any]]:
        with machine.open() as site:
            found = make_plan(site, ConfigRequest())
            (one,) = of_all(of_each(site, {found.target: found.copies}))[-1:]
            return "\n".join([*found.lines(), one, approval_text(found)]), found.as_dict()

    told, facts_ = plan()
    assert told.count("never proven by a drill") == 2 and "0 of 1 backups were proven by a drill." in told
    assert "WARNING" not in told and (facts_["proven_at"], facts_["drill_failed_at"]) == (None, None)
    drilled(3, "proven")
    told, facts_ = plan()
    assert told.count("proven by a drill 3 days ago") == 2 and "WARNING" not in told and facts_["proven_at"]
    assert "1 of 1 backups were proven by a drill, the longest ago 3 days ago." in told
    drilled(2, "failed")
    told, facts_ = plan()
    assert told.count("THIS BACKUP FAILED ITS LAST DRILL, 2 days ago") == 2 and facts_["drill_failed_at"]
    drilled(1, "proven")
    told, facts_ = plan()
    assert "FAILED" not in told and facts_["drill_failed_at"] is None and "proven by a drill 24 h ago" in told


def test_a_backup_whose_drill_record_is_gone_is_judged_by_its_marks(machine: Machine, made: BackupResult) -> None:
    with machine.open() as site:
        found = make_plan(site, ConfigRequest())
        site.vault.mark(made.entry, "drill-failed", reason="a file differs")
        assert "THIS BACKUP FAILED ITS LAST DRILL, 0 min ago" in of_drills(site, found.target, found.copies).warning()


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
    conf = machine.root / "etc/nginx/nginx.conf"
    conf.write_text("worker_processes 9;\n")
    done = subprocess.run(
        [*_AS_NOBODY, sys.executable, str(script)], env=env | {"INTO": "/"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert conf.read_text() == "worker_processes 2;\n" and "only by root" in done.stdout
    (kept,) = (machine.vault / "restored").iterdir()
    assert (kept / f"files{conf}").read_text() == "worker_processes 9;\n"


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
    plan = make_plan(site, ConfigRequest(into=os.environ["INTO"], safety_backup=False))
    print(json.dumps(run(site, plan, approved=True).notes))
"""
