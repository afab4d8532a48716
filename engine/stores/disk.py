"""A second disk of this machine as a replica: a directory that must be there and on a disk of its own.

Where a disk is not mounted its directory is merely empty: a listing would say that nothing is there, and a copy
would fill the first disk. So every verb looks first.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from engine.errors import Unreachable
from engine.stores.base import ObjectInfo, Stored
from engine.stores.local import LocalStore
from engine.stores.local_stage import LocalStage


class DiskStore(LocalStore):
    """Files below a directory of another disk.

    Args:
        name: The replica's name.
        directory: It is never made by us.
        state: This site's own directory on that disk.
        beside: The vault's root, whose disk it must not be.
    """

    def __init__(self, name: str, directory: Path, state: Path, beside: Path) -> None:
        super().__init__(directory, state)
        self.name = name
        self._beside = beside

    def require(self) -> None:
        """Raises Unreachable unless the directory is there, on a disk of its own."""
        if not self.root.is_dir():
            raise self._away("is not there")
        mount = _mount_of(self.root)
        if mount in (Path("/"), _mount_of(self._beside)):
            raise self._away(f"is on the disk of {mount}, which is that of the vault or of the system")

    def check(self) -> None:
        self.require()
        super().check()

    def stage(
        self, key: str, *, warm: bool = False, archive: bool = False, until: datetime | None = None
    ) -> LocalStage:
        self.require()
        return super().stage(key, warm=warm, archive=archive)

    def duplicate(self, key: str, to: str, *, archive: bool = False) -> bool:
        self.require()
        return super().duplicate(key, to, archive=archive)

    def put(self, key: str, data: bytes) -> Stored:
        self.require()
        return super().put(key, data)

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        self.require()
        return super().read(key, start, length)

    def stat(self, key: str) -> ObjectInfo | None:
        self.require()
        return super().stat(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self.require()
        return super().list(prefix)

    def folders(self, prefix: str = "") -> Iterator[str]:
        self.require()
        return super().folders(prefix)

    def delete(self, key: str) -> None:
        self.require()
        super().delete(key)

    def retained_until(self, key: str) -> datetime | None:
        self.require()
        return super().retained_until(key)

    def sweep(self, older_than_seconds: float = 0.0) -> builtins.list[str]:
        self.require()
        return super().sweep(older_than_seconds)

    def _away(self, why: str) -> Unreachable:
        return Unreachable(
            f"The directory {self.root} of replica {self.name} {why}: is its disk mounted?",
            kept="the local copy; nothing was written",
            remedy=f"mount it, and look at: findmnt -T {self.root}; the next run catches up",
        )


def _mount_of(path: Path) -> Path:
    """The mount point that a path stands below; of one that is not there yet, its nearest parent's."""
    path = Path(os.path.realpath(path))
    while not path.exists():
        path = path.parent
    while not os.path.ismount(path):
        path = path.parent
    return path
