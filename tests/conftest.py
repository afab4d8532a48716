"""Fixtures for every test: real servers. What they are: ``tests/servers/__init__.py``."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import pytest

ROOT = Path(__file__).parent
_WITH_PREFECT = ("integration", "faults")
_ORDER = ("integration", "faults", "functional", "unit")
pytest_plugins = ["tests.servers.fixtures", "tests.soak"]


def pytest_configure(config: pytest.Config) -> None:
    """A terminated session stops its servers, as an interrupted one does."""
    signal.signal(signal.SIGTERM, _interrupt)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test is marked by the folder it stands in: unit, functional, integration or faults.

    Where several processes share the work, a file stays in one of them; what needs a Prefect server does so
    in one together, and first, since that takes longest.
    """
    for item in items:
        folder = item.path.relative_to(ROOT).parts[0]
        item.add_marker(folder)
        item.add_marker(pytest.mark.xdist_group("prefect" if folder in _WITH_PREFECT else str(item.path)))
    items.sort(key=lambda item: _ORDER.index(item.path.relative_to(ROOT).parts[0]))


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Raised here, not sent as SIGINT: a session started in the background ignores that one.
    raise KeyboardInterrupt
