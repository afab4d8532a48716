"""A server that writes nothing: the time it was idle can be recovered to, as far as that was proven and said."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from engine import idle, names
from engine.catalog import Entry
from engine.logs import ShipReport, ledger, load_log
from engine.recoverable import recoverable
from engine.replicas import catch_up
from engine.shipping import carry_idle, logs_lacking, ship
from engine.site import Site
from tests.functional.test_point_in_time import Shop
from tests.functional.vault_helpers import replica
from tests.servers.databases import DatabaseServer
from tests.servers.s3 import S3Server


@pytest.fixture(params=["mysql", "postgres"])
def shop(
    request: pytest.FixtureRequest, mariadb: DatabaseServer, postgres15: DatabaseServer, moto_s3: S3Server,
    tmp_path: Path,
) -> Shop:  # fmt: skip
    tmp_path.chmod(0o755)
    made = Shop(request.param, mariadb if request.param == "mysql" else postgres15, tmp_path)
    said = yaml.safe_load(made.file.read_text())
    said["vault"]["replicas"] = [replica(moto_s3, "copy")]
    made.file.write_text(yaml.safe_dump(said))
    made.add(1, 2)
    made.anchor()
    made.add(3)
    return made


def tier(shop: Shop) -> str:
    return names.BINLOGS if shop.kind == "mysql" else names.WAL


def said(shop: Shop, site: Site, location: str = "local") -> dict[str, datetime]:
    """Every idle mark of a place, by the log it is on."""
    logs = ledger(site.vault, shop.kind, tier(shop), location)
    found = {each.name.name: idle.said_of(site.vault, each) for each in logs}
    keys = [info.key for info in site.vault.store(location).list() if f".{idle.KIND}." in info.key]
    marked = {name: until for name, until in found.items() if until is not None}
    assert len(keys) == len(marked), keys
    return marked


def idle_run(shop: Shop, site: Site) -> ShipReport:
    """A run that finds nothing to ship; what a server does by itself (a vacuum) may come between."""
    for _ in range(6):
        report = ship(site, shop.kind)
        if not report.shipped:
            return report
    raise AssertionError("the server is never idle")


def newest(shop: Shop, site: Site) -> Entry:
    return ledger(site.vault, shop.kind, tier(shop))[-1]


def latest(shop: Shop, site: Site, location: str = "auto") -> datetime:
    return max(each.latest for each in recoverable(site, shop.kind, shop.database, location=location).windows)


@pytest.mark.sampled
def test_a_moment_of_an_idle_hour_comes_back_and_a_commit_after_it_is_not_in_it(shop: Shop) -> None:
    with shop.site() as site:
        ship(site, shop.kind)
        idle_run(shop, site)
        time.sleep(2.2)
        moment = datetime.now(UTC).replace(microsecond=0)
        time.sleep(2.2)
        report = idle_run(shop, site)
        stored = load_log(site.vault, newest(shop, site))[1].covers_until
        assert stored is not None and report.covers_until is not None
        assert stored < moment < report.covers_until, "nothing was shipped since"
        assert latest(shop, site) == report.covers_until, "what a run says can be had, and nothing more"
        shop.add(4)
        for side in ("idle", "shipped"):
            into = f"{shop.database}_{side}"
            done = shop.backups("restore", "--database", shop.database, "--to", moment.isoformat(), "--into", into)
            assert done["rows"] == 3 and shop.numbers(into) == [1, 2, 3]
            shop.server.sql(f"DROP DATABASE {into}")
            assert ship(site, shop.kind).shipped or side == "shipped"
        beyond = (datetime.now(UTC) - timedelta(milliseconds=1)).isoformat()
        error = shop.backups("restore", "--database", shop.database, "--to", beyond, code=1)["error"]
        assert error["class"] == "OutsideWindow"


@pytest.mark.sampled
def test_one_word_a_source_and_place_however_often_it_is_said_and_none_once_a_log_has_come(shop: Shop) -> None:
    with shop.site() as site:
        ship(site, shop.kind)

        def copied() -> None:
            catch_up(site, "copy", logs_lacking(site, "copy"))
            carry_idle(site, "copy")

        before = names.from_timestamp(0)
        for _ in range(3):
            report = idle_run(shop, site)
            copied()
            here, there = said(shop, site), said(shop, site, "copy")
            assert here == there == {newest(shop, site).name.name: report.covers_until}
            assert report.covers_until is not None and report.covers_until > before
            before = report.covers_until
            catch_up(site, "copy", site.vault.lacking("copy"))
            assert latest(shop, site, "copy") == before, "the host may be lost now"
        shop.add(4)
        assert ship(site, shop.kind).shipped
        copied()
        assert said(shop, site) == said(shop, site, "copy") == {}


@pytest.mark.sampled
def test_a_word_that_was_altered_counts_for_nothing(shop: Shop) -> None:
    with shop.site() as site:
        ship(site, shop.kind)
        idle_run(shop, site)
        stored = load_log(site.vault, newest(shop, site))[1].covers_until
        (mark,) = list(shop.vault.rglob(f"*.{idle.KIND}.*.json"))
        assert stored is not None and latest(shop, site) > stored
        mark.chmod(0o600)
        mark.write_text(mark.read_text().replace(f'"{idle.UNTIL}": "20', f'"{idle.UNTIL}": "21'))
        assert recoverable(site, shop.kind, shop.database).windows[0].latest == stored


def test_while_a_transaction_of_postgres_is_open_nothing_is_claimed(
    postgres15: DatabaseServer, moto_s3: S3Server, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    shop = Shop("postgres", postgres15, tmp_path)
    shop.anchor()
    with shop.site() as site:
        shop.add(1)
        ship(site, "postgres")
        known = idle_run(shop, site).covers_until
        with postgres15.connect(shop.database) as writer:
            writer.execute("BEGIN")
            writer.execute("INSERT INTO numbers VALUES (2, 'not yet')")
            report = ship(site, "postgres")
            if not report.shipped:  # nothing else ended meanwhile
                assert report.covers_until == known == latest(shop, site)
            writer.execute("COMMIT")
        assert ship(site, "postgres").shipped
