"""Room for what will be loaded into a throwaway place: asked there, before anything is."""

from __future__ import annotations

from engine.errors import DiskFull
from engine.processes import Command, Runner


def free_there(runner: Runner, path: str) -> int:
    """Bytes that are free where ``path`` is, as the place itself sees it. Raises ToolFailed, Unreachable."""
    return int(runner.run(Command(("df", "-Pk", path))).text.splitlines()[-1].split()[3]) * 1024


def refuse_without(needed: int, free: int, what: str, where: str) -> None:
    """Raises DiskFull, with figures in bytes."""
    if free < needed:
        raise DiskFull(
            f"{what} needs about {needed:,} bytes in {where}; {free:,} are free.",
            kept="nothing was begun; production and the backups were not touched",
            remedy=f"free {needed - free:,} bytes there",
        )
