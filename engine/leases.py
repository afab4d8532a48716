"""Leases: what keeps runs of several hosts apart at one place, as flock does those of one host.

A lease is a small object in the bucket, made only where none stands, and from then on only replaced by whoever knows
its last ETag. Its holder renews it; one that is not renewed for its term may be taken over. How old it is tells the
store's own clock alone. Whoever holds it counts its term from before the request that renewed it was sent, on a clock
that nobody sets, and so stops before anybody else may begin.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from typing import Any

from engine import names
from engine.errors import BackupError, LeaseLost, LockHeld
from engine.stores.lease_object import LeaseObject, Seen

TERM = 120.0
"""Seconds that a lease lasts unless it is renewed, which is done each third of them."""
_SLACK = 2.0
"""Seconds that a lease is left to its holder beyond its term: the store tells its times in whole seconds."""
_LONGEST = 3600.0
"""Whatever a lease says of its term."""
_LONGEST_WORD = 256
_SPARE = 4
"""The last so-maniest part of the term is no time to begin anything in: what was begun is to end within it."""
_AGAIN = 12
"""A renewal that failed is tried again after this part of the term."""
_TRIES = 5
_ENDS = 15.0
"""Seconds that a renewal under way is waited for at the end."""


class Hold:
    """What keeps other runs away. This one is of this host alone, and cannot be lost."""

    def check(self, step: str) -> None:
        """To be called right before whatever would do harm if another run were at work, too.

        Raises:
            LeaseLost: It is not sure any more that no other is; ``step`` was not done.
        """


class Lease(Hold):
    """A lease on one thing in one place. Used once: ``take``, then ``release``.

    Args:
        what: What is worked on, in words.
        term: Seconds; see ``TERM``.
        lock: Names the lock of this host that is held as well, as ``lock_of`` of ``engine.vault_leases`` does; whoever
            has it knows that a lease of the same name has no living holder. Empty: there is none.
        deletes: May the key delete?
    """

    def __init__(
        self, thing: LeaseObject, what: str, *, term: float = TERM, lock: str = "", deletes: bool = True
    ) -> None:
        self._object = thing
        self._what = what
        self._term = term
        self._lock = lock
        self._deletes = deletes
        self._run = secrets.token_hex(16)
        self._since = names.iso(names.now().replace(microsecond=0))
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._etag, self._until = "", 0.0
        self._taken, self._trouble = "", ""
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def take(self) -> None:
        """Have it at once.

        Raises:
            LockHeld: Another run has it: names its process, host and since when (UTC). And what the store raises.
        """
        for _ in range(_TRIES):
            asked = _clock()
            etag = self._object.create(self._body())
            if etag is None:
                seen = self._object.look()
                if seen is None:
                    continue
                self._refuse_if_held(seen)
                asked = _clock()
                etag = self._object.replace(self._body(), seen.etag)
            if etag is not None:
                self._etag, self._until = etag, asked + self._term
                self._thread.start()
                return
        raise LockHeld(
            f"Other runs come first to {self._what}, time and again.", kept="nothing was begun", remedy="try again"
        )

    def check(self, step: str) -> None:
        """See ``Hold.check``."""
        with self._guard:
            left, taken, trouble = self._until - _clock(), self._taken, self._trouble
        if not taken and left > self._term / _SPARE:
            return
        reason = taken or f"it could not be renewed in time{f' ({trouble})' if trouble else ''}"
        raise LeaseLost(
            f"Lost the lease on {self._what} before {step}: {reason}.",
            kept="what is there; this run removed and published nothing from then on",
            remedy="run it again",
        )

    def release(self) -> None:
        """Let go. That this fails is no harm: then it runs out."""
        self._ended.set()
        self._thread.join(_ENDS)
        if self._taken or self._thread.is_alive():
            return
        surely_ours = self._until - _clock() > self._term / _SPARE  # some endpoints delete whatever stands there
        with contextlib.suppress(BackupError):
            if not (self._deletes and surely_ours and self._object.delete(self._etag)):
                self._object.replace(self._body(free=True), self._etag)

    def _keep(self) -> None:
        wait = self._term / 3
        while not self._ended.wait(wait):
            try:
                if not self._renew():
                    return
                wait = self._term / 3
            except BackupError as error:
                with self._guard:
                    self._trouble = error.message.rstrip(".")
                wait = self._term / _AGAIN

    def _renew(self) -> bool:
        """False where it is gone. That nobody wrote since is what makes a late renewal as good as one in time."""
        for _ in range(_TRIES):
            asked = _clock()
            etag = self._object.replace(self._body(), self._etag)
            if etag is not None:
                with self._guard:
                    self._etag, self._until, self._trouble = etag, asked + self._term, ""
                return True
            seen = self._object.look()
            record = _record(seen)
            if seen is None or record.get("run") != self._run:
                with self._guard:
                    self._taken = f"it was taken over ({_who(record)})" if record else "somebody removed it"
                return False
            self._etag = seen.etag  # an own renewal whose answer was lost
        return True

    def _refuse_if_held(self, seen: Seen) -> None:
        record = _record(seen)
        if record.get("state") == "free" or record.get("run") == self._run:
            return
        if self._lock and record.get("lock") == self._lock:  # we have its lock: the kernel took it from a dead holder
            return
        term = record.get("term")
        left = min(float(term) if isinstance(term, int | float) else self._term, _LONGEST) + _SLACK - seen.age
        if left > 0:
            raise LockHeld(
                f"Another run works on {self._what}: {_who(record)}.",
                kept="nothing was begun",
                remedy=f"wait for it; if it is dead, its lease runs out by itself in {left:.0f} seconds at most "
                f"(there: ps -fp {pid if isinstance(pid := record.get('pid'), int) else 'PID'})",
            )

    def _body(self, *, free: bool = False) -> bytes:
        """Never twice the same: an ETag may be nothing but a digest of it."""
        told: dict[str, Any] = {
            "state": "free" if free else "held", "for": self._what, "host": socket.gethostname(), "pid": os.getpid(),
            "since": self._since, "term": self._term, "run": self._run, "lock": self._lock,
            "write": secrets.token_hex(8),
        }  # fmt: skip
        return json.dumps(told).encode()


def _clock() -> float:
    """Seconds that pass as they do at the store: also while this machine sleeps, and whatever is set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _record(seen: Seen | None) -> dict[str, Any]:
    """What a lease says; nothing where it cannot be read."""
    try:
        found = json.loads(seen.body) if seen is not None else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _who(record: dict[str, Any]) -> str:
    told = [str(record.get(name, "")) for name in ("pid", "host", "since")]
    if not all(0 < len(each) < _LONGEST_WORD and each.isprintable() for each in told):
        return "its holder has not said who it is"
    return f"process {record['pid']} on {record['host']} has held it since {record['since']}"


__all__ = ["TERM", "Hold", "Lease"]
