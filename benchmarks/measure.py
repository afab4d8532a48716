"""Timing whole commands in turn, and results as one list of figures."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).with_name("results.json")
ROUNDS = 3


@dataclass(frozen=True)
class Figure:
    """One result; ``ratio`` is above 1 where we are better, None for a plain figure."""

    name: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None


def against(name: str, ours: float, peer: str, theirs: float, unit: str = "s") -> Figure:
    """A figure where less is better, held against a peer's."""
    return Figure(name, round(ours, 3), unit, peer, round(theirs, 3), round(theirs / ours, 3))


def plain(name: str, value: float, unit: str) -> Figure:
    """A figure on its own."""
    return Figure(name, round(value, 3), unit)


def in_turn(contestants: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """Run each contestant once unmeasured, then all in turn; the median seconds of each."""
    for run in contestants.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            times[name].append(run())
    return {name: statistics.median(each) for name, each in times.items()}


def shell(script: str, env: Mapping[str, str]) -> float:
    """Seconds that a bash script takes; every part of a pipe must succeed."""
    begun = time.perf_counter()
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], check=True, env=dict(env), stdin=subprocess.DEVNULL)
    return time.perf_counter() - begun


def save(figures: list[Figure]) -> None:
    """Put figures into the results file; others that stand there stay."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    new = {figure.name: asdict(figure) for figure in figures}
    merged = {each["name"]: each for each in kept} | new
    RESULTS.write_text(json.dumps([merged[name] for name in sorted(merged)], indent=1) + "\n")


def show(figures: list[Figure]) -> None:
    """Print figures, one a line."""
    for each in figures:
        beside = f"   {each.peer} {each.peer_value:g} {each.unit}   ratio {each.ratio:.2f}" if each.ratio else ""
        print(f"{each.name:44} {each.value:>10g} {each.unit:5}{beside}", flush=True)
