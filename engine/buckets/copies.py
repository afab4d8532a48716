"""Contents on their way to a replica: before the list that names them, and only those that are not there. What is there
is locked as long as the list."""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING

from engine import names, stopping
from engine.buckets import record
from engine.buckets.contents import WARM_BELOW, Contents
from engine.buckets.disk_map import DiskMap
from engine.buckets.locking import ContentLocks
from engine.buckets.record import Content
from engine.catalog import Entry
from engine.errors import IntegrityError
from engine.leases import Hold
from engine.manifest import Manifest
from engine.pacing import Pace
from engine.progress import Progress
from engine.retention.locks import Term

if TYPE_CHECKING:
    from engine.vault import Vault

_AT_ONCE = 8
_IN_WINDOW = 32


@contextlib.contextmanager
def with_contents(vault: Vault, entry: Entry, replica: str, progress: Progress) -> Iterator[Hold]:
    """Before a bucket's list is copied, whatever it names is there, and locked as long as the list will be; nothing
    takes it away until the list is too. Of any other backup nothing is asked.

    Args:
        entry: Where it stands in the replica itself, its contents are only locked.

    Returns:
        What keeps them there: to be looked at right before the list is published.

    Raises:
        LockHeld: Another run copies there, or prunes. LeaseLost: one of another host may. IntegrityError: a content
            here is damaged. CredentialsRefused: the key may not lengthen locks. And what stores raise.
    """
    if not record.is_list(entry):
        yield Hold()
        return
    manifest = vault.catalog(entry.location).load(entry)
    with vault.filling(replica, manifest.source, manifest.database) as hold:
        here = vault.contents(entry.location, manifest.source, manifest.database)
        there = vault.contents(replica, manifest.source, manifest.database)
        with (
            ContentLocks(there, _term(vault, manifest, replica), vault.state / "locked") as locks,
            DiskMap() as present,
            contextlib.closing(vault.read_part(entry, manifest)) as plain,
        ):
            present.update((each.name, each.state) for each in locks.looked(there.listing()))
            copy = partial(_copy, here, there, vault.pace(replica), locks, hold) if entry.location != replica else None
            todo = _to_do(record.records(plain, manifest.file), present, locks, copy)
            _do_all(todo, f"copy contents of {manifest.database} to {replica}", progress)
        yield hold


def _term(vault: Vault, manifest: Manifest, replica: str) -> Term | None:
    """For how long what a list names is locked there."""
    locks = vault.object_locks.get(replica)
    if locks is None:
        return None
    key = locks.layout.key(manifest.source, manifest.tier, manifest.taken_at, manifest.file)
    return locks.term(key, names.now())


def _to_do(
    records: Iterator[record.Record], present: DiskMap, locks: ContentLocks, copy: Callable[[Content], int] | None
) -> Iterator[Callable[[], int]]:
    """What is to be done for each content that is not there whole, or not locked for long enough; once for each. Each
    says how many bytes it sent."""
    for each in records:
        content = each.content
        state = present.get(content.stored)
        if state == str(content.stored_size):
            if locks.is_short(content.stored):
                yield partial(_lengthen, locks, content.stored)
            continue
        if copy is None:
            continue
        if state is not None and state != "bad":
            raise IntegrityError(
                f"A content of the list has {state} bytes there, and {content.stored_size:,} here.",
                kept="both stand as they were",
                remedy="verify the copies there: backups verify --location; and find out what changes them",
            )
        present.put(content.stored, str(content.stored_size))
        locks.met(content.stored)
        yield partial(copy, content)


def _do_all(todo: Iterator[Callable[[], int]], step: str, progress: Progress) -> None:
    done = 0
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="content") as pool:
        pending: set[Future[int]] = set()
        try:
            for each in todo:
                pending.add(pool.submit(contextvars.copy_context().run, each))
                if len(pending) >= _IN_WINDOW:
                    finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                    done += sum(one.result() for one in finished)
                    progress(step, done)
            for one in pending:
                done += one.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _lengthen(locks: ContentLocks, name: str) -> int:
    stopping.check("the copy of a bucket's contents")
    locks.lengthen(name)
    return 0


def _copy(here: Contents, there: Contents, pace: Pace, locks: ContentLocks, hold: Hold, content: Content) -> int:
    """One content, as it is stored, and locked; replaced only where it was found damaged there. Its size."""
    key = there.key(content.stored)
    digest, size = hashlib.sha256(), 0
    hold.check("another content was copied")
    if there.store.stat(key) is not None:
        there.remove(content.stored)
    until = locks.term.most if locks.term is not None else None
    with there.store.stage(key, warm=content.stored_size < WARM_BELOW, until=until) as staged:
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
