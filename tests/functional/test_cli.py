"""The command line on real servers, run as a person or a script runs it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.servers.databases import DatabaseServer
from tests.servers.preloaded import backups
from tests.servers.s3 import S3Server

ROOT = Path(__file__).parents[2]
KEY = "not-a-real-key-but-long-enough-for-a-test"
SHOP = """
CREATE TABLE customers (id INT PRIMARY KEY, name VARCHAR(40)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
INSERT INTO customers SELECT seq, CONCAT('customer ', seq, ' \U0001f600') FROM seq_1_to_500;
CREATE TABLE empty_one (id INT PRIMARY KEY) ENGINE=InnoDB;
"""
PLATFORM = """
CREATE SCHEMA bronze;
CREATE TABLE bronze.events (id int PRIMARY KEY, body text);
INSERT INTO bronze.events SELECT n, 'event ' || n FROM generate_series(1, 700) n;
CREATE TABLE public.settings (name text PRIMARY KEY, value text);
INSERT INTO public.settings VALUES ('a', NULL), ('b', 'two');
"""


@dataclass(frozen=True)
class Told:
    """What a run of the program came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output as one JSON document."""
        body: dict[str, Any] = json.loads(self.out)
        assert body["exit_code"] == self.code and body["ok"] == (self.code == 0)
        return body


@dataclass(frozen=True)
class Place:
    """A site with real servers, and the program pointed at it."""

    folder: Path
    mariadb: DatabaseServer
    postgres: DatabaseServer
    shop: str
    platform: str
    env: dict[str, str]

    @property
    def file(self) -> Path:
        return self.folder / "cli.yaml"

    @property
    def vault(self) -> Path:
        return self.folder / "vault"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "deployments.cli", *arguments, "-f", str(self.file)]

    def run(self, *arguments: str, code: int = 0, **env: str) -> Told:
        """Run ``backups``; it must end with ``code``, and tell no secret on the way."""
        done = backups(*arguments, "-f", str(self.file), env={**self.env, **env})
        shown = done.stdout + done.stderr
        assert done.returncode == code, shown
        for secret in (KEY, self.mariadb.password, self.env["S3_SECRET"]):
            assert secret not in shown
        return Told(done.returncode, done.stdout, done.stderr)

    def json(self, *arguments: str, code: int = 0, **env: str) -> dict[str, Any]:
        return self.run(*arguments, "--json", code=code, **env).document

    def mysql(self, text: str, database: str | None = None) -> list[tuple[str | None, ...]]:
        return self.mariadb.sql(text, database or self.shop)

    def newest(self, source: str, location: str = "local") -> dict[str, Any]:
        found: list[dict[str, Any]] = self.json("list", "--source", source, "--location", location)["backups"]
        return found[0]

    def path(self, source: str) -> Path:
        """The newest backup's file."""
        return self.vault / str(self.newest(source)["keys"]["local"])


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, mariadb: DatabaseServer, postgres15: DatabaseServer, rclone_s3: S3Server
) -> Iterator[Place]:
    """A site with one database on each server, a replica, and one backup of each."""
    folder = tmp_path_factory.mktemp("cli")
    with mariadb.database("shop") as shop, postgres15.database("platform") as platform:
        mariadb.sql(SHOP, shop)
        postgres15.sql(PLATFORM, platform)
        (folder / "cli.yaml").write_text(_site(folder, mariadb, postgres15, rclone_s3, shop, platform))
        place = Place(folder, mariadb, postgres15, shop, platform, _environment(mariadb, postgres15, rclone_s3))
        place.run("backup", "--tier", "daily")
        yield place


def _site(
    folder: Path, mariadb: DatabaseServer, postgres: DatabaseServer, s3: S3Server, shop: str, platform: str
) -> str:
    return f"""\
site: cli
vault:
  root: {folder / "vault"}
  keys: {{current: main, main: "${{BACKUP_ENCRYPTION_KEY}}"}}
  replicas:
    - name: s3
      bucket: {s3.new_bucket("cli")}
      endpoint_url: {s3.endpoint}
      addressing: path
      access_key: ${{S3_KEY}}
      secret_key: ${{S3_SECRET}}
mysql:
  host: {mariadb.host}
  port: {mariadb.port}
  password: ${{MARIADB_PASSWORD}}
  databases: [{shop}]
postgres:
  host: {postgres.host}
  port: {postgres.port}
  password: ${{PG_PASSWORD}}
  databases: [{platform}]
"""


def _environment(mariadb: DatabaseServer, postgres: DatabaseServer, s3: S3Server) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/root"),
        "PYTHONPATH": str(ROOT),
        "BACKUP_ENCRYPTION_KEY": KEY,
        "S3_KEY": s3.access_key,
        "S3_SECRET": s3.secret_key,
        "MARIADB_PASSWORD": mariadb.password,
        "PG_PASSWORD": postgres.password or "none",
    }


def _databases(server: DatabaseServer) -> set[str]:
    text = "SELECT datname FROM pg_database" if server.flavour == "postgres" else "SHOW DATABASES"
    return {str(row[0]) for row in server.sql(text)}


def test_a_backup_is_told_as_one_document_with_what_a_script_wants_to_know(place: Place) -> None:
    told = place.json("backup", "--source", "mysql", "--label", "before upgrade")
    (made,) = told["backups"]
    assert (made["source"], made["database"], made["tier"], made["label"]) == (
        "mysql", place.shop, "manual", "before upgrade",
    )  # fmt: skip
    assert made["rows"] == {"customers": 500, "empty_one": 0} and made["verified"] is True
    assert [(copy["replica"], copy["ok"]) for copy in told["copies"]] == [("s3", True)]
    assert told["failed"] == []


def test_a_backup_tells_a_person_what_it_made_in_utc_and_local_time(place: Place) -> None:
    told = place.run("backup", "--source", "postgres", TZ="Asia/Tokyo")
    assert re.search(r"taken \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(.* JST\)", told.out)
    assert "2 tables, 702 rows" in told.out and "copied" in told.out and "\x1b[" not in told.out + told.err


def test_the_list_names_every_place_where_a_backup_is(place: Place) -> None:
    found = place.json("list", "--tier", "daily")["backups"]
    assert {(each["source"], each["database"]) for each in found} == {
        ("mysql", place.shop),
        ("postgres", place.platform),
    }
    assert all(each["locations"] == ["local", "s3"] for each in found)
    shown = place.run("list", "--location", "s3").out
    assert all(each["file"] in shown for each in found)


def test_status_is_good_after_a_backup_and_fails_once_it_is_too_old(place: Place) -> None:
    told = place.json("status")
    assert {row["database"] for row in told["databases"]} == {place.shop, place.platform}
    for row in told["databases"]:
        assert row["newest"]["verified"] and row["newest"]["locations"] == ["local", "s3"] and row["lacking"] == {}
    time.sleep(1.1)
    assert "more than" in place.run("status", "--max-age", "0m", code=1).err


def test_status_of_a_database_that_was_never_backed_up_fails_and_says_what_to_do(place: Place, tmp_path: Path) -> None:
    other = _another(place, tmp_path, replicas=False)
    told = other.run("status", code=1)
    assert "has no good backup" in told.err and f"backups backup --source mysql --database {place.shop}" in told.err


def test_every_stored_copy_verifies_and_a_flipped_bit_does_not(place: Place) -> None:
    told = place.json("verify", "--backup", "all", "--location", "all")
    assert told["verified"] and all(each["ok"] for each in told["verified"])
    path = place.path("postgres")
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    try:
        broken = place.json("verify", "--backup", path.name, code=5)
        assert broken["error"]["class"] == "IntegrityError" and path.name in broken["error"]["message"]
        assert place.json("verify", "--backup", path.name, "--location", "s3")["ok"]
    finally:
        path.write_bytes(whole)
    assert place.json("verify", "--backup", path.name)["ok"]


def test_the_size_of_a_backup_is_accepted_by_its_name_alone(place: Place) -> None:
    assert place.json("verify", "--backup", place.path("mysql").name, "--accept-size")["ok"]
    assert "give its file name" in place.run("verify", "--accept-size", code=2).err


def test_a_restore_of_mariadb_without_into_comes_up_beside_production_with_every_row(place: Place) -> None:
    told = place.json("restore", "--source", "mysql", "--database", place.shop)
    assert told["into"] != place.shop and told["rows"] == told["expected_rows"] == 500 and not told["replaced"]
    query = "SELECT COUNT(*), SUM(CRC32(name)) FROM customers"
    assert place.mysql(query, told["into"]) == place.mysql(query)
    place.mysql(f"DROP DATABASE `{told['into']}`")


def test_a_restore_of_one_schema_of_postgresql_comes_up_under_the_name_that_was_asked_for(place: Place) -> None:
    told = place.json("restore", "--database", place.platform, "--schemas", "bronze", "--into", "bronze_check")
    assert (told["into"], told["rows"]) == ("bronze_check", 700)
    assert place.postgres.sql("SELECT COUNT(*) FROM bronze.events", "bronze_check") == [("700",)]
    again = place.json("restore", "--database", place.platform, "--into", "bronze_check", code=2)
    assert "exists already" in again["error"]["message"]
    place.postgres.sql("DROP DATABASE bronze_check")


def test_a_dry_run_prints_the_plan_and_changes_nothing(place: Place) -> None:
    before = _databases(place.mariadb)
    told = place.json("restore", "--database", place.shop, "--into", place.shop, "--dry-run")
    assert told["dry_run"] and told["plan"]["replaces"] and told["plan"]["now"]["exists"]
    assert "REPLACES" in place.run("restore", "--database", place.shop, "--into", place.shop, "--dry-run").out
    assert _databases(place.mariadb) == before


@pytest.mark.parametrize("confirm", [[], ["--confirm", "shpo"]])
def test_a_replacement_that_is_not_confirmed_ends_with_4_and_changes_nothing(place: Place, confirm: list[str]) -> None:
    before = _databases(place.mariadb)
    told = place.json("restore", "--database", place.shop, "--into", place.shop, *confirm, code=4)
    assert told["error"]["class"] == "ConfirmationNeeded" and "nothing was changed" in told["error"]["kept"]
    assert _databases(place.mariadb) == before


def test_a_confirmed_replacement_brings_lost_rows_back_and_keeps_what_was_there(place: Place) -> None:
    place.mysql("DELETE FROM customers WHERE id > 10")
    told = place.json("restore", "--database", place.shop, "--into", place.shop, "--confirm", place.shop)
    assert place.mysql("SELECT COUNT(*) FROM customers") == [("500",)]
    assert told["replaced"] and told["safety_backup"]
    assert place.mysql("SELECT COUNT(*) FROM customers", told["kept_as"]) == [("10",)]
    place.mysql(f"DROP DATABASE `{told['kept_as']}`")
    # Logs cannot be replayed across a replacement: there is a new full of it, everywhere.
    newest = place.json("list", "--database", place.shop)["backups"][0]
    assert newest["tier"] == "daily" and set(newest["locations"]) == {"local", "s3"}, newest
    assert newest["file"] in "".join(told["notes"])


def test_a_time_without_zone_is_refused_with_an_example(place: Place) -> None:
    told = place.json("restore", "--database", place.shop, "--backup", "before 2030-01-01 00:00", code=2)
    assert "has no zone" in told["error"]["message"] and "2025-01-16T02:00:00Z" in told["error"]["remedy"]


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["restore", "--source", "mysq", "--database", "x"], "'mysql'"),
        (["list", "--location", "s33"], "'s3'"),
        (["verify", "--source", "postgre"], "'postgres'"),
        (["backup", "--source", "postgre"], "'postgres'"),
        (["restore", "--source", "mysql", "--database", "{shop}", "--tables", "customers,emptyone"], "'empty_one'"),
        (["restore", "--source", "postgres", "--database", "{platform}", "--tables", "events"], "'bronze.events'"),
        (["restore", "--database", "{platform}", "--tables", "bronze.event,bronze.events"], "'bronze.events'"),
        (["restore", "--database", "{platform}", "--schemas", "bronze,bronce"], "'bronze'"),
    ],
)
def test_an_unknown_name_ends_with_2_and_suggests_the_nearest(place: Place, arguments: list[str], nearest: str) -> None:
    told = place.run(*(each.format(shop=place.shop, platform=place.platform) for each in arguments), code=2)
    assert f"Did you mean {nearest}?" in told.err


@pytest.mark.parametrize("asked", [["customers", "nope"], ["nope*", "customers"]])
def test_a_table_that_the_backup_lacks_is_refused_and_the_others_are_not_replaced(
    place: Place, asked: list[str]
) -> None:
    before = _databases(place.mariadb)
    into = ("--into", place.shop, "--confirm", place.shop)
    told = place.json("restore", "--database", place.shop, "--tables", ",".join(asked), *into, code=2)
    assert told["error"]["class"] == "UnknownName" and "nope" in told["error"]["message"]
    assert "'customers'" not in told["error"]["message"] and told["error"]["kept"] == "nothing was changed"
    assert _databases(place.mariadb) == before


def test_a_pattern_that_matches_is_no_unknown_name(place: Place) -> None:
    for database, option, pattern in (
        (place.shop, "--tables", "custom*,empty_one"),
        (place.platform, "--tables", "bronze.*,public.settings"),
        (place.platform, "--schemas", "br*,public"),
    ):
        assert place.json("restore", "--database", database, option, pattern, "--dry-run")["plan"]


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        ("mysql", ["--into", "x" * 70], "70 characters long"),
        ("mysql", ["--into", "performance_schema"], "the server's own"),
        ("mysql", ["--into", "MySQL"], "the server's own"),
        ("mysql", ["--schemas", "bronze"], "no schemas inside a database"),
        ("mysql", ["--tables", "nope"], "has no table 'nope'"),
        ("postgres", ["--into", "\u00e4" * 32], "64 bytes long"),
        ("postgres", ["--into", "template0"], "the server's own"),
        ("postgres", ["--schemas", "bronze,nope"], "has no schema 'nope'"),
    ],
)
def test_a_dry_run_refuses_what_the_restore_could_not_do(
    place: Place, kind: str, arguments: list[str], says: str
) -> None:
    database = place.shop if kind == "mysql" else place.platform
    told = place.json("restore", "--source", kind, "--database", database, "--dry-run", *arguments, code=2)
    assert says in told["error"]["message"] and told["error"]["kept"] == "nothing was changed"


def test_status_of_an_empty_vault_fails_where_the_site_names_no_databases(place: Place, tmp_path: Path) -> None:
    other = _another(place, tmp_path, replicas=False)
    text = re.sub(r"  databases: .*\n", "", other.file.read_text())
    other.file.write_text(re.sub(r"  port: \d+\n", "  port: 1\n", text))  # no server is asked
    told = other.json("status", "--max-age", "26h", code=1)
    assert not told["ok"] and told["databases"] == []
    assert [each.split(";")[0] for each in told["problems"]] == [
        "mysql: no good backup of any database",
        "postgres: no good backup of any database",
    ]
    assert "backups backup --source postgres" in other.run("status", code=1).err


def test_a_source_without_names_is_good_once_one_of_its_databases_is_backed_up(place: Place, tmp_path: Path) -> None:
    other = replace(place, folder=tmp_path)
    other.file.write_text(re.sub(r"  databases: .*\n", "", place.file.read_text()))
    told = other.json("status")
    assert told["problems"] == [] and {each["source"] for each in told["databases"]} == {"mysql", "postgres"}


def test_listing_a_database_that_nobody_knows_ends_with_2_and_a_known_one_without_backups_with_0(
    place: Place, tmp_path: Path
) -> None:
    told = place.json("list", "--database", place.shop + "x", code=2)
    assert told["error"]["class"] == "UnknownName" and f"'{place.shop}'" in told["error"]["remedy"]
    assert place.json("list", "--database", place.shop, "--tier", "monthly")["backups"] == []
    other = _another(place, tmp_path, replicas=False)
    assert other.json("list", "--database", place.shop)["backups"] == []


def test_a_backup_whose_companion_is_gone_is_broken_for_every_command(place: Place, tmp_path: Path) -> None:
    other = _another(place, tmp_path, replicas=False)
    other.run("backup", "--source", "mysql")
    companion = next(other.vault.rglob("*.accounts.sql.gz.enc"))
    companion.unlink()
    for arguments in (
        ["verify", "--source", "mysql"],
        ["decrypt", "latest", "--source", "mysql", "--role", "accounts", "--output", str(tmp_path / "out")],
        ["restore", "--source", "mysql", "--database", place.shop, "--backup", other.path("mysql").name],
    ):
        told = other.json(*arguments, code=5)
        assert told["error"]["class"] == "IntegrityError" and companion.name in told["error"]["message"]


def test_decrypt_gives_the_dump_to_a_pipe_and_a_companion_by_its_role(place: Place) -> None:
    assert "CREATE TABLE `customers`" in place.run("decrypt", "latest", "--source", "mysql").out
    assert "root" in place.run("decrypt", "latest", "--source", "mysql", "--role", "accounts").out
    told = place.run("decrypt", "latest", "--source", "mysql", "--role", "acounts", code=2)
    assert "Did you mean 'accounts'?" in told.err and told.out == ""


def test_decrypt_writes_a_private_file_and_will_not_replace_one_unasked(place: Place, tmp_path: Path) -> None:
    target = tmp_path / "dump.sql"
    arguments = ("decrypt", "latest", "--source", "postgres", "--output", str(target))
    assert place.json(*arguments)["bytes"] == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert "exists already" in place.run(*arguments, code=4).err
    place.run(*arguments, "--force")
    assert [each.name for each in tmp_path.iterdir()] == ["dump.sql"], "something half-written is left"


def test_decrypt_opens_a_file_that_stands_in_no_vault_and_refuses_an_altered_one(place: Place, tmp_path: Path) -> None:
    path = place.path("mysql")
    for each in (path, path.with_name(path.name + ".json")):
        (tmp_path / each.name).write_bytes(each.read_bytes())
    copy = tmp_path / path.name
    assert "CREATE TABLE `customers`" in place.run("decrypt", str(copy)).out
    copy.write_bytes(copy.read_bytes()[:-16])
    assert place.run("decrypt", str(copy), code=5).out == "", "bytes came out of a damaged file"


def test_decrypt_refuses_a_terminal(place: Place) -> None:
    code, shown = _on_terminal(place.command("decrypt", "latest", "--source", "mysql"), place.env)
    assert code == 4 and b"not for reading on a terminal" in shown and b"CREATE TABLE" not in shown


def test_on_a_terminal_there_is_colour_and_a_bar_and_no_colour_where_none_is_wanted(place: Place) -> None:
    arguments = place.command("backup", "--source", "mysql")
    env = {**place.env, "TERM": "xterm-256color", "COLUMNS": "120"}
    code, shown = _on_terminal(arguments, env)
    assert code == 0 and b"\x1b[1;32m" in shown and b"\xe2\x94\x81" in shown
    code, plain = _on_terminal(arguments, {**env, "NO_COLOR": "1"})
    assert code == 0 and not re.search(rb"\x1b\[[0-9;]*3[0-9][0-9;]*m", plain)


def test_a_person_at_a_terminal_types_the_name_to_replace(place: Place) -> None:
    arguments = place.command("restore", "--database", place.shop, "--into", place.shop)
    code, shown = _on_terminal(arguments, place.env, answer=b"no\n")
    assert code == 4 and f"Type {place.shop} to replace it".encode() in shown


def test_a_wrong_s3_secret_costs_no_backup_ends_with_3_and_the_next_run_catches_up(place: Place) -> None:
    told = place.json("backup", "--source", "postgres", code=3, S3_SECRET="wrong-secret-wrong-secret-wrong")
    (made,), (copy,) = told["backups"], told["copies"]
    assert copy["error"]["class"] == "CredentialsRefused" and not copy["error"]["retryable"]
    assert place.json("list", "--location", "local", "--source", "postgres")["backups"][0]["file"] == made["file"]
    row = next(each for each in place.json("status", code=3)["databases"] if each["source"] == "postgres")
    assert row["lacking"] == {"s3": 1}
    caught = place.json("backup", "--source", "mysql")["copies"]
    assert made["file"] in {each["file"] for each in caught if each["ok"]}
    assert place.json("status")["ok"]


def test_a_wrong_password_fails_with_1_and_the_other_database_is_still_backed_up(place: Place) -> None:
    told = place.json("backup", code=1, MARIADB_PASSWORD="wrong-fake-password")
    assert told["error"]["class"] == "CredentialsRefused"
    assert [each["source"] for each in told["backups"]] == ["postgres"]
    assert [each["source"] for each in told["failed"]] == ["mysql"]


def test_check_tells_what_is_right_and_what_is_wrong(place: Place) -> None:
    told = place.json("check")
    assert [each for each in told["warnings"] if each.startswith("nobody is told of failures")]
    assert [each["what"].split()[0] for each in told["checks"]] == ["local", "s3", "mysql", "postgres"]
    assert place.json("check", code=1, MARIADB_PASSWORD="wrong-fake-password")["error"]["class"] == "CredentialsRefused"


def test_a_server_that_is_down_is_named_with_exit_code_1_and_status_still_answers(place: Place, tmp_path: Path) -> None:
    other = replace(place, folder=tmp_path)
    other.file.write_text(place.file.read_text().replace(f"port: {place.mariadb.port}", "port: 1"))
    told = other.json("backup", "--source", "mysql", code=1)
    assert told["error"]["class"] == "Unreachable" and told["error"]["retryable"]
    assert other.json("status")["databases"]


def test_a_dump_made_by_the_old_shell_pipeline_is_adopted_and_restored(place: Place, tmp_path: Path) -> None:
    file = tmp_path / f"{place.shop}_20240229_020000.sql.gz.enc"
    dump = f"mysqldump --no-defaults -h {place.mariadb.host} -P {place.mariadb.port} -u root --single-transaction"
    _bash(
        f"{dump} {place.shop} | gzip | openssl enc -aes-256-cbc -salt -pbkdf2 -pass env:BACKUP_ENCRYPTION_KEY > {file}",
        {**place.env, "MYSQL_PWD": place.mariadb.password},
    )
    made = place.json("adopt", str(file), "--source", "mysql", "--tier", "weekly")
    assert made["file"] == file.name and made["database"] == place.shop
    told = place.json("restore", "--source", "mysql", "--database", place.shop, "--backup", file.name)
    assert place.mysql("SELECT COUNT(*) FROM customers", told["into"]) == [("500",)]
    place.mysql(f"DROP DATABASE `{told['into']}`")


def test_adopting_with_the_wrong_key_is_refused_and_leaves_nothing(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "other_20240229_020000.sql.gz.enc"
    _bash(f"seq 100000 | gzip | openssl enc -aes-256-cbc -pbkdf2 -pass env:K > {file}", {**place.env, "K": "another"})
    place.run("adopt", str(file), "--source", "mysql", code=5)
    assert file.name not in place.run("list").out
    assert not list(place.vault.rglob("other_2024*"))


def test_ctrl_c_ends_with_130_says_what_is_safe_and_leaves_nothing(place: Place) -> None:
    before = place.json("list")["backups"]
    with place.mariadb.connect(place.shop) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLES customers WRITE")
        process = subprocess.Popen(
            place.command("backup", "--source", "mysql"),
            cwd=ROOT,
            env=place.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a test session in the background ignores Ctrl-C, and would hand that down
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        time.sleep(4)  # it waits for its read lock by now, and would for a while
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        cursor.execute("UNLOCK TABLES")
    assert process.returncode == 130, out + err
    assert "backup was stopped" in err and "Kept safe: every published backup" in err and "Traceback" not in err
    assert place.json("list")["backups"] == before
    assert not [each for each in place.vault.rglob("*") if each.is_file() and "stag" in str(each)]
    place.run("backup", "--source", "mysql")


def test_nothing_is_left_to_sweep_after_all_this(place: Place) -> None:
    assert place.json("sweep")["problems"] == []
    assert "Nothing was left over." in place.run("sweep").out


def test_the_documented_commands_alone_check_and_restore_a_mariadb_backup(place: Place, tmp_path: Path) -> None:
    env = _by_hand(place, place.path("mysql"), "by_hand_mysql")
    for title in ("check", "check with python", "how it was made", "mysql", "mysql accounts", "rows"):
        shown = _bash(_documented(title), env, cwd=tmp_path)
        if title.startswith("check"):
            assert shown.count(": OK") >= 2
    assert (
        place.mysql("CHECKSUM TABLE customers", "by_hand_mysql")[0][1] == place.mysql("CHECKSUM TABLE customers")[0][1]
    )
    assert (tmp_path / "accounts.sql").read_text().count("root")
    place.mysql("DROP DATABASE by_hand_mysql")


def test_the_documented_commands_alone_restore_a_postgresql_backup(place: Place, tmp_path: Path) -> None:
    env = _by_hand(place, place.path("postgres"), "by_hand_postgres")
    for title in ("check", "postgres globals", "postgres", "postgres properties", "rows"):
        _bash(_documented(title), env, cwd=tmp_path)
    query = "SELECT md5(string_agg(e::text, ',' ORDER BY id)) FROM bronze.events e"
    assert place.postgres.sql(query, "by_hand_postgres") == place.postgres.sql(query, place.platform)
    owner = "SELECT pg_get_userbyid(datdba), datconnlimit FROM pg_database WHERE datname = '{}'"
    assert place.postgres.sql(owner.format("by_hand_postgres")) == place.postgres.sql(owner.format(place.platform))
    place.postgres.sql("DROP DATABASE by_hand_postgres")


def test_the_documented_commands_restore_a_mariadb_sequence_under_another_name(place: Place, tmp_path: Path) -> None:
    other = _another(place, tmp_path, replicas=False)
    with place.mariadb.database("numbered") as old:
        place.mysql(
            "CREATE SEQUENCE numbers START 7; "
            "CREATE TABLE t (id INT DEFAULT nextval(numbers) PRIMARY KEY, v VARCHAR(80)); "
            f"INSERT INTO t (v) VALUES ('nextval(`{old}`.`numbers`)'), ('two')",
            old,
        )
        other.file.write_text(other.file.read_text().replace(place.shop, old))
        other.run("backup", "--source", "mysql")
        rows = place.mysql("SELECT * FROM t ORDER BY id", old)
        place.mysql("DROP DATABASE " + old, "mysql")
        env = {**_by_hand(place, other.path("mysql"), "by_hand_numbers"), "OLD": old}
        with pytest.raises(AssertionError, match="ERROR 1146"):
            _bash(_documented("mysql"), env, cwd=tmp_path)
        place.mysql("DROP DATABASE by_hand_numbers", "mysql")
        _bash(_documented("mariadb sequences"), env, cwd=tmp_path)
        place.mysql("INSERT INTO t (v) VALUES ('three')", "by_hand_numbers")
        found = place.mysql("SELECT * FROM t ORDER BY id", "by_hand_numbers")
        place.mysql("DROP DATABASE by_hand_numbers; CREATE DATABASE " + old, "mysql")
    assert found[:2] == rows and found[2][1] == "three"


def test_the_documented_commands_keep_the_locale_provider_of_postgresql(place: Place, tmp_path: Path) -> None:
    other = _another(place, tmp_path, replicas=False)
    place.postgres.sql(
        "CREATE DATABASE sorted TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk' LOCALE 'C.UTF-8'"
    )
    try:
        other.file.write_text(other.file.read_text().replace(place.platform, "sorted"))
        other.run("backup", "--source", "postgres")
        env = _by_hand(place, other.path("postgres"), "by_hand_sorted")
        for title in ("postgres", "postgres properties"):
            _bash(_documented(title), env, cwd=tmp_path)
        kept = "SELECT datlocprovider, daticulocale, datcollate, encoding FROM pg_database WHERE datname = '{}'"
        found = place.postgres.sql(kept.format("by_hand_sorted"))
        assert found == place.postgres.sql(kept.format("sorted")) and found[0][0] == "i"
    finally:
        place.postgres.sql("DROP DATABASE IF EXISTS by_hand_sorted; DROP DATABASE sorted")


def test_the_documented_commands_load_what_a_plain_dump_has_in_the_wrong_order(place: Place, tmp_path: Path) -> None:
    other = _another(place, tmp_path, replicas=False)
    with place.postgres.database("ordered") as old:
        place.postgres.sql(
            "CREATE TABLE stock (a int); INSERT INTO stock VALUES (1); CREATE FUNCTION known(int) RETURNS boolean "
            "LANGUAGE sql AS 'SELECT EXISTS (SELECT 1 FROM public.stock WHERE a = $1)'; "
            "CREATE TABLE orders (b int CHECK (known(b))); INSERT INTO orders VALUES (1); "
            "CREATE MATERIALIZED VIEW totals AS SELECT count(*) n FROM orders; CREATE FUNCTION total() RETURNS bigint "
            "LANGUAGE sql STABLE AS 'SELECT n FROM public.totals'; "
            "CREATE MATERIALIZED VIEW by_month AS SELECT total() n",
            old,
        )
        other.file.write_text(other.file.read_text().replace(place.platform, old))
        other.run("backup", "--source", "postgres")
        env = _by_hand(place, other.path("postgres"), "by_hand_ordered")
        try:
            place.postgres.sql("CREATE DATABASE by_hand_ordered TEMPLATE template0")
            _bash(_documented("postgres in another order"), env, cwd=tmp_path)
            errors = (tmp_path / "errors.txt").read_text()
            assert "violates check constraint" in errors and "has not been populated" in errors, errors
            assert place.postgres.sql("SELECT n FROM by_month, orders, stock", "by_hand_ordered") == [("1",)]
        finally:
            place.postgres.sql("DROP DATABASE IF EXISTS by_hand_ordered")


def _by_hand(place: Place, file: Path, into: str) -> dict[str, str]:
    return {
        **place.env,
        "FILE": str(file),
        "INTO": into,
        "MYSQL_HOST": place.mariadb.host,
        "MYSQL_TCP_PORT": str(place.mariadb.port),
        "MYSQL_PWD": place.mariadb.password,
        "PGHOST": place.postgres.host,
        "PGPORT": str(place.postgres.port),
        "PGPASSWORD": place.postgres.password or "none",
    }


def _documented(title: str) -> str:
    """The commands of ``docs/restore-by-hand.md`` that stand under a comment of that title."""
    text = (ROOT / "docs" / "restore-by-hand.md").read_text()
    (block,) = re.findall(rf"```sh\n# {title}\n(.*?)```", text, re.DOTALL)
    return str(block)


def _bash(text: str, env: dict[str, str], cwd: Path | None = None) -> str:
    done = subprocess.run(
        ["bash", "-c", "set -euo pipefail\n" + text], env=env, cwd=cwd, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _another(place: Place, folder: Path, *, replicas: bool) -> Place:
    """The same site with a vault of its own."""
    text = place.file.read_text().replace(str(place.vault), str(folder / "vault"))
    if not replicas:
        text = re.sub(r"  replicas:\n(    .*\n|      .*\n)+", "", text)
    (folder / "cli.yaml").write_text(text)
    return replace(place, folder=folder)


def _on_terminal(command: list[str], env: dict[str, str], answer: bytes = b"") -> tuple[int, bytes]:
    """Run a program on a terminal of its own; its exit code and all that it showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvpe(command[0], command, env)
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the program closed its side
            break
        if not piece:
            break
        shown += piece
        if answer and b"to replace it" in shown:
            os.write(terminal, answer)
            answer = b""
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown
