"""A site with databases, config files, a Docker volume and containers: one run, one recovery point; files and volumes
are put back with approval, and what is gone comes back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.volume_machine import Box
from tests.integration.installation import Installation, Site, until
from tests.integration.test_crashes import _dump_that_waits, _dumping
from tests.servers.docker import DockerEngine

SECRET = "FAKE-secret-that-no-log-may-show-1"


@pytest.fixture(scope="module")
def box(dockerd: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A volume with a file of another user and an empty directory."""
    dockerd.load("busybox")
    with Box(dockerd, tmp_path_factory.mktemp("box")) as made:
        root = made.volume("notebooks")
        (root / "a").write_text("good\n")
        (root / "empty").mkdir()
        os.chown(root / "a", 1000, 100)
        yield made


@pytest.fixture(scope="module")
def machine(prefect: Installation, box: Box) -> tuple[Site, Path]:
    """A site whose config files are an .env and a vhost, with a volume of a service that is stopped for its backup."""
    site = prefect.site("machine")
    root = site.file.parent / "machine"
    (root / "nginx").mkdir(parents=True)
    (root / "nginx/app.conf").write_text("listen 80;\n")
    (root / ".env").write_text(f"PASSWORD={SECRET}\n")
    (root / ".env").chmod(0o600)
    site.document["config"] = {"paths": [str(root / ".env"), str(root / "nginx")]}
    site.document["volumes"] = {**box.document, "stop": ["jupyter"]}
    site.document["images"] = {"docker_host": box.engine.host, "project": box.project}
    site.write()
    done = prefect.apply(site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"docker-engine/{site.name}-volumes" in done.stdout
    assert f"container-images/{site.name}-images" in done.stdout and f"restore-site/{site.name}" in done.stdout
    return site, root


def test_a_daily_full_backs_up_databases_files_and_volumes_in_one_recovery_point(
    prefect: Installation, machine: tuple[Site, Path], box: Box
) -> None:
    site, _ = machine
    user = box.service("jupyter", "notebooks")
    run = prefect.run(f"daily-full/{site.name}")
    assert run.state == "COMPLETED", run.message
    assert "2 databases and 3 archives backed up and verified: 4,400 rows, 3 files" in run.first_line
    assert box.state(user) == "running"
    rows = prefect.table(run, f"{site.name}-backups")
    sources = [f"mysql/{site.shop}", f"postgres/{site.platform}", "volumes/notebooks", "config/config"]
    assert [row["database"] for row in rows] == [*sources, "images/images"]
    assert rows[4]["holds"] == "1 container, 1 image, 1 network"
    assert rows[2]["holds"] == "1 file, 2 directories, 0 links"
    assert rows[3]["holds"] == "2 files, 1 directory, 0 links" and rows[3]["stored where"] == "local, s3"
    assert "every file against the listing" in rows[3]["verified how"]
    manifests = [json.loads(file.read_text()) for file in site.files(".json")]
    manifests = [each for each in manifests if each["tier"] != "image"]  # an image belongs to every point that needs it
    points = {manifest["recovery_point"] for manifest in manifests}
    assert len(manifests) == 5 and len(points) == 1 and all(points)
    (sealed,) = site.vault.rglob("site-file/*.json")
    listed = prefect.s3.client().list_objects_v2(Bucket=site.bucket)["Contents"]
    assert [each["Key"] for each in listed if each["Key"].endswith(sealed.name)], "the replica has the site file, too"
    assert points.pop() in prefect.markdown(run.id, f"{site.name}-last-backup")


@pytest.mark.sampled
def test_a_missing_path_fails_the_run_by_name_and_costs_nothing_else(
    prefect: Installation, machine: tuple[Site, Path]
) -> None:
    site, root = machine
    (root / "nginx").rename(root / "away")
    before = len(site.files(".json"))
    try:
        run = prefect.run(f"daily-full/{site.name}")
    finally:
        (root / "away").rename(root / "nginx")
    assert run.state == "FAILED"
    assert run.first_line == f"config/config is incomplete: {root}/nginx is not there."
    rows = prefect.table(run, f"{site.name}-backups")
    assert [row["verified how"].split(":")[0] for row in rows] == ["local", "local", "local", "INCOMPLETE", "local"]
    assert all(row["stored where"] == "local, s3" for row in rows)
    assert len(site.files(".json")) == before + 5


@pytest.mark.sampled
def test_files_are_put_back_after_an_approval_that_shows_what_changes_and_no_content(
    prefect: Installation, machine: tuple[Site, Path]
) -> None:
    site, root = machine
    (root / ".env").write_text("PASSWORD=FAKE-other-secret-2\n")
    (root / ".env").chmod(0o644)
    (root / "nginx/app.conf").unlink()
    run_id = prefect.api.start(f"restore-config/{site.name}", into="/")
    assert prefect.api.wait(run_id, until=frozenset({"PAUSED"})).state == "PAUSED"
    text = prefect.markdown(run_id, f"{site.name}-restore-config-approval")
    assert f"| changed | `{root}/.env` | content, mode 0644 to 0600, time |" in text
    assert f"| added | `{root}/nginx/app.conf` | file |" in text and "is newer, but incomplete" in text
    assert "FAKE-other-secret-2" in (root / ".env").read_text(), "nothing happens before the approval"
    assert prefect.api.approve(run_id, confirm="config")["status"] == "ACCEPT"
    run = prefect.api.wait(run_id)
    assert run.state == "COMPLETED", run.message
    assert (root / ".env").read_text() == f"PASSWORD={SECRET}\n"
    assert (root / ".env").stat().st_mode & 0o777 == 0o600
    assert (root / "nginx/app.conf").read_text() == "listen 80;\n"
    shown = "\n".join([*prefect.log(run), json.dumps(prefect.api.artifacts(run_id))])
    result = prefect.markdown(run_id, f"{site.name}-restore-config")
    assert "safety backup: `config_" in result and "- what was replaced is kept in `" in result
    assert SECRET not in shown and "FAKE-other-secret-2" not in shown


@pytest.mark.sampled
def test_a_volume_is_replaced_after_an_approval_that_names_who_is_stopped(
    prefect: Installation, machine: tuple[Site, Path], box: Box
) -> None:
    site, _ = machine
    root = box.path(box.real("notebooks"))
    (user,) = box.client.containers.list(filters={"volume": box.real("notebooks")})
    (root / "a").write_text("bad\n")
    run_id = prefect.api.start(f"restore-volume/{site.name}", volume="notebooks", replace=True)
    assert prefect.api.wait(run_id, until=frozenset({"PAUSED"})).state == "PAUSED"
    text = prefect.markdown(run_id, f"{site.name}-restore-volume-approval")
    assert f"stopped meanwhile and started again: {user.name}" in text
    assert (root / "a").read_text() == "bad\n" and box.volumes() == {box.real("notebooks")}
    assert prefect.api.approve(run_id, confirm=box.real("notebooks"))["status"] == "ACCEPT"
    run = prefect.api.wait(run_id)
    assert run.state == "COMPLETED", run.message
    (kept,) = box.volumes() - {box.real("notebooks")}
    assert run.first_line.startswith(f"Volume {box.real('notebooks')} is restored: 3 entries, each compared")
    assert (root / "a").read_text() == "good\n" and (root / "a").stat().st_uid == 1000
    assert (box.path(kept) / "a").read_text() == "bad\n"
    assert box.state(user) == "running"
    assert f"`{kept}`" in prefect.markdown(run_id, f"{site.name}-restore-volume")


@pytest.mark.soak(sample=False)
def test_a_cancelled_run_stops_every_source_that_is_at_work(prefect: Installation, machine: tuple[Site, Path]) -> None:
    site, _ = machine
    with _dump_that_waits(prefect, site):
        run_id = prefect.api.start(f"daily-full/{site.name}")
        until(lambda: _dumping(prefect, site), "a dump that waits")
        prefect.api.call("POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})
        assert prefect.api.wait(run_id).state == "CANCELLED"
        assert until(lambda: not _dumping(prefect, site), "the dump to end")
    # By itself, before the runner lost its patience and killed it.
    told = "pg_dump on this host was stopped with the run that started it"
    until(lambda: any(told in line for line in prefect.api.logs(run_id)), "the log of a run that ended", timeout=60)
    assert site.staged() == []


@pytest.mark.sampled
def test_what_is_gone_comes_back_from_the_bucket_after_one_approval(
    prefect: Installation, machine: tuple[Site, Path], box: Box
) -> None:
    site, _ = machine
    (user,) = box.client.containers.list(filters={"volume": box.real("notebooks")})
    user.remove(force=True)
    for name in box.volumes():
        box.client.volumes.get(name).remove()
    shutil.rmtree(site.vault)
    run_id = prefect.api.start(f"restore-site/{site.name}", only=["volumes", "images"])
    assert prefect.api.wait(run_id, until=frozenset({"PAUSED"})).state == "PAUSED"
    text = prefect.markdown(run_id, f"{site.name}-restore-site-approval")
    assert f"To approve, type: `{site.name}`" in text and "volume notebooks from" in text
    assert box.volumes() == set()
    assert prefect.api.approve(run_id, confirm=site.name)["status"] == "ACCEPT"
    run = prefect.api.wait(run_id)
    assert run.state == "COMPLETED", run.message
    assert run.first_line.startswith(
        f"The chosen part of the machine {site.name} is back (only volumes, images) as of "
    )
    assert (box.path(box.real("notebooks")) / "a").read_text() == "good\n"
    assert box.client.containers.get(str(user.name)).status == "running"
    told = prefect.markdown(run_id, f"{site.name}-restore-site")
    assert "DNS" in told and "volumes/notebooks: volume" in told
