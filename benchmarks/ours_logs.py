"""One piece of work on logs by the engine, in a process of its own: what it took.

    python -m benchmarks.ours_logs ship SITE.json SOURCE
    python -m benchmarks.ours_logs base SITE.json SOURCE
    python -m benchmarks.ours_logs recover SITE.json SOURCE DATABASE

Prints JSON, seconds and bytes. ``ship``: seconds, cpu, bytes, stored, logs. ``base``: bytes. ``recover`` (to the
end of the logs): full and logs (bytes), and how long each part took: check (logs read and their digests held
against their manifests), full (the full or base read, and brought in), replay, start (the rest: planning, and
the making of a scratch server), total, and export (a backup of what came out).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from engine import shipping
from engine.config import SiteConfig
from engine.point_in_time import plan_past, recovered
from engine.restore_plan import RestoreRequest
from engine.site import Site


class Stages:
    """When each step of a recovery was first and last told of."""

    def __init__(self) -> None:
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def __call__(self, step: str, done: int, total: int | None = None) -> None:
        now = time.perf_counter()
        self.first.setdefault(step, now)
        self.last[step] = now


def ship(site: Site, source: str) -> dict[str, float]:
    """What is new, into the vault."""
    begun, cpu = time.perf_counter(), time.process_time()
    report = shipping.ship(site, source)
    return {
        "seconds": time.perf_counter() - begun,
        "cpu": time.process_time() - cpu,
        "bytes": report.bytes,
        "stored": report.stored_bytes,
        "logs": len(report.shipped),
    }


def base(site: Site, source: str) -> dict[str, float]:
    """A base backup."""
    _, manifest = shipping.base(site, source)
    return {"bytes": sum(part.plain_size for part in manifest.files)}


def recover(site: Site, source: str, database: str) -> dict[str, float]:
    """Everything that the vault holds of one database, on a scratch server and out of it again."""
    told = Stages()
    begun = time.perf_counter()
    plan = plan_past(site, RestoreRequest(database, source=source), "latest")
    logs = sum(plan.found.copies(log)[0][1].data.plain_size for log in plan.plan.logs)
    with recovered(site, plan, progress=told) as past:
        there = time.perf_counter()
        past.export()
        exported = time.perf_counter()
    checked = told.last["check logs"]
    if "replay" in told.first:
        loading, loaded = told.first["load"], told.first["placing logs"]
    else:
        loading, loaded = checked, told.first["lay the log ready"]
    parts = {"check": checked - begun, "full": loaded - loading, "replay": there - loaded, "total": there - begun}
    return {
        **parts,
        "start": parts["total"] - parts["check"] - parts["full"] - parts["replay"],
        "export": exported - there,
        "full_bytes": sum(part.plain_size for part in plan.manifest.files),
        "log_bytes": logs,
    }


def main(work: str, site_file: str, source: str, database: str = "") -> None:
    """Do it and print what it took."""
    with Site(SiteConfig.model_validate_json(Path(site_file).read_bytes())) as site:
        site.sweep()
        if work == "recover":
            done = recover(site, source, database)
        else:
            done = {"ship": ship, "base": base}[work](site, source)
    print(json.dumps(done))


if __name__ == "__main__":
    main(*sys.argv[1:])
