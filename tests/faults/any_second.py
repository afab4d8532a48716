"""A server's life that misleads whoever wants to go back in it, and the truth about it, recorded from outside.

Writers commit numbered rows all the time and note by their own clock (the server's host's) when each was sent and
answered. Meanwhile logs are rotated and shipped, clients set the time, a statement takes long, accounts change,
another database is written to, nothing happens at all, and at last everything is lost, step by step. What stands
in the server's logs is read by a reader of its own, or asked of the server: no code is shared with what is tried.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from engine import shipping
from engine.site import Site
from tests.servers.databases import DatabaseServer
from tests.soak import SEED, SOAK

PROD, OTHER = "any_second", "any_other"
USERS, ORDERS = 400, 300
LONG_SECONDS = 30 if SOAK else 3
IDLE_SECONDS = 30 if SOAK else 3
BUSY_SECONDS = 10 if SOAK else 2
"""Of each of the spells in which nothing but the steady load goes on."""
SHIP_EVERY = 6
"""So many rotations, as a schedule of an hour would see them."""


def note(number: int) -> str:
    """What stands beside a number."""
    return f"row {number} " + "x" * (number % 40)


@dataclass(frozen=True)
class Commit:
    """One transaction, as the log has it.

    Attributes:
        micros: Its stamp, microseconds since 1970 (MariaDB: whole seconds).
        numbers: Rows of the ledger that it wrote.
        what: Text of its statements.
        start, end: Positions in ``log``.
    """

    micros: int
    numbers: tuple[int, ...]
    what: str = ""
    gtid: str = ""
    log: str = ""
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class There:
    """What is to be found in a recovered database: the rows of the ledger, of users, of orders (None: no table)."""

    ledger: tuple[tuple[int, str], ...]
    users: int
    orders: int | None

    @classmethod
    def of(cls, numbers: set[int], users: int, orders: int | None) -> There:
        return cls(tuple((each, note(each)) for each in sorted(numbers)), users, orders)


@dataclass
class Recorded:
    """What the writers noted: microseconds since 1970 right before a transaction was sent, and right after it was
    answered. ``odd``: a client had set the time of its session."""

    sent: dict[int, int] = field(default_factory=dict)
    done: dict[int, int] = field(default_factory=dict)
    odd: set[int] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def number(self) -> int:
        with self._lock:
            return next(self._numbers)

    @contextlib.contextmanager
    def noted(self, number: int) -> Iterator[None]:
        self.sent[number] = micros()
        yield
        self.done[number] = micros()


def micros() -> int:
    return time.time_ns() // 1000


def moment(at: int) -> datetime:
    """Microseconds since 1970 as a time, UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)


def since_1970(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


class Story(ABC):
    """One server's life. ``live`` it once; then ask it for targets and for what is to be found there."""

    source: str
    whole_seconds = False
    rotate_every = 0.4

    def __init__(self, server: DatabaseServer, site: Site) -> None:
        self.server, self.site = server, site
        self.recorded = Recorded()
        self.commits: list[Commit] = []
        self.spells: dict[str, tuple[int, int]] = {}
        self.full_at = self.lost_at = 0
        self.runs = self.rotations = 0
        self.production = ""

    # What each engine does in its own words.

    @abstractmethod
    def prepare(self) -> None: ...

    @abstractmethod
    def anchor(self) -> None:
        """The full or base."""

    @abstractmethod
    def rotate(self) -> None: ...

    @abstractmethod
    def hurry(self, connection: Any, number: int) -> None:
        """One transaction of the load with this number."""

    @abstractmethod
    def set_clients_time(self) -> None: ...

    @abstractmethod
    def change_accounts(self) -> None: ...

    @abstractmethod
    def long_statement(self) -> None: ...

    @abstractmethod
    def lose(self) -> None:
        """Delete, drop a table, drop everything; learn the truth; have production come back by other hands."""

    @abstractmethod
    def fingerprint(self) -> str:
        """What would show anything that was done to production."""

    @abstractmethod
    def found(self, config: Any) -> There:
        """What a recovered database holds, asked by a driver."""

    @abstractmethod
    def expected(self, target: datetime) -> There:
        """What must be found at a moment."""

    # What all have in common.

    def live(self) -> None:
        """From the first row to the loss of everything, shipped to the end."""
        self.prepare()
        with self.writers():
            self.busy()
            self.anchor()
            self.full_at = micros()
            self.busy()
            with self.spell("a client's own time"):
                self.set_clients_time()
                self.busy(BUSY_SECONDS / 2)
            with self.spell("accounts"):
                self.change_accounts()
                self.busy(BUSY_SECONDS / 2)
            with self.spell("a long statement"):
                slow = threading.Thread(target=self.long_statement)
                slow.start()
                self.busy(LONG_SECONDS + 0.5)
                slow.join()
            self.busy()
        with self.spell("idle"):
            for _ in range(3):
                time.sleep(IDLE_SECONDS / 3)
                self.ship()
        with self.writers():
            self.busy()
        self.lose()
        self.rotate()
        self.ship()
        self.production = self.fingerprint()

    @contextlib.contextmanager
    def spell(self, name: str) -> Iterator[None]:
        begun = micros()
        yield
        self.spells[name] = (begun, micros())

    def busy(self, seconds: float = BUSY_SECONDS) -> None:
        """Rotate and ship under load."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(self.rotate_every)
            self.rotate()
            self.rotations += 1
            if self.rotations % SHIP_EVERY == 0:
                self.ship()

    def ship(self) -> None:
        report = shipping.ship(self.site, self.source)
        assert not [each for each in report.warnings if "set back" in each], report.warnings  # nobody did
        self.runs += 1

    @contextlib.contextmanager
    def writers(self, count: int = 3) -> Iterator[None]:
        stop = threading.Event()
        errors: list[BaseException] = []
        threads = [threading.Thread(target=self._write, args=(each, stop, errors)) for each in range(count)]
        for each in threads:
            each.start()
        try:
            yield
        finally:
            stop.set()
            for each in threads:
                each.join()
        assert not errors, errors

    def _write(self, writer: int, stop: threading.Event, errors: list[BaseException]) -> None:
        pause = random.Random(writer)
        try:
            with contextlib.closing(self.session(writer)) as connection:
                while not stop.is_set():
                    number = self.recorded.number()
                    with self.recorded.noted(number):
                        self.hurry(connection, number)
                    time.sleep(pause.uniform(0.005, 0.06))
        except BaseException as error:
            errors.append(error)

    def session(self, writer: int) -> Any:
        """A session of the load's."""
        return self.server.connect(PROD)

    def targets(self, count: int) -> list[datetime]:
        """Random seconds, one of every spell among them, or of so many of all; half of them not whole, where the
        engine's stamps are not."""
        chance = random.Random(f"{SEED}/{type(self).__name__}/{self.server.flavour}")
        first, last = self.full_at // 1_000_000 + 2, self.lost_at // 1_000_000
        wanted = [chance.randint(one // 1_000_000 + 1, two // 1_000_000) for one, two in self.spells.values()]
        more = chance.sample(range(first, last + 1), min(20, last - first))
        wanted = chance.sample([*wanted, *more], count) if count < 20 else [*wanted, *more][:count]
        parts = [chance.choice([0, chance.randrange(1_000_000)]) for _ in wanted]
        return [moment(min(each * 1_000_000 + part, self.lost_at)) for each, part in zip(wanted, parts, strict=True)]

    def check_bounds(self, target: datetime, numbers: set[int]) -> None:
        """What must be there, and what must not, by the writers' own notes alone."""
        until = since_1970(target)
        if self.whole_seconds:
            until = until // 1_000_000 * 1_000_000 + 999_999
        must = {number for number, at in self.recorded.done.items() if at <= until}
        may = {number for number, at in self.recorded.sent.items() if at <= until}
        assert must <= numbers <= may, (target, sorted(must - numbers), sorted(numbers - may))

    def check_stamps(self, commits: Sequence[Commit], every: set[int]) -> None:
        """The log's stamps lie between what was noted outside, and the log has every row there was."""
        seen = [number for each in commits for number in each.numbers]
        assert sorted(seen) == sorted(every), set(seen) ^ every
        grain = 1_000_000 if self.whole_seconds else 1
        for each in commits:
            for number in each.numbers:
                if number not in self.recorded.odd or not self.whole_seconds:
                    low = self.recorded.sent[number] // grain * grain
                    assert low <= each.micros <= self.recorded.done[number], (number, each)

    def rows_in_full(self) -> int:
        """At most so many rows were in the full."""
        return sum(1 for at in self.recorded.sent.values() if at <= self.full_at)
