"""Fixtures for every test: real servers. What they are: ``tests/servers/__init__.py``."""

from __future__ import annotations

import signal
from types import FrameType

import pytest

pytest_plugins = ["tests.servers.fixtures"]


def pytest_configure(config: pytest.Config) -> None:
    """A terminated session stops its servers, as an interrupted one does."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Raised here, not sent as SIGINT: a session started in the background ignores that one.
    raise KeyboardInterrupt
