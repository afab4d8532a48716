"""The leases of one site's vault: for which replicas runs of other hosts are kept away, and under which names.

Replicas in a bucket have them, where the endpoint takes conditions; elsewhere the locks of this host are all there is.
Not every lock of a vault has one. A copy's turn has none: what is copied stands in one host's local root alone. Nor has
a verification: it takes nothing away that another run leans on.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.config import ObjectStoreConfig
from engine.endpoints import keeps_leases
from engine.leases import TERM, Hold, Lease
from engine.stores.lease_object import LeaseObject

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Leases:
    """Of one vault. Safe to use from several threads.

    Attributes:
        term: Seconds that a lease lasts unless it is renewed.
    """

    def __init__(self, site: str, state: Path, replicas: Mapping[str, ObjectStoreConfig]) -> None:
        self.term = TERM
        self._site = site
        self._state = state
        self._replicas = replicas
        self._guard = threading.Lock()
        self._kept: dict[str, bool] = {}

    @contextlib.contextmanager
    def held(self, location: str, name: str, what: str) -> Iterator[Hold]:
        """Hold the lease of that name in a place, where it has leases. The lock of this host that goes with it is held
        already.

        Raises:
            LockHeld: A run on another host has it. CredentialsRefused: the key may not write it. And what the store
                raises.
        """
        config = self._replicas.get(location)
        if config is None or config.directory or not self._keeps(config):
            yield Hold()
            return
        thing = LeaseObject(config, self._site, name)
        lock = lock_of(self._state, location, name)
        lease = Lease(thing, what, term=self.term, lock=lock, deletes=config.deletes)
        lease.take()
        try:
            yield lease
        finally:
            lease.release()

    def _keeps(self, config: ObjectStoreConfig) -> bool:
        """Asked once in a run; again only where the endpoint was in trouble."""
        with self._guard:
            if config.name not in self._kept:
                answer = keeps_leases(self._state, config)
                if answer == "unknown":
                    return False
                self._kept[config.name] = answer == "yes"
            return self._kept[config.name]


def lock_of(state: Path, location: str, name: str) -> str:
    """What tells a lock of this host, in this life of its kernel, from every other; empty where that cannot be told."""
    try:
        boot, folder = _BOOT.read_text().strip(), state.stat()
    except OSError:
        return ""
    what = f"{boot} {folder.st_dev} {folder.st_ino} {location} {name}"
    return hashlib.sha256(what.encode()).hexdigest() if boot else ""


__all__ = ["Leases", "lock_of"]
