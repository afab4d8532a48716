"""Adoption: files that ``dump | gzip | openssl enc`` made by hand become backups like any other."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.adopt import recognise
from engine.errors import IntegrityError, NotFound, WrongKey
from engine.vault import Vault
from engine.verify import verify_backup
from tests.functional.vault_helpers import DUMP, END, FACTS, PASSPHRASE, files, inspect, site

KEYS = {"main": PASSPHRASE, "old": "fake-old-passphrase-" * 3}


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(site(tmp_path / "root", keys=KEYS))


def by_hand(
    path: Path,
    *,
    dump: bytes = DUMP + END,
    packer: str = "gzip",
    options: str = "-pbkdf2",
    passphrase: str = PASSPHRASE,
) -> Path:
    """A file as the installations' scripts make it."""
    command = f"{packer} | openssl enc -aes-256-cbc -salt {options} -pass env:TEST_PASS -out '{path}'"
    subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        input=dump,
        check=True,
        capture_output=True,
        env={**os.environ, "TEST_PASS": passphrase},
    )
    return path


def adopt(vault: Vault, path: Path, **options: object):  # type: ignore[no-untyped-def]
    given = {"source": "mysql", "kind": "mysql", "tier": "daily", "database": "app", "facts": FACTS, **options}
    return vault.adopt(path, **given)  # type: ignore[arg-type]


def test_a_file_made_by_hand_becomes_a_backup_that_reads_and_verifies(vault: Vault, tmp_path: Path) -> None:
    path = by_hand(tmp_path / "app_20250116_020000.sql.gz.enc")
    before = path.read_bytes()
    entry, manifest = adopt(vault, path)
    assert entry.key == "shop/mysql/daily/app_20250116_020000.sql.gz.enc"
    assert manifest.adopted and manifest.rows == {"t": 30_000} and manifest.data.plain_size == len(DUMP + END)
    assert manifest.taken_at == datetime(2025, 1, 16, 2, 0, 0, tzinfo=UTC)
    assert vault.catalog().find("mysql", "app") == (entry, manifest)
    assert b"".join(vault.read_part(entry, manifest)) == DUMP + END
    assert verify_backup(vault, "local", entry, inspect).rows == {"t": 30_000}
    assert path.read_bytes() == before and (vault.root / entry.key).read_bytes() == before


def test_the_copy_is_the_vaults_own(vault: Vault, tmp_path: Path) -> None:
    path = by_hand(tmp_path / "x.enc")
    entry, manifest = adopt(vault, path)
    path.write_bytes(b"overwritten by the next night's script")
    assert b"".join(vault.read_part(entry, manifest)) == DUMP + END


def test_a_file_without_a_time_in_its_name_gets_the_time_it_was_written(vault: Vault, tmp_path: Path) -> None:
    path = by_hand(tmp_path / "nightly.sql.gz.enc")
    os.utime(path, (1_737_000_000, 1_737_000_000))
    assert adopt(vault, path)[0].file == "app_20250116_040000.sql.gz.enc"


def test_the_same_second_twice_gets_another_name(vault: Vault, tmp_path: Path) -> None:
    path = by_hand(tmp_path / "app_20250116_020000.sql.gz.enc")
    assert [adopt(vault, path)[0].file for _ in range(2)] == [
        "app_20250116_020000.sql.gz.enc",
        "app_20250116_020001.sql.gz.enc",
    ]


@pytest.mark.parametrize(("packer", "compression", "ending"), [
    ("gzip -9", "gzip", ".sql.gz.enc"), ("pigz -b 128", "gzip", ".sql.gz.enc"), ("zstd", "zstd", ".sql.zst.enc"),
    ("cat", "none", ".sql.enc"), ("(gzip; gzip </dev/null)", "gzip", ".sql.gz.enc"),
])  # fmt: skip
def test_the_compression_is_found(vault: Vault, tmp_path: Path, packer: str, compression: str, ending: str) -> None:
    entry, manifest = adopt(vault, by_hand(tmp_path / "x.enc", packer=packer))
    assert manifest.data.compression == compression and entry.file.endswith(ending)
    assert verify_backup(vault, "local", entry, inspect).rows == {"t": 30_000}


@pytest.mark.parametrize("head", [b"PGDMP\x01\x0e\x00" + bytes(600), b"-- \xc3\xa4\xe6\x97\xa5 dump\n" * 40 + END, END])
def test_an_uncompressed_dump_is_told_from_noise(vault: Vault, tmp_path: Path, head: bytes) -> None:
    path = by_hand(tmp_path / "x.enc", dump=head, packer="cat")
    _, manifest = adopt(vault, path, facts=replace(FACTS, dump_format="pg_custom" if b"PGDMP" in head else "sql"))
    assert manifest.data.compression == "none" and manifest.data.plain_size == len(head)


def test_other_iterations_are_used_when_given_and_named_when_not(vault: Vault, tmp_path: Path) -> None:
    path = by_hand(tmp_path / "x.enc", options="-pbkdf2 -iter 100000")
    with pytest.raises(WrongKey, match="but it does with 100000") as error:
        adopt(vault, path)
    assert "iterations=100000" in error.value.remedy
    entry, manifest = adopt(vault, path, iterations=100_000)
    assert manifest.data.cipher.iterations == 100_000
    assert b"".join(vault.read_part(entry, manifest)) == DUMP + END


def test_every_key_of_the_ring_is_tried(vault: Vault, tmp_path: Path) -> None:
    path = by_hand(tmp_path / "x.enc", passphrase=KEYS["old"])
    entry, manifest = adopt(vault, path)
    assert manifest.data.cipher.key_id == "old"
    assert b"".join(vault.read_part(entry, manifest)) == DUMP + END
    assert adopt(vault, path, key_id="old")[1].data.cipher.key_id == "old"
    with pytest.raises(WrongKey, match="does not open with the key 'main'"):
        adopt(vault, path, key_id="main")


@pytest.mark.sampled
@pytest.mark.parametrize("dump", [DUMP + END, b"short"])
@pytest.mark.parametrize("packer", ["gzip", "cat"])
@pytest.mark.parametrize("trial", range(5))
def test_a_wrong_key_is_said_to_be_one(vault: Vault, tmp_path: Path, dump: bytes, packer: str, trial: int) -> None:
    path = by_hand(tmp_path / "x.enc", dump=dump, packer=packer, passphrase=f"nobody knows this fake {trial}")
    with pytest.raises(WrongKey, match="does not open with the key 'main' or 'old' and 10000 iterations"):
        adopt(vault, path)
    assert files(vault.root) == []


@pytest.mark.parametrize("damage", ["cut", "cut at a block", "flipped", "trailing", "longer"])
def test_a_damaged_file_is_refused_and_leaves_nothing(vault: Vault, tmp_path: Path, damage: str) -> None:
    path = by_hand(tmp_path / "x.enc")
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes({
        "cut": data[:-5], "cut at a block": data[:-32], "trailing": data + b"x" * 16, "longer": data + b"x",
        "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
    }[damage])  # fmt: skip
    with pytest.raises(IntegrityError):
        adopt(vault, path)
    assert files(vault.root) == []


@pytest.mark.parametrize("content", [b"", b"Salted__", b"plain text, not encrypted at all"])
def test_what_openssl_did_not_write_is_refused(vault: Vault, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.enc"
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        adopt(vault, path)
    with pytest.raises(NotFound, match="There is no file"):
        adopt(vault, tmp_path / "missing")


def test_its_rows_can_be_counted_before_it_is_adopted(vault: Vault, tmp_path: Path) -> None:
    foreign = recognise(by_hand(tmp_path / "x.enc"), vault.keys)
    assert b"".join(foreign.plain(vault.keys)).count(b"INSERT") == 30_000
