"""A report on a machine that never was, with thirteen weeks of history: for looking at the page, and for the docs.

python scripts/sample_report.py report.html
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from engine.catalog import Entry  # noqa: E402
from engine.config import SiteConfig  # noqa: E402
from engine.drill.verdict import UNVERIFIED  # noqa: E402
from engine.report.gather import Report, gather  # noqa: E402
from engine.report.page import page  # noqa: E402
from engine.site import Site  # noqa: E402
from engine.stores import LocalStore  # noqa: E402
from engine.stores.base import ObjectInfo  # noqa: E402
from tests.functional.reported import DAY, HOUR, MINUTE, Past, drilled  # noqa: E402

NOW = datetime(2026, 11, 23, 6, 0, 0, tzinfo=UTC)
NIGHT = 4 * HOUR
"""Before ``NOW``: the nightly backups begin then."""
GB = 10**9
KEY = "FAKE-key-of-a-machine-that-never-was-0123456789"


class Bucket(LocalStore):
    """A directory that looks like a bucket with storage classes."""

    def __init__(self, name: str, root: Path, where: str, classes: dict[str, str]) -> None:
        super().__init__(root, root / ".state")
        self.name, self._where, self._classes = name, where, classes

    def describe(self) -> str:
        return self._where

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for info in super().list(prefix):
            small = info.key.endswith(".json")
            found = next((kind for part, kind in self._classes.items() if part in info.key and not small), "STANDARD")
            yield ObjectInfo(info.key, info.size, info.modified, found)


def machine(folder: Path) -> Site:
    """A platform with two databases, volumes, buckets, n8n and config files."""
    endpoint = {"endpoint_url": "http://127.0.0.1:9", "access_key": "FAKE", "secret_key": "FAKE"}
    document: dict[str, Any] = {
        "site": "workset",
        "vault": {
            "root": str(folder / "vault"),
            "keys": {"current": "main", "keys": {"main": KEY}},
            "replicas": [
                {"name": "spaces", "bucket": "workset-backups", **endpoint},
                {"name": "aws", "bucket": "workset-archive", **endpoint},
            ],
        },
        "mysql": {"databases": ["crm", "shop"]},
        "volumes": {"volumes": ["notebooks"]},
        "buckets": {"buckets": ["invoices"]},
        "n8n": {"api_key": "FAKE"},
        "config": {"paths": ["/etc"]},
        "drill": {"rto": "1h", "rpo": "15m"},
        "watch": {"disk": 99},
        "report": {
            "currency": "USD",
            "prices": {"spaces": 0.02, "aws/STANDARD": 0.023, "STANDARD_IA": 0.0125, "GLACIER": 0.0036},
        },
    }
    site = Site(SiteConfig.model_validate(document))
    site.vault.check()
    for name, where, classes in (
        ("spaces", "s3://workset-backups/ at fra1.example.net", {}),
        ("aws", "s3://workset-archive/", {"monthly": "GLACIER", "": "STANDARD_IA"}),
    ):
        site.vault._stores[name] = Bucket(name, folder / name, where, classes)
        (folder / name).mkdir()
    return site


SOURCES: list[tuple[dict[str, Any], float, float, float]] = [
    ({"source": "mysql", "kind": "mysql", "database": "shop"}, 9.4 * GB, 6.1e7, 0.35),
    ({"source": "mysql", "kind": "mysql", "database": "crm"}, 2.1 * GB, 5.2e7, 0.25),
    ({"source": "volumes", "kind": "volume", "database": "notebooks", "ext": "tar.gz.enc", "dump_format": "tar",
      "rows": {}}, 4.6 * GB, 1.4e8, 0.5),
    ({"source": "buckets", "kind": "bucket", "database": "invoices", "ext": "jsonl.gz.enc", "dump_format": "bucket",
      "rows": {}}, 31 * GB, 9e6, 0.35),
    ({"source": "n8n", "kind": "n8n", "database": "n8n", "ext": "json.gz.enc", "dump_format": "n8n", "rows": {}},
     3.2e6, 8e5, 0.05),
    ({"source": "config", "kind": "config", "database": "config", "ext": "tar.gz.enc", "dump_format": "tar",
      "rows": {}}, 1.9e6, 2e6, 0.02),
]  # fmt: skip
"""Of each source its size now, bytes read a second, and by how much it grew in thirteen weeks."""


def live(site: Site, folder: Path) -> None:
    """Thirteen weeks of nights, of which the last thirty, and one a week before, are kept."""
    past = Past(site.vault, {"spaces": folder / "spaces", "aws": folder / "aws"})
    chance = random.Random(13)
    for night in range(91, -1, -1):
        for what, now, speed, grew in SOURCES:
            if (night > 30 and night % 7) or (night == 4 and what["database"] == "crm"):
                continue
            tier = "daily" if night <= 30 else "weekly" if night % 28 else "monthly"
            _one(past, what, NOW - night * DAY - NIGHT, tier, now * (1 - grew * night / 91), speed, chance, night)
    for number in range(7 * 24):
        past.log(2000 + number, NOW - 7 * DAY + (number + 1) * HOUR - 4 * MINUTE, stored=9_000_000)
    for location, root in {"local": site.vault.root, **past.copies}.items():
        contents = root / f"{site.vault.layout(location).contents_prefix('buckets', 'invoices')}all"
        contents.parent.mkdir(parents=True)
        contents.touch()
        os.truncate(contents, int(29.5 * GB))
    _prove(site)


def _one(
    past: Past,
    what: dict[str, Any],
    at: datetime,
    tier: str,
    size: float,
    speed: float,
    chance: random.Random,
    night: int,
) -> None:
    size = int(size * chance.uniform(0.995, 1.005))
    read = size // 60 if what["kind"] == "bucket" else size
    how: dict[str, Any] = {**what, "tier": tier, "size": size, "seconds": 1 + read / speed * chance.uniform(0.85, 1.25)}
    how["stored"] = int(size * 0.22)
    if what["kind"] == "bucket":
        how |= {"size": 400_000, "stored": 90_000, "contents": {"objects": 8200, "bytes": size, "copied_bytes": read}}
    if what["kind"] == "mysql":
        past.full(at, 2000 + max(0, 7 - night) * 24 - 4, **how)
    else:
        past.backup(at, **how)


def _prove(site: Site) -> None:
    """Drills, of which the newest could not look into n8n; and a copy that was damaged for a day."""
    every = [(what["source"], what["database"]) for what, *_ in SOURCES]
    for ago, took in ((71, 390.0), (41, 420.0)):
        drilled(site, NOW - ago * DAY, *every, took=took)
    n8n = ("n8n", "n8n")
    rest = [each for each in every if each != n8n]
    said = "no n8n command was found where it runs"
    drilled(site, NOW - 22 * DAY - HOUR, n8n, *rest, verdict=UNVERIFIED, took=470.0, said=said)
    drilled(site, NOW - 5 * DAY - HOUR, *rest, took=560.0)
    entries = {entry.name.name: entry for entry in site.vault.catalog("spaces").entries()
               if not entry.name.log and entry.name.taken_at > NOW - 4 * DAY}  # fmt: skip
    _damaged(site, entries["shop"])
    for location in site.vault.locations():
        for entry in site.vault.catalog(location).entries():
            if entry.name.taken_at > NOW - DAY and not entry.name.log:
                site.vault.mark(entry, "verified", sha256="0" * 64)


def _damaged(site: Site, entry: Entry) -> None:
    from engine import marks

    store, layout = site.vault.store("spaces"), site.vault.layout("spaces")
    reason = f"{entry.file} is 2,048 bytes shorter than its manifest says."
    marks.add(store, layout, site.vault.keys, entry, "broken", {"reason": reason, "by": "verify-vault"}, NOW - 2 * DAY)
    marks.add(store, layout, site.vault.keys, entry, "verified", {"by": "verify-vault"}, NOW - DAY)


def sample() -> Report:
    """The report on that machine, on a Monday morning."""
    with tempfile.TemporaryDirectory() as folder, machine(Path(folder)) as site:
        live(site, Path(folder))
        report = gather(site, now=NOW)
    places = [replace(each, where="/var/backups") if each.name == "local" else each for each in report.places]
    return replace(report, places=places)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(sample()), encoding="utf-8")
