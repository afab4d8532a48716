"""A restore of config files in place dies at any step: the next sweep leaves all as it was or all as restored, never a
mixture, and what was replaced is there.

Each call that changes anything is a step. A seeded sample in ``make test``, every step in ``make soak``.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.config_files.plan import ConfigRequest, make_plan
from engine.config_files.restore import run
from engine.journal import Journal
from tests.functional.config_machine import Machine, change, facts
from tests.soak import SEED, trials

STEPS = (
    "rename", "mkdir", "rmdir", "chmod", "chown", "utime", "symlink", "link", "unlink", "fsync", "write", "mkfifo",
    "setxattr", "removexattr",
)  # fmt: skip
"""What a restore calls to change anything; it dies before one of these calls."""
Child = Callable[[Machine], None]


class Evening:
    """A machine after a bad evening, again and again, and what it is to look like once all is put back."""

    def __init__(self, tmp_path: Path) -> None:
        self.machine = Machine(tmp_path)
        self.machine.back_up()
        change(self.machine)
        shutil.rmtree(self.machine.root / "etc/letsencrypt/live")
        (self.machine.root / "etc/nginx/odd/script").chmod(0o700)
        self._copy = tmp_path / "copy"
        _copy(self.machine.root, self._copy)
        self.bad = self.state()
        restore(self.machine)
        self.good = self.state()
        self.kept = self.check("good")
        self.again()

    def again(self) -> None:
        for folder in (self.machine.root, self.machine.vault / "restored"):
            shutil.rmtree(folder, ignore_errors=True)
        _copy(self._copy, self.machine.root)

    def state(self, below: Path | None = None) -> list[str]:
        """As find and sha256sum tell it, but for the times of directories: a file that is put there changes them."""
        told = (line.split("\t") for line in facts(below or self.machine.root))
        return ["\t".join(line[:4] + line[5:] if line[1:2] == ["d"] else line) for line in told]

    def check(self, told: str = "") -> list[str]:
        """All old or all new; what was replaced is kept if and only if it is new. Returns that."""
        now = self.state()
        assert now in (self.bad, self.good), f"{told}: a mixture: {sorted(set(now) ^ set(self.bad))}"
        assert list((self.machine.vault / "state/journals").glob("*.jsonl")) == [], told
        found = sorted((self.machine.vault / "restored").glob("*")) if now == self.good else []
        left = [each for each in (self.machine.vault / "restored").glob("*") if each not in found]
        assert left == [] and len(found) == (now == self.good), f"{told}: {left} {found}"
        if not found:
            return []
        assert found[0].name.startswith("config_before_") and sorted(os.listdir(found[0])) == ["before.jsonl", "files"]
        kept = [line for line in self.state(found[0] / "files") if "\td\t" not in line]
        below = str(self.machine.root).lstrip("/")
        kept = [line.replace(f"{below}/", "") for line in kept if f"{below}/" in line]
        assert kept and set(_without_names(kept)) <= set(_without_names(self.bad)), f"{told}: not what was replaced"
        assert not hasattr(self, "kept") or kept == self.kept, told
        return kept


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Evening:
    return Evening(tmp_path_factory.mktemp("evening"))


@pytest.fixture
def evening(first: Evening) -> Evening:
    first.again()
    return first


def restore(machine: Machine) -> None:
    with machine.open() as site:
        run(site, make_plan(site, ConfigRequest(into="/", safety_backup=False)), approved=True)


def sweep(machine: Machine) -> None:
    with machine.open() as site:
        assert site.sweep().problems == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["begin", "place", "swap", "done"])
def test_a_restore_in_place_that_dies_at_a_step_of_its_journal_is_all_old_or_all_new(
    evening: Evening, step: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Journal.record

    def dying(self: Journal, what: str, **more: Any) -> None:
        if what == step and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        record(self, what, **more)
        if what == step:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Journal, "record", dying)
    assert killed(evening.machine, restore)
    monkeypatch.undo()
    sweep(evening.machine)
    assert bool(evening.check(step)) == (step == "done" or (step == "swap" and after))
    restore(evening.machine)
    assert evening.check()


@pytest.mark.soak
def test_a_restore_in_place_that_dies_anywhere_is_all_old_or_all_new(
    evening: Evening, counted_trials: Callable[[int], None]
) -> None:
    dice = random.Random(f"{SEED}/config")
    last = steps_of(evening, restore)
    chosen = sorted(dice.sample(range(1, last + 1), min(last, trials(10, last))))
    for step in chosen:
        assert killed(evening.machine, restore, step), f"step {step} of {last}"
        killed(evening.machine, sweep, dice.randrange(1, 60))  # and so does the sweep
        sweep(evening.machine)
        evening.check(f"step {step} of {last}, seed {SEED}")
        evening.again()
    counted_trials(len(chosen))


@pytest.mark.soak
def test_a_restore_in_place_that_cannot_go_on_and_dies_while_it_is_taken_back_is_all_old_or_all_new(
    evening: Evening, counted_trials: Callable[[int], None]
) -> None:
    dice = random.Random(f"{SEED}/config back")
    made = 0
    for fails in range(1, 5):
        refusing = _fails_at(fails)
        last = steps_of(evening, refusing)
        assert evening.check(f"rename {fails} fails") == []
        chosen = dice.sample(range(last // 2, last + 1), trials(1, last - last // 2))
        for step in chosen:
            evening.again()
            assert killed(evening.machine, refusing, step)
            sweep(evening.machine)
            evening.check(f"rename {fails} fails, step {step} of {last}, seed {SEED}")
        evening.again()
        made += len(chosen)
    counted_trials(made)


def killed(machine: Machine, act: Child, step: int = 0) -> bool:
    """Do it in a process of its own that is killed before its n-th change; false where it had fewer."""
    child = os.fork()
    if child == 0:
        try:
            _count_steps(step)
            act(machine)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def steps_of(evening: Evening, act: Child) -> int:
    """How many changes it makes, in a run that is not killed; then all is as after the bad evening again."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        write, made = os.write, _count_steps(0)
        try:
            act(evening.machine)
        finally:
            write(writing, str(made()).encode())
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading) as told:
        count = int(told.read())
    if evening.state() != evening.bad:
        evening.check()
        evening.again()
    return count


def _count_steps(last: int) -> Callable[[], int]:
    """Kill this process before that change of those it makes from now on; 0 for never."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    return lambda: count


def _fails_at(number: int) -> Child:
    """A restore whose n-th rename onto a place in the machine is refused."""

    def act(machine: Machine) -> None:
        rename, put = os.rename, 0

        def refusing(*args: Any, **kwargs: Any) -> None:
            nonlocal put
            there = kwargs.get("dst_dir_fd")
            if there is not None and os.readlink(f"/proc/self/fd/{there}").startswith(f"{machine.root}/"):
                put += 1
                if put == number:
                    raise OSError(errno.EIO, "Input/output error")
            rename(*args, **kwargs)

        os.rename = refusing
        restore(machine)

    return act


def _without_names(lines: list[str]) -> list[str]:
    """Without how many names a file has: those that are kept are fewer."""
    return ["\t".join(line.split("\t")[:6]) for line in lines]


def _copy(one: Path, other: Path) -> None:
    subprocess.run(["cp", "-a", str(one), str(other)], check=True)
