"""Captures and restores of volumes die at every step: the next sweep has production whole, its containers running."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

from engine.journal import Journal
from engine.volumes import exchange
from engine.volumes.helper import Helper
from tests.functional.vault_helpers import PASSPHRASE
from tests.functional.volume_machine import MB, Box, facts
from tests.integration.installation import until
from tests.servers.docker import DockerEngine

STEPS = ("begin", "make", "made", "halt", "halted", "exchange", "done")
"""What a replacement writes down, in its order; it dies right after writing it, and right after doing it."""


@pytest.fixture
def box(dockerd: DockerEngine, tmp_path: Path) -> Iterator[Box]:
    dockerd.load("busybox")
    with Box(dockerd, tmp_path) as made:
        yield made


@pytest.mark.parametrize("how", ["stop", "pause"])
def test_a_capture_that_is_killed_has_its_writer_started_by_the_next_run(box: Box, how: str) -> None:
    root = box.volume("notebooks")
    (root / "a").write_bytes(os.urandom(6 * MB))
    writer = box.service("jupyter", "notebooks")
    box.document[how] = ["jupyter"]

    def die(step: str, done: int, total: int | None = None) -> None:
        if step == "archive":
            os.kill(os.getpid(), signal.SIGKILL)

    assert _dies(lambda: box.back_up("notebooks", die))
    assert box.state(writer) == ("exited" if how == "stop" else "paused")
    with box.open(docker_host="unix:///nowhere/docker.sock") as site:
        (problem,) = site.sweep().problems
    assert "what was begun on volumes/" in problem and "No Docker engine answers" in problem
    with box.open() as site:
        swept = site.sweep()
    assert box.state(writer) == "running" and swept.problems == []
    assert any(str(writer.name) in line for line in swept.done)
    assert box.journals() == [] and box.back_up("notebooks").manifest.incomplete == []


def test_a_capture_that_is_killed_while_its_writer_is_stopping_has_it_started_all_the_same(box: Box) -> None:
    box.volume("notebooks")
    deaf = box.service("jupyter", "notebooks", ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"])
    box.document |= {"stop": ["jupyter"], "stop_seconds": 2}

    def die_soon() -> None:
        stop = Container.stop

        def stopping(*args: Any, **kwargs: Any) -> Any:
            signal.setitimer(signal.ITIMER_REAL, 0.7)
            return stop(*args, **kwargs)

        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        Container.stop = stopping
        box.back_up("notebooks")

    assert _dies(die_soon)
    begun = deaf.attrs["State"]["StartedAt"]
    with box.open() as site:
        site.sweep()
    assert box.state(deaf) == "running" and deaf.attrs["State"]["StartedAt"] != begun, "the stop went on without us"


@pytest.mark.sampled
@pytest.mark.parametrize("after", [False, True], ids=["right after", "once it was done"])
@pytest.mark.parametrize("step", STEPS)
def test_a_replacement_that_is_killed_leaves_old_or_new_and_who_uses_it_running(
    box: Box, step: str, after: bool
) -> None:
    root = box.volume("notebooks")
    (root / "folder").mkdir()
    (root / "folder/a").write_text("good")
    box.back_up("notebooks")
    good = facts(root)
    shutil.rmtree(root / "folder")
    (root / "b").write_text("bad")
    bad = facts(root)
    user = box.service("jupyter", "notebooks")
    assert _dies(lambda: box.restore("notebooks", replace=True), *(_next(step) if after else (step, False)))
    with box.open() as site:
        swept = site.sweep()
        assert swept.problems == []
        assert site.sweep().done == []
    replaced = step == "done" or (step == "exchange" and after)
    assert facts(root) == (good if replaced else bad)
    others = box.volumes() - {box.real("notebooks")}
    assert len(others) == replaced and all(facts(box.path(each)) == bad for each in others)
    assert box.state(user) == "running" and box.journals() == []
    assert user.exec_run(["cat", "/data/folder/a" if replaced else "/data/b"]).exit_code == 0


def test_paths_that_were_exchanged_in_part_are_taken_back(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    root = box.volume("notebooks")
    for name in ("a", "b", "c"):
        (root / name).write_text("good")
    box.back_up("notebooks")
    (root / "a").write_text("bad")
    (root / "b").unlink()
    (root / "c").write_text("bad")
    bad = facts(root)[1:]
    user = box.service("jupyter", "notebooks")
    real, calls = exchange.exchange, []

    def dies_at_the_third(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*arguments)

    monkeypatch.setattr(exchange, "exchange", dies_at_the_third)
    assert _dies(lambda: box.restore("notebooks", replace=True, paths=("a", "b", "c")))
    monkeypatch.undo()
    assert (root / "b").read_text() == "good", "it was under way"
    with box.open() as site:
        assert any("taken back" in line for line in site.sweep().done)
    assert facts(root)[1:] == bad and box.state(user) == "running"
    assert box.volumes() == {box.real("notebooks")}


def test_a_restore_into_a_new_volume_that_is_killed_leaves_none(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    root = box.volume("notebooks")
    (root / "a").write_text("a")
    box.back_up("notebooks")
    monkeypatch.setattr(Helper, "write", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert _dies(lambda: box.restore("notebooks", settings={"read": "archive"}))
    assert len(box.volumes()) == 2
    with box.open() as site:
        assert len(site.sweep().done) == 2
    assert box.volumes() == {box.real("notebooks")}
    assert not [each for each in box.client.containers.list(all=True) if "backup-flows-volume" in str(each.name)]


def test_a_command_that_is_terminated_starts_its_writers_before_it_ends(box: Box, tmp_path: Path) -> None:
    root = box.volume("notebooks")
    with open(root / "holes", "wb") as file:
        file.truncate(20_000 * MB)  # reads as zeros for a while
    writer = box.service("jupyter", "notebooks")
    body = {"site": "workbench", "vault": {"root": str(box.vault), "keys": {"main": "${BOX_KEY}"}}}
    settings = tmp_path / "site.yaml"
    settings.write_text(json.dumps({**body, "volumes": {**box.document, "stop": ["jupyter"]}}))
    command = [sys.executable, "-m", "deployments.cli", "backup", "-f", str(settings)]
    with subprocess.Popen(command, env={**os.environ, "BOX_KEY": PASSPHRASE}, stderr=subprocess.PIPE) as run:
        until(lambda: box.state(writer) == "exited", "the writer to be stopped")
        run.terminate()
        assert run.wait(60) == 143, run.stderr.read() if run.stderr else ""
    assert box.state(writer) == "running" and box.journals() == []


def _next(step: str) -> tuple[str, bool]:
    """Right before the next step is written down: this one was done by then. After the last: at the journal's end."""
    return (STEPS[STEPS.index(step) + 1], True) if step != STEPS[-1] else ("", True)


def _dies(work: Callable[[], Any], step: str = "", before: bool = False) -> bool:
    """Do something in a process of its own that is killed once its journal has that step, or right before that;
    with none, when the journal is to be closed."""
    child = os.fork()
    if child == 0:
        try:
            record, close = Journal.record, Journal.close

            def dying(self: Journal, now: str, /, **more: Any) -> None:
                ours = str(more.get("kind") or self.kind).startswith("volume-restore")
                if ours and now == step and before:
                    os.kill(os.getpid(), signal.SIGKILL)
                record(self, now, **more)
                if ours and now == step:
                    os.kill(os.getpid(), signal.SIGKILL)

            def closing(self: Journal) -> None:
                if before and not step and self.kind == "volume-restore":
                    os.kill(os.getpid(), signal.SIGKILL)
                close(self)

            Journal.record, Journal.close = dying, closing  # type: ignore[method-assign]
            work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
