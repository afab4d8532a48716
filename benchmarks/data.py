"""Tables to measure on: rows like an application's, the same in every run, in any wanted amount."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

COLUMNS = "id, account, created_at, kind, email, city, amount, payload, note"
MARIADB = """CREATE TABLE events (id BIGINT PRIMARY KEY, account INT NOT NULL, created_at DATETIME NOT NULL,
  kind VARCHAR(20) NOT NULL, email VARCHAR(80) NOT NULL, city VARCHAR(40), amount DECIMAL(10,2) NOT NULL,
  payload TEXT NOT NULL, note TEXT NOT NULL, KEY by_account (account)) ENGINE=InnoDB CHARACTER SET utf8mb4"""
POSTGRES = """CREATE TABLE events (id bigint PRIMARY KEY, account int NOT NULL, created_at timestamp NOT NULL,
  kind varchar(20) NOT NULL, email varchar(80) NOT NULL, city varchar(40), amount numeric(10,2) NOT NULL,
  payload text NOT NULL, note text NOT NULL)"""

_WORDS = """order customer invoice parcel return refund address number paid late early twice please call before after
door bell garden house street green blue broken perfect quick answer waiting weekend holiday office phone letter
delivery driver neighbour signed missing found replaced colour size small large extra thanks again never always""".split()
_CITIES = ["Berlin", "Lyon", "Kraków", "Porto", "Oslo", "\\N", "Reykjavík", "Thessaloniki", "São Paulo", "東京"]
_KINDS = ["login", "order", "payment", "refund", "message", "export"]


def rows(count: int, start: int = 1, seed: int = 7) -> Iterator[bytes]:
    """Lines of tab separated values, ``\\N`` for NULL, as both LOAD DATA and COPY read them; 325 bytes each."""
    rng = random.Random(f"{seed}/{start}")
    notes = [" ".join(rng.choices(_WORDS, k=rng.randint(6, 22))) for _ in range(20_000)]
    for number in range(start, start + count):
        word, other = rng.getrandbits(64), rng.randrange(20_000)
        payload = (f'{{"session": "{word:016x}", "page": "/shop/{notes[other][:18]}", "items": {other % 17}, '
                   f'"agent": "Mozilla/5.0 ({_KINDS[other % 6]})", "ms": {word % 4000}}}')
        yield (f"{number}\t{word % 90_000}\t2026-{1 + number % 12:02d}-{1 + other % 28:02d} "
               f"{word % 24:02d}:{word % 60:02d}:{other % 60:02d}\t{_KINDS[word % 6]}\tuser{word % 90_000}@example.org\t"
               f"{_CITIES[other % 10]}\t{word % 100_000 / 100:.2f}\t{payload}\t{notes[word % 20_000]}\n").encode()


def write(path: Path, count: int, seed: int = 7) -> None:
    """The rows as a file."""
    with path.open("wb", buffering=1 << 20) as file:
        file.writelines(rows(count, seed=seed))
    path.chmod(0o644)
