"""Names: files tell database and second, odd and long names are safe, times need a zone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import names
from engine.errors import ConfigError
from engine.names import BackupName, encode, parse_file
from engine.stores.keys import check_key

TAKEN = datetime(2025, 1, 16, 2, 0, 0, tzinfo=UTC)
SECONDS = st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1)).map(lambda at: at.replace(microsecond=0, tzinfo=UTC))
ANY_NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)


def test_a_file_is_called_after_database_and_second() -> None:
    assert BackupName(TAKEN, "workset", "sql.gz.enc").file == "workset_20250116_020000.sql.gz.enc"


@given(name=ANY_NAME, taken=SECONDS, ext=st.sampled_from(["sql.gz.enc", "dump.zst.enc", "tar.gz.enc"]))
def test_any_database_name_makes_a_safe_file_name_that_leads_back(name: str, taken: datetime, ext: str) -> None:
    file = BackupName(taken, name, ext).file
    assert check_key(file) == file
    assert not file.startswith(".") and "/" not in file and file.isascii()
    assert len(file) <= 210  # room for a role, .json, a mark's kind and a staged file's prefix
    found = parse_file(file)
    assert found is not None and (found.taken_at, found.ext) == (taken, ext)
    assert found.is_of(name) and found.file == file
    if "~" not in encode(name):
        assert found.name == name


@given(one=ANY_NAME, other=ANY_NAME)
def test_two_databases_never_get_the_same_file_name(one: str, other: str) -> None:
    assert (encode(one) == encode(other)) == (one == other)


def test_a_name_too_long_for_a_file_is_shortened_with_a_digest() -> None:
    long, almost = "データベース" * 10, "データベース" * 9 + "データベーズ"
    assert len(encode(long)) <= 160
    assert encode(long) != encode(almost)
    assert encode(encode(long)) == encode(long)
    found = parse_file(BackupName(TAKEN, long, "sql.gz.enc").file)
    assert found is not None and found.is_of(long) and not found.is_of(almost)


@pytest.mark.parametrize(("name", "file"), [
    (".hidden", "%2Ehidden"), ("a/b", "a%2Fb"), ("a b", "a%20b"), ("50%", "50%25"), ("o'neil", "o%27neil"),
    ("x~y", "x%7Ey"), ("a_20250101_000000", "a_20250101_000000"), ("..", "%2E."),
])  # fmt: skip
def test_odd_characters_are_encoded(name: str, file: str) -> None:
    assert encode(name) == file


@pytest.mark.parametrize(("log", "tier"), [
    ("mysql-bin.000001", "binlogs"), ("binlog.1000000", "binlogs"), ("odd name.000012", "binlogs"),
    ("000000010000000A000000FF", "wal"), ("00000002.history", "wal"),
])  # fmt: skip
def test_a_servers_log_keeps_its_name_and_gets_a_stamp(log: str, tier: str) -> None:
    name = BackupName(TAKEN, log, "gz.enc", tier)
    assert name.file.endswith(f".{TAKEN:%Y%m%d_%H%M%S}.gz.enc")
    assert parse_file(name.file) == name


def test_a_database_called_like_a_log_is_no_log() -> None:
    name = BackupName(TAKEN, "mysql-bin.000001", "sql.gz.enc")
    assert parse_file(name.file) == name


@pytest.mark.parametrize(
    "file",
    [
        "",
        "x",
        "x.sql",
        "x_20251301_000000.sql",
        "x_20250116_250000.sql",
        "README.md",
        "_20250116_020000.sql",
        "x_20250116_020000.sql.gz.enc~",
        "x_20250116_020000",
    ],
)
def test_what_is_no_backups_name_is_none(file: str) -> None:
    assert parse_file(file) is None


def test_a_database_whose_name_looks_like_a_backup_is_told_apart() -> None:
    found = parse_file(BackupName(TAKEN, "copy_20240101_000000.sql", "sql.gz.enc").file)
    assert found is not None and found.name == "copy_20240101_000000.sql" and found.taken_at == TAKEN


@pytest.mark.parametrize("text", ["2025-01-16T02:00:00Z", "2025-01-16T03:00:00+01:00", " 2025-01-16 02:00:00 UTC"])
def test_a_time_with_a_zone_is_understood(text: str) -> None:
    assert names.parse_moment(text) == TAKEN


@pytest.mark.parametrize(
    ("text", "says"), [("2025-01-16T02:00:00", "has no zone"), ("yesterday", "is not a time"), ("", "is not a time")]
)
def test_a_time_without_zone_is_refused_with_an_example(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        names.parse_moment(text)
    assert "2025-01-16T02:00:00Z" in error.value.remedy
