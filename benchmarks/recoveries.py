"""Recovery to the end of the logs: ours beside stock programs on a new server of the same settings.

Both sides make a server, bring in the full (or base), and replay the logs. Ours checks more on the way: every
digest, every row count. Two rounds in turn, the mean of each part.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

from benchmarks.backup import KEY, PASSWORD
from benchmarks.data import ORDERS
from benchmarks.logs import Logged, MariaDBLogs, PostgresLogs
from benchmarks.measure import Figure, against, plain, shell
from deployments.embedded import MariaDB, PostgreSQL, Server

ROWS = 600_000
"""A full of about 200 MB."""
TRANSACTIONS = 150_000
ROUNDS = 2
_OPEN = "openssl enc -d -aes-256-cbc -pbkdf2 -pass env:BENCH_KEY"
Parts = dict[str, float]


class Recovered(Logged):
    """A full (or base) and logs in our vault and as files, and both ways back."""

    peer: str

    def prepare(self) -> None:
        """A table of ROWS rows, a full of it on both sides, TRANSACTIONS after it, shipped on both sides."""
        self.fill(ORDERS, ROWS)
        self.begin(1)
        self.take_full()
        self.transactions(1, TRANSACTIONS)
        self.engine("benchmarks.ours_logs", "ship", self.site("ship0"), self.kind)
        self.ship_by_hand()

    @abstractmethod
    def take_full(self) -> None: ...

    @abstractmethod
    def recover_by_hand(self, directory: Path) -> Parts:
        """Seconds of ``start``, ``full`` and ``replay``."""

    def recover(self) -> Parts:
        """Ours."""
        return self.engine("benchmarks.ours_logs", "recover", self.site("ship0"), self.kind, "bench")


class OnMariaDBLogs(Recovered, MariaDBLogs):
    """A dump and binary logs."""

    peer = "openssl | gunzip | mariadb, mariadb-binlog | mariadb"

    def take_full(self) -> None:
        self.engine("benchmarks.ours", self.site("ship0"), self.kind, "bench")
        self.by_hand()

    def recover_by_hand(self, directory: Path) -> Parts:
        options = [
            "--skip-log-bin", "--innodb-buffer-pool-size=256M", "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0", "--max-allowed-packet=1G",
        ]  # fmt: skip
        begun = time.perf_counter()
        with MariaDB(directory, password=PASSWORD, options=options) as server:
            started = time.perf_counter() - begun
            client = f"mariadb --no-defaults -h 127.0.0.1 -P {server.port} -u root"
            full = shell(
                f"{client} -e 'CREATE DATABASE bench'; "
                f"{_OPEN} < {self.directory}/by-hand.sql.gz.enc | gunzip | {client} bench",
                self.env,
            )
            logs = directory / "logs"
            logs.mkdir()
            replay = shell(
                f"cd {self.by_hand_directory}; for file in *.gz.enc; do "
                f"{_OPEN} < $file | gunzip > {logs}/${{file%.gz.enc}}; done; cd {logs}; "
                f"mariadb-binlog --no-defaults --disable-log-bin * | {client} --binary-mode",
                self.env,
            )
            _expect(shell_output(f"{client} bench -N -e 'SELECT COUNT(*) FROM small'", self.env), TRANSACTIONS)
        return {"start": started, "full": full, "replay": replay}


class OnPostgresLogs(Recovered, PostgresLogs):
    """A base backup and WAL."""

    peer = "openssl | gunzip | tar, restore_command"

    def take_full(self) -> None:
        self.engine("benchmarks.ours_logs", "base", self.site("ship0"), self.kind)
        shell(
            f"pg_basebackup {self._options()} -w -D - -Ft -X none -c fast 2> {self.directory}/words | gzip | "
            f"openssl enc -aes-256-cbc -salt -pbkdf2 -pass env:BENCH_KEY > {self.directory}/base.tar.gz.enc",
            self.env,
        )

    def recover_by_hand(self, directory: Path) -> Parts:
        data, key = directory / "data", directory / "key"
        data.mkdir(parents=True)
        begun = time.perf_counter()
        full = shell(f"{_OPEN} < {self.directory}/base.tar.gz.enc | gunzip | tar -x -C {data}", self.env)
        key.write_text(KEY)
        (data / "recovery.signal").touch()
        shell(f"chown -R postgres: {directory}; chmod 700 {data}; chmod 600 {key}", self.env)
        unseal = _OPEN.replace("env:BENCH_KEY", f"file:{key}")
        fetch = f"test -f {self.by_hand_directory}/%f.gz.enc && {unseal} < {self.by_hand_directory}/%f.gz.enc"
        options = [
            f"restore_command={fetch} | gunzip > %p", "recovery_target_action=promote", "hot_standby=off",
            "fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=128MB", "autovacuum=off",
        ]  # fmt: skip
        with PostgreSQL(directory, password=PASSWORD, options=options) as server:
            _wait_until_promoted(server, self.env)
            total = time.perf_counter() - begun
            ask = f"psql -X -At -h 127.0.0.1 -p {server.port} -U postgres bench -c 'SELECT count(*) FROM small'"
            _expect(shell_output(ask, self.env), TRANSACTIONS)
        return {"start": 0.0, "full": full, "replay": total - full}


def run(make: Callable[[Path], Recovered], directory: Path) -> list[Figure]:
    """Both ways back, in turn."""
    contest = make(directory)
    ours: list[Parts] = []
    theirs: list[Parts] = []
    with contest.running():
        contest.prepare()
        for number in range(ROUNDS):
            ours.append(contest.recover())
            there = directory / f"recovered-{number}"
            theirs.append(contest.recover_by_hand(there))
            shutil.rmtree(there)
    mine, peer = _mean(ours), _mean(theirs)
    full, logs, name = mine["full_bytes"] / 1e9, mine["log_bytes"] / 1e9, f"{contest.name}.recover"
    log_seconds = mine["check"] + mine["replay"]
    return [
        plain(f"{name}.full_bytes", mine["full_bytes"], "B"),
        plain(f"{name}.log_bytes", mine["log_bytes"], "B"),
        against(f"{name}.vs_shell", mine["total"], contest.peer, peer["start"] + peer["full"] + peer["replay"]),
        against(f"{name}_full.vs_shell", mine["full"] / full, contest.peer, peer["full"] / full, "s/GB"),
        against(f"{name}_logs.vs_shell", log_seconds / logs, contest.peer, peer["replay"] / logs, "s/GB"),
        plain(f"{name}.start", mine["start"], "s"),
        plain(f"{name}.export", mine["export"], "s"),
    ]


def shell_output(script: str, env: dict[str, str]) -> str:
    """What a bash script prints."""
    argv = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(argv, check=True, env=env, stdout=subprocess.PIPE, text=True).stdout.strip()


def _mean(rounds: list[Parts]) -> Parts:
    return {name: statistics.mean(each[name] for each in rounds) for name in rounds[0]}


def _expect(found: str, wanted: int) -> None:
    if found != str(wanted):
        raise AssertionError(f"the stock recovery has {found} transactions, not {wanted}")


def _wait_until_promoted(server: Server, env: dict[str, str]) -> None:
    ask = f"psql -X -At -h 127.0.0.1 -p {server.port} -U postgres postgres -c 'SELECT pg_is_in_recovery()'"
    while shell_output(ask, env) != "f":
        time.sleep(0.05)
