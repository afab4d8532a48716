"""Journals: steps survive a crash, torn lines do not count, and only a dead writer's is taken over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.journal import Journal, abandoned, living


def test_steps_are_read_back_in_order_after_the_writer_let_go(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "journals", "mysql-restore", database="workset")
    journal.record("side", name="workset_side")
    journal.record("swap", tables=["a", "ü"])
    journal.release()
    (found,) = abandoned(tmp_path / "journals")
    assert [step["step"] for step in found.steps] == ["begin", "side", "swap"]
    assert found.kind == "mysql-restore" and found.facts["database"] == "workset"
    assert found.reached("side") == journal.steps[1] and found.reached("never") is None


def test_a_living_writers_journal_is_left_alone(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "publish", stem="x")
    assert list(abandoned(tmp_path)) == []
    assert [facts["stem"] for facts in living(tmp_path, "publish")] == ["x"]
    journal.release()
    assert list(living(tmp_path)) == []


def test_a_closed_journal_is_gone(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "publish")
    journal.close()
    journal.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "tail", [b'{"step": "half', b'{"step": "whole but no line end"}', b"\x00\x00", b"[1]\n", b"\n"]
)
def test_a_torn_last_line_does_not_count_and_the_next_step_does_not_join_it(tmp_path: Path, tail: bytes) -> None:
    journal = Journal.create(tmp_path, "publish")
    journal.record("one")
    journal.release()
    with journal.path.open("ab") as file:
        file.write(tail)
    (found,) = abandoned(tmp_path)
    assert [step["step"] for step in found.steps] == ["begin", "one"]
    found.record("two")
    found.release()
    lines = journal.path.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == ["begin", "one", "two"]


def test_a_journal_that_died_before_its_first_line_had_done_nothing(tmp_path: Path) -> None:
    (tmp_path / "publish-20250116_020000-00000000.jsonl").write_bytes(b'{"step": "beg')
    assert list(abandoned(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_journals_come_oldest_first_whatever_their_kind(tmp_path: Path) -> None:
    for kind, stamp in (("a", "20250103"), ("z-kind", "20250101"), ("m", "20250102")):
        (tmp_path / f"{kind}-{stamp}_000000-00000000.jsonl").write_bytes(
            b'{"step": "begin", "kind": "%s"}\n' % kind.encode()
        )
    assert [journal.kind for journal in abandoned(tmp_path)] == ["z-kind", "m", "a"]


def test_a_kind_prefix_leaves_the_others(tmp_path: Path) -> None:
    for kind in ("mysql-restore", "postgres-restore"):
        Journal.create(tmp_path, kind).release()
    assert [journal.kind for journal in abandoned(tmp_path, "mysql")] == ["mysql-restore"]


def test_a_killed_writers_journal_is_taken_over(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib; from engine.journal import Journal\n"
        "j = Journal.create(pathlib.Path(sys.argv[1]), 'publish'); j.record('one'); print('on', flush=True)\n"
        "time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"on\n"
    assert list(abandoned(tmp_path)) == []
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    (found,) = abandoned(tmp_path)
    assert found.reached("one")
    found.close()


def test_no_journal_is_lost_to_a_sweep_while_it_is_being_made(tmp_path: Path) -> None:
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            for journal in abandoned(tmp_path):
                journal.release()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        made = [Journal.create(tmp_path, "publish") for _ in range(200)]
    finally:
        stop.set()
        sweeper.join()
    assert all(journal.path.exists() for journal in made)
    for journal in made:
        journal.close()


def test_a_line_for_which_there_is_no_room_leaves_the_journal_whole(tmp_path: Path) -> None:
    import resource

    journal = Journal.create(tmp_path, "publish")
    before = journal.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(OSError):
            journal.record("long", text="x" * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert journal.path.read_bytes() == before
    journal.record("next")
    assert [json.loads(line)["step"] for line in journal.path.read_text().splitlines()] == ["begin", "next"]
