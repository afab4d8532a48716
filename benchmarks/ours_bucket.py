"""One snapshot of a bucket by the engine, in a process of its own: what it took, and how far memory grew.

    python -m benchmarks.ours_bucket SITE.json

Prints JSON: seconds (captured and verified), objects, copied, stored (bytes of new contents), grown (peak resident
bytes above those before it began).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.ours import memory
from engine import backup
from engine.config import SiteConfig
from engine.site import Site


def main(site_file: str) -> None:
    """Take one and print what it took."""
    with Site(SiteConfig.model_validate_json(Path(site_file).read_bytes())) as site:
        site.sweep()
        (target,) = site.targets()
        backup.preflight(site, target)
        idle = memory("VmRSS")
        begun = time.perf_counter()
        made = backup.backup_one(site, target, tier="daily")
        facts = made.manifest.contents
        print(
            json.dumps(
                {
                    "seconds": time.perf_counter() - begun,
                    "objects": facts["objects"],
                    "copied": facts["copied"],
                    "stored": facts["stored_bytes"],
                    "grown": memory("VmHWM") - idle,
                }
            )
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
