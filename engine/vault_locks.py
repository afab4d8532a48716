"""The locks of one site's vault: which work goes on one run at a time, and under which names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from engine import names
from engine.leases import Hold
from engine.locks import held, waited_for
from engine.roots import make_private
from engine.stores.local_errors import speaking_of
from engine.vault_leases import Leases


class VaultLocks:
    """Locks below a vault's state directory. All but ``speaking`` are had at once or not: LockHeld names who has one,
    and since when. What runs of several hosts may do to one bucket takes a lease there as well.

    Attributes:
        leases: Those in the replicas.
    """

    site: str
    root: Path
    state: Path
    leases: Leases

    def lock(self, source: str, database: str) -> AbstractContextManager[None]:
        """One run at a time per source and database."""
        return self._held(f"{source}.{names.encode(database)}", f"{source}/{database} of {self.site}")

    def snapshotting(self) -> AbstractContextManager[None]:
        """One snapshot at a time, so that two runs of one deployment take one."""
        return self._held("snapshot", f"a snapshot of {self.site}")

    def re_encrypting(self) -> AbstractContextManager[None]:
        """One re-encryption at a time."""
        return self._held("re-encryption", f"the re-encryption of {self.site}")

    def pruning(self) -> AbstractContextManager[None]:
        """One prune of this host at a time."""
        return self._held("prune", f"the pruning of {self.site}")

    def pruning_in(self, location: str) -> AbstractContextManager[Hold]:
        """Held within ``pruning``: one prune of a place at a time, whichever host it is of."""
        return self.leases.held(location, "prune", f"the pruning of {self.site} in {location}")

    def verifying(self, location: str) -> AbstractContextManager[None]:
        """One verification of a place at a time. It holds up nothing else."""
        return self._held(f"verification@{location}", f"the verification of {self.site} in {location}")

    @contextmanager
    def filling(self, location: str, source: str, bucket: str) -> Iterator[Hold]:
        """Kept while contents are copied to a place, or taken from there, whichever host does it."""
        name, what = f"{source}.{names.encode(bucket)}", f"the contents of {source}/{bucket} in {location}"
        with (
            self._held(f"{name}@{location}.contents", what),
            self.leases.held(location, f"{name}.contents", what) as hold,
        ):
            yield hold

    def speaking(self) -> AbstractContextManager[None]:
        """Held for a moment by whoever says something of a backup, and by whoever removes one from the last look at
        what was said of it until it is gone: so a word is either heeded or refused."""
        make_private(self.root, self.state)
        return waited_for(self.state / "words.lock")

    def _held(self, name: str, what: str, *, stays: bool = True) -> AbstractContextManager[None]:
        folder = make_private(self.root, self.state) / "locks"
        with speaking_of("write to", self.state, self.root):
            folder.mkdir(exist_ok=True, mode=0o700)
        return held(folder / f"{name}.lock", what, stays=stays)
