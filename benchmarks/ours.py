"""One backup by the engine, in a process of its own: what it took, and how far memory grew.

    python -m benchmarks.ours SITE.json SOURCE DATABASE

Prints JSON: capture (seconds from the first query to published), verify (seconds), plain and stored
(bytes), grown (peak resident bytes above those before the backup began).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from engine import backup
from engine.config import SiteConfig
from engine.site import Site, Target


def memory(field: str) -> int:
    """A line of /proc/self/status in bytes: VmRSS, VmHWM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def main(site_file: str, source: str, database: str) -> None:
    """Back up once and print what it took."""
    with Site(SiteConfig.model_validate_json(Path(site_file).read_bytes())) as site:
        site.sweep()
        target = Target(source, database)
        backup.preflight(site, target)
        idle = memory("VmRSS")
        begun = time.perf_counter()
        entry, manifest = backup.capture(site, target, tier="manual")
        captured = time.perf_counter()
        backup.verify(site, entry)
        verified = time.perf_counter()
        print(
            json.dumps(
                {
                    "capture": captured - begun,
                    "verify": verified - captured,
                    "plain": manifest.data.plain_size,
                    "stored": manifest.data.size,
                    "rows": manifest.total_rows,
                    "grown": memory("VmHWM") - idle,
                }
            )
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
