"""Tables to measure on: rows like an application's, the same in every run, in any wanted amount.

``orders`` is what most of a database's bytes are: numbers, times, tokens, short texts. ``messages`` is
mostly prose and JSON, which a fast compressor packs less well than gzip does; it is measured so that
the size figure of the first is not read as one for all data.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_VOCABULARY = (
    "order customer invoice parcel return refund address number paid late early twice please call before after door "
    "bell garden house street green blue broken perfect quick answer waiting weekend holiday office phone letter "
    "delivery driver neighbour signed missing found replaced colour size small large extra thanks again never always"
)
_WORDS = _VOCABULARY.split()
_CITIES = ["Berlin", "Lyon", "Kraków", "Porto", "Oslo", "\\N", "Reykjavík", "Thessaloniki", "São Paulo", "東京"]
_KINDS = ["login", "order", "payment", "refund", "message", "export"]


@dataclass(frozen=True)
class Shape:
    """A table: its name, the columns in order as both servers' types, and one row's values from random bits."""

    table: str
    columns: dict[str, tuple[str, str]]
    row: Callable[[int, int, list[str]], tuple[object, ...]]
    words: tuple[int, int]

    def create(self, server: int, tail: str = "") -> str:
        """CREATE TABLE; ``server`` 0 is MariaDB, 1 is PostgreSQL."""
        columns = ", ".join(f"{name} {types[server]}" for name, types in self.columns.items())
        return f"CREATE TABLE {self.table} ({columns}){tail}"

    def rows(self, count: int, seed: int = 7) -> Iterator[bytes]:
        """Tab separated lines, ``\\N`` for NULL, as both LOAD DATA and COPY read them."""
        rng = random.Random(seed)
        notes = [" ".join(rng.choices(_WORDS, k=rng.randint(*self.words))) for _ in range(20_000)]
        for number in range(1, count + 1):
            yield "\t".join(map(str, self.row(number, rng.getrandbits(256), notes))).encode() + b"\n"

    def write(self, path: Path, count: int) -> None:
        """The rows as a file that the servers may read."""
        with path.open("wb", buffering=1 << 20) as file:
            file.writelines(self.rows(count))
        path.chmod(0o644)


def _moment(number: int, w: int) -> str:
    return f"2026-{1 + number % 12:02d}-{1 + w % 28:02d} {w % 24:02d}:{w % 60:02d}:{(w >> 8) % 60:02d}"


def _order(number: int, w: int, notes: list[str]) -> tuple[object, ...]:
    digits = f"{w:064x}"
    return (
        number, w % 90_000, f"{_moment(number, w)}.{(w >> 16) % 1_000_000:06d}", _KINDS[w % 6],
        f"user{w % 90_000}@example.org", _CITIES[w % 10], f"{w % 10_000_000 / 100:.2f}",
        f"{(w >> 24) % 10_000_000 / 100:.2f}", digits[:40],
        f"{digits[40:48]}-{digits[48:52]}-4{digits[53:56]}-a{digits[57:60]}-{digits[20:32]}",
        f"{w % 223}.{(w >> 9) % 255}.{(w >> 17) % 255}.{(w >> 25) % 255}", f"{(w >> 40) % 180_000_000 / 1e6 - 90:.6f}",
        f"{(w >> 70) % 360_000_000 / 1e6 - 180:.6f}",
        f"Mozilla/5.0 (X11; Linux x86_64; rv:{100 + w % 50}.0) Firefox/{100 + w % 50}", notes[w % 20_000],
    )  # fmt: skip


def _message(number: int, w: int, notes: list[str]) -> tuple[object, ...]:
    payload = (
        f'{{"page": "/shop/{notes[w % 20_000][:18]}", "items": {w % 17}, "agent": "Mozilla/5.0 ({_KINDS[w % 6]})"}}'
    )
    return number, w % 90_000, _moment(number, w), payload, notes[(w >> 30) % 20_000]


ORDERS = Shape("orders", {
    "id": ("BIGINT PRIMARY KEY", "bigint PRIMARY KEY"), "account": ("INT NOT NULL", "int NOT NULL"),
    "created_at": ("DATETIME(6) NOT NULL", "timestamp NOT NULL"),
    "kind": ("VARCHAR(20) NOT NULL", "varchar(20) NOT NULL"),
    "email": ("VARCHAR(80) NOT NULL", "varchar(80) NOT NULL"), "city": ("VARCHAR(40)", "varchar(40)"),
    "amount": ("DECIMAL(12,2) NOT NULL", "numeric(12,2) NOT NULL"),
    "tax": ("DECIMAL(12,2) NOT NULL", "numeric(12,2) NOT NULL"),
    "token": ("CHAR(40) NOT NULL", "char(40) NOT NULL"),
    "reference": ("CHAR(36) NOT NULL", "uuid NOT NULL"),
    "address": ("VARCHAR(15) NOT NULL", "inet NOT NULL"),
    "latitude": ("DECIMAL(9,6) NOT NULL", "numeric(9,6) NOT NULL"),
    "longitude": ("DECIMAL(9,6) NOT NULL", "numeric(9,6) NOT NULL"),
    "agent": ("VARCHAR(120) NOT NULL", "text NOT NULL"),
    "note": ("TEXT NOT NULL", "text NOT NULL"),
}, _order, (3, 9))  # fmt: skip

MESSAGES = Shape("messages", {
    "id": ("BIGINT PRIMARY KEY", "bigint PRIMARY KEY"), "account": ("INT NOT NULL", "int NOT NULL"),
    "created_at": ("DATETIME NOT NULL", "timestamp NOT NULL"), "payload": ("TEXT NOT NULL", "text NOT NULL"),
    "body": ("TEXT NOT NULL", "text NOT NULL"),
}, _message, (8, 30))  # fmt: skip
