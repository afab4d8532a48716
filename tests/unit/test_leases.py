"""When a lease may be taken over: by what it says and how old the store says that it is, whatever the hosts' clocks."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.errors import LeaseLost, LockHeld, Unreachable
from engine.leases import TERM, Hold, Lease
from engine.stores.lease_object import Seen, _age

HELD = {"state": "held", "host": "elsewhere", "pid": 7, "since": "2026-01-01T00:00:00Z", "term": TERM, "run": "other"}


class Thing:
    """One key of a store that keeps to conditions; ``age`` of what stands there is what a test says."""

    def __init__(self, body: Any = None, age: float = 0.0) -> None:
        self.body = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self.age = age
        self.writes = 0
        self.down = False

    def create(self, body: bytes) -> str | None:
        return None if self.body is not None else self._written(body)

    def replace(self, body: bytes, etag: str) -> str | None:
        return self._written(body) if self.body is not None and etag == str(self.writes) else None

    def look(self) -> Seen | None:
        return Seen(self.body, str(self.writes), self.age) if self.body is not None else None

    def delete(self, etag: str) -> bool:
        self.body = None
        return True

    def _written(self, body: bytes) -> str:
        if self.down:
            raise Unreachable("The store is down.")
        assert body != self.body
        self.body, self.age, self.writes = body, 0.0, self.writes + 1
        return str(self.writes)


def lease(thing: Thing, **more: Any) -> Lease:
    return Lease(thing, "a thing", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "age", "lock"),
    [
        (None, 0, ""),
        ({**HELD, "state": "free"}, 0, ""),
        (HELD, TERM + 2, ""),
        ({**HELD, "term": 10.0}, 12, ""),
        ({**HELD, "term": 1e9}, 3602, ""),  # nobody blocks a place for ever
        ({**HELD, "lock": "mine"}, 0, "mine"),
        (b"\xff no lease at all", TERM + 2, ""),
        (b"[" * 10_000, TERM + 2, ""),
    ],
)
def test_what_is_free_or_ran_out_or_had_its_lock_here_is_taken(body: Any, age: float, lock: str) -> None:
    thing = Thing(body, age)
    taken = lease(thing, lock=lock)
    taken.take()
    taken.check("nothing")
    assert thing.body is not None and json.loads(thing.body)["pid"] == os.getpid()
    taken.release()
    assert thing.body is None


@pytest.mark.parametrize(
    ("body", "age"),
    [
        (HELD, 0),
        (HELD, TERM + 1),  # the store tells whole seconds
        (HELD, -3600),
        ({**HELD, "term": 600.0}, TERM + 2),  # its own term counts, not ours
        ({**HELD, "lock": "another host's"}, 0),
        ({**HELD, "lock": ""}, 0),
        (b"\xff no lease at all", TERM),
    ],
)
def test_what_did_not_run_out_is_held(body: Any, age: float) -> None:
    thing = Thing(body, age)
    with pytest.raises(LockHeld) as held:
        lease(thing, lock="mine").take()
    who = "process 7 on elsewhere has held it since 2026-01-01" if isinstance(body, dict) else "has not said who it is"
    assert who in held.value.message and thing.writes == 0


def test_a_strange_name_of_a_holder_is_not_repeated() -> None:
    for host in ("\x1b[2J", "x" * 1000, ""):
        with pytest.raises(LockHeld, match="its holder has not said who it is"):
            lease(Thing({**HELD, "host": host})).take()


def test_it_ends_for_its_holder_before_it_does_for_others_and_a_late_renewal_brings_it_back() -> None:
    thing = Thing()
    one = lease(thing, term=1.2)
    one.take()
    time.sleep(1.5)
    one.check("it is renewed")
    thing.down = True
    begun = time.monotonic()
    with pytest.raises(LeaseLost, match="a step: it could not be renewed in time") as lost:
        while time.monotonic() - begun < 10:
            one.check("a step")
            time.sleep(0.02)
    assert time.monotonic() - begun < 1.2 and "The store is down" in lost.value.message
    thing.down = False
    time.sleep(0.5)
    one.check("nobody wrote since: it was ours all the time")
    one.release()


def test_a_lock_of_this_host_cannot_be_lost() -> None:
    Hold().check("nothing")


def test_the_age_of_a_lease_is_told_by_the_clock_of_the_store_alone() -> None:
    written = datetime(1999, 12, 31, 23, 59, 30, tzinfo=UTC)
    assert _age(written, "Sat, 01 Jan 2000 00:00:31 GMT") == 61
    assert _age(written, "") == _age(written, "yesterday") == 0
