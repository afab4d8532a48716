"""Volumes of a real Docker engine: captured with all that is odd, writers halted meanwhile, and read by stock tools."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.backup import preflight
from engine.config import SiteConfig
from engine.errors import ConfigError, UnknownName, Unreachable
from engine.site import Site, Target
from tests.functional.config_machine import shell
from tests.functional.test_cli import _documented
from tests.functional.vault_helpers import PASSPHRASE
from tests.functional.volume_machine import MB, Box, facts, fill, on_disk
from tests.servers.docker import DockerEngine


@pytest.fixture
def box(dockerd: DockerEngine, tmp_path: Path) -> Iterator[Box]:
    dockerd.load("busybox")
    with Box(dockerd, tmp_path) as made:
        yield made


def test_a_volume_opens_by_hand_with_everything_it_held(box: Box, tmp_path: Path) -> None:
    root = box.volume("notebooks", labels={"owner": "data team"})
    fill(root)
    before = facts(root)
    made = box.back_up("notebooks")
    assert made.manifest.file.startswith("notebooks_") and made.manifest.file.endswith(".tar.gz.enc")
    assert made.manifest.incomplete == []
    told = made.manifest.contents
    assert told["volume"] == box.real("notebooks") and told["driver"] == "local" and told["read"] == "direct"
    assert told["labels"]["owner"] == "data team" and told["labels"]["com.docker.compose.volume"] == "notebooks"
    assert told["not_kept"] == [] and made.manifest.server is not None and made.manifest.server.flavour == "docker"
    assert [each for each in made.manifest.warnings if "socket" in each] == [
        "sock: a socket, which has no content is not in it"
    ]
    into = tmp_path / "by hand"
    file = box.vault / made.entry.key
    done = shell(_documented("volume"), FILE=str(file), INTO=str(into))
    assert done.returncode == 0, done.stderr
    assert facts(into) == before
    for name in ("holes", "nothing but a hole", "zeros on disk"):
        assert on_disk(into / name) == on_disk(root / name), name
    assert made.manifest.data.plain_size < 20 * MB, "holes are not in the tar"


def test_a_file_that_vanishes_or_changes_meanwhile_is_named_and_the_backup_is_incomplete(box: Box) -> None:
    root = box.volume("uploads")
    (root / "large").write_bytes(os.urandom(9 * MB))
    (root / "fine").write_text("fine\n")
    for number in range(300):
        (root / f"small{number}").write_text("x")
    os.utime(root / "large", ns=(0, 0))
    gone: list[str] = []

    def meanwhile(step: str, done: int, total: int | None = None) -> None:
        if step == "archive" and not gone and done > 4 * MB:
            listing = os.listdir(root)
            gone.append(listing[-1] if listing[-1] not in ("large", "fine") else listing[-2])
            (root / gone[0]).unlink()
            with open(root / "large", "r+b") as file:
                file.write(b"other")

    made = box.back_up("uploads", meanwhile)
    assert "large: it changed while it was read" in made.manifest.incomplete
    vanished = f"{gone[0]}: it vanished while the backup was made"
    # where the directory's names were read before, it was archived already or is missed
    assert set(made.manifest.incomplete) <= {"large: it changed while it was read", vanished}
    assert made.manifest.contents["files"] in (301, 302)


def test_a_file_that_is_gone_between_its_name_and_its_content_is_named(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = box.volume("uploads")
    for name in ("a", "b", "c"):
        (root / name).write_text(name)
    real = os.lstat

    def gone(path: Any, **more: Any) -> os.stat_result:
        if str(path).endswith("/b"):
            (root / "b").unlink(missing_ok=True)
        return real(path, **more)

    monkeypatch.setattr(os, "lstat", gone)
    made = box.back_up("uploads")
    assert made.manifest.incomplete == ["b: it vanished while the backup was made"]
    assert made.manifest.contents["files"] == 2


def test_a_directory_that_becomes_a_link_leads_nowhere(box: Box, tmp_path: Path) -> None:
    root = box.volume("uploads")
    outside = tmp_path / "host"
    outside.mkdir()
    (outside / "shadow").write_text("FAKE secret of the host\n")
    (root / "folder").mkdir()
    (root / "folder/shadow").write_text("of the volume\n")
    (root / "first").write_bytes(os.urandom(5 * MB))

    def meanwhile(step: str, done: int, total: int | None = None) -> None:
        if step == "archive" and done and not (root / "folder").is_symlink():
            (root / "folder").rename(root / "moved")
            (root / "folder").symlink_to(outside)

    made = box.back_up("uploads", meanwhile)
    listing = _listing(box, made)
    assert not any("shadow" in each["path"] and each["path"].startswith("folder") for each in listing)
    assert made.manifest.incomplete == ["folder: not a directory"]


def test_writers_are_stopped_or_paused_while_their_volume_is_read_and_run_again(box: Box) -> None:
    root = box.volume("notebooks")
    box.volume("uploads")
    (root / "a").write_bytes(os.urandom(6 * MB))
    stops, pauses = box.service("jupyter", "notebooks"), box.service("worker", "notebooks")
    other, bystander = box.service("web", "uploads"), box.service("reader", "notebooks")
    box.document |= {"stop": ["jupyter", str(other.name)], "pause": ["worker"]}
    seen: list[dict[str, str]] = []

    def look(step: str, done: int, total: int | None = None) -> None:
        if step == "archive" and not seen:
            seen.append({str(each.name): box.state(each) for each in (stops, pauses, other, bystander)})

    made = box.back_up("notebooks", look)
    assert seen == [
        {
            str(stops.name): "exited",
            str(pauses.name): "paused",
            str(other.name): "running",
            str(bystander.name): "running",
        }
    ]
    assert {box.state(each) for each in (stops, pauses, other, bystander)} == {"running"}
    assert made.manifest.contents["halted"] == {str(stops.name): "stop", str(pauses.name): "pause"}
    assert made.manifest.warnings == [f"{bystander.name} went on with the volume while it was read"]
    assert box.journals() == []


def test_writers_run_again_when_the_capture_fails_and_one_that_stood_still_is_left_alone(box: Box) -> None:
    root = box.volume("notebooks")
    (root / "a").write_bytes(os.urandom(6 * MB))
    stops, still = box.service("jupyter", "notebooks"), box.service("idle", "notebooks")
    still.stop(timeout=1)
    box.document |= {"stop": ["jupyter", "idle"]}

    def fail(step: str, done: int, total: int | None = None) -> None:
        assert box.state(stops) == "exited"
        raise ConfigError("this capture fails")

    with pytest.raises(ConfigError, match="this capture fails"):
        box.back_up("notebooks", fail)
    assert (box.state(stops), box.state(still)) == ("running", "exited")
    assert box.journals() == []


def test_a_container_that_a_stop_would_remove_is_not_stopped(box: Box) -> None:
    box.volume("notebooks")
    fleeting = box.client.containers.run(
        "backup-flows/busybox:1", ["sleep", "600"], name=f"{box.project}-fleeting", detach=True, auto_remove=True,
        volumes={box.real("notebooks"): {"bind": "/data"}},
    )  # fmt: skip
    try:
        with pytest.raises(ConfigError, match="started with --rm"):
            box.back_up("notebooks", stop=[fleeting.name])
        assert box.state(fleeting) == "running"
    finally:
        fleeting.remove(force=True)


def test_what_the_engine_reads_itself_says_what_it_loses(box: Box, tmp_path: Path) -> None:
    root = box.volume("notebooks")
    fill(root)
    os.utime(root / "etc/nginx/odd/empty file", (0, 0))  # the engine sets no time before 1970
    os.utime(root / "etc/nginx/odd", (0, 0))
    box.document["read"] = "archive"
    made = box.back_up("notebooks")
    assert made.manifest.contents["read"] == "archive" and len(made.manifest.contents["not_kept"]) == 3
    assert made.manifest.incomplete == []
    assert any("the site file says read: archive; not kept: times only" in each for each in made.manifest.warnings)
    into = tmp_path / "by hand"
    shell(_documented("volume"), FILE=str(box.vault / made.entry.key), INTO=str(into))
    assert _coarse(facts(into)) == _coarse(facts(root))
    assert (root.stat().st_mode, root.stat().st_uid) == (into.stat().st_mode, into.stat().st_uid)
    assert not [each for each in box.client.containers.list(all=True) if "backup-flows-volume" in str(each.name)]
    again = box.restore("notebooks", into=box.real("again"))
    assert again.members == len(_listing(box, made))
    assert _coarse(facts(box.path(box.real("again")))) == _coarse(facts(root))


def test_a_change_is_noticed_also_by_what_the_engine_reads(box: Box) -> None:
    root = box.volume("uploads")
    (root / "a").write_bytes(os.urandom(2 * MB))
    (root / "b").write_text("b")
    box.service("web", "uploads")
    changed: list[bool] = []

    def meanwhile(step: str, done: int, total: int | None = None) -> None:
        if step == "archive" and done and not changed:
            changed.append(True)
            (root / "a").write_bytes(b"shorter")

    made = box.back_up("uploads", meanwhile, read="archive")
    assert made.manifest.incomplete == ["a: it changed while it was read"]


def test_what_is_not_there_is_told_by_name(box: Box) -> None:
    box.volume("notebooks")
    with box.open(volumes=["notebook"]) as site, pytest.raises(UnknownName) as told:
        preflight(site, Target("volumes", "notebook"))
    assert "no volume 'notebook'" in str(told.value) and "Did you mean 'notebooks'?" in str(told.value)
    box.service("jupyter", "notebooks")
    with box.open(stop=["jupiter"]) as site, pytest.raises(UnknownName) as told:
        preflight(site, Target("volumes", "notebooks"))
    assert "no container 'jupiter'" in str(told.value) and "Did you mean 'jupyter'?" in str(told.value)
    with box.open(docker_host="unix:///nowhere/docker.sock") as site, pytest.raises(Unreachable) as answer:
        preflight(site, Target("volumes", "notebooks"))
    assert "No Docker engine answers at unix:///nowhere/docker.sock" in str(answer.value)
    with box.open(volumes=[]) as site, pytest.raises(ConfigError, match="names no volumes"):
        site.targets("volumes")


def test_a_volume_whose_files_stand_elsewhere_is_read_there(box: Box, tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("on another disk\n")
    options = {"type": "none", "o": "bind,password=FAKE-secret-9", "device": str(elsewhere)}
    box.volume("bound", driver="local", driver_opts=options)
    made = box.back_up("bound")
    assert made.manifest.contents["files"] == 1 and made.manifest.contents["read"] == "direct"
    assert made.manifest.contents["options"]["device"] == str(elsewhere)
    assert "FAKE-secret-9" not in json.dumps(made.manifest.model_dump(mode="json"))


def test_the_data_directory_of_a_running_server_is_warned_about(box: Box) -> None:
    root = box.volume("db")
    (root / "PG_VERSION").write_text("15\n")
    running = box.service("postgres", "db")
    with box.open() as site:
        (warning,) = preflight(site, Target("volumes", "db")).warnings
    assert "data directory of a PostgreSQL server" in warning and str(running.name) in warning
    with box.open(stop=["postgres"]) as site:
        assert preflight(site, Target("volumes", "db")).warnings == []


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    body = {"site": "s", "vault": {"root": str(tmp_path), "keys": {"keys": {"main": PASSPHRASE}}}}
    for volumes, why in (
        ({"volumes": ["a/b"]}, "is no name of a Docker volume"),
        ({"volumes": ["a"], "stop": ["x"], "pause": ["x"]}, "x cannot be both stopped and paused"),
    ):
        with pytest.raises(ValueError, match=why):
            SiteConfig.model_validate({**body, "volumes": volumes})
    shared = {**body, "volumes": {"volumes": ["config"]}, "config": {"paths": ["/etc"]}}
    shared["vault"] = {**body["vault"], "path": "{tier}"}
    with pytest.raises(ConfigError, match="both may write a backup of 'config'"):
        Site(SiteConfig.model_validate(shared))


SIZES = pytest.mark.parametrize(
    ("megabytes", "share"),
    [(1000, 0.1), pytest.param(5000, 1.0, marks=[pytest.mark.soak(sample=False), pytest.mark.timeout(3600)])],
)


@SIZES
def test_memory_does_not_grow_with_a_volume(
    box: Box, megabytes: int, share: float, figure: Callable[[str, float, str], None]
) -> None:
    """A share of it is data, the rest one file's holes: read, proven, restored, compared."""
    root = box.volume("large")
    piece = os.urandom(MB)
    with open(root / "data", "wb") as file:
        for _ in range(int(megabytes * share)):
            file.write(piece)
    with open(root / "holes", "wb") as file:
        file.truncate(int(megabytes * (1 - share)) * MB)
        file.seek(megabytes // 2 * MB)
        file.write(b"in the middle")
    program = f"""
import json, sys
from engine.config import SiteConfig
from engine.site import Site, Target
from engine.backup import backup_one
from engine.volumes.plan import VolumeRequest, make_plan
from engine.volumes.restore import run
def peak(): return int(next(each for each in open("/proc/self/status") if each.startswith("VmHWM")).split()[1]) // 1024
with Site(SiteConfig.model_validate(json.load(sys.stdin))) as site:
    backup_one(site, Target("volumes", "large"), tier="daily")
    captured = peak()
    run(site, make_plan(site, VolumeRequest(into={box.real("copy")!r})))
    print(json.dumps([captured, peak()]))
"""
    settings = box.config().model_dump(mode="json")
    settings["vault"]["keys"]["keys"]["main"] = PASSPHRASE
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(settings), capture_output=True, text=True, check=True
    )
    captured, restored = json.loads(done.stdout)
    figure(f"peak memory, volume of {megabytes} MB", max(captured, restored), "MB")
    assert max(captured, restored) < 200, f"{captured} MB to capture, {restored} MB to restore"
    copy = box.path(box.real("copy"))
    assert on_disk(copy / "holes") == on_disk(root / "holes")
    assert subprocess.run(["cmp", root / "data", copy / "data"], check=False).returncode == 0


def _coarse(told: list[str]) -> list[str]:
    """Without what the engine loses: parts of seconds, attributes."""
    return sorted(re.sub(r"(\t-?\d+)\.\d+\t", r"\1\t", each) for each in told if not each.startswith(("b'", 'b"')))


def _listing(box: Box, made: Any) -> list[dict[str, Any]]:
    with box.open() as site:
        body = b"".join(site.vault.read_part(made.entry, made.manifest, "listing"))
    return [json.loads(line) for line in body.splitlines()]
