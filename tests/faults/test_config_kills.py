"""A restore of config files in place dies at a random step, again and again: every file is whole, old or new.

Seeded; a sample in ``make test``, all trials in ``make soak``.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.config_files.plan import ConfigRequest, make_plan
from engine.config_files.restore import run
from tests.functional.config_machine import Machine, change
from tests.soak import SEED, trials

TRIALS = trials(25, 400)
STEPS = ("rename", "mkdir", "chmod", "chown", "utime", "symlink", "link", "unlink", "fsync", "write", "mkfifo")
"""What a restore calls to change anything; it dies before one of these calls."""


@pytest.mark.soak
def test_a_restore_in_place_that_dies_anywhere_leaves_every_file_whole(
    tmp_path: Path, counted_trials: Callable[[int], None]
) -> None:
    machine = Machine(tmp_path)
    machine.back_up()
    good = _contents(machine.root)
    change(machine)
    shutil.rmtree(machine.root / "etc/letsencrypt/live")
    bad = _contents(machine.root)
    kept = tmp_path / "bad"
    shutil.copytree(machine.root, kept, symlinks=True, copy_function=shutil.copy2, ignore=_pipes)
    dice = random.Random(f"{SEED}/config")
    died = 0
    for trial in range(TRIALS):
        died += _dies(machine, dice.randrange(1, 120))
        now = _contents(machine.root)
        for path, content in now.items():
            if ".backup-flows-" not in path:
                assert content in (good.get(path), bad.get(path)), f"trial {trial}, seed {SEED}: {path} is neither"
        assert not [path for path in bad if path not in now], f"trial {trial}, seed {SEED}: a file is gone"
        with machine.open() as site:
            site.sweep()
            assert not [path for path in _contents(machine.root) if ".backup-flows-" in path]
            run(site, make_plan(site, ConfigRequest(into="/", safety_backup=False)), approved=True)
        after = _contents(machine.root)
        assert {path: after.get(path) for path in good} == good
        _put_back(kept, machine.root)
    counted_trials(TRIALS)
    assert died > TRIALS / 2, "hardly any trial died: the steps are not those of a restore any more"


def _dies(machine: Machine, step: int) -> bool:
    """A restore in a process of its own that is killed before its n-th change; false where it had fewer."""
    child = os.fork()
    if child == 0:
        try:
            count = 0

            def counted(real: Callable[..., Any]) -> Callable[..., Any]:
                def call(*args: Any, **kwargs: Any) -> Any:
                    nonlocal count
                    count += 1
                    if count == step:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*args, **kwargs)

                return call

            with machine.open() as site:
                plan = make_plan(site, ConfigRequest(into="/", safety_backup=False))
                for name in STEPS:
                    setattr(os, name, counted(getattr(os, name)))
                run(site, plan, approved=True)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _contents(root: Path) -> dict[str, object]:
    """What each file or link holds, by path; a directory's entry says only that it is one."""
    found: dict[str, object] = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder) / name
            key = str(path.relative_to(root))
            if path.is_symlink():
                found[key] = ("link", os.readlink(path))
            elif path.is_file():
                found[key] = path.read_bytes()
            else:
                found[key] = "directory or pipe"
    return found


def _pipes(folder: str, files: list[str]) -> list[str]:
    return [name for name in files if (Path(folder) / name).is_fifo()]


def _put_back(kept: Path, root: Path) -> None:
    """The bad evening again, for the next trial."""
    for path in (root / "etc", root / "opt"):
        shutil.rmtree(path)
    shutil.copytree(kept, root, symlinks=True, copy_function=shutil.copy2, dirs_exist_ok=True)
    os.mkfifo(root / "etc/nginx/odd/pipe")
