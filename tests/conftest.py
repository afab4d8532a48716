"""Fixtures for every test: real servers. What they are: ``tests/servers/__init__.py``."""

from __future__ import annotations

import os
import signal
from math import inf
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parent
PREFECT_SERVERS = 2
_WITH_PREFECT = [
    *sorted((ROOT / "integration").glob("test_*.py")),
    ROOT / "faults" / "test_lost_host.py",
    ROOT / "faults" / "test_random_kills.py",
]
_ORDER = ("integration", "faults", "functional", "unit")
# What runs a task by itself starts a Prefect server for it, which has 20 seconds otherwise.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "300")
pytest_plugins = ["tests.servers.fixtures", "tests.soak"]
# An example takes as long as the machine's other work lets it: time proves nothing here.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    """A terminated session stops its servers, as an interrupted one does."""
    signal.signal(signal.SIGTERM, _interrupt)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test is marked by the folder it stands in: unit, functional, integration or faults; what needs a
    Prefect server comes first, since it takes longest."""
    for item in items:
        item.add_marker(_folder(item))
    items.sort(key=lambda item: (_share(item.path), _ORDER.index(_folder(item))))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Where several processes share the work, a file stays whole in one of them, and the files that run flows
    share a few Prefect servers: one costs as much as many tests."""
    return _Files(config, log) if config.getvalue("dist") == "loadfile" else None


class _Files(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        share = _share(ROOT.parent / path)
        return path if share == inf else f"prefect {share}"


def _share(path: Path) -> float | int:
    """Which of the Prefect servers a file's tests run on; none: infinity."""
    return _WITH_PREFECT.index(path) % PREFECT_SERVERS if path in _WITH_PREFECT else inf


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT).parts[0]


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Raised here, not sent as SIGINT: a session started in the background ignores that one.
    raise KeyboardInterrupt
