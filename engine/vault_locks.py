"""The locks of one site's vault: which work goes on one run at a time, and under which names."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from engine import names
from engine.locks import held, waited_for
from engine.roots import make_private
from engine.stores.local_errors import speaking_of


class VaultLocks:
    """Locks below a vault's state directory. All but ``speaking`` are had at once or not: LockHeld names who has one,
    and since when."""

    site: str
    root: Path
    state: Path

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
        """One prune at a time."""
        return self._held("prune", f"the pruning of {self.site}")

    def verifying(self, location: str) -> AbstractContextManager[None]:
        """One verification of a place at a time. It holds up nothing else."""
        return self._held(f"verification@{location}", f"the verification of {self.site} in {location}")

    def filling(self, location: str, source: str, bucket: str) -> AbstractContextManager[None]:
        """Kept while contents are copied to a place, or taken from there."""
        name = f"{source}.{names.encode(bucket)}@{location}.contents"
        return self._held(name, f"the contents of {source}/{bucket} in {location}")

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
