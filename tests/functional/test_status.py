"""What counts as the newest good backup: its signed manifest says so, not the names of files."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.cli.main import run as backups
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.site import Site
from engine.status import status
from engine.vault import Vault
from tests.functional.test_archives import made
from tests.functional.test_clock import site_file
from tests.functional.test_keys import config

NOW = datetime.now(UTC).replace(microsecond=0)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def newer(entry: Entry) -> tuple[str, str]:
    """Keys of a backup of an hour ago and of its manifest, had it been made."""
    key = entry.beside(f"app_{NOW - HOUR:%Y%m%d_%H%M%S}.sql.gz.enc")
    return key, f"{key}.json"


def junk(vault: Vault, entry: Entry) -> None:
    data, manifest = newer(entry)
    (vault.root / data).write_bytes(b"x")
    (vault.root / manifest).write_bytes(b"{}")


def an_old_one_renamed(vault: Vault, entry: Entry) -> None:
    data, manifest = newer(entry)
    shutil.copy(vault.root / entry.key, vault.root / data)
    shutil.copy(vault.root / entry.manifest_key, vault.root / manifest)


@pytest.mark.parametrize(("pretend", "says"), [(junk, "not a signed document"), (an_old_one_renamed, "were swapped")])
def test_a_pair_of_files_that_only_looks_like_a_backup_is_not_the_newest_good_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pretend: object, says: str
) -> None:
    assert callable(pretend)
    with Site(config(tmp_path / "v")) as site:
        entry = made(site.vault, NOW - 10 * DAY)
        pretend(site.vault, entry)
    assert backups(["status", "-f", site_file(tmp_path), "--max-age", "26h", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["databases"][0]["newest"]["file"] == entry.file
    assert any(says in each for each in told["problems"]) and "more than 26 h" in told["problems"][-1]


def test_what_another_site_has_in_the_same_folder_is_no_backup_of_this_one(tmp_path: Path) -> None:
    def of(name: str, *databases: str) -> SiteConfig:
        vault = {**config(tmp_path).vault.model_dump(include={"keys"}), "root": str(tmp_path), "path": "all/{source}"}
        return SiteConfig.model_validate({"site": name, "vault": vault, "mysql": {"databases": list(databases)}})

    with Site(of("one")) as one:
        made(one.vault, NOW - HOUR)
        made(one.vault, NOW - HOUR, database="crm")
    with Site(of("two", "app")) as two:
        (row,) = status(two).rows
        assert (row.newest, row.problems) == (None, [])
        old = made(two.vault, NOW - 3 * DAY)
        (row,) = status(two).rows
        assert row.newest is not None and row.newest.file == old.file
