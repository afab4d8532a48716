"""Restore drills of Docker volumes: into scratch volumes that are gone afterwards, also after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.drill.run import DrillRequest, drill
from engine.drill.volumes import VolumesDrill
from engine.scratch import leftovers
from tests.functional.drilling import orders_for
from tests.functional.volume_machine import Box, fill
from tests.servers.docker import DockerEngine

ROOT = Path(__file__).parents[2]


def scratch(box: Box) -> list[str]:
    """Scratch volumes on the engine."""
    return [each.name for each in box.client.volumes.list() if each.name.startswith(leftovers.PREFIX)]


@pytest.fixture
def box(dockerd: DockerEngine, tmp_path: Path) -> Iterator[Box]:
    dockerd.load("busybox")
    with Box(dockerd, tmp_path) as made:
        yield made


def test_volumes_are_proven_in_scratch_volumes_and_a_changed_file_is_named(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(box.volume("notebooks"))
    (box.volume("uploads") / "one").write_text("one\n")
    for name in ("notebooks", "uploads"):
        box.back_up(name)
    before = box.volumes()
    with box.open() as site:
        result = drill(site, DrillRequest())
        assert result.verdict == "proven", result.trouble()
        assert len(result.pieces()) == 2 and scratch(box) == [] and box.journals() == []

        original = VolumesDrill.restore

        def tampering(self: Any, place: Any, piece: Any, *copy: Any) -> Any:
            notes = original(self, place, piece, *copy)
            if piece.database == "uploads":
                found = place.restored["uploads"]._path / "one"
                times = found.stat()
                found.write_text("two\n")
                os.utime(found, ns=(times.st_atime_ns, times.st_mtime_ns))
            return notes

        monkeypatch.setattr(VolumesDrill, "restore", tampering)
        result = drill(site, DrillRequest())
        assert result.verdict == "failed" and "uploads" in result.sentence() and "'one' differs in" in result.sentence()
        assert [piece.verdict for piece in result.pieces()] == ["proven", "failed"] and scratch(box) == []

        done = subprocess.run(
            [sys.executable, "-m", "tests.functional.dying_drill"], input=orders_for(site.config, "volumes"),
            capture_output=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        assert len(scratch(box)) == 2
        assert site.sweep().problems == []
        assert scratch(box) == [] and box.journals() == [] and box.volumes() == before
