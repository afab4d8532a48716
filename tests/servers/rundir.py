"""The directory that holds all servers of one test session, and the clearing up after a session that died.

A session keeps a lock on its directory. Whoever can take that lock knows the session is dead, ends the
processes that still name the directory, by their ids, unmounts what an engine left, and deletes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "bf-test-"


@contextlib.contextmanager
def session_directory() -> Iterator[Path]:
    """A directory for this session's servers; others may pass through it. Gone afterwards."""
    sweep_dead_sessions()
    # Short: the path of a Unix socket may have 107 characters.
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
    directory.chmod(0o755)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield directory
        finally:
            clear(directory)


def sweep_dead_sessions() -> None:
    """Clear up after every session whose process is gone."""
    for directory in Path("/tmp").glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (directory / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            clear(directory)


def clear(directory: Path) -> None:
    """End what still runs in a session's directory, unmount what is mounted below it, delete it."""
    _end_processes(directory)
    unmount_below(directory)
    for network in directory.glob("*/network"):
        remove_bridges(ipaddress.IPv4Network(network.read_text().strip()))
    shutil.rmtree(directory, ignore_errors=True)


def unmount_below(directory: Path) -> None:
    """Unmount what an engine that ended left mounted in its directory."""
    for mount in sorted(_mounts_below(directory), reverse=True):
        subprocess.run(["umount", "--lazy", mount], capture_output=True)


def remove_bridges(network: ipaddress.IPv4Network) -> None:
    """Take away every bridge of this host whose address lies in a private engine's network."""
    listing = subprocess.run(["ip", "-json", "-4", "address"], check=True, capture_output=True).stdout
    for interface in json.loads(listing or "[]"):
        addresses = [entry["local"] for entry in interface.get("addr_info", [])]
        if any(ipaddress.IPv4Address(address) in network for address in addresses):
            subprocess.run(["ip", "link", "delete", interface["ifname"]], capture_output=True)


def _end_processes(directory: Path) -> None:
    """Kill until none is left: an engine's helpers may start another while they are being ended."""
    for _ in range(50):
        found = [pid for pid in _numbers() if pid != os.getpid() and _belongs(pid, str(directory))]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _numbers() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _belongs(pid: int, directory: str) -> bool:
    """A server of ours names its directory in its command line; a container's root file system lies in it."""
    process = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):
        program, *arguments = (process / "cmdline").read_text(errors="replace").split("\0")
        if not program:
            return False
        if Path(program).name in OURS and any(f"{directory}/" in argument for argument in arguments):
            return True
        if "moto.server" in arguments:
            return str((process / "cwd").readlink()).startswith(f"{directory}/")
        for line in (process / "mountinfo").read_text().splitlines():
            if line.split()[4] == "/":
                return f"{directory}/" in line
    return False


OURS = frozenset({
    "mariadbd", "postgres", "dockerd", "containerd", "containerd-shim-runc-v2", "rclone", "docker-proxy",
    "docker-registry",
})  # fmt: skip


def _mounts_below(directory: Path) -> list[str]:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [mount for mount in mounts if mount.startswith(f"{directory}/")]
