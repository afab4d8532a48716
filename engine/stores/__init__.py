"""Places that keep backups: a local directory and S3 buckets, behind one narrow contract (``base``)."""

from pathlib import Path

from engine.config import ObjectStoreConfig
from engine.stores.base import ObjectInfo, StagedWrite, Store, Stored
from engine.stores.disk import DiskStore
from engine.stores.local import LocalStore
from engine.stores.s3 import S3Store
from engine.stores.s3_bucket import LockedUntil, unlocked
from engine.stores.uploads import FOLDER

__all__ = ["LocalStore", "ObjectInfo", "S3Store", "StagedWrite", "Store", "Stored", "open_store"]


def open_store(
    config: ObjectStoreConfig, locked_until: LockedUntil = unlocked, *, root: Path | None = None, state: str = ".state"
) -> Store:
    """The store that a replica's configuration describes. Opens no connection yet.

    Args:
        locked_until: Until when an object is to be locked, by its key; asked where the configuration names a lock.
        root: The vault's own, whose disk a directory must not be on, and where uploads under way keep their journals.
        state: This site's own folder, relative to any local root.
    """
    if config.directory:
        directory = Path(config.directory)
        return DiskStore(config.name, directory, directory / state, root or Path("/"))
    return S3Store(config, locked_until=locked_until, uploads=root / state / FOLDER if root else None)
