"""Background processes with a pid file: started in a session of their own, stopped by exactly that pid.

A pid file holds the pid and the process's start time (clock ticks since boot, ``/proc/<pid>/stat``), so a
pid that another program got meanwhile is never mistaken for ours.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ConfigError


@dataclass(frozen=True)
class Background:
    """One named process of a home directory: ``<home>/run/<name>.json`` and ``<home>/logs/<name>.log``."""

    home: Path
    name: str

    @property
    def log(self) -> Path:
        return self.home / "logs" / f"{self.name}.log"

    @property
    def _file(self) -> Path:
        return self.home / "run" / f"{self.name}.json"

    def pid(self) -> int | None:
        """Its pid while it runs, else None."""
        try:
            record = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        pid = int(record["pid"])
        return pid if _started(pid) == record["started"] else None

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> int:
        """Start it unless it runs already; gives the pid."""
        running = self.pid()
        if running is not None:
            return running
        for directory in (self.log.parent, self._file.parent):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.log.open("ab") as log:
            self.log.chmod(0o600)
            process = subprocess.Popen(
                argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        _CHILDREN[process.pid] = process
        self._file.write_text(json.dumps({"pid": process.pid, "started": _started(process.pid)}))
        return process.pid

    def stop(self, timeout: float = 20.0) -> bool:
        """SIGTERM, then SIGKILL after ``timeout`` seconds; also what it left in its process group.

        Returns whether it was running.
        """
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + timeout
            while self.pid() is not None and time.monotonic() < deadline:
                _reap(pid)
                time.sleep(0.1)
        group = self._group()
        if group is not None:
            _kill_group(group)
            _reap(group)
        self._file.unlink(missing_ok=True)
        return pid is not None

    def kill(self) -> None:
        """End it and its process group as a power cut would (SIGKILL); its pid file stays."""
        group = self._group()
        if group is not None:
            _kill_group(group)
            _reap(group)

    def _group(self) -> int | None:
        """Its process group, also when it has died and left others in it; None if that id is another's now."""
        try:
            record = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        pid = int(record["pid"])
        return pid if _started(pid) in {None, record["started"]} else None

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def ensure_alive(self) -> None:
        """Raises ConfigError with the end of its log when it has ended."""
        if self.pid() is None:
            raise ConfigError(f"The {self.name} ended as it started:\n{self.tail()}", remedy=f"see {self.log}")


_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


def _reap(pid: int) -> None:
    child = _CHILDREN.get(pid)
    if child is not None and child.poll() is not None:
        del _CHILDREN[pid]


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _started(pid: int) -> int | None:
    """Start time of a living process in clock ticks since boot; None for a dead one or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in {"Z", "X"} else int(fields[19])
