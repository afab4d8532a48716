"""Another host, as a process of its own: same site, same bucket, a vault of its own.

python -m tests.functional.lease_host SITE.json TERM hold|copy

``hold`` holds the lease of the bucket's contents in ``copy0``; ``copy`` copies the newest list there, and stands still
before its manifest. Both say ``held`` then, and go on when a line comes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from engine.config import SiteConfig
from engine.site import Site
from engine.vault import LOCAL
from tests.functional.bucket_machine import SOURCE


def _stand_still() -> None:
    print("held", flush=True)
    sys.stdin.readline()


def _copy(site: Site, bucket: str) -> None:
    vault: Any = site.vault
    say = vault._say_of_copy

    def said(*given: Any) -> None:
        say(*given)
        _stand_still()

    vault._say_of_copy = said
    newest = next(iter(vault.catalog(LOCAL).entries(source=SOURCE, database=bucket)))
    vault.replicate(newest, "copy0")


def main(file: str, term: str, what: str) -> None:
    """What the module says."""
    with Site(SiteConfig.model_validate(json.loads(Path(file).read_text()))) as site:
        site.vault.leases.term = float(term)
        bucket = site.config.buckets[0].databases[0]
        if what == "copy":
            _copy(site, bucket)
        else:
            with site.vault.filling("copy0", SOURCE, bucket):
                _stand_still()


if __name__ == "__main__":
    main(*sys.argv[1:])
