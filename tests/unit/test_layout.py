"""Layouts: both installations keep their folders, and two sources' backups never meet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from engine.config import SiteConfig
from engine.errors import ConfigError
from engine.layout import Layout, layouts
from engine.names import LOGS, TIERS

AT = datetime(2025, 1, 16, 2, 0, 0, tzinfo=UTC)
FILE = "workset_20250116_020000.sql.gz.enc"
LOG_FILES = {
    "binlogs": "mysql-bin.000001.20250116_020000.gz.enc",
    "wal": "000000010000000000000003.20250116_020000.gz.enc",
}
WORKSET = {"mysql/daily": "database", "mysql/binlogs": "binlogs", "mysql/pre-deployment": "pre-deployment"}


def site(
    path: str = "{site}/{source}/{tier}",
    *,
    mysql: Any = (),
    postgres: Any = (),
    replica: str | None = None,
    directories: dict[str, str] | None = None,
) -> SiteConfig:
    vault = {
        "root": "/var/backups",
        "path": path,
        "directories": directories or {},
        "keys": {"keys": {"main": "k" * 40}},
        "replicas": [{"name": "spaces", "bucket": "b", "path": replica}] if replica else [],
    }
    return SiteConfig.model_validate({"site": "shop", "vault": vault, "mysql": list(mysql), "postgres": list(postgres)})


def test_worksets_folders_are_those_of_the_installation() -> None:
    local = Layout("workset", "{site}/{directory}", WORKSET, ["mysql"])
    spaces = Layout("workset", "backups/{directory}", WORKSET, ["mysql"], "spaces")
    assert local.key("mysql", "daily", AT, FILE) == f"workset/database/{FILE}"
    assert local.key("mysql", "pre-deployment", AT, FILE) == f"workset/pre-deployment/{FILE}"
    assert spaces.key("mysql", "daily", AT, FILE) == f"backups/database/{FILE}"
    assert local.place(f"workset/database/{FILE}").pairs == (("mysql", "daily"),)  # type: ignore[union-attr]


def test_a_tier_that_no_directory_names_gets_a_folder_of_its_own() -> None:
    local = Layout("workset", "{site}/{directory}", WORKSET, ["mysql"])
    assert local.key("mysql", "manual", AT, FILE) == f"workset/manual/{FILE}"


def test_the_most_exact_directory_wins() -> None:
    layout = Layout("s", "{directory}", {"*": "rest", "daily": "days", "pg/daily": "pg-days"}, ["mysql", "pg"])
    assert [layout.folder(*pair, AT) for pair in (("pg", "daily"), ("mysql", "daily"), ("pg", "weekly"))] == [
        "pg-days",
        "days",
        "rest",
    ]


def test_workbenchs_dated_folders_leave_the_tier_to_the_manifest() -> None:
    layout = Layout("workbench", "{yyyy}/{mm}/{dd}", {}, ["postgres"], "aws")
    key = layout.key("postgres", "daily", AT, FILE)
    assert key == f"2025/01/16/{FILE}"
    place = layout.place(key)
    assert place is not None and {source for source, _ in place.pairs} == {"postgres"}
    assert {tier for _, tier in place.pairs} == set(TIERS) - set(LOGS)


def test_a_dated_folder_must_be_the_files_own_date() -> None:
    layout = Layout("workbench", "{tier}/{yyyy}/{mm}/{dd}", {}, ["postgres"])
    assert layout.place(f"daily/2025/01/16/{FILE}") is not None
    assert layout.place(f"daily/2025/01/17/{FILE}") is None


@pytest.mark.parametrize(
    "key",
    [
        "",
        FILE,
        f"shop/mysql/{FILE}",
        f"shop/mysql/daily/sub/{FILE}",
        f"shop/other/daily/{FILE}",
        "shop/mysql/daily/README",
        f"other/mysql/daily/{FILE}",
        f"shop/mysql/nightly/{FILE}",
    ],
)
def test_foreign_keys_have_no_place(key: str) -> None:
    assert Layout("shop", "{site}/{source}/{tier}", {}, ["mysql"]).place(key) is None


@pytest.mark.parametrize(
    "template",
    [
        "{site}/{source}/{tier}",
        "{source}/{yyyy}/{tier}",
        "{yyyy}/{mm}/{dd}",
        "",
        "a/{directory}/b-{tier}",
        "{yyyy}-{mm}/{source}.{tier}",
    ],
)
def test_a_key_leads_back_to_its_source_and_tier(template: str) -> None:
    layout = Layout("shop", template, {"mysql/daily": "x/y"}, ["mysql", "crm"])
    for source in ("mysql", "crm"):
        for tier in TIERS:
            key = layout.key(source, tier, AT, LOG_FILES.get(tier, FILE))
            place = layout.place(key)
            assert place is not None and (source, tier) in place.pairs
            assert any(key.startswith(prefix) for prefix in layout.prefixes(source, tier))
            assert any(key.startswith(prefix) for prefix in layout.prefixes())


def test_a_log_by_its_name_belongs_to_its_tier_alone_and_a_dump_to_none_of_them() -> None:
    layout = Layout("shop", "{yyyy}/{mm}", {}, ["mysql"])
    for tier, file in LOG_FILES.items():
        assert layout.place(f"2025/01/{file}").pairs == (("mysql", tier),)  # type: ignore[union-attr]
    assert Layout("shop", "{tier}", {}, ["mysql"]).place(f"daily/{LOG_FILES['wal']}") is None
    assert Layout("shop", "{tier}", {}, ["mysql"]).place(f"wal/{FILE}") is None


def test_only_the_wanted_folders_are_listed() -> None:
    layout = Layout("shop", "{site}/{source}/{tier}", {}, ["mysql", "crm"])
    assert layout.prefixes("crm", "daily") == ["shop/crm/daily/"]
    assert layout.prefixes("crm") == sorted(f"shop/crm/{tier}/" for tier in TIERS)
    assert Layout("shop", "backups/{yyyy}/{tier}", {}, ["mysql"]).prefixes() == ["backups/"]
    assert Layout("shop", "{directory}", {"daily": "a", "weekly": "a/b"}, ["mysql"]).prefixes("mysql", "weekly") == [
        "a/b/"
    ]


def test_no_folder_is_listed_twice() -> None:
    layout = Layout("shop", "{directory}", {"*": "a", "weekly": "a/b"}, ["mysql"])
    assert layout.prefixes() == ["a/"]


@pytest.mark.parametrize(("template", "key", "marks"), [
    ("{site}/{source}/{tier}", f"shop/mysql/daily/{FILE}", f"shop/marks/mysql/daily/{FILE}."),
    ("backups/{directory}", f"backups/daily/{FILE}", f"backups/marks/daily/{FILE}."),
    ("{tier}", f"daily/{FILE}", f"marks/daily/{FILE}."),
    ("{yyyy}/{mm}/{dd}", f"2025/01/16/{FILE}", f"marks/2025/01/16/{FILE}."),
    ("x/y", f"x/y/{FILE}", f"x/y/marks/{FILE}."),
    ("", FILE, f"marks/{FILE}."),
])  # fmt: skip
def test_marks_stand_in_the_sites_own_folder_and_never_read_as_backups(template: str, key: str, marks: str) -> None:
    layout = Layout("shop", template, {}, ["mysql"])
    assert layout.place(key) is not None
    assert layout.marks_prefix(key) == marks
    assert layout.place(f"{marks}verified.20250116_020512-3f9a1c20.json") is None


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{site}/{sourc}", "unknown field {sourc}"),
        ("/var/backups", "is absolute"),
        ("{site}//x", "cannot be a folder"),
        ("../x", "cannot be a folder"),
        (".hidden/{tier}", "cannot be a folder"),
        ("{site", "is wrong"),
        ("{}", "unknown field"),
        ("{site!r}", "unknown field"),
        ("{yyyy:>9}", "unknown field"),
        ("a/marks/{tier}", "is kept for marks"),
        ("a\n/b", "cannot be"),
    ],
)
def test_a_wrong_template_is_refused_in_words(template: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        Layout("shop", template, {}, ["mysql"])
    assert says in str(error.value)


def test_the_nearest_field_is_suggested() -> None:
    with pytest.raises(ConfigError) as error:
        Layout("shop", "{sourc}", {}, ["mysql"])
    assert "Did you mean 'source'?" in error.value.remedy


@pytest.mark.parametrize("source", ["a/b", "", "..", "{x}", "a b", ".a"])
def test_a_source_name_that_cannot_be_a_folder_is_refused(source: str) -> None:
    with pytest.raises(ConfigError, match="cannot be part of a path"):
        Layout("shop", "{source}", {}, [source])


ONE, TWO = {"name": "crm", "databases": ["app", "x"]}, {"name": "web", "databases": ["app"]}


@pytest.mark.parametrize("path", ["{site}/{tier}", "{directory}", "{yyyy}/{mm}", "all"])
def test_two_sources_that_could_write_one_file_are_refused_by_name_and_folder(path: str) -> None:
    with pytest.raises(ConfigError) as error:
        layouts(site(path, mysql=[ONE, TWO]))
    assert "'crm' and 'web' share the folder" in error.value.message and "'app'" in error.value.message
    assert "{source}" in error.value.remedy


def test_a_replicas_template_is_looked_at_too() -> None:
    with pytest.raises(ConfigError, match="in spaces"):
        layouts(site(mysql=[ONE, TWO], replica="backups/{tier}"))


@pytest.mark.parametrize(("mysql", "postgres"), [
    ([{"name": "crm"}, {"name": "web", "databases": ["app"]}], []),
    ([{"name": "crm"}, {"name": "web"}], []),
    ([{"databases": ["app"]}], [{"databases": ["app"]}]),
    ([], [{"name": "one", "format": "custom"}, {"name": "two", "format": "custom"}]),
])  # fmt: skip
def test_open_lists_and_other_kinds_with_the_same_ending_could_meet(mysql: list[Any], postgres: list[Any]) -> None:
    with pytest.raises(ConfigError, match="could not be told apart"):
        layouts(site("{tier}", mysql=mysql, postgres=postgres))


@pytest.mark.parametrize(("path", "mysql", "postgres"), [
    ("{site}/{source}/{tier}", [ONE, TWO], [{}]),
    ("{tier}", [ONE, {"name": "web", "databases": ["shop"]}], []),
    ("{tier}", [{}], [{"format": "custom"}]),
    ("{tier}", [{}], []),
    ("all", [{}], []),
])  # fmt: skip
def test_sources_that_cannot_meet_may_share_a_folder(path: str, mysql: list[Any], postgres: list[Any]) -> None:
    assert set(layouts(site(path, mysql=mysql, postgres=postgres))) == {"local"}


def test_a_directory_for_each_source_keeps_them_apart() -> None:
    directories = {f"{name}/{tier}": f"{name}-{tier}" for name in ("crm", "web") for tier in TIERS}
    assert layouts(site("{directory}", mysql=[ONE, TWO], directories=directories))
