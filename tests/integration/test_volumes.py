"""A site with a Docker volume: its deployments back it up beside the databases, and put it back with approval."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.volume_machine import Box
from tests.integration.installation import Installation
from tests.servers.docker import DockerEngine


@pytest.fixture
def box(dockerd: DockerEngine, tmp_path: Path) -> Iterator[Box]:
    dockerd.load("busybox")
    with Box(dockerd, tmp_path) as made:
        yield made


def test_a_volume_is_backed_up_with_the_rest_and_replaced_after_an_approval(prefect: Installation, box: Box) -> None:
    root = box.volume("notebooks")
    (root / "a").write_text("good\n")
    (root / "empty").mkdir()
    os.chown(root / "a", 1000, 100)
    user = box.service("jupyter", "notebooks")
    site = prefect.site("volumes")
    site.document["volumes"] = {**box.document, "stop": ["jupyter"]}
    site.write()
    done = prefect.apply(site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"docker-engine/{site.name}-volumes" in done.stdout

    run = prefect.run(f"daily-full/{site.name}")
    assert run.state == "COMPLETED", run.message
    assert "2 databases and 1 archive backed up and verified: 4,400 rows, 1 file" in run.first_line
    rows = prefect.table(run, f"{site.name}-backups")
    assert rows[2]["database"] == "volumes/notebooks" and rows[2]["holds"] == "1 file, 2 directories, 0 links"
    assert box.state(user) == "running"

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
