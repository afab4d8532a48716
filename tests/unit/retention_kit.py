"""Generated histories of backups for the properties of retention, with the truth that only the test knows."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from engine import names
from engine.logs import LogFile
from engine.recovery.window import Anchor
from engine.retention.judge import Item

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NOW = datetime(2026, 3, 29, 4, 0, 0, tzinfo=UTC)  # clocks in Europe go forward in this hour
EVERY = {"hourly": HOUR, "daily": DAY, "weekly": 7 * DAY, "monthly": 30 * DAY}
LOG_EVERY = 6 * HOUR
EXTENSION = "sql.gz.enc"
FATES = (*["whole"] * 4, "gone", "unproven", "broken", "forged", "other")
"""Of what was encrypted anew; ``other``: its manifest says that it was made from another one."""


@dataclass
class Books:
    """The evidence of a history: what its signed documents would say.

    Attributes:
        anew: By a backup that was encrypted anew, the one that its mark names.
        origins: By such a new one, the one that its own manifest says it was made from.
        here: All that stands in this place.
        wanted: By recovery point, source and name of every part that it was to have.
    """

    good: set[str] = field(default_factory=set)
    freed: set[str] = field(default_factory=set)
    anchors: dict[str, Anchor] = field(default_factory=dict)
    facts: dict[str, LogFile] = field(default_factory=dict)
    points: dict[str, str] = field(default_factory=dict)
    anew: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    here: set[str] = field(default_factory=set)
    wanted: dict[str, frozenset[tuple[str, str]]] = field(default_factory=dict)

    def replaced(self, item: Item) -> str:
        new = self.anew.get(item.key, "")
        whole = new in self.here and new in self.good and self.origins.get(new) == item.key
        return new.rsplit("/", 1)[-1] if whole else ""

    def point(self, item: Item) -> str:
        return self.points.get(item.key, "")

    def parts(self, item: Item) -> frozenset[tuple[str, str]]:
        return self.wanted.get(self.point(item), frozenset())

    def proven(self, item: Item) -> bool:
        return item.key in self.good

    def released(self, item: Item) -> bool:
        return item.key in self.freed

    def anchor(self, item: Item) -> Anchor | None:
        return self.anchors.get(item.key)

    def logs(self, items: list[Item]) -> Mapping[str, LogFile]:
        return {each.key: self.facts[each.key] for each in items if each.key in self.facts}


@dataclass
class History:
    """What was made, by whom, and what is true of it."""

    items: list[Item] = field(default_factory=list)
    books: Books = field(default_factory=Books)
    policy: dict[str, str] = field(default_factory=dict)
    databases: dict[str, frozenset[str]] = field(default_factory=dict)
    now: datetime = NOW

    def of(self, *tiers: str) -> list[Item]:
        return [each for each in self.items if each.tier in tiers]


@dataclass(frozen=True)
class Shape:
    """How a history goes wrong. Chances are per backup or log."""

    seed: int
    days: int
    engine: str
    databases: int = 1
    missed: float = 0.0
    broken: float = 0.0
    unproven: float = 0.0
    forged: float = 0.0
    holes: float = 0.0
    resets: float = 0.0
    gap: int = 0
    hourly: bool = True
    marked: float = 0.0
    anew: float = 0.0
    policy: tuple[tuple[str, str], ...] = ()


def grow(shape: Shape) -> History:
    """The history of that shape: the same for the same shape."""
    return _Growth(shape).run()


class _Growth:
    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.dice = random.Random(repr(shape))
        self.history = History(policy=dict(shape.policy))
        self.source = "mysql" if shape.engine == "mysql" else "postgres"
        self.names = [f"app{number}" for number in range(shape.databases)]
        self.begin = NOW - shape.days * DAY - timedelta(minutes=self.dice.randrange(1, 600))
        gap_at = self.begin + self.dice.random() * (NOW - self.begin)
        self.gap = (gap_at, gap_at + shape.gap * DAY)
        self.log_number, self.epoch = 1, 0
        self.shipped_at = self.begin - LOG_EVERY

    def run(self) -> History:
        self.history.databases = {self.source: frozenset(self.names)}
        moment, beat = self.begin, 0
        while moment <= NOW:
            if not self.gap[0] <= moment < self.gap[1]:
                self._hour(moment, beat)
            moment, beat = moment + HOUR, beat + 1
        self._odd_ones()
        for _ in range(2):  # a key may be changed again
            self._encrypt_anew()
        self.history.books.here = {each.key for each in self.history.items}
        self.dice.shuffle(self.history.items)
        return self.history

    def _hour(self, moment: datetime, beat: int) -> None:
        if beat % 6 == 0:
            self._log(moment)
        recent = moment > NOW - 4 * DAY
        if self.shape.hourly and recent:
            self._fulls("hourly", moment)
        if beat % 24 == 0:
            self._fulls("daily", moment + timedelta(minutes=7))
            if self.source == "postgres":
                self._base(moment + timedelta(minutes=11))
        if beat % 168 == 0:
            self._fulls("weekly", moment + timedelta(minutes=7))  # promoted: the name of the daily in another folder
        if beat % 720 == 0:
            self._fulls("monthly", moment + timedelta(minutes=7))
        if beat % 100 == 50:
            self._snapshot(moment)

    def _fulls(self, tier: str, moment: datetime) -> None:
        for name in self.names:
            if self.dice.random() >= self.shape.missed:
                key = self.put(tier, name, moment)
                if self.source == "mysql":
                    self.history.books.anchors[key] = Anchor(
                        key, "uuid", self.log_number, self._position(moment), moment + timedelta(seconds=20)
                    )

    def _base(self, moment: datetime) -> None:
        if self.dice.random() >= self.shape.missed:
            key = self.put(names.BASE, names.BASE, moment)
            self.history.books.anchors[key] = Anchor(
                key, "system", self.log_number, self._position(moment), moment + timedelta(minutes=5), epoch=self.epoch
            )

    def _position(self, moment: datetime) -> int:
        return 100 + int((moment - self.begin).total_seconds()) % 20_000 // 100

    def _log(self, moment: datetime) -> None:
        """The log that was written since the last one is shipped; a reset begins the numbers anew."""
        name = f"mysql-bin.{self.log_number:06}" if self.source == "mysql" else f"{self.log_number:024X}"
        facts = LogFile(
            name=name, number=self.log_number, chain="uuid" if self.source == "mysql" else "system",
            epoch=self.epoch, start=0, end=10_000, created_at=self.shipped_at, covers_until=moment,
        )  # fmt: skip
        if self.dice.random() >= self.shape.holes:
            tier = names.BINLOGS if self.source == "mysql" else names.WAL
            key = f"shop/{self.source}/{tier}/{name}.{moment:{names.STAMP}}.gz.enc"
            self.history.items.append(Item(key, self.source, tier, name, moment))
            self.history.books.facts[key] = facts
        self.log_number += 1
        self.shipped_at = moment
        if self.dice.random() < self.shape.resets:
            self.log_number, self.epoch = 1, self.epoch + 1

    def _snapshot(self, moment: datetime) -> None:
        key = self.put("pre-deployment", self.names[0], moment)
        if self.dice.random() < 0.7:
            self._change(key, released=True)
            if self.dice.random() < 0.9:
                self.history.books.freed.add(key)

    def _odd_ones(self) -> None:
        for tier in ("manual", names.SAFETY, names.RECOVERED):
            for _ in range(self.dice.randrange(3)):
                self.put(tier, self.names[0], self.begin + self.dice.random() * (NOW - self.begin))
        for number in range(self.dice.randrange(2)):
            at = self.begin + number * DAY
            self.history.items.append(Item(f"shop/odd/x{number}_{at:{names.STAMP}}.{EXTENSION}", None, None, "x", at))

    def _encrypt_anew(self) -> None:
        """Some backups were written anew under a name a second later, and marked; of the new ones some are not here,
        or are not what the mark says."""
        items, books = self.history.items, self.history.books
        known = {each.key for each in items} | set(books.origins)
        for number, old in enumerate(list(items)):
            if old.source is None or old.is_log or old.superseded or self.dice.random() >= self.shape.anew:
                continue
            at = old.taken_at + timedelta(seconds=1)
            key = old.key.replace(f"{old.taken_at:{names.STAMP}}", f"{at:{names.STAMP}}")
            if key in known:
                continue
            fate = self.dice.choice(FATES)
            new = replace(old, key=key, taken_at=at, claim="good", expired_at=None)
            if fate in ("unproven", "broken"):
                new = replace(new, claim=fate)
            items[number] = replace(old, superseded=True)
            books.anew[old.key] = key
            books.origins[key] = "another" if fate == "other" else old.key
            if fate != "gone":
                items.append(new)
            if fate in ("whole", "gone", "other"):
                books.good.add(key)
            if old.key in books.freed:
                books.freed.add(key)
            if old.key in books.anchors:
                books.anchors[key] = replace(books.anchors[old.key], file=key)

    def put(self, tier: str, name: str, moment: datetime) -> str:
        """One backup, of whatever fate the dice say."""
        moment = moment.replace(microsecond=0)
        key = f"shop/{self.source}/{tier}/{name}_{moment:{names.STAMP}}.{EXTENSION}"
        item = Item(key, self.source, tier, name, moment, "good")
        fate = self.dice.random()
        shape = self.shape
        if fate < shape.broken:
            item = replace(item, claim="broken")
        elif fate < shape.broken + shape.unproven:
            item = replace(item, claim="unproven")
        elif fate >= shape.broken + shape.unproven + shape.forged:
            self.history.books.good.add(key)
        if self.dice.random() < 0.02:
            item = replace(item, pinned=True)
        if self.dice.random() < shape.marked:
            item = replace(item, expired_at=NOW - self.dice.randrange(1, 60) * HOUR)
        self.history.items.append(item)
        return key

    def _change(self, key: str, **to: bool) -> None:
        items = self.history.items
        place = next(number for number, each in enumerate(items) if each.key == key)
        items[place] = replace(items[place], **to)  # type: ignore[arg-type]
