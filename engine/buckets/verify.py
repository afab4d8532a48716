"""Proof of a stored snapshot: its list, and that every content the list names is there and is what it says."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from engine.buckets import record
from engine.buckets.contents import Contents
from engine.buckets.disk_map import DiskMap
from engine.buckets.record import REWRITTEN, Record
from engine.catalog import Entry
from engine.errors import BackupError, IntegrityError, NotFound
from engine.keyring.needed import require_keys
from engine.manifest import Manifest
from engine.names import iso
from engine.progress import Progress
from engine.vault import Vault

_AT_ONCE = 4
_IN_BATCH = 256
_NAMED = 5
ALL = "every content, read and decrypted"
NEW = "new contents read and decrypted, the others there"


def verify(
    vault: Vault, entry: Entry, manifest: Manifest, chunks: Iterable[bytes], *, new: bool, progress: Progress
) -> str:
    """Read a list to its end, and the contents that it names.

    Args:
        chunks: The list's plain bytes.
        new: Read only the contents that this snapshot (or its being encrypted anew) stored first; of the others see
            that they are there in their sizes. They were read when they were new, and are all read when ``new`` is
            False.

    Returns:
        What was proven, in words.

    Raises:
        WrongKey: The ring lacks a key that some contents need, be they new or old. IntegrityError: A content is missing
            or damaged, with the object that has it; or the list is not what its manifest says.
    """
    require_keys(vault.keys, manifest)
    contents = vault.contents(entry.location, manifest.source, manifest.database)
    begun = manifest.contents.get(REWRITTEN) or iso(manifest.started_at.replace(microsecond=0))
    work = _Work(contents, str(begun) if new else "", progress, entry)
    with contents.present() as present, DiskMap() as seen:
        objects = size = 0
        batch: list[Record] = []
        for each in record.records(chunks, manifest.file):
            objects, size = objects + 1, size + each.size
            if not seen.add(each.content.stored):
                continue
            work.look(each, present.get(each.content.stored))
            if work.is_read(each):
                batch.append(each)
            if len(batch) == _IN_BATCH:
                work.read(batch)
                batch = []
        work.read(batch)
    stated = int(manifest.contents["objects"]), int(manifest.contents["bytes"])
    if (objects, size) != stated:
        raise IntegrityError(
            f"{manifest.file} lists {objects:,} objects of {size:,} bytes, its manifest says {stated[0]:,} "
            f"of {stated[1]:,}."
        )
    work.judge(manifest)
    return NEW if new else ALL


class _Work:
    def __init__(self, contents: Contents, since: str, progress: Progress, entry: Entry) -> None:
        self._contents = contents
        self._since = since
        self._progress = progress
        self._step = f"verify contents of {entry.file}"
        self._done = 0
        self._wrong: list[str] = []
        self._count = 0

    def look(self, each: Record, state: str | None) -> None:
        if state == str(each.content.stored_size):
            return
        why = "is missing" if state is None else "was found damaged" if state == "bad" else f"has {state} bytes"
        self._note(each, why)

    def is_read(self, each: Record) -> bool:
        return each.content.since >= self._since

    def read(self, batch: list[Record]) -> None:
        """Read these contents side by side."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="prove") as pool:
            for each, error in zip(batch, pool.map(self._prove, batch), strict=True):
                self._done += each.content.stored_size
                if error is not None:
                    self._note(each, error.message.rstrip("."))
                    if not isinstance(error, NotFound):
                        self._contents.denounce(each.content.stored)
        self._progress(self._step, self._done)

    def judge(self, manifest: Manifest) -> None:
        if self._wrong:
            more = f"; and {self._count - len(self._wrong):,} more" if self._count > len(self._wrong) else ""
            raise IntegrityError(
                f"{manifest.file} lacks contents in {self._contents.store.name}: {'; '.join(self._wrong)}{more}.",
                kept="every other object of it can be restored",
                remedy="use another copy of this backup (--location); the next snapshot reads what is damaged anew",
            )

    def _prove(self, each: Record) -> BackupError | None:
        try:
            self._contents.prove(each.content, each.sha256, each.size)
        except (IntegrityError, NotFound) as error:
            return error
        return None

    def _note(self, each: Record, why: str) -> None:
        self._count += 1
        if len(self._wrong) < _NAMED:
            self._wrong.append(f"that of {each.key!r} {why}")
