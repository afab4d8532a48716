"""What the last prune left in each place, for the next one to compare with. A note of this machine, no promise:
without it a prune is only more careful."""

from __future__ import annotations

import json
from pathlib import Path

from engine.names import noted_moment
from engine.retention.brakes import LastRun
from engine.stores.local_errors import speaking_of
from engine.whole import replace_file

FILE = "last-prune.json"


def last_runs(state: Path) -> dict[str, LastRun]:
    """By place; empty where nothing can be read."""
    try:
        told = json.loads((state / FILE).read_bytes())
        return {
            str(location): LastRun(
                noted_moment(each["at"]),
                {str(group): int(count) for group, count in each["left"].items()},
                noted_moment(each["newest"]) if each.get("newest") else None,
            )
            for location, each in told.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def remember(state: Path, runs: dict[str, LastRun]) -> None:
    """Write them down, whole or not at all. Raises DiskFull, StoreError."""
    told = {
        location: {
            "at": run.at.isoformat(),
            "left": dict(run.left),
            "newest": run.newest.isoformat() if run.newest is not None else None,
        }
        for location, run in runs.items()
        if run.at is not None
    }
    with speaking_of("write to", state / FILE, state):
        replace_file(state / FILE, json.dumps(told, indent=1, sort_keys=True))
