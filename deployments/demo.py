"""From nothing to "the dropped tables are back": ``python -m deployments.demo``, and ``... stop`` to clear all.

Private MariaDB and PostgreSQL servers with sample data, a local S3 endpoint, a Prefect server with a
password and a worker; then a full backup, a disaster, and the way back, all through real deployments.
What came back is checked with the databases' own clients, row for row, apart from our own code.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from deployments import demo_data
from deployments.api import PrefectApi, Run
from deployments.demo_stage import Stage, fingerprint
from engine.errors import BackupError

Fingerprints = dict[str, tuple[int, str]]
SITE_FILE = Path(__file__).parent / "sites" / "demo.yaml"


class Demo:
    """The story, step by step, with the time each step took."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._begun = time.monotonic()
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def play(self) -> None:
        """All of it. Raises BackupError when anything does not come back."""
        self._begin()
        before = self._rows()
        rows = sum(count for count, _ in before.values())
        self._heading("A full backup: deployment daily-full/demo")
        self._deploy("daily-full/demo")
        self._heading("Disaster")
        self._destroy()
        self._heading("The way back: deployment restore-database/demo")
        self._deploy("restore-database/demo", source="mysql", database="shop", into="shop", confirm="shop")
        self._deploy(
            "restore-database/demo", source="postgres", database="platform", into="platform", confirm="platform"
        )
        self._heading("Checked with the databases' own clients, row for row")
        self._compare(before)
        self._say(f"The dropped tables are back: {rows:,} rows of {rows:,}.", "1;32")
        self._second_before()
        self._proof()
        self._farewell()

    def _second_before(self) -> None:
        """A mistake hours after the last backup: back to the second before it, by the shipped logs."""
        self._heading("What logs are replayed on: deployment base-backup/demo (MariaDB has a new full already)")
        self._deploy("base-backup/demo")
        self._heading("A day's work, and a mistake")
        self.stage.mariadb_sql(demo_data.SHOP_LATER)
        self.stage.postgres_sql(demo_data.PLATFORM_LATER, "platform")
        wanted = self._rows()
        self._say("1,000 orders and 5,000 readings came in; they are in no full backup")
        time.sleep(1.1)
        moment = datetime.now(UTC).replace(microsecond=0)
        time.sleep(1.1)
        self.stage.mariadb_sql(demo_data.SHOP_ACCIDENT)
        self.stage.postgres_sql(demo_data.PLATFORM_ACCIDENT, "platform")
        self._say("MariaDB: somebody drops the table orders; PostgreSQL: a DELETE takes half of the readings", "31")
        self._heading("Shipping the logs, as the schedule does every 5 minutes")
        self._deploy_both("binlog-ship/demo", "wal-ship/demo")
        self._heading(f"Back to {moment:%H:%M:%S} UTC, the second before: restore-database/demo with point_in_time")
        for source, database in (("mysql", "shop"), ("postgres", "platform")):
            self._deploy(
                "restore-database/demo",
                source=source,
                database=database,
                into=database,
                confirm=database,
                point_in_time=moment.isoformat(),
            )
        self._heading("Checked with the databases' own clients, row for row")
        self._compare(wanted)
        rows = sum(count for count, _ in wanted.values())
        self._say(f"Everything up to the second before the mistake is back: {rows:,} rows of {rows:,}.", "1;32")

    def _proof(self) -> None:
        """Every backup restored in throwaway places, and everything compared."""
        self._heading("Proof, as every month: monthly-restore-drill/demo, in servers that are thrown away")
        self._deploy_both("binlog-ship/demo", "wal-ship/demo")
        self._deploy("monthly-restore-drill/demo")

    def _begin(self) -> None:
        self._heading("Starting private servers")
        for name in self.stage.clear():
            self._say(f"stopped {name} of an earlier demo")
        self.stage.start()
        self._say(
            f"MariaDB on port {self.stage.mariadb.port}, PostgreSQL on port {self.stage.postgres.port}, "
            f"S3 at {self.stage.site_env()['DEMO_S3_ENDPOINT']}"
        )
        self._say(f"Prefect server and worker: {self.stage.prefect.url}")
        self._heading("Sample data")
        self.stage.mariadb_sql(demo_data.SHOP)
        self.stage.postgres_sql(demo_data.PLATFORM)
        self._say("a web shop in MariaDB (shop), a data platform in PostgreSQL (platform)")
        self._heading("Setting the site up: backups apply")
        os.environ.update({**self.stage.site_env(), **self.stage.prefect.client_env()})
        from deployments import prefect_commands

        report = prefect_commands.apply(SITE_FILE, echo=lambda line: None)
        self._say(report.summary())
        self._api = PrefectApi(f"{self.stage.prefect.url}/api", self.stage.prefect.auth)

    def _deploy(self, deployment: str, **parameters: object) -> Run:
        """Run a deployment and tell its tasks as they end."""
        return self._ended(self._api.start(deployment, **parameters))

    def _deploy_both(self, *deployments: str) -> None:
        """Run deployments side by side."""
        for run_id in [self._api.start(each) for each in deployments]:
            self._ended(run_id)

    def _ended(self, run_id: str) -> Run:
        run = self._api.wait(run_id, timeout=300, tell=lambda line: self._say(f"  {line}"))
        if run.state != "COMPLETED":
            for line in self._api.logs(run_id)[-15:]:
                self._say(f"    {line.splitlines()[0] if line else line}")
            raise BackupError(
                f"The run {run.name!r} ended {run.state_name}: {run.message}",
                remedy=f"look at {self.stage.prefect.url}/runs/flow-run/{run_id}",
            )
        self._say(f"{run.first_line}")
        return run

    def _destroy(self) -> None:
        self.stage.mariadb_sql(demo_data.SHOP_DISASTER)
        self._say("MariaDB: tables customers, orders and order_items of shop are dropped", "31")
        self.stage.postgres_sql(demo_data.PLATFORM_DISASTER)
        self._say("PostgreSQL: the database platform is dropped", "31")

    def _rows(self) -> Fingerprints:
        """Every table: its rows, and a digest of all of them in order, as the stock clients print them."""
        found: Fingerprints = {}
        for table, order in demo_data.SHOP_TABLES.items():
            found[f"shop.{table}"] = fingerprint(
                self.stage.mariadb_sql(f"SET time_zone='+00:00'; SELECT * FROM shop.{table} ORDER BY {order}")
            )
        for table, order in demo_data.PLATFORM_TABLES.items():
            found[f"platform.{table}"] = fingerprint(
                self.stage.postgres_sql(f"COPY (SELECT * FROM {table} ORDER BY {order}) TO STDOUT", "platform")
            )
        return found

    def _compare(self, before: Fingerprints) -> None:
        after = self._rows()
        for table, (count, digest) in before.items():
            found, same = after[table]
            verdict = "equal" if (found, same) == (count, digest) else "DIFFERENT"
            self._say(f"  {table:<22} {found:>8,} rows of {count:,}, sha256 {same[:12]} {verdict}")
        if after != before:
            raise BackupError("What came back is not what was lost; see the tables above.")

    def _farewell(self) -> None:
        user, _, password = self.stage.prefect.auth.partition(":")
        self._heading(f"Done in {time.monotonic() - self._begun:.0f} s. Everything stays up to look at")
        self._say(f"Prefect UI: {self.stage.prefect.url}   log in with {user}:{password}")
        self._say("Runs, logs, and under Artifacts the table of backups: demo-backups", "0")
        self._say(f"Command line: set -a; . {self.stage.home / 'demo.env'}; set +a; backups list -f demo")
        self._say("Clear it all away: make demo-stop")

    def _heading(self, text: str) -> None:
        stamp = f"[{time.monotonic() - self._begun:5.1f} s]"
        print(f"\n{self._paint(stamp, '2')} {self._paint(text, '1')}", flush=True)

    def _say(self, text: str, colour: str = "") -> None:
        print(f"          {self._paint(text, colour)}", flush=True)

    def _paint(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colour and colour else text


def main(argv: list[str] | None = None, stage: Callable[[], Stage] = Stage) -> int:
    """Play the demo, or clear it away. Exit code 0 only when every row came back."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", nargs="?", choices=["run", "stop"], default="run")
    asked = parser.parse_args(argv)
    if asked.action == "stop":
        stopped = stage().clear()
        print(f"Stopped: {', '.join(stopped)}. All files of the demo are gone." if stopped else "Nothing was running.")
        return 0
    try:
        Demo(stage()).play()
    except BackupError as error:
        print(f"\nThe demo failed. {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
