"""What the tests and the checks need from npm: installed once per recipe outside the tree, as images are."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.servers.images import cache_directory

_OPTIONS = ("--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund")
_WAITS = (5, 20, 0)
"""Seconds before the next try: files come over the network, and a break in it passes."""


def installed(name: str, recipe: Any, install: Callable[[Path], None]) -> Path:
    """The directory ``node_modules`` of a recipe, made by ``install`` when it is not there."""
    key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]
    folder = cache_directory() / f"{name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    modules = folder / "node_modules"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ((folder / "ready").exists() and modules.is_dir()):
            install(folder)
            (folder / "ready").touch()
    return modules


def fetch(folder: Path, package: dict[str, Any]) -> None:
    """Install what a ``package.json`` names into a folder; no program of a package is run.

    Raises:
        RuntimeError: npm is not there, or could not; its last words.
    """
    if not shutil.which("npm"):
        raise RuntimeError("npm is not installed; run: scripts/setup.sh dev")
    (folder / "package.json").write_text(json.dumps(package))
    for waits in _WAITS:
        done = subprocess.run(["npm", "install", *_OPTIONS], cwd=folder, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return
        time.sleep(waits)
    last = "\n".join((done.stderr or done.stdout).splitlines()[-10:])
    raise RuntimeError(f"npm could not install {', '.join(package['dependencies'])}:\n{last}")
