"""Contents on their way to a replica: before the list that names them, and only those that are not there."""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING

from engine import stopping
from engine.buckets import record
from engine.buckets.contents import WARM_BELOW, Contents
from engine.buckets.disk_map import DiskMap
from engine.buckets.record import Content
from engine.catalog import Entry
from engine.errors import IntegrityError
from engine.pacing import Pace
from engine.progress import Progress

if TYPE_CHECKING:
    from engine.vault import Vault

_AT_ONCE = 8
_IN_WINDOW = 32


@contextlib.contextmanager
def with_contents(vault: Vault, entry: Entry, replica: str, progress: Progress) -> Iterator[None]:
    """Before a bucket's list is copied, whatever it names is there; nothing takes it away until the list is too.
    Of any other backup nothing is asked.

    Raises:
        LockHeld: Another run copies there, or prunes. IntegrityError: a content here is damaged. And what stores raise.
    """
    if not record.is_list(entry):
        yield
        return
    manifest = vault.catalog(entry.location).load(entry)
    with vault.filling(replica, manifest.source, manifest.database):
        here = vault.contents(entry.location, manifest.source, manifest.database)
        there = vault.contents(replica, manifest.source, manifest.database)
        with there.present() as present, contextlib.closing(vault.read_part(entry, manifest)) as plain:
            lacking = _lacking(record.records(plain, manifest.file), present)
            step = f"copy contents of {manifest.database} to {replica}"
            _copy_all(partial(_copy, here, there, vault.pace(replica)), lacking, step, progress)
        yield


def _lacking(records: Iterator[record.Record], present: DiskMap) -> Iterator[Content]:
    """Each content that is not there whole, once."""
    for each in records:
        content = each.content
        state = present.get(content.stored)
        if state != str(content.stored_size):
            if state is not None and state != "bad":
                raise IntegrityError(
                    f"A content of the list has {state} bytes there, and {content.stored_size:,} here.",
                    kept="both stand as they were",
                    remedy="verify the copies there: backups verify --location; and find out what changes them",
                )
            present.put(content.stored, str(content.stored_size))
            yield content


def _copy_all(copy: Callable[[Content], int], lacking: Iterator[Content], step: str, progress: Progress) -> None:
    done = 0
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="content") as pool:
        pending: set[Future[int]] = set()
        try:
            for content in lacking:
                pending.add(pool.submit(contextvars.copy_context().run, copy, content))
                if len(pending) >= _IN_WINDOW:
                    finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                    done += sum(each.result() for each in finished)
                    progress(step, done)
            for each in pending:
                done += each.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _copy(here: Contents, there: Contents, pace: Pace, content: Content) -> int:
    """One content, as it is stored; replaced only where it was found damaged there. Its size."""
    key = there.key(content.stored)
    digest, size = hashlib.sha256(), 0
    if there.store.stat(key) is not None:
        there.remove(content.stored)
    with there.store.stage(key, warm=content.stored_size < WARM_BELOW) as staged:
        for chunk in pace.of(here.store.read(here.key(content.stored))):
            stopping.check("the copy of a bucket's contents")
            digest.update(chunk)
            size += len(chunk)
            staged.write(chunk)
        if (size, digest.hexdigest()) != (content.stored_size, content.stored_sha256):
            here.denounce(content.stored)
            raise IntegrityError(
                f"The content {content.stored[:16]}… in {here.store.describe()} is damaged.",
                kept="nothing of it was copied",
                remedy="make a new snapshot, which reads that object again; verify the others with: backups verify",
            )
        staged.commit()
    return size
