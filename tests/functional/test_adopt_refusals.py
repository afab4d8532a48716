"""What the stock programs write that a restore could never use is refused when it is adopted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.adoption import adopt
from engine.config import SiteConfig
from engine.errors import IntegrityError
from engine.site import Site, Target
from tests.functional.vault_helpers import files
from tests.servers import DatabaseServer

KEY = "FAKE-key-of-the-adoption-tests-0123456789"


@pytest.fixture
def site(tmp_path: Path, mariadb: DatabaseServer, postgres15: DatabaseServer) -> Iterator[Site]:
    """Both servers, each with two small databases."""
    with mariadb.database("ad") as one, mariadb.database("ad") as two, postgres15.database("ad") as three:
        for name in (one, two):
            mariadb.sql("CREATE TABLE t (a INT PRIMARY KEY); INSERT INTO t VALUES (1), (2)", name)
        postgres15.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)", three)
        servers = [
            {"host": each.host, "port": each.port, "user": each.user, "password": each.password}
            for each in (mariadb, postgres15)
        ]
        config = {
            "site": "adopts",
            "vault": {"root": str(tmp_path / "vault"), "keys": {"current": "main", "keys": {"main": KEY}}},
            "mysql": [{**servers[0], "databases": [one, two]}],
            "postgres": [{**servers[1], "databases": [three]}],
        }
        with Site(SiteConfig.model_validate(config)) as opened:
            yield opened


def by_hand(path: Path, server: DatabaseServer, command: str) -> Path:
    """What a shell script of an installation would have made."""
    where = {"MYSQL_PWD": server.password, "PGPASSWORD": server.password, "K": KEY,
             "PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": server.user}  # fmt: skip
    if "mariadb-dump" in command:
        command = command.replace(
            "mariadb-dump", f"mariadb-dump --no-defaults -h {server.host} -P {server.port} -u {server.user}"
        )
    line = f"{{ {command}; }} | gzip | openssl enc -aes-256-cbc -salt -pbkdf2 -pass env:K -out '{path}'"
    subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True, capture_output=True, env={**os.environ, **where})
    return path


def target(site: Site, source: str) -> Target:
    return next(each for each in site.targets() if each.source == source)


@pytest.mark.parametrize(
    ("options", "words", "remedy"),
    [
        ("--databases ONE TWO", "holds several databases (ONE, TWO)", "each database on its own"),
        ("--skip-comments --databases ONE TWO", "no end marker", "without --skip-comments"),
        ("--skip-comments ONE", "--skip-comments or --compact", "without --skip-comments"),
        ("--compact --skip-extended-insert ONE", "--skip-comments or --compact", "without --skip-comments"),
        ("--skip-quote-names ONE", "without backticks", "without --skip-quote-names"),
        ("ONE | head -c 1500", "is cut off", ""),
    ],
)
def test_a_dump_of_mariadb_that_could_not_be_restored_is_not_adopted(
    site: Site, mariadb: DatabaseServer, tmp_path: Path, options: str, words: str, remedy: str
) -> None:
    one, two = (each.database for each in site.targets() if each.source == "mysql")
    options, words = (text.replace("ONE", one).replace("TWO", two) for text in (options, words))
    path = by_hand(tmp_path / "x.sql.gz.enc", mariadb, f"mariadb-dump {options}")
    with pytest.raises(IntegrityError) as error:
        adopt(site, path, target(site, "mysql"), tier="daily")
    assert words in error.value.message and remedy in error.value.remedy
    assert not [name for name in files(site.vault.root) if name.endswith((".enc", ".json"))]


def test_a_dump_of_one_database_that_names_it_is_adopted(site: Site, mariadb: DatabaseServer, tmp_path: Path) -> None:
    one = target(site, "mysql")
    path = by_hand(tmp_path / "x.sql.gz.enc", mariadb, f"mariadb-dump --databases {one.database}")
    assert adopt(site, path, one, tier="daily")[1].rows == {"t": 2}


@pytest.mark.parametrize("command", ["pg_dumpall --no-role-passwords", "pg_dump -C ONE; pg_dump -C postgres"])
def test_the_work_of_pg_dumpall_is_not_adopted(
    site: Site, postgres15: DatabaseServer, tmp_path: Path, command: str
) -> None:
    one = target(site, "postgres")
    path = by_hand(tmp_path / "x.sql.gz.enc", postgres15, command.replace("ONE", one.database))
    with pytest.raises(IntegrityError, match="holds several databases") as error:
        adopt(site, path, one, tier="daily")
    assert "pg_dump" in error.value.remedy
    assert not [name for name in files(site.vault.root) if name.endswith((".enc", ".json"))]


def test_a_dump_that_creates_its_database_is_adopted(site: Site, postgres15: DatabaseServer, tmp_path: Path) -> None:
    one = target(site, "postgres")
    path = by_hand(tmp_path / "x.sql.gz.enc", postgres15, f"pg_dump -C {one.database}")
    assert adopt(site, path, one, tier="daily")[1].rows == {"public.t": 2}
