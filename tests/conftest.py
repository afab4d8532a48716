"""Fixtures for every test: real servers. What they are: ``tests/servers/__init__.py``."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import pytest

ROOT = Path(__file__).parent
PREFECT_SERVERS = 2
_ORDER = ("integration", "faults", "functional", "unit")
pytest_plugins = ["tests.servers.fixtures", "tests.soak"]


def pytest_configure(config: pytest.Config) -> None:
    """A terminated session stops its servers, as an interrupted one does."""
    signal.signal(signal.SIGTERM, _interrupt)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test is marked by the folder it stands in: unit, functional, integration or faults.

    Where several processes share the work, a file stays whole in one of them. Files that run flows share
    a few Prefect servers (one costs as much as many tests) and come first, since they take longest.
    """
    with_prefect = sorted({item.path for item in items if "prefect" in getattr(item, "fixturenames", ())})
    groups = {path: f"prefect-{number % PREFECT_SERVERS}" for number, path in enumerate(with_prefect)}
    for item in items:
        item.add_marker(_folder(item))
        item.add_marker(pytest.mark.xdist_group(groups.get(item.path, str(item.path.relative_to(ROOT)))))
    items.sort(key=lambda item: (item.path not in groups, groups.get(item.path, ""), _ORDER.index(_folder(item))))


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT).parts[0]


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Raised here, not sent as SIGINT: a session started in the background ignores that one.
    raise KeyboardInterrupt
