"""Which multipart uploads a living run of this machine is at, and which a dead one left.

An unfinished upload carries no mark of its owner, and the parts of a long one are days old. So each has a journal in
the vault's state, begun before the upload is and held until it has ended: whoever sweeps sees whether its run lives.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from engine.journal import Journal, abandoned, living
from engine.stores.local_errors import speaking_of
from engine.stores.s3_errors import Place

KIND = "upload"
FOLDER = "uploads"


@dataclass
class Found:
    """Uploads by what is known of their runs.

    Attributes:
        dead: Ids of uploads whose run died.
        orphaned: Keys of those that died before they knew their id.
    """

    dead: set[str] = field(default_factory=set)
    orphaned: set[str] = field(default_factory=set)
    _ours: set[str] = field(default_factory=set)
    _folder: Path | None = None
    _where: tuple[str, str] = ("", "")

    def living(self) -> set[str]:
        """Keys that living runs of this machine upload now, those of other sites below the same root, too."""
        if self._folder is None:
            return set()
        return {
            str(facts.get("key"))
            for folder in self._folder.parent.parent.glob(f"*/{FOLDER}")
            for facts in living(folder, KIND)
            if facts.get("token") not in self._ours and (facts.get("endpoint"), facts.get("bucket")) == self._where
        }


class Uploads:
    """The journals of the uploads to one bucket.

    Args:
        folder: In the state of a site; None: nothing is written down, and nothing known.
    """

    def __init__(self, folder: Path | None, place: Place) -> None:
        self._folder = folder
        self._where = (place.endpoint, place.bucket)
        self._held: dict[str, Journal] = {}

    def begin(self, key: str) -> Journal | None:
        """Write down that an upload is about to begin."""
        if self._folder is None:
            return None
        endpoint, bucket = self._where
        with speaking_of("write to", self._folder, self._folder):
            return Journal.create(
                self._folder, KIND, endpoint=endpoint, bucket=bucket, key=key, token=secrets.token_hex(8)
            )

    def begun(self, journal: Journal | None, upload: str) -> None:
        """The upload has an id."""
        if journal is not None:
            journal.record("begun", upload=upload)
            self._held[upload] = journal

    def ended(self, upload: str) -> None:
        """It became an object, or was dropped."""
        journal = self._held.pop(upload, None)
        if journal is not None:
            journal.close()

    def left(self, upload: str) -> None:
        """It could not be dropped: the next sweep does it."""
        journal = self._held.pop(upload, None)
        if journal is not None:
            journal.release()

    @contextmanager
    def found(self) -> Iterator[Found]:
        """What is known of uploads to this bucket. Journals of dead runs are ended when the block ends well."""
        found = Found(_folder=self._folder, _where=self._where)
        taken: list[Journal] = []
        try:
            for journal in abandoned(self._folder, KIND) if self._folder is not None else ():
                if (journal.facts.get("endpoint"), journal.facts.get("bucket")) != self._where:
                    journal.release()
                    continue
                taken.append(journal)
                found._ours.add(str(journal.facts.get("token")))
                begun = journal.reached("begun")
                if begun is not None:
                    found.dead.add(str(begun["upload"]))
                else:
                    found.orphaned.add(str(journal.facts.get("key")))
            yield found
            for journal in taken:
                journal.close()
        finally:
            for journal in taken:
                journal.release()
