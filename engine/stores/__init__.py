"""Places that keep backups: a local directory and S3 buckets, behind one narrow contract (``base``)."""

from engine.config import ObjectStoreConfig
from engine.stores.base import ObjectInfo, StagedWrite, Store, Stored
from engine.stores.local import LocalStore
from engine.stores.s3 import S3Store
from engine.stores.s3_bucket import LockedUntil, unlocked

__all__ = ["LocalStore", "ObjectInfo", "S3Store", "StagedWrite", "Store", "Stored", "open_store"]


def open_store(config: ObjectStoreConfig, locked_until: LockedUntil = unlocked) -> Store:
    """The store that a replica's configuration describes. Opens no connection yet.

    Args:
        locked_until: Until when an object is to be locked, by its key; asked where the configuration names a lock.
    """
    return S3Store(config, locked_until=locked_until)
