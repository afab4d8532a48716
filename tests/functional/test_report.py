"""The weekly report on real vaults: its numbers held against files and manifests, and no name of anybody runs in it."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from playwright.sync_api import sync_playwright

from deployments.cli.main import run as backups
from engine.backup import verify
from engine.errors import IntegrityError, NotFound
from engine.promotion import promote
from engine.report import keep as keeping
from engine.report.gather import Report, gather
from engine.report.page import page
from engine.report.text import pictures, text
from engine.site import Site
from engine.status import status
from engine.vault_check import Request, Share, verify_vault
from engine.watch.findings import Finding, Level, Look
from engine.watch.look import look
from engine.watch.remember import memory
from tests.functional.reported import DAY, HOUR, MINUTE, Past, document, drilled, opened
from tests.functional.test_archives import made
from tests.functional.vault_helpers import flip, replica
from tests.servers.s3 import S3Server

NOW = datetime.now(UTC).replace(microsecond=0)
_VOID = {"meta", "link", "img", "br", "input", "use"}
_TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "p", "h1", "h2", "strong", "div", "b", "span",
    "section", "ul", "li", "i", "figure", "figcaption", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "small",
    "footer", "svg", "defs", "g", "path", "use", "text", "clippath", "rect",
}  # fmt: skip


class Parsed(HTMLParser):
    """What a browser would make of a page: its elements, and its tables by section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.heading = ""
        self.data = ""
        self._open: list[str] = []
        self._section = ""
        self.feed(html)
        self.close()
        assert self._open == [], "an element was not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
        if tag == "tr":
            self.tables.setdefault(self._section, []).append([])
        if tag in ("th", "td"):
            self.tables[self._section][-1].append("")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.data += data
        if "h1" in self._open:
            self.heading += data
        if ("th" in self._open or "td" in self._open) and data.strip():
            row = self.tables[self._section][-1]
            row[-1] = f"{row[-1]} {data.strip()}".strip()

    def row(self, section: str, name: str) -> dict[str, str]:
        """A row by how it begins, its cells by the table's heads."""
        heads: list[str] = []
        for row in self.tables[section]:
            if row[0].startswith(name):
                return dict(zip(heads, row, strict=True))
            heads = heads or row
        raise AssertionError(f"{section} has no row {name!r}: {self.tables[section]}")


def shown(count: float) -> str:
    """Bytes as people read them, told apart from how the report does it."""
    return f"{count:.0f} B" if count < 1000 else f"{count / 1000:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def on_disk(root: Path) -> tuple[int, int]:
    """Files and bytes below a root, hard links once, without what is this package's own."""
    seen = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [each for each in folders if not each.startswith(".")]
        for name in files:
            status = os.stat(os.path.join(folder, name))
            seen[status.st_ino] = status.st_size
    return len(seen), sum(seen.values())


def manifests(root: Path) -> list[dict[str, Any]]:
    """Every manifest, read by nobody's code but this."""
    found = []
    for path in root.rglob("*.json"):
        if "marks" not in path.parts and "drills" not in path.parts and ".backup-flows" not in path.parts:
            found.append(json.loads(path.read_text()))
    return sorted(found, key=lambda each: str(each["started_at"]))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path / "vault", "app", "crm") as made:
        yield made


def test_every_number_of_the_page_is_that_of_the_files_and_manifests(tmp_path: Path, rclone_s3: S3Server) -> None:
    given = document(tmp_path / "vault", "app", "crm", report={"currency": "USD", "prices": {"local": 40000.0}})
    given["vault"]["replicas"] = [replica(rclone_s3, "copy")]
    given["drill"] = {"rto": "5m"}
    file = tmp_path / "shop.yaml"
    file.write_text(yaml.safe_dump(given))
    file.chmod(0o600)
    with opened(tmp_path / "vault", "app", "crm", **{key: given[key] for key in ("vault", "report", "drill")}) as site:
        ages = {"app": (30, 8, 5, 2, 0), "crm": (20, 1, 0)}
        entries = [
            made(site.vault, NOW - age * DAY - HOUR, database=name, noise=2000 + 300 * (30 - age))
            for name, nights in ages.items()
            for age in nights
        ]
        for entry in (each for each in entries if each.name.name == "app"):
            site.vault.replicate(entry, "copy")
        promote(site.vault, entries[0], site.vault.catalog().load(entries[0]), "weekly")
        drilled(site, NOW - 3 * DAY, ("mysql", "app"), ("mysql", "crm"), took=130.0)
    assert backups(["report", "-f", str(file), "--out", str(tmp_path / "r.html")]) == 0
    seen = Parsed((tmp_path / "r.html").read_text())
    known = manifests(tmp_path / "vault")
    for name in ages:
        own = [each for each in known if each["database"] == name and each["tier"] == "daily"]
        row = seen.row("sizes", f"mysql/{name}")
        assert row["size"] == shown(own[-1]["files"][0]["plain_size"])
        assert row["in the vault"] == shown(sum(part["size"] for part in own[-1]["files"]))
        growth = 100 * own[-1]["files"][0]["plain_size"] / own[0]["files"][0]["plain_size"] - 100
        assert row["change"] == f"{growth:+.0f}% in {max(ages[name])} days"
        assert row["backups"] == str(sum(age < 7 for age in ages[name]))
        assert f"{len(own)} daily" in seen.row("coverage", f"mysql/{name}")["kept"]
    assert "1 weekly" in seen.row("coverage", "mysql/app")["kept"]
    assert seen.row("coverage", "mysql/app")["copies"] == "local, copy"
    assert seen.row("coverage", "mysql/crm")["copies"] == "local not at copy"
    count, size = on_disk(tmp_path / "vault")
    row = seen.row("storage", "local")
    assert (row["objects"], row["size"]) == (str(count), shown(size))
    assert row["a month"] == f"{size / 2**30 * 40000:.2f} USD" and row["a GB and month"] == "40000 USD"
    bucket = given["vault"]["replicas"][0]["bucket"]
    listed = [each["Size"] for each in rclone_s3.client().list_objects_v2(Bucket=bucket)["Contents"]]
    row = seen.row("storage", "copy")
    assert (row["objects"], row["size"], row["a month"]) == (str(len(listed)), shown(sum(listed)), "–")
    assert "not every price is known" in seen.row("storage", "Together")["a month"]
    row = seen.row("drills", "mysql")
    assert (row["last drill"][:10], row["restored in"]) == ("3 days ago", "4 min"), "two databases of 130 s"
    assert seen.heading.startswith("The only source is protected and proven; copy lacks 4 backups"), (
        "of crm, the weekly"
    )


def test_a_name_or_a_reason_that_looks_like_markup_stays_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>|`x`$a_b$&amp;"
    with opened(tmp_path / "vault", evil, "app") as site:
        past = Past(site.vault)
        for age in (20, 10, 1):
            past.backup(NOW - age * DAY, database=evil, incomplete=[f"<img src=x onerror=alert({age})>"])
        past.backup(NOW - HOUR, database=evil, size=99_000)
        broken = made(site.vault, NOW - 2 * HOUR, proven=False)
        site.vault.mark(broken, "broken", reason="</td><script src=//evil.example/x.js></script>")
        drilled(site, NOW - DAY, ("mysql", evil), verdict="failed", said="<b onclick=x>", problems=["<iframe>"])
        report = gather(site, now=NOW)
    seen = Parsed(page(report))
    assert seen.tags <= _TAGS, seen.tags - _TAGS
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name == "src"]
    assert {value[:1] for name, value in seen.attributes if name in ("href", "xlink:href")} <= {"#"}
    for told in (evil, "<img src=x onerror=alert(1)>", "<script src=//evil.example/x.js>", "<iframe>"):
        assert told in seen.data, told
    short = text(report)
    assert "<" not in short and "&lt;script&gt;alert(1)&lt;/script&gt;\\|\\`x\\`$a_b$&amp;amp;" in short
    for chapter in short.split("## ")[1:]:
        rows = [line.replace("\\|", "") for line in chapter.splitlines() if line.startswith("| ")]
        assert len({row.count("|") for row in rows}) == 1, "a bar in a name makes no column"


def test_the_page_asks_nobody_for_anything(site: Site) -> None:
    for age in (3, 2, 1, 0):
        made(site.vault, NOW - age * DAY - HOUR)
    drilled(site, NOW - 2 * DAY)
    drilled(site, NOW - DAY)
    report = gather(site, now=NOW)
    html = page(report)
    assert "http:" not in html and "https:" not in html and "<script" not in html and "@import" not in html
    assert html.count("<svg") == 4, "sizes, durations, rates and drills"
    shown = [base64.b64decode(each) for each in re.findall(r"data:image/svg\+xml;base64,([^)]+)\)", pictures(report))]
    assert len(shown) == 3 and all(ElementTree.fromstring(each).tag.endswith("svg") for each in shown)
    ids = [value for name, value in Parsed(html).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert "#0102" not in html and "#0a0b0c" not in html, "no stand-in of a colour is left"


def test_on_a_phone_nothing_is_wider_than_the_phone_and_dark_is_dark(site: Site, tmp_path: Path) -> None:
    past = Past(site.vault)
    for age in range(1, 30):
        past.backup(NOW - age * DAY, database="app", size=10**9 * age)
        past.backup(NOW - age * DAY, database="a_name_that_is_far_longer_than_a_phone_is_wide_" + "x" * 60)
    drilled(site, NOW - DAY, verdict="failed", problems=["a_table_with_a_name_without_a_gap_" + "y" * 90])
    path = tmp_path / "report.html"
    path.write_text(page(gather(site, now=NOW)))
    bright: dict[str, list[int]] = {}
    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 390, "height": 844})
        shown.on("console", lambda message: said.append(message.text))
        for scheme in ("light", "dark"):
            shown.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            shown.goto(path.as_uri())
            assert shown.evaluate("document.documentElement.scrollWidth") <= 390
            colours = shown.evaluate(
                "[getComputedStyle(document.body)].map(its => [its.color, its.backgroundColor])[0]"
            )
            bright[scheme] = [sum(map(int, re.findall(r"\d+", each)[:3])) for each in colours]
        browser.close()
    assert bright["light"][0] < bright["light"][1] and bright["dark"][0] > bright["dark"][1]
    assert said == [], "its own policy refuses nothing that is in it"


def test_an_empty_vault_has_a_report_that_says_so(site: Site) -> None:
    report = gather(site)
    assert report.verdict.level == "critical"
    said = "mysql/app has no good backup; mysql/crm has no good backup"
    assert report.verdict.said == f"The only source is not protected; {said}"
    seen = Parsed(page(report))
    assert seen.row("coverage", "mysql/app")["kept"] == "nothing"
    assert "There is no backup yet" in seen.data and "No drill was ever run" in seen.data
    assert seen.row("storage", "local")["size"] == "0 B"


def test_a_place_that_cannot_be_asked_is_told_and_the_report_is_made(
    tmp_path: Path, rclone_s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    given = document(tmp_path / "vault")
    given["vault"]["replicas"] = [{**replica(rclone_s3, "away"), "endpoint_url": "http://127.0.0.1:9"}]
    file, out = tmp_path / "shop.yaml", tmp_path / "r.html"
    file.write_text(yaml.safe_dump(given))
    file.chmod(0o600)
    with opened(tmp_path / "vault", vault=given["vault"]) as site:
        made(site.vault, NOW - HOUR)
        drilled(site, NOW - HOUR)
    assert backups(["report", "-f", str(file), "--out", str(out), "--json"]) == 3
    body = json.loads(capsys.readouterr().out)["report"]
    assert list(body["unseen"]) == ["away"] and body["coverage"][0]["standing"] == "good"
    seen = Parsed(out.read_text())
    assert seen.heading.startswith("The only source is protected and proven; away could not be asked")
    assert "Could not be asked" in seen.row("storage", "away unknown")["place"]
    with opened(tmp_path / "other", vault={**given["vault"], "root": str(tmp_path / "other")}) as site:
        assert gather(site).coverage[0].standing == "unknown", "the place that is away may have one"


def test_damage_failed_drills_gaps_and_missed_nights_are_incidents_until_they_are_over(tmp_path: Path) -> None:
    with opened(tmp_path / "vault", mysql={"databases": ["app"]}) as site:
        past = Past(site.vault)
        for age in (9, 8, 7, 5, 4, 3, 2, 1):  # the night of six days ago is missing
            past.full(NOW - age * DAY, 1, stored=400, incomplete=["t: gone"] if age == 4 else [])
        for number in (1, 2, 4, 5):
            past.log(number, NOW - 9 * DAY + number * HOUR)
        entry = made(site.vault, NOW - 3 * HOUR, proven=False)
        flip(site.vault.root / entry.key, 200)
        with pytest.raises(IntegrityError):
            verify(site, entry)
        drilled(site, NOW - 20 * DAY, verdict="failed", said="long ago")
        drilled(site, NOW - 6 * DAY, verdict="failed", said="t has 3 rows instead of 4")
        report = gather(site)
        found = {each.kind: each for each in report.incidents}
        assert len(report.incidents) == len(found) == 5, report.incidents
        assert entry.file == found["damage"].about and not found["damage"].over
        assert "t has 3 rows instead of 4" in found["drill"].said and not found["drill"].over
        assert found["incomplete"].said == "lacks t: gone" and found["incomplete"].over
        assert found["missed"].said.startswith("no daily backup between ")
        assert "one log is missing between mysql-bin.000002 and mysql-bin.000004" in found["log gap"].said
        flip(site.vault.root / entry.key, 200)
        time.sleep(1.1)  # names of marks tell whole seconds, and of one second "broken" counts
        verify(site, entry)
        drilled(site, NOW - DAY)
        found = {each.kind: each for each in gather(site).incidents}
        assert found["damage"].over.startswith("found whole again") and "proved it" in found["drill"].over
        assert "drill" not in {each.kind for each in gather(site, now=NOW + 7 * DAY).incidents}


def test_what_the_watch_found_and_is_over_is_an_incident_of_the_period(tmp_path: Path) -> None:
    with opened(tmp_path / "vault", mysql={"databases": ["app"]}) as site:
        made(site.vault, NOW - 3 * HOUR)
        failed = Finding("run", "daily-full", Level.CRITICAL, "the last run of daily-full (owl) failed: no room")
        drill = Finding("drill", "last", Level.CRITICAL, "the last drill failed")
        with memory(site.vault.state) as known:
            for days in (20, 3):
                known.take_in(Look(site.name, [failed, drill]), NOW - days * DAY, None)
                known.take_in(Look(site.name), NOW - days * DAY + HOUR / 4, None)
        found = [each for each in gather(site).incidents if each.kind == "watch"]
        assert [each.about for each in found] == ["daily-full", "watch"], "the drill is told by its record"
        assert found[0].said == f"run: {failed.said}" and found[0].over.startswith("over on ")
        assert found[0].at == NOW - 3 * DAY and found[1].said == "silence: the watch did not look"


def test_what_the_verification_of_the_vault_healed_is_an_incident_that_is_over(
    tmp_path: Path, rclone_s3: S3Server
) -> None:
    vault = document(tmp_path / "vault")["vault"] | {"replicas": [replica(rclone_s3, "copy")]}
    with opened(tmp_path / "vault", vault=vault) as site:
        entry = made(site.vault, NOW - 2 * DAY)
        site.vault.replicate(entry, "copy")
        flip(site.vault.root / entry.key, 200)
        (found, _) = verify_vault(site, Request(Share(1)))
        assert found.findings[0].healed
        (incident,) = [each for each in gather(site).incidents if each.kind == "damage"]
    assert incident.about == entry.file and incident.over == "healed by the verification of the vault"


def test_what_a_drill_proved_counts_until_it_is_too_old_or_a_later_one_fails(site: Site) -> None:
    both = (("mysql", "app"), ("mysql", "crm"))
    for _, database in both:
        made(site.vault, NOW - 9 * DAY, database=database)
        made(site.vault, NOW - HOUR, database=database)

    def standing(report: Report) -> list[str]:
        return [each.standing for each in report.coverage]

    report = gather(site)
    assert standing(report) == ["unproven", "unproven"] and report.verdict.level == "warning"
    assert report.verdict.said.startswith(
        "The only source is protected but not proven; mysql/app has never been proven"
    )
    drilled(site, NOW - 40 * DAY, *both)
    assert gather(site).coverage[0].said == "mysql/app has not been proven for 40 days"
    drilled(site, NOW - 2 * DAY, *both)
    assert standing(gather(site)) == ["good", "good"]
    drilled(site, NOW - DAY, *both, verdict="failed")
    report = gather(site)
    assert standing(report) == ["unproven", "good"] and report.coverage[0].said == "the last drill of mysql/app failed"
    assert standing(gather(site, now=NOW + 3 * DAY)) == ["late", "late"]


def test_a_drill_dated_ahead_hides_no_later_one(site: Site) -> None:
    made(site.vault, NOW - HOUR)
    drilled(site, NOW + 300 * DAY)
    drilled(site, NOW - DAY, verdict="failed")
    found = status(site, now=NOW)
    assert found.unproven == {"mysql": ("failed", NOW - DAY)} and found.rows[0].proven is None
    assert len(found.problems) == 1 and "is dated 300 days 0 h ahead of now" in found.problems[0]
    told = {each.id: each.level for each in look(site, servers=False, now=NOW).trouble}
    assert told["drill/last"] == Level.CRITICAL and told["vault/local"] == Level.WARNING
    drilled(site, NOW - HOUR)
    assert gather(site, now=NOW).coverage[0].standing == "good" and status(site, now=NOW).unproven == {}
    assert status(site, now=NOW + 301 * DAY).problems == [], "it counts when its time has come"


def test_the_window_of_any_second_is_that_of_the_logs(tmp_path: Path) -> None:
    with opened(tmp_path / "vault", mysql={"databases": ["app"]}) as site:
        past = Past(site.vault)
        past.full(NOW - 2 * DAY, 1)
        for number in range(1, 49):
            past.log(number, NOW - 2 * DAY + number * HOUR)
        seen = Parsed(page(gather(site, now=NOW + 10 * MINUTE)))
        row = seen.row("windows", "mysql/app")
        assert (row["from"], row["reaches back"]) == (f"{NOW - 2 * DAY:%Y-%m-%d %H:%M}", "2 days")
        assert row["to"] == f"{NOW:%Y-%m-%d %H:%M} 10 min ago"


@pytest.mark.parametrize(("clock", "days"), [((0, 30), 85), ((12, 0), 84)])
def test_of_two_years_of_history_only_what_is_told_is_read(tmp_path: Path, clock: tuple[int, int], days: int) -> None:
    """Days are calendar days, UTC: shortly after midnight the first of a period has a share before the period too."""
    now = (NOW - DAY).replace(hour=clock[0], minute=clock[1], second=0)
    with opened(tmp_path / "vault", "app") as site:
        past = Past(site.vault)
        for age in range(2 * 365):
            past.backup(now - age * DAY - HOUR, size=50_000 + 10 * (730 - age))
        for hours in range(5, 14 * 24):
            past.backup(now - hours * HOUR - MINUTE, tier="hourly")
        report = gather(site, now=now)
        assert report.coverage[0].tiers == {"daily": 730, "hourly": 331}
        assert len(report.history.points) == (7 * 24 - 5 + 7) + days, "all of a week, and one of each day before it"
        read = site.vault.catalog().manifests_read
        assert read < len(report.history.points) + 60, "what is only counted is not read"
        assert len(page(report)) < 250_000
        assert len(gather(site, now=now, weeks=104).history.points) > 700


def test_a_vault_whose_disk_is_away_is_told_and_not_made_anew(site: Site) -> None:
    made(site.vault, NOW - HOUR)
    away = site.vault.root.rename(site.vault.root.with_name("away"))
    report = gather(site)
    assert report.verdict.level == "critical" and "mysql/app" in report.verdict.said
    assert "is its disk mounted" in Parsed(page(report)).data
    with pytest.raises(NotFound, match="holds no vault of shop"):
        keeping.keep(site, "page", NOW)
    assert not site.vault.root.exists() and away.is_dir()


def test_pages_are_kept_by_date_and_the_newest_under_a_name_that_stays(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "KEPT", 2)
    for age in (3, 2, 1):
        path = keeping.keep(site, f"page {age}", NOW - age * DAY)
    kept = sorted(each.name for each in path.parent.iterdir())
    assert kept == [f"shop-{NOW - age * DAY:%Y-%m-%d}.html" for age in (2, 1)] + ["shop.html"]
    assert path.read_text() == "page 1" and path.parent == site.vault.state / "reports"
    assert list(site.vault.store("local").list()) == [], "it is no part of the vault's content"
    with opened(tmp_path / "other", report={"directory": str(tmp_path / "gone" / "www")}) as other:
        with pytest.raises(NotFound, match="does not exist"):
            keeping.keep(other, "page", NOW)


def test_on_the_command_line_it_is_printed_or_written_as_its_name_says(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    file = tmp_path / "shop.yaml"
    file.write_text(yaml.safe_dump(document(site.vault.root, "app", "crm")))
    file.chmod(0o600)
    made(site.vault, NOW - HOUR)
    assert backups(["report", "-f", str(file)]) == 0
    told = capsys.readouterr().out
    said = "mysql/crm has no good backup; mysql/app has never been proven by a drill"
    assert told.startswith(f"The only source is not protected; {said}.")
    assert "What is protected" in told and "Storage" in told
    assert backups(["report", "-f", str(file), "--out", str(tmp_path / "r.md"), "--quiet"]) == 0
    assert (tmp_path / "r.md").read_text().startswith(f"# The only source is not protected; {said}.")
    assert backups(["report", "-f", str(file), "--out", str(tmp_path / "r.pdf")]) == 2
    assert backups(["report", "-f", str(file), "--out", str(tmp_path / "no" / "r.html")]) == 2


def test_prices_are_of_places_and_classes_that_there_are(tmp_path: Path) -> None:
    for prices, told in (
        ({"spaces": 1.0}, "report.prices.spaces names no place of the site; there are: local"),
        ({"local/cold": 1.0}, "'cold' is no storage class"),
        ({"local": -1.0}, "report.prices.local is no price"),
    ):
        with pytest.raises(ValueError, match=told):
            opened(tmp_path, report={"currency": "USD", "prices": prices})
    with pytest.raises(ValueError, match="report.prices have no currency"):
        opened(tmp_path, report={"prices": {"local": 1.0}})
    with opened(
        tmp_path, report={"currency": "USD", "prices": {"local/GLACIER": 1.0, "local": 2.0, "COLD": 3.0}}
    ) as site:
        price = site.config.report.price_of
        assert (price("local", "GLACIER"), price("local", ""), price("x", "COLD"), price("x", "")) == (1, 2, 3, None)


def test_the_class_of_what_a_bucket_holds_is_told(tmp_path: Path, moto_s3: S3Server) -> None:
    given = document(tmp_path / "vault")
    given["vault"]["replicas"] = [{**replica(moto_s3, "aws"), "storage_class": "STANDARD_IA"}]
    given["report"] = {"currency": "EUR", "prices": {"STANDARD_IA": 100000.0, "aws/STANDARD": 0.0}}
    with opened(tmp_path / "vault", vault=given["vault"], report=given["report"]) as site:
        entry = made(site.vault, NOW - HOUR)
        site.vault.replicate(entry, "aws")
        (place,) = [each for each in gather(site).places if each.name == "aws"]
    held = {each.storage_class: each for each in place.held}
    assert set(held) == {"STANDARD", "STANDARD_IA"}
    stored = site.vault.catalog("aws").load(entry).stored_bytes
    assert held["STANDARD_IA"].bytes == stored and held["STANDARD_IA"].monthly == stored / 2**30 * 100000
    assert held["STANDARD"].monthly == 0
