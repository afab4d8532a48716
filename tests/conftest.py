"""Fixtures for every test: real servers. What they are: ``tests/servers/__init__.py``."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import pytest

ROOT = Path(__file__).parent
pytest_plugins = ["tests.servers.fixtures", "tests.soak"]


def pytest_configure(config: pytest.Config) -> None:
    """A terminated session stops its servers, as an interrupted one does."""
    signal.signal(signal.SIGTERM, _interrupt)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test is marked by the folder it stands in: unit, functional, integration or faults."""
    for item in items:
        folder = item.path.relative_to(ROOT).parts[0]
        item.add_marker(folder)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Raised here, not sent as SIGINT: a session started in the background ignores that one.
    raise KeyboardInterrupt
