"""Shipping logs: ours beside the stock programs that fetch them, idle runs, and what a run a minute costs a server."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from abc import abstractmethod
from pathlib import Path
from typing import Any

from benchmarks.backup import KEY, Contest, OnMariaDB, OnPostgres
from benchmarks.data import ORDERS
from benchmarks.measure import Figure, against, in_turn, plain, shell
from benchmarks.server_cost import Used, used
from deployments.embedded import MariaDB, PostgreSQL
from engine.config import SiteConfig
from engine.postgres.slots import slot_name
from engine.shipping import ship
from engine.site import Site

ROWS = 300_000
"""Of the table that the log is made from: about 100 MB."""
ROUNDS = 2
MINUTES = 20
"""Runs by which one a minute is measured."""
A_MINUTE = 50
"""Transactions between two of them: a server that is hardly used, where the cost of a run shows best."""
_SEAL = "openssl enc -aes-256-cbc -salt -pbkdf2 -pass env:BENCH_KEY"


class Logged(Contest):
    """A server whose log is shipped: into a new vault by ours, into a new directory by hand."""

    server: MariaDB | PostgreSQL
    log: str
    """How its log is fetched by hand."""

    @abstractmethod
    def begin(self, slots: int = 0) -> None:
        """What is written from here on is what will be shipped, by so many readers of each side."""

    @abstractmethod
    def transactions(self, first: int, last: int) -> None:
        """Commit the orders of these numbers one by one into the table ``small``."""

    @abstractmethod
    def ship_by_hand(self) -> float:
        """Fetch, compress, encrypt; the result is in ``self.by_hand_directory``."""

    def start_log(self, transactions: int, slots: int = 0) -> None:
        """A log of that many small transactions."""
        self.begin(slots)
        self.transactions(1, transactions)

    def site(self, name: str, **document: Any) -> Path:
        """The file of a site with a vault of its own."""
        vault = {"root": str(self.directory / f"vault-{name}"), "keys": {"current": "main", "keys": {"main": KEY}}}
        file = self.directory / f"{name}.json"
        file.write_text(json.dumps({"site": name, "vault": vault, self.kind: [self.source()], **document}))
        return file

    def engine(self, module: str, *arguments: object) -> dict[str, float]:
        """What one of our processes measured."""
        argv = [sys.executable, "-m", module, *map(str, arguments)]
        return dict(json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout))

    def ship(self, name: str) -> dict[str, float]:
        """One run of ours, with the vault of that site."""
        return self.engine("benchmarks.ours_logs", "ship", self.site(name), self.kind)

    @property
    def by_hand_directory(self) -> Path:
        return self.directory / "shipped-by-hand"

    def new_directory(self) -> Path:
        """For one round by hand."""
        shell(f"rm -rf {self.by_hand_directory}; mkdir {self.by_hand_directory}", self.env)
        return self.by_hand_directory


class MariaDBLogs(Logged, OnMariaDB):
    """Binary logs of MariaDB."""

    log = "mariadb-binlog --raw, gzip | openssl"

    def begin(self, slots: int = 0) -> None:
        self.client("CREATE TABLE IF NOT EXISTS small LIKE orders; TRUNCATE small; RESET MASTER;")

    def transactions(self, first: int, last: int) -> None:
        self.client(
            f"BEGIN NOT ATOMIC DECLARE n INT DEFAULT {first}; WHILE n <= {last} DO "
            "INSERT INTO small SELECT * FROM orders WHERE id = n; SET n = n + 1; END WHILE; END //",
            "--delimiter=//",
        )

    def bulk(self) -> None:
        """A log of one large transaction."""
        self.begin()
        self.client("INSERT INTO small SELECT * FROM orders;")

    def client(self, text: str, *options: str) -> None:
        """Statements through the stock client."""
        argv = ["mariadb", "--no-defaults", *self._options().split(), *options, "bench"]
        subprocess.run(argv, check=True, env=self.env, input=text.encode(), stdout=subprocess.DEVNULL)

    def ship_by_hand(self) -> float:
        out, options = self.new_directory(), self._options()
        return shell(
            f"""mariadb {options} -e 'FLUSH BINARY LOGS'
            names=$(mariadb {options} -N -e 'SHOW BINARY LOGS' | cut -f1 | head -n -1)
            mariadb-binlog --no-defaults --read-from-remote-server {options} --raw --result-file={out}/ $names
            for name in $names; do gzip < {out}/$name | {_SEAL} > {out}/$name.gz.enc; rm {out}/$name; done""",
            self.env,
        )


class PostgresLogs(Logged, OnPostgres):
    """WAL of PostgreSQL. A slot moves on, so each round has one of its own, made before the log begins."""

    log = "pg_receivewal, gzip | openssl"

    def begin(self, slots: int = 0) -> None:
        self._round = 0
        names = [slot_name(self._site(n), self.kind) for n in range(slots)] + [f"by_hand_{n}" for n in range(slots)]
        made = (f"SELECT pg_create_physical_replication_slot('{name}', true);" for name in names)
        # a checkpoint is where a new slot begins
        self.client("CREATE TABLE IF NOT EXISTS small (LIKE orders); TRUNCATE small; CHECKPOINT;" + "".join(made))

    @staticmethod
    def _site(number: int) -> str:
        return f"ship{number}"

    def forget(self) -> None:
        """Drop every slot."""
        self.client("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots;")

    def transactions(self, first: int, last: int) -> None:
        self.client(
            f"DO $$ BEGIN FOR i IN {first}..{last} LOOP INSERT INTO small SELECT * FROM orders WHERE id = i; COMMIT; "
            "END LOOP; END $$;"
        )

    def client(self, text: str) -> None:
        """Statements through the stock client, each a transaction."""
        argv = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *self._options().split(), "-d", "bench", "-f", "-"]
        subprocess.run(argv, check=True, env=self.env, input=text.encode(), stdout=subprocess.DEVNULL)

    def ship_by_hand(self) -> float:
        out, options = self.new_directory(), self._options()
        slot = f"by_hand_{self._round}"
        self._round += 1
        # What is emitted after the switch lets pg_receivewal see at once that it has come to the end.
        end = "SELECT '0/0'::pg_lsn + ceil((pg_switch_wal() - '0/0') / 16777216) * 16777216"
        ask = f"psql -X -q -At {options} -d bench -c"
        return shell(
            f"""end=$({ask} "{end}"); {ask} "SELECT pg_logical_emit_message(true, 'bench', 'tick')" > {out}/tick
            pg_receivewal {options} -w -D {out} -S {slot} --endpos=$end --no-loop 2> {out}/words
            for file in {out}/????????????????????????; do gzip < $file | {_SEAL} > $file.gz.enc; rm $file; done""",
            self.env,
        )


def run_mariadb(directory: Path) -> list[Figure]:
    """Of binary logs."""
    contest = MariaDBLogs(directory)
    with contest.running():
        contest.fill(ORDERS, ROWS)
        contest.start_log(150_000)
        figures = _beside(contest, "ship")
        contest.bulk()
        return [*figures, *_beside(contest, "ship_bulk"), *_idle(contest), *_every_minute(contest)]


def run_postgres(directory: Path) -> list[Figure]:
    """Of WAL: bytes to both sides, whatever the transactions."""
    contest = PostgresLogs(directory)
    with contest.running():
        contest.fill(ORDERS, ROWS)
        contest.start_log(ROWS, slots=ROUNDS + 1)
        figures = _beside(contest, "ship")
        contest.forget()
        figures += [*_idle(contest), *_every_minute(contest)]
        contest.forget()
        return figures


def _beside(contest: Logged, name: str) -> list[Figure]:
    """The same log shipped by both, in turn; milliseconds a megabyte."""
    done: list[dict[str, float]] = []

    def ours() -> float:
        done.append(contest.ship(f"{name.replace('_', '')}{len(done)}"))
        return done[-1]["seconds"]

    times = in_turn({"ours": ours, "by hand": contest.ship_by_hand}, ROUNDS)
    megabytes = done[0]["bytes"] / 1e6
    by_hand = sum(path.stat().st_size for path in contest.by_hand_directory.glob("*.gz.enc"))
    full = f"{contest.name}.{name}"
    return [
        plain(f"{full}.log_bytes", done[0]["bytes"], "B"),
        against(f"{full}.vs_shell", times["ours"] / megabytes * 1e3, contest.log, times["by hand"] / megabytes * 1e3,
                "ms/MB"),
        against(f"{full}_size.vs_shell", done[0]["stored"], "gzip", by_hand, "B"),
    ]  # fmt: skip


def _idle(contest: Logged) -> list[Figure]:
    """A run that finds nothing new: inside of a flow, and as a command with its start."""
    contest.ship("idle")
    runs = [contest.ship("idle") for _ in range(5)]
    assert not any(each["logs"] for each in runs), runs
    file = contest.site("idle")
    document = json.loads(file.read_text())
    document["vault"]["keys"] = {"current": "main", "main": KEY}
    file.write_text(json.dumps(document))
    command = f"{sys.executable} -m deployments.cli ship -f {file} > /dev/null 2>&1"
    whole = statistics.median(shell(command, contest.env) for _ in range(3))
    return [
        plain(f"{contest.name}.ship_idle.run", statistics.median(each["seconds"] for each in runs), "s"),
        plain(f"{contest.name}.ship_idle.command", whole, "s"),
    ]


def _every_minute(contest: Logged) -> list[Figure]:
    """What one run a minute costs a server that is hardly used; the same work without runs is taken off."""
    contest.begin()
    config = SiteConfig.model_validate_json(contest.site("minute").read_bytes())
    with Site(config) as site:
        ship(site, contest.kind)
    alone, _ = _minutes(contest, 0, None)
    together, reports = _minutes(contest, MINUTES, config)
    cost = together - alone
    runs, name = len(reports), f"{contest.name}.ship_every_minute"
    hour, day = 60 / runs, 24 * 60 / runs
    return [
        plain(f"{name}.run", statistics.median(each["seconds"] for each in reports), "s"),
        plain(f"{name}.run_cpu", statistics.median(each["cpu"] for each in reports), "s"),
        plain(f"{name}.server_cpu_an_hour", cost.cpu * hour, "s"),
        plain(f"{name}.server_writes_an_hour", cost.written / 1e6 * hour, "MB"),
        plain(f"{name}.logs_a_day", sum(each["logs"] for each in reports) * day, "files"),
        plain(f"{name}.vault_grows_a_day", sum(each["stored"] for each in reports) / 1e6 * day, "MB"),
    ]


def _minutes(contest: Logged, first: int, config: SiteConfig | None) -> tuple[Used, list[dict[str, float]]]:
    """A row of minutes, less their waiting: what the server used, and what each run took."""
    reports = []
    before = used(contest.server.pid)
    for minute in range(first, first + MINUTES):
        contest.transactions(minute * A_MINUTE + 1, (minute + 1) * A_MINUTE)
        if config is not None:
            begun, cpu = time.perf_counter(), time.process_time()
            with Site(config) as site:
                report = ship(site, contest.kind)
            took = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
            reports.append({**took, "logs": len(report.shipped), "stored": report.stored_bytes})
    time.sleep(0.5)  # sessions end, and are reckoned with their parent
    return used(contest.server.pid) - before, reports
