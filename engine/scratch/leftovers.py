"""What a scratch server leaves on the machine, and its removal, whoever made it.

Every directory, container and network is in a journal before it is made, under a name that nothing else
has. The journals stand apart from those of restores: a sweep of these never speaks to a configured server.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.errors
import requests.exceptions

from engine.errors import BackupError, IntegrityError, ToolFailed, Unreachable
from engine.journal import Journal, abandoned
from engine.processes.place import docker_client

PREFIX = "backup-flows-scratch-"
"""How everything is called that belongs to a scratch server: directories, containers, networks."""
LABEL = "backup-flows.scratch"
_KIND = "scratch"
_PATIENCE = 30.0


def journals(state: Path) -> Path:
    """Where the journals of scratch servers stand, below a vault's state directory."""
    return state / "scratch"


def begin(state: Path, source: str, place: str) -> Journal:
    """The journal of a new scratch server; ``clear`` it in the end."""
    return Journal.create(journals(state), _KIND, source=source, place=place)


@contextlib.contextmanager
def held(state: Path, source: str, place: str) -> Iterator[Journal]:
    """The journal of a new scratch server, for as long as the block lasts; ``clear``ed then.

    Raises:
        What ``clear`` does, where the block ends well. Else what went wrong in it is what matters: the next run's
        sweep removes what stays.
    """
    journal = begin(state, source, place)
    try:
        yield journal
    except BaseException:
        try:
            clear(journal)
        except BackupError:
            journal.release()
        raise
    clear(journal)


def new_name() -> str:
    """A name that nothing has."""
    return PREFIX + secrets.token_hex(6)


def make_directory(journal: Journal, parent: Path) -> Path:
    """A new private directory, ours, removed by ``clear``."""
    path = parent / new_name()
    journal.record("directory", path=str(path))
    path.mkdir(mode=0o700, parents=True)
    return path


def clear(journal: Journal) -> list[str]:
    """Remove everything this journal knows of, and the journal. Says what was still there.

    Raises:
        Unreachable: The container engine does not answer. ToolFailed: something would not go. The journal
            stays then, and the next sweep tries again.
    """
    done: list[str] = []
    for step in reversed(journal.steps):
        if step["step"] == "container":
            done += _remove(step, "containers", force=True, v=True)
        elif step["step"] == "network":
            done += _remove(step, "networks")
        elif step["step"] == "directory":
            done += _remove_directory(Path(step["path"]))
        elif step["step"] == "cluster" and (step["kind"] == "container" or Path(step["mark"]).is_file()):
            done.append(f"a new server in {step['where']} is not finished: restore there again, which begins anew")
    journal.close()
    return done


def sweep(state: Path) -> tuple[list[str], list[str]]:
    """Remove the scratch servers of dead runs: what went, and what could not go yet."""
    done: list[str] = []
    problems: list[str] = []
    for journal in abandoned(journals(state), _KIND):
        try:
            done += [f"{each} (of a scratch server)" for each in clear(journal)]
        except BackupError as error:
            journal.release()
            problems.append(f"a scratch server of {journal.facts.get('source', '?')} begun at "
                            f"{journal.facts.get('at', '?')} is still there: {error.message}")  # fmt: skip
    return done, problems


def end_processes(directory: Path) -> int:
    """Kill every process whose command line names something below that directory; how many there were.

    Raises:
        ToolFailed: One does not end.
    """
    ended: set[int] = set()
    deadline = time.monotonic() + _PATIENCE
    while found := _processes(directory):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended.update(found)
        if time.monotonic() > deadline:
            raise ToolFailed(f"Processes {found} of the scratch server in {directory} do not end.")
        time.sleep(0.02)
    return len(ended)


def _remove_directory(directory: Path) -> list[str]:
    if not directory.name.startswith(PREFIX):
        raise IntegrityError(f"A journal names {directory} as a scratch directory, which it cannot be.",
                             kept="nothing there was touched")  # fmt: skip
    done = [f"ended {count} processes in {directory}"] if (count := end_processes(directory)) else []
    if directory.is_dir() and not directory.is_symlink():
        shutil.rmtree(directory, ignore_errors=True)
        if directory.exists():
            raise ToolFailed(f"The scratch directory {directory} cannot be removed.",
                             remedy=f"look why, then: rm -rf {directory}")  # fmt: skip
        done.append(f"removed {directory}")
    return done


def _remove(step: dict[str, Any], kind: str, **options: bool) -> list[str]:
    name = str(step["name"])
    client = docker_client(step.get("docker_host"))
    try:
        getattr(client, kind).get(name).remove(**options)
        return [f"removed {kind[:-1]} {name}"]
    except docker.errors.NotFound:
        return []
    except (docker.errors.APIError, requests.exceptions.RequestException) as error:
        if _is_being_removed(error):
            return []
        raise Unreachable(f"The {kind[:-1]} {name} could not be removed: {error}.") from None
    finally:
        client.close()


def _is_being_removed(error: Exception) -> bool:
    return "already in progress" in str(error)


def _processes(directory: Path) -> list[int]:
    wanted = f"{directory}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            state = (entry / "stat").read_text(errors="replace").rsplit(")", 1)[1].split()[0]
            if state != "Z" and wanted in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return sorted(found)
