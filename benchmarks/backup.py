"""A full backup: ours, the shell pipeline that the installations run today, and the bare dump to nowhere."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.data import MESSAGES, ORDERS, Shape
from benchmarks.measure import Figure, against, in_turn, plain, shell
from deployments.embedded import MariaDB, PostgreSQL

PASSWORD = "fake-benchmark-password"
KEY = "fake-benchmark-key-of-more-than-32-characters"
ROWS = 1_500_000
"""A dump of about 480 MB."""


class Contest(ABC):
    """One database server with a big table, and the commands to dump it by hand."""

    name: str

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.env = {**os.environ, "BENCH_KEY": KEY, **self.secrets()}

    @abstractmethod
    def secrets(self) -> dict[str, str]: ...

    @abstractmethod
    @contextmanager
    def running(self) -> Iterator[None]: ...

    @abstractmethod
    def load(self, shape: Shape, rows: Path) -> None:
        """Make the table in a new database ``bench``."""

    @abstractmethod
    def dump(self) -> str:
        """The command that writes the dump to standard output."""

    @abstractmethod
    def source(self) -> dict[str, Any]:
        """The source's part of a site file."""

    def fill(self, shape: Shape, count: int) -> None:
        """A new database ``bench`` with so many rows of a shape."""
        self.table = shape.table
        rows = self.directory / "rows.tsv"
        shape.write(rows, count)
        self.load(shape, rows)
        rows.unlink()

    def by_hand(self) -> float:
        """dump | gzip | openssl, as today."""
        out = self.directory / "by-hand.sql.gz.enc"
        return shell(
            f"{self.dump()} | gzip | openssl enc -aes-256-cbc -salt -pbkdf2 -pass env:BENCH_KEY > {out}", self.env
        )

    def bare(self) -> float:
        """The dump alone, to nowhere."""
        return shell(f"{self.dump()} > /dev/null", self.env)

    def ours(self) -> dict[str, float]:
        """One backup by the engine; see ``benchmarks.ours``."""
        site = self.directory / "site.json"
        source = {"host": "127.0.0.1", "databases": ["bench"], **self.source()}
        vault = {
            "root": str(self.directory / f"vault-{self.table}"),
            "keys": {"current": "main", "keys": {"main": KEY}},
        }
        site.write_text(json.dumps({"site": "bench", "vault": vault, self.kind: [source]}))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.ours", str(site), self.kind, "bench"], check=True, stdout=subprocess.PIPE
        )
        return dict(json.loads(done.stdout))

    kind: str


class OnMariaDB(Contest):
    """MariaDB of this host."""

    name, kind = "mariadb", "mysql"

    def secrets(self) -> dict[str, str]:
        return {"MYSQL_PWD": PASSWORD}

    @contextmanager
    def running(self) -> Iterator[None]:
        self.server = MariaDB(
            self.directory / "server",
            password=PASSWORD,
            options=[
                "--innodb-buffer-pool-size=512M",
                "--innodb-log-file-size=256M",
                "--local-infile=1",
                "--innodb-flush-log-at-trx-commit=0",
            ],
        )
        with self.server:
            yield

    def load(self, shape: Shape, rows: Path) -> None:
        create = shape.create(0, " ENGINE=InnoDB CHARACTER SET utf8mb4")
        load = f"SET sql_log_bin=0; LOAD DATA LOCAL INFILE '{rows}' INTO TABLE {shape.table} CHARACTER SET utf8mb4"
        shell(f"mariadb {self._options()} -e 'DROP DATABASE IF EXISTS bench; CREATE DATABASE bench'", self.env)
        subprocess.run(
            ["bash", "-c", f"mariadb --local-infile=1 {self._options()} bench"],
            check=True,
            env=self.env,
            input=f"{create};{load};ANALYZE TABLE {shape.table};".encode(),
            stdout=subprocess.DEVNULL,
        )

    def dump(self) -> str:
        return (
            f"mariadb-dump {self._options()} --single-transaction --quick --routines --triggers --events --hex-blob "
            "--no-tablespaces bench"
        )

    def source(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self.server.port,
            "user": "root",
            "password": PASSWORD,
            "databases": ["bench"],
        }

    def _options(self) -> str:
        return f"-h 127.0.0.1 -P {self.server.port} -u root"


class OnPostgres(Contest):
    """PostgreSQL of this host."""

    name, kind = "postgres", "postgres"

    def secrets(self) -> dict[str, str]:
        return {"PGPASSWORD": PASSWORD}

    @contextmanager
    def running(self) -> Iterator[None]:
        self.server = PostgreSQL(
            self.directory / "server",
            password=PASSWORD,
            options=["shared_buffers=512MB", "fsync=off", "max_wal_size=2GB"],
        )
        with self.server:
            yield

    def load(self, shape: Shape, rows: Path) -> None:
        for database, statement in (
            ("postgres", "DROP DATABASE IF EXISTS bench"), ("postgres", "CREATE DATABASE bench"),
            ("bench", shape.create(1)), ("bench", f"\\copy {shape.table} from {rows}"),
            ("bench", "VACUUM ANALYZE"), ("bench", "CHECKPOINT"),
        ):  # fmt: skip
            shell(f"psql -X -q {self._options()} -d {database} -c '{statement}'", self.env)

    def dump(self) -> str:
        return f"pg_dump {self._options()} bench"

    def source(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self.server.port,
            "user": "postgres",
            "password": PASSWORD,
            "databases": ["bench"],
        }

    def _options(self) -> str:
        return f"-h 127.0.0.1 -p {self.server.port} -U postgres"


def run(contest: Contest) -> list[Figure]:
    """Speed and size of a backup of about 480 MB, three of each in turn; medians."""
    with contest.running():
        contest.fill(ORDERS, ROWS)
        last: dict[str, float] = {}
        verify: list[float] = []

        def ours() -> float:
            last.update(contest.ours())
            verify.append(last["verify"])
            return last["capture"]

        times = in_turn({"bare": contest.bare, "ours": ours, "shell": contest.by_hand})
        both = times["ours"] + statistics.median(verify)
        orders = _sizes(contest, last)
        contest.fill(MESSAGES, ROWS // 10)
        contest.by_hand()
        messages = _sizes(contest, contest.ours())
    name, shell_pipeline = contest.name, "dump | gzip | openssl"
    return [
        plain(f"{name}.backup.dump_bytes", last["plain"], "B"),
        against(f"{name}.backup.vs_shell", times["ours"], shell_pipeline, times["shell"]),
        against(f"{name}.backup.vs_bare_dump", times["ours"], "dump to nowhere", times["bare"]),
        against(f"{name}.backup_and_verify.vs_shell", both, shell_pipeline, times["shell"]),
        against(f"{name}.backup_size.vs_shell", *orders, "B"),
        against(f"{name}.backup_size_of_prose.vs_shell", *messages, "B"),
    ]


def memory(contest: Contest) -> list[Figure]:
    """How far the process grows on a dump of over 2 GB: bytes above its size before the backup."""
    with contest.running():
        contest.fill(ORDERS, ROWS * 2_250 // 480)
        done = contest.ours()
    return [
        plain(f"{contest.name}.backup_memory.dump_bytes", done["plain"], "B"),
        plain(f"{contest.name}.backup_memory.growth", done["grown"] / 2**20, "MiB"),
    ]


def _sizes(contest: Contest, ours: dict[str, float]) -> tuple[float, str, float]:
    return ours["stored"], "gzip", (contest.directory / "by-hand.sql.gz.enc").stat().st_size
