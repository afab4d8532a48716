"""Locks in the vault's state directory: flock, so that the kernel lets go when the holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from engine import names, stopping
from engine.errors import LockHeld
from engine.stores.local_errors import speaking_of

_LOOK_AGAIN, _AT_LAST = 0.2, 5.0
"""Seconds between two looks whether a lock is free, at first and after minutes: a look may ask a server."""


@contextlib.contextmanager
def held(path: Path, what: str, *, stays: bool = True) -> Iterator[None]:
    """Hold a lock file, or say who does. Only its lock counts.

    Args:
        stays: The file is left there; else it goes with the lock, for one of a great many names.

    Raises:
        LockHeld: Another run has it: names its process, host and since when (UTC).
    """
    handle = _taken(path, what)
    try:
        _sign_in(handle)
        yield
        os.ftruncate(handle, 0)
    finally:
        if not stays:
            path.unlink(missing_ok=True)
        os.close(handle)


def _taken(path: Path, what: str) -> int:
    """The lock file, opened and locked. One that its last holder removed meanwhile is nobody's, and made anew."""
    while True:
        handle = _open(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                raise _refusal(handle, what) from None
            finally:
                os.close(handle)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)


@contextlib.contextmanager
def patiently(
    hold: Callable[[], AbstractContextManager[None]], seconds: float, tell: Callable[[str], None]
) -> Iterator[None]:
    """Hold a lock as soon as whoever has it lets go.

    Args:
        tell: Hears once who has it, where there is something to wait for.

    Raises:
        LockHeld: Not within ``seconds``. Cancelled: the run was stopped meanwhile.
    """
    begun = time.monotonic()
    told = False
    while True:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(hold())
            except LockHeld as error:
                if time.monotonic() - begun > seconds:
                    raise
                if not told:
                    tell(error.message)
                told = True
            else:
                yield
                return
        stopping.check("waiting for a lock")
        waited = time.monotonic() - begun
        time.sleep(min(max(_LOOK_AGAIN, waited / 20), _AT_LAST))


@contextlib.contextmanager
def waited_for(path: Path) -> Iterator[None]:
    """Hold a lock file for a moment, waiting for whoever has it now."""
    handle = _open(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    with speaking_of("open the lock", path, path.parent):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _sign_in(handle: int) -> None:
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": names.iso(names.now().replace(microsecond=0))}
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(holder).encode(), 0)


def _refusal(handle: int, what: str) -> LockHeld:
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
        who = f"process {holder['pid']} on {holder['host']} has held it since {holder['since']}"
        remedy = f"wait for it, or look at it with: ps -fp {holder['pid']}"
    except (ValueError, KeyError, TypeError):
        who, remedy = "its holder has not said who it is", "wait for it and try again"
    return LockHeld(f"Another run works on {what}: {who}.", kept="nothing was begun", remedy=remedy)
