"""Run client tools, on this host or inside a container; every exit status checked, nothing left running."""

from engine.processes.base import CHUNK, Command, Completed, Process, Runner, gathered
from engine.processes.container import ContainerRunner
from engine.processes.local import LocalRunner
from engine.processes.place import find_container, runner_for

__all__ = [
    "CHUNK",
    "Command",
    "Completed",
    "ContainerRunner",
    "LocalRunner",
    "Process",
    "Runner",
    "find_container",
    "gathered",
    "runner_for",
]
