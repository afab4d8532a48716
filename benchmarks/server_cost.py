"""What a server's processes have used so far: processor time and bytes written, its children's included."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Used:
    """Seconds of processor time, and bytes handed to the disk."""

    cpu: float = 0.0
    written: int = 0

    def __add__(self, other: Used) -> Used:
        return Used(self.cpu + other.cpu, self.written + other.written)

    def __sub__(self, other: Used) -> Used:
        return Used(self.cpu - other.cpu, self.written - other.written)


def used(pid: int) -> Used:
    """By a process and all below it. What ended children used, Linux adds to their parent's account."""
    total = Used()
    for each in (pid, *_below(pid)):
        with contextlib.suppress(OSError):
            total += _one(each)
    return total


def _one(pid: int) -> Used:
    # after the name: state ppid ... utime (12th) stime cutime cstime
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    io = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return Used(sum(map(int, fields[11:15])) / _TICKS, int(io["write_bytes"]))


def _below(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_below(child)]
    return found
