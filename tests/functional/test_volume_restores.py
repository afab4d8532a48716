"""Volumes come back: as new ones, in place of what is there, or some paths of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from engine.errors import ConfirmationNeeded, IntegrityError, RestoreRefused, ToolFailed, UnknownName
from engine.restore_site.files import restore_volume
from engine.restore_site.plan import SiteRequest, _living
from engine.restore_site.points import Piece, Point
from engine.restore_site.state import State
from engine.restore_site.work import Work
from engine.site import Target
from engine.volumes.plan import VolumeRequest, check_confirmation, make_plan
from engine.volumes.restore import VolumeRestore, run
from tests.functional.vault_helpers import PASSPHRASE
from tests.functional.volume_machine import OBEYS, Box, facts, fill, on_disk
from tests.servers.docker import DockerEngine


@pytest.fixture
def box(dockerd: DockerEngine, tmp_path: Path) -> Iterator[Box]:
    dockerd.load("busybox")
    with Box(dockerd, tmp_path) as made:
        yield made


def test_a_lost_volume_comes_back_as_it_was_with_its_labels_and_options(box: Box) -> None:
    root = box.volume("notebooks", labels={"owner": "data team"})
    fill(root)
    (root / "sock").unlink()
    before, holes = facts(root), on_disk(root / "holes")
    labels = box.client.volumes.get(box.real("notebooks")).attrs["Labels"]
    box.back_up("notebooks")
    box.client.volumes.get(box.real("notebooks")).remove()
    result = box.restore("notebooks", into=box.real("notebooks"))
    again = box.client.volumes.get(box.real("notebooks"))
    assert again.attrs["Labels"] == labels
    assert facts(Path(again.attrs["Mountpoint"])) == before
    assert on_disk(Path(again.attrs["Mountpoint"]) / "holes") == holes
    assert result.members == 1 + sum(len(folders) + len(files) for _, folders, files in os.walk(root))
    assert box.journals() == []


def test_a_lost_volume_with_a_place_of_its_own_is_made_there_again(box: Box, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    options = {"type": "none", "o": "bind", "device": str(disk)}
    box.volume("bound", driver="local", driver_opts=options)
    (disk / "a").write_text("on another disk\n")
    box.back_up("bound")
    box.client.volumes.get(box.real("bound")).remove()
    (disk / "a").unlink()
    box.restore("bound", into=box.real("bound"))
    assert box.client.volumes.get(box.real("bound")).attrs["Options"] == options
    assert (disk / "a").read_text() == "on another disk\n"


def test_a_volume_with_a_password_among_its_options_comes_back_as_its_message_says(box: Box, tmp_path: Path) -> None:
    disk = tmp_path / "share"
    disk.mkdir()
    options = {"type": "none", "o": "bind,password=FAKE-of-a-share", "device": str(disk)}
    box.volume("share", driver="local", driver_opts=options)
    (disk / "a").write_text("on a share\n")
    (disk / "inside").mkdir(mode=0o750)
    os.chown(disk, 1000, 1001)
    made = box.back_up("share")
    before, name = facts(disk), box.real("share")
    box.client.volumes.get(name).remove()
    shutil.rmtree(disk)
    with box.open() as site:
        entry = made.entry
        target = Target(made.manifest.source, "share")
        point = Point("20260301_020000-0000aaaa", entry.name.taken_at, {})
        point.pieces[target] = Piece(target, [(entry, made.manifest)])
        state = State.begin(site.vault.state, site="workbench", point=point.id, request={})
        work = Work(site, SiteRequest(), point, state, key=str(target))
        with pytest.raises(RestoreRefused, match="had a password among its options") as told:
            restore_volume(work, point.pieces[target])
        assert "FAKE-of-a-share" not in str(told.value)
        disk.mkdir()
        box.client.volumes.create(name, driver="local", driver_opts=options)
        with pytest.raises(RestoreRefused, match="stand elsewhere") as again:
            restore_volume(work, point.pieces[target])
        assert f"into {name}_restored (--into)" in told.value.remedy and told.value.remedy != again.value.remedy
        run(site, make_plan(site, VolumeRequest(volume="share", into=f"{name}_restored")))
        for each in (told, again):
            command = re.search(r"docker run --rm (.*?) debian (.*?/to/)", each.value.remedy)
            assert command and f"--without {target}" in each.value.remedy
        assert command is not None and command[1] == f"-v {name}_restored:/from:ro -v {name}:/to"
        places = {"/from": str(box.path(f"{name}_restored")), "/to": str(disk)}  # there is no such image here
        subprocess.run(
            [re.sub("^/from|^/to", lambda at: places[at[0]], each) for each in command[2].split()], check=True
        )
        assert facts(disk) == before
        assert "put there before and compared again" in restore_volume(work, point.pieces[target]).said
        (disk / "a").write_text("of another time\n")
        with pytest.raises(RestoreRefused):
            restore_volume(work, point.pieces[target])


def test_a_share_that_outlived_the_machine_is_not_overwritten(box: Box, tmp_path: Path) -> None:
    """A mount that only the engine makes, as of a network share: of a directory, since no share can be had here."""
    share = tmp_path / "share"
    (share / "lost+found").mkdir(parents=True)
    options = {"type": "none", "o": "rbind", "device": str(share)}
    box.volume("share", driver="local", driver_opts=options)
    (share / "a").write_text("of the backup\n")
    made = box.back_up("share")
    assert made.manifest.contents["read"] == "archive", "no path leads there"
    name = box.real("share")
    box.client.volumes.get(name).remove()
    (share / "a").write_text("newer\n")
    (share / "b").write_text("only here\n")
    before = facts(share)
    target = Target("volumes", "share")
    with box.open() as site:
        point = Point("20260301_020000-0000aaaa", made.entry.name.taken_at, {})
        point.pieces[target] = Piece(target, [(made.entry, made.manifest)])
        living = f"volume {name}: its files stand elsewhere ({share}), and may be there still"
        assert [each.partition(";")[0] for each in _living(site, point, None)] == [living]
        with pytest.raises(RestoreRefused, match=r"is not empty: .* stand elsewhere") as refused:
            run(site, make_plan(site, VolumeRequest(volume="share", into=name)))
        assert refused.value.kept == "nothing was written there" and "and a is there already" in refused.value.message
        state = State.begin(site.vault.state, site="workbench", point=point.id, request={})
        work = Work(site, SiteRequest(), point, state, key=str(target))
        with pytest.raises(RestoreRefused, match="is not empty") as again:
            restore_volume(work, point.pieces[target])
        assert again.value.remedy.endswith(f"leave it out: --without {target}")
    assert facts(share) == before and box.volumes() == set() and box.journals() == []
    assert not box.client.containers.list(all=True, filters={"label": f"backup-flows.helper={name}"})
    for each in ("a", "b"):
        (share / each).unlink()
    box.restore("share", into=name)
    assert (share / "a").read_text() == "of the backup\n", "an empty one is filled"


def test_by_default_a_new_volume_beside_whose_name_is_told(box: Box) -> None:
    root = box.volume("notebooks", labels={"owner": "data team"})
    (root / "a").write_text("a")
    box.back_up("notebooks")
    with box.open() as site:
        plan = make_plan(site, VolumeRequest())
        assert plan.into.startswith(box.real("notebooks") + "_restore_")
        assert f"restored into a new volume, {plan.into}. Nothing else changes." in "\n".join(plan.lines())
        assert any("compose's own labels are left out" in note for note in plan.notes)
        result = run(site, plan)
    assert box.client.volumes.get(result.into).attrs["Labels"] == {"owner": "data team"}
    assert (box.path(result.into) / "a").read_text() == "a" and result.kept_as == ""


def test_a_replacement_stops_who_uses_it_keeps_what_it_held_and_starts_them_again(box: Box) -> None:
    root = box.volume("notebooks")
    fill(root)
    (root / "sock").unlink()
    good = facts(root)
    box.back_up("notebooks")
    user = box.service("jupyter", "notebooks", [*OBEYS[:2], "tail -f /data/log & " + OBEYS[2]])
    idle = box.service("idle", "notebooks")
    idle.stop(timeout=1)
    shutil.rmtree(root / "machine" if (root / "machine").exists() else root / "very")
    (root / "only now").write_text("newer\n")
    bad = facts(root)
    with box.open() as site:
        plan = make_plan(site, VolumeRequest(replace=True))
        assert plan.into == box.real("notebooks") and plan.users == (user.name,)
        with pytest.raises(ConfirmationNeeded, match="not the name of the volume"):
            check_confirmation(plan, "notebook")
        with pytest.raises(ConfirmationNeeded, match="would replace what volume"):
            run(site, plan)
        assert facts(root) == bad and box.volumes() == {box.real("notebooks")}, "nothing was changed"
        result = run(site, plan, approved=True)
    assert facts(root) == good
    assert facts(box.path(result.kept_as)) == bad and result.kept_as.startswith(box.real("notebooks") + "_before_")
    assert (box.state(user), box.state(idle)) == ("running", "exited")
    assert result.services == [f"{user.name} runs"] and result.stopped_seconds > 0
    assert user.exec_run(["cat", "/data/only now"]).exit_code == 1
    assert user.exec_run(["stat", "/data/very/deep/again"]).exit_code == 0, "it sees what was restored"
    assert box.journals() == []


def test_what_was_paused_is_paused_again_and_health_checks_are_waited_for(box: Box) -> None:
    root = box.volume("notebooks")
    (root / "a").write_text("good")
    box.back_up("notebooks")
    paused = box.service("worker", "notebooks")
    paused.pause()
    check = {"test": ["CMD-SHELL", "grep -q good /data/a"], "interval": 300_000_000, "start_period": 10_000_000_000}
    checked = box.client.containers.run(
        "backup-flows/busybox:1", OBEYS, name=f"{box.project}-checked", detach=True, healthcheck=check,
        volumes={box.real("notebooks"): {"bind": "/data"}},
    )  # fmt: skip
    (root / "a").write_text("bad")
    result = box.restore("notebooks", replace=True)
    assert sorted(result.services) == [f"{checked.name} is healthy", f"{paused.name} runs"]
    assert (box.state(paused), box.state(checked)) == ("paused", "running")
    paused.unpause()


def test_some_paths_come_back_and_the_rest_stays(box: Box) -> None:
    root = box.volume("notebooks")
    fill(root)
    box.back_up("notebooks")
    (root / "new").write_text("since\n")
    shutil.rmtree(root / "opt")
    (root / "etc/nginx/nginx.conf").write_text("spoilt\n")
    shutil.rmtree(root / "very")
    result = box.restore(
        "notebooks", replace=True, paths=("/opt/app/.env", "etc/nginx", "etc/nginx/odd", "very/deep/again")
    )
    assert (root / "new").read_text() == "since\n" and not (root / "opt/app/current").is_symlink()
    assert (root / "opt/app/.env").stat().st_mode & 0o7777 == 0o600
    assert (root / "opt/app").stat().st_mode & 0o7777 == 0o2750, "what leads there is as it was"
    assert (root / "etc/nginx/nginx.conf").read_text() == "worker_processes 2;\n"
    again = root / "very/deep/again"  # of a file whose other name was not asked for
    assert again.stat().st_size == 40_000_000 and again.stat().st_ino != (root / "holes").stat().st_ino
    kept = box.path(result.kept_as)
    assert (kept / "etc/nginx/nginx.conf").read_text() == "spoilt\n" and not (kept / "opt/app/.env").exists()
    new = box.restore("notebooks", paths=("etc/nginx/hard two", "etc/nginx/odd/script"))
    assert (box.path(new.into) / "etc/nginx/hard two").read_text() == "two names\n"
    assert sorted(os.listdir(box.path(new.into))) == ["etc"] and new.members == 6
    assert box.path(new.into).stat().st_mode & 0o7777 == 0o2771


def test_what_would_do_harm_or_cannot_be_is_refused(box: Box, tmp_path: Path) -> None:
    root = box.volume("notebooks")
    (root / "a").write_text("a")
    user = box.service("jupyter", "notebooks")
    box.back_up("notebooks")
    with box.open() as site:
        for request, error, words in (
            (VolumeRequest(into=box.real("notebooks")), RestoreRefused, f"already, and {user.name} runs with it"),
            (VolumeRequest(volume="notebook"), UnknownName, "Did you mean 'notebooks'?"),
            (VolumeRequest(paths=("b",)), UnknownName, "has no b"),
            (VolumeRequest(paths=("../b",)), Exception, "leads out of the volume"),
            (VolumeRequest(into=box.real("notbooks"), replace=True), UnknownName, "Did you mean"),
            (VolumeRequest(source="config"), UnknownName, "no source 'config'"),
        ):
            with pytest.raises(error) as told:  # type: ignore[arg-type]
                make_plan(site, request)
            assert words in str(told.value), told.value
    with box.open(read="archive") as site, pytest.raises(RestoreRefused) as refused:
        make_plan(site, VolumeRequest(replace=True))
    assert "cannot be replaced in one step: the site file says read: archive" in str(refused.value)
    assert box.volumes() == {box.real("notebooks")} and box.state(user) == "running"


def test_a_container_that_does_not_come_back_is_told_with_where_the_old_data_is(box: Box) -> None:
    root = box.volume("notebooks")
    box.back_up("notebooks")
    (root / "needed").write_text("x")
    user = box.service(
        "jupyter", "notebooks", [*OBEYS[:2], "test -f /data/needed || { echo no data; exit 3; }; " + OBEYS[2]]
    )
    with pytest.raises(ToolFailed) as told:
        box.restore("notebooks", replace=True)
    assert f"{user.name} ended again" in str(told.value) and "no data" in str(told.value)
    assert "its previous data is in volume" in str(told.value)
    (kept,) = box.volumes() - {box.real("notebooks")}
    assert (box.path(kept) / "needed").read_text() == "x" and os.listdir(root) == []


def test_a_damaged_backup_replaces_nothing(box: Box) -> None:
    root = box.volume("notebooks")
    (root / "a").write_bytes(os.urandom(300_000))
    made = box.back_up("notebooks")
    (root / "a").write_text("now")
    user = box.service("jupyter", "notebooks")
    file = box.vault / made.entry.key
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)
    with pytest.raises(IntegrityError):
        box.restore("notebooks", replace=True)
    assert (root / "a").read_text() == "now" and box.state(user) == "running"
    assert box.volumes() == {box.real("notebooks")} and box.journals() == []


def test_what_was_restored_is_compared_before_it_replaces_anything(box: Box) -> None:
    root = box.volume("notebooks")
    for name in ("a", "b"):
        (root / name).write_text(name)
    box.back_up("notebooks")
    (root / "a").write_text("now")
    with box.open() as site:
        plan = make_plan(site, VolumeRequest(replace=True))
        for spoil, words in (
            (lambda side: (side / "b").write_text("c"), "'b' differs in time, content"),
            (lambda side: (side / "more").write_text("c"), "there are 4 files, directories and links, not 3"),
            (lambda side: (side / "a").unlink(), "'a' differs in that it is not there"),
        ):
            with pytest.raises(IntegrityError) as told, VolumeRestore(site, plan) as work:
                work.put()
                side = box.path(plan.kept_as)
                at = side.stat().st_mtime_ns
                spoil(side)
                os.utime(side, ns=(at, at))
                work.compare()
            assert words in str(told.value), told.value
            assert box.volumes() == {box.real("notebooks")}
    assert (root / "a").read_text() == "now"


def test_the_command_line_plans_replaces_and_tells(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = box.volume("notebooks")
    (root / "a").write_text("a")
    monkeypatch.setenv("BOX_KEY", PASSPHRASE)
    body = {
        "site": "workbench",
        "vault": {"root": str(box.vault), "keys": {"main": "${BOX_KEY}"}},
        "volumes": box.document,
    }
    file = tmp_path / "site.yaml"
    file.write_text(json.dumps(body))

    def backups(*arguments: str) -> tuple[int, dict[str, object]]:
        done = CliRunner().invoke(app, [*arguments, "-f", str(file), "--json"])
        return done.exit_code, json.loads(done.stdout)

    code, told = backups("backup")
    assert code == 0 and told["backups"][0]["holds"] == "1 file, 1 directory, 0 links"  # type: ignore[index]
    (root / "a").write_text("b")
    for command, shows in (("list", "backups"), ("status", "databases"), ("verify", "backups"), ("check", "checks")):
        code, told = backups(command)
        assert code == 0, (command, told)
        assert shows in told or told["ok"], told
    code, told = backups("restore-volume", "--replace", "--dry-run")
    assert code == 0 and told["plan"]["replaces"] and (root / "a").read_text() == "b"  # type: ignore[index]
    code, told = backups("restore-volume", "--replace")
    assert code == 4 and f"--confirm {box.real('notebooks')}" in str(told["error"])
    code, told = backups("restore-volume", "--replace", "--confirm", box.real("notebooks"))
    assert code == 0, told
    assert (root / "a").read_text() == "a" and (box.path(str(told["kept_as"])) / "a").read_text() == "b"
    code, told = backups("restore", "--source", "volumes")
    assert code == 2 and "restore-volume" in str(told["error"])
    code, told = backups("restore-volume", "--into", box.real("notebooks"))
    assert code == 4 and "--replace" in str(told["error"])
