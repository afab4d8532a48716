"""Files that really cannot be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534


def bad_sector(path: Path) -> None:
    """Reading it fails with EIO, as on a bad sector: the kernel says so of the first byte of a process's memory.
    Everything else works: it lists, and can be deleted."""
    path.unlink()
    path.symlink_to("/proc/self/mem")
    with pytest.raises(OSError) as error:
        path.read_bytes()
    assert error.value.errno == errno.EIO


@contextmanager
def as_another_user(*roots: Path) -> Iterator[None]:
    """For a while everything below these is a user's who is not root, and we are that user."""
    if os.geteuid() != 0:
        yield
        return
    for root in roots:
        for path in [root, *root.rglob("*")]:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
