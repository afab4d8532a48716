"""Which recovery point is whole where the site file names no databases: by what its backups say, or by the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine import names
from engine.config import SiteConfig
from engine.errors import ConfigError, RestoreRefused
from engine.manifest import Server
from engine.restore_site.plan import SiteRequest, begun_by, make_plan
from engine.restore_site.points import expected_of, search
from engine.site import Site
from engine.source import Facts

pytestmark = pytest.mark.unit
KEY = "fake-passphrase-for-tests-" + "x" * 20
FIRST = datetime(2026, 3, 1, 2, tzinfo=UTC)
Make = Callable[..., str]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    body = {"site": "shop", "vault": {"root": str(tmp_path / "v"), "keys": {"keys": {"main": KEY}}}}
    server = {"host": "127.0.0.1", "port": 1}
    with Site(SiteConfig.model_validate(body | {"mysql": server, "config": {"paths": ["/etc/shop"]}})) as made:
        made.vault.check()
        yield made


@pytest.fixture
def run(site: Site, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Backups of one run on a day of March: the databases made, and those that it says were there."""

    def make(day: float, *made: str, held: list[str] | None = None, sources: tuple[str, ...] = ()) -> str:
        at = FIRST + timedelta(days=day - 1)
        point = f"{at:{names.STAMP}}-0000aaaa"
        for number, name in enumerate((*made, "config"), 1):
            with monkeypatch.context() as then:
                then.setattr(names, "now", lambda number=number: at + timedelta(seconds=number))
                source, ext = ("config", "tar") if name == "config" else ("mysql", "sql")
                with site.vault.begin(
                    source=source, kind=source, tier="daily", database=name, ext=ext, recovery_point=point
                ) as writer:
                    writer.data().write(b"-- nothing but a line\n")
                    told = {"sources": ["mysql", "config", *sources], "databases": [name] if ext == "tar" else held}
                    contents = {} if held is None else {"point": told}
                    server = Server(flavour="x", version="1")
                    writer.publish(Facts(server=server, dump_format=ext, contents=contents))
        return point

    return make


def test_a_run_of_one_database_is_not_the_newest_complete_recovery_point(site: Site, run: Make) -> None:
    whole = run(1, "orders", "users", held=["orders", "users"])
    part = run(2, "orders", held=["orders", "users"])
    found = search(site, expected_of(site))
    assert found.id == whole and {str(each) for each in found.pieces} == {
        "mysql/orders",
        "mysql/users",
        "config/config",
    }
    assert found.doubts == [] and len(found.passed) == 1 and "mysql/users is not in it" in found.passed[0]
    assert "passed over: " + part in make_plan(site, SiteRequest()).notes[0]
    with pytest.raises(RestoreRefused, match="mysql/users is not in it"):
        search(site, expected_of(site), wanted=part)
    without = ("mysql/users",)
    assert search(site, expected_of(site, without=without), without=without).id == part
    assert search(site, expected_of(site, only=("mysql/orders",))).id == part


def test_a_database_that_was_dropped_or_made_while_it_ran_is_not_missed(site: Site, run: Make) -> None:
    run(1, "orders", "users", held=["orders", "users"])
    newest = run(2, "orders", held=["orders"])
    found = search(site, expected_of(site))
    assert (found.id, found.passed, found.doubts) == (newest, [], [])


def test_a_point_that_does_not_say_what_it_was_to_hold_is_compared_with_those_of_the_week_before(
    site: Site, run: Make
) -> None:
    whole = run(1, "orders", "users")
    part = [run(day, "orders") for day in (2, 3)]
    found = search(site, expected_of(site))
    assert found.id == whole and len(found.passed) == 2 and "there is no older one" in found.doubts[0]
    assert search(site, expected_of(site), before=FIRST).id == whole, "what is newer is not compared with"
    with pytest.raises(RestoreRefused, match="mysql/users is not in it"):
        search(site, expected_of(site), wanted=part[0])
    # once it is not there for a week it was dropped; this is told nevertheless
    late = [run(day, "orders") for day in (4, 5, 6, 7, 8, 9.1)]
    found = search(site, expected_of(site))
    assert found.id == late[-1] and "all that the ones of the week before have" in found.doubts[0]
    assert found.doubts[0] in make_plan(site, SiteRequest()).notes


def test_what_a_recovery_point_holds_and_the_site_file_does_not_name_is_told(site: Site, run: Make) -> None:
    run(1, "orders", "users", held=["orders", "users"], sources=("www",))
    assert search(site, expected_of(site)).unnamed == ["www"]
    (left,) = make_plan(site, SiteRequest()).left
    assert "does not name, and it is not restored: www (the site file of that time:" in left
    assert "--at 2026-03-01T02:00:00Z" in left and make_plan(site, SiteRequest(only=("config",))).left == []
    body = site.config.model_dump() | {"mysql": [{"host": "127.0.0.1", "port": 1, "databases": ["orders"]}]}
    body["vault"]["keys"] = {"keys": {"main": KEY}}
    with Site(SiteConfig.model_validate(body)) as named:
        assert search(named, expected_of(named)).unnamed == ["mysql/users", "www"]


def test_a_day_that_is_none_is_quoted_as_it_was_typed() -> None:
    with pytest.raises(ConfigError, match=r"^'2026-02-30' is not a time"):
        begun_by(SiteRequest(at="2026-02-30"), [])
    assert begun_by(SiteRequest(at="2026-02-28"), []) == datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)
