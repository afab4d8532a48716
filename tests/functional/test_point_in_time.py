"""Ship, lose, and bring back the moment before, by the command line alone, with no Prefect in sight."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments import site_file
from engine.errors import ConfigError, UnknownName
from engine.point_in_time import plan_past
from engine.restore_plan import RestoreRequest
from engine.shipping import ship
from engine.site import Site
from tests.functional.bad_files import bad_sector
from tests.servers import preloaded
from tests.servers.databases import DatabaseServer

KEY = "FAKE-encryption-key-of-the-tests-0123456789"
Backups = Callable[..., dict[str, Any]]


class Shop:
    """A table of numbers on either engine, and a site file for it."""

    def __init__(self, kind: str, server: DatabaseServer, directory: Path) -> None:
        self.kind, self.server = kind, server
        self.database = f"pit_{secrets.token_hex(4)}"
        self.vault = directory / "vault"
        self.file = directory / "site.yaml"
        server.sql(f"CREATE DATABASE {self.database}")
        server.sql("CREATE TABLE numbers (n int PRIMARY KEY, note varchar(40))", self.database)
        site = {
            "site": "pit",
            "vault": {"root": str(self.vault), "keys": {"current": "main", "main": KEY}},
            kind: {"host": server.host, "port": server.port, "user": server.user, "password": server.password,
                   "databases": [self.database]},
        }  # fmt: skip
        self.file.write_text(yaml.safe_dump(site))

    def add(self, *numbers: int) -> None:
        rows = ", ".join(f"({number}, 'row {number}')" for number in numbers)
        self.server.sql(f"INSERT INTO numbers VALUES {rows}", self.database)

    def numbers(self, database: str | None = None) -> list[int]:
        return [int(str(n)) for (n,) in self.server.sql("SELECT n FROM numbers ORDER BY n", database or self.database)]

    def backups(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        done = preloaded.backups(*arguments, "-f", str(self.file), "--json", env={**os.environ, "NO_COLOR": "1"})
        assert done.returncode == code, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def site(self) -> Site:
        """Opened in this process."""
        return Site(site_file.load(self.file))

    @property
    def request(self) -> RestoreRequest:
        return RestoreRequest(self.database)

    def anchor(self) -> None:
        """What logs are replayed on."""
        self.backups("backup")
        if self.kind == "postgres":
            self.backups("base")


def quiet_moment() -> datetime:
    """A second in which nothing is committed."""
    time.sleep(1.2)
    moment = datetime.now(UTC).replace(microsecond=0)
    time.sleep(1.2)
    return moment


pytestmark = pytest.mark.sampled


@pytest.fixture(params=["mysql", "postgres"])
def shop(request: pytest.FixtureRequest, mariadb: DatabaseServer, postgres15: DatabaseServer, tmp_path: Path) -> Shop:
    tmp_path.chmod(0o755)
    return Shop(request.param, mariadb if request.param == "mysql" else postgres15, tmp_path)


@pytest.mark.soak(sample=False)  # of every engine, tests/faults/test_any_second.py takes a sample
def test_every_second_between_the_full_and_the_last_shipping_can_be_had(shop: Shop) -> None:
    shop.add(1, 2, 3)
    shop.anchor()
    moments: list[tuple[datetime, list[int]]] = []
    for first in (10, 20, 30):
        shop.add(first, first + 1)
        moments.append((quiet_moment(), shop.numbers()))
        if first == 20:
            shop.backups("ship")
    shop.server.sql("DROP TABLE numbers", shop.database)
    shipped = shop.backups("ship")["shipped"][shop.kind]
    assert shipped["logs"] and shipped["covers_until"]
    for moment, expected in moments:
        side = f"{shop.database}_at_{moment:%H%M%S}"
        done = shop.backups("restore", "--database", shop.database, "--to", moment.isoformat(), "--into", side)
        assert done["recovered"].startswith(f"{shop.database}_") and done["rows"] == len(expected)
        assert shop.numbers(side) == expected
        shop.server.sql(f"DROP DATABASE {side}")
    told = shop.backups("status")["point_in_time"]
    assert len(told) == 1 and told[0]["ranges"]


@pytest.mark.parametrize("damage", ["flipped", "unreadable"])
def test_a_damaged_log_is_found_before_the_replay_and_a_safe_moment_is_offered(shop: Shop, damage: str) -> None:
    shop.add(1)
    shop.anchor()
    for number in (10, 20, 30):
        shop.add(number)
        quiet_moment()
        shop.backups("ship")
    tier = "binlogs" if shop.kind == "mysql" else "wal"
    logs = sorted(each for each in shop.vault.rglob("*.gz.enc") if f"/{tier}/" in str(each))
    middle = logs[-2]
    if damage == "flipped":
        data = bytearray(middle.read_bytes())
        data[len(data) // 2] ^= 1
        middle.chmod(0o600)
        middle.write_bytes(data)
    else:
        bad_sector(middle)
    before = {str(name) for (name,) in shop.server.sql(_LISTING[shop.kind])}
    told = shop.backups("restore", "--database", shop.database, "--to", "latest", code=5)
    error = told["error"]
    name = middle.name.rsplit(".", 4)[0]
    assert name in error["message"] and "latest moment that is safe" in error["remedy"]
    assert {str(each) for (each,) in shop.server.sql(_LISTING[shop.kind])} == before
    middle.unlink()
    middle.with_name(middle.name + ".json").unlink()
    told = shop.backups("windows")
    assert any("missing" in hole for hole in told["windows"][0]["holes"])
    told = shop.backups("restore", "--database", shop.database, "--to", datetime.now(UTC).isoformat(), code=1)
    assert told["error"]["class"] == "OutsideWindow" and "UTC" in told["error"]["remedy"]


_LISTING = {"mysql": "SHOW DATABASES", "postgres": "SELECT datname FROM pg_database"}


def test_what_the_restore_would_refuse_is_refused_before_the_recovery_begins(shop: Shop) -> None:
    shop.add(1, 2)
    shop.anchor()
    shop.add(3)
    shop.backups("ship")
    taken = f"{shop.database}_taken"
    shop.server.sql(f"CREATE DATABASE {taken}")
    table = "numbers" if shop.kind == "mysql" else "public.numbers"
    to = ("restore", "--database", shop.database, "--to", "latest")
    refused = (
        (("--into", shop.database, "--confirm", "typo"), 4, "is not the name of the database"),
        (("--into", shop.database), 4, "would replace the database"),
        (("--into", taken), 2, "exists already"),
        (("--tables", f"{table},{table}_typo"), 2, f"has a table '{table}_typo'"),
        (("--tables", f"{table}_typo", "--dry-run"), 2, "has a table"),
        *([(("--into", shop.database, "--confirm", shop.database, "--tables", table), 4, "Single tables")]
          if shop.kind == "postgres" else []),
    )  # fmt: skip
    for options, code, words in refused:
        error = shop.backups(*to, *options, code=code)["error"]
        assert words in error["message"] and error["kept"] == "nothing was changed", error
    assert not list(shop.vault.rglob("recovered/*")), "none of them was recovered first"
    side = f"{shop.database}_side"
    assert shop.backups(*to, "--into", side, "--tables", table)["rows"] == 3
    assert shop.backups(*to, "--only-backup", "--tables", f"{table}_typo")["recovered"]  # of the whole database
    for name in (taken, side):
        shop.server.sql(f"DROP DATABASE {name}")


def test_a_look_at_the_scratch_server_ends_with_enter_and_leaves_nothing(shop: Shop) -> None:
    shop.add(1, 2)
    shop.anchor()
    shop.add(3)
    shop.backups("ship")
    shop.server.sql("DELETE FROM numbers", shop.database)
    before = {str(each) for each in shop.vault.rglob("*.json")}
    look = subprocess.Popen(
        [sys.executable, "-m", "deployments.cli", "restore", "-f", str(shop.file), "--database", shop.database,
         "--to", "latest", "--look"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "500"},
    )  # fmt: skip
    assert look.stdin is not None and look.stdout is not None
    said: list[str] = []
    while not said or "Press Enter" not in said[-1]:
        said.append(look.stdout.readline())
        assert said[-1], said
    shown = next(line.strip() for line in said if line.startswith("  ") and shop.database in line)
    password = next((line.split(": ")[1].strip() for line in said if "its password" in line), "")
    query = "SELECT n FROM numbers ORDER BY n"
    command = shown.replace(" -p ", " ") + " -N" if shop.kind == "mysql" else f"{shown} -At"
    done = subprocess.run(
        ["bash", "-c", f'{command} {"-e" if shop.kind == "mysql" else "-c"} "{query}"'],
        capture_output=True, text=True, check=True, env={**os.environ, "MYSQL_PWD": password},
    )  # fmt: skip
    assert done.stdout.split() == ["1", "2", "3"]
    look.stdin.write("\n")
    look.stdin.close()
    assert look.wait(120) == 0
    assert {str(each) for each in shop.vault.rglob("*.json")} == before
    assert subprocess.run(["bash", "-c", f"{command} </dev/null"], capture_output=True, check=False).returncode != 0


def test_right_before_a_statement_is_found_by_itself_where_there_was_one_and_listed_where_there_were_several(
    tmp_path: Path, mariadb: DatabaseServer
) -> None:
    tmp_path.chmod(0o755)
    shop = Shop("mysql", mariadb, tmp_path)
    shop.add(1, 2, 3)
    shop.anchor()
    shop.add(4)
    mariadb.sql("DELETE FROM numbers WHERE n = 1", shop.database)
    shop.add(5)
    mariadb.sql("DELETE FROM numbers WHERE n = 2", shop.database)
    wanted = shop.numbers()
    mariadb.sql("SET STATEMENT lock_wait_timeout=5 FOR DROP TABLE numbers", shop.database)
    mariadb.sql("CREATE TABLE `a.b` (n int); DROP TABLE `a.b`", shop.database)
    with mariadb.database("beside") as other:  # the same statement, in a database that is not restored
        mariadb.sql("CREATE TABLE numbers (n int); DROP TABLE numbers", other)
    to = ("restore", "--database", shop.database, "--to")
    with shop.site() as site:
        with pytest.raises(UnknownName, match="no log is shipped"):
            plan_past(site, shop.request, "before DROP TABLE numbers")
        ship(site, "mysql")
        for when, rows in (("before drop table numbers", wanted), ("before first DELETE numbers", [1, 2, 3, 4])):
            side = f"{shop.database}_{rows[0]}"
            done = shop.backups(*to, when, "--into", side)["recovery"]
            assert shop.numbers(side) == rows, when
            assert done["target"] == done["statement"]["to"]
            mariadb.sql(f"DROP DATABASE {side}")

        error = shop.backups(*to, "before DELETE numbers", code=2)["error"]
        listed = [line for line in error["remedy"].splitlines() if line.startswith("  ")]
        assert "2 statements fit" in error["message"] and len(listed) == 2 and all("UTC" in line for line in listed)
        found = shop.backups("find-event", "--table", f"{shop.database}.numbers", "--kind", "delete")["found"]
        assert [each["to"] in line for each, line in zip(found, listed, strict=True)] == [True, True]
        for when, target in (
            (found[0]["to"], found[0]["to"]),
            (f"before last DELETE, until {found[1]['at']}", found[1]["to"]),
            ("before first DELETE numbers", found[0]["to"]),
        ):
            assert str(plan_past(site, shop.request, when).plan.target) == target
        quoted = plan_past(site, shop.request, "before DROP TABLE `a.b`").statement
        assert quoted and quoted.what == f"DROP {shop.database}.a.b"
        with pytest.raises(UnknownName, match="Nothing in the shipped logs") as none:
            plan_past(site, shop.request, "before TRUNCATE numbers")
        assert f"DROP {shop.database}.numbers" in none.value.remedy and "a.b" not in none.value.remedy
        with pytest.raises(UnknownName, match="every commit is shipped until"):
            plan_past(site, shop.request, f"before DELETE numbers, since {datetime.now(UTC).isoformat()}")


def test_postgres_refuses_a_statement_and_shows_the_commits_around_a_time(
    tmp_path: Path, postgres15: DatabaseServer
) -> None:
    tmp_path.chmod(0o755)
    shop = Shop("postgres", postgres15, tmp_path)
    shop.anchor()
    shop.add(1)
    moment = quiet_moment()
    shop.add(2)
    shop.backups("ship")
    to = ("restore", "--database", shop.database, "--to")
    with shop.site() as site, pytest.raises(ConfigError, match="not statements") as refused:
        plan_past(site, shop.request, "before DROP TABLE numbers")
    assert "find-event --source postgres --around" in refused.value.remedy
    found = shop.backups("find-event", "--around", moment.isoformat())["found"]
    kept = [each for each in found if each["at"] <= moment.isoformat().replace("+00:00", "Z")][-1]
    assert kept["keeps"]
    side = f"{shop.database}_lsn"
    shop.backups(*to, kept["to"], "--into", side)  # that commit is kept, the next one is not
    assert shop.numbers(side) == [1]
    postgres15.sql(f"DROP DATABASE {side}")


def test_before_any_log_was_shipped_the_newest_state_is_that_of_the_full_or_base(shop: Shop) -> None:
    """The host is lost right after its first backup, or shipping has failed ever since."""
    shop.add(1, 2)
    shop.anchor()
    shop.add(3)
    tier = "binlogs" if shop.kind == "mysql" else "wal"
    for file in [each for each in shop.vault.rglob("*") if f"/{tier}/" in str(each) and each.is_file()]:
        file.unlink()
    plan = shop.backups("restore", "--database", shop.database, "--to", "latest", "--dry-run")["recovery"]
    assert plan["logs"] == [] and "nothing that was committed after" in plan["notes"][0]
    side = f"{shop.database}_latest"
    done = shop.backups("restore", "--database", shop.database, "--to", "latest", "--into", side)
    assert done["rows"] == 2 and shop.numbers(side) == [1, 2]
    shop.server.sql(f"DROP DATABASE {side}")
