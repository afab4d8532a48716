"""A drill that is killed when a source has been restored: run as a process by ``test_drill``, with its site as JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from engine.config import SiteConfig
from engine.drill.kinds import drill_class
from engine.drill.run import DrillRequest, drill
from engine.site import Site


def main() -> None:
    orders = json.load(sys.stdin)
    with Site(SiteConfig.model_validate(orders["site"])) as site:
        kind: Any = drill_class(site.config.source(orders["source"]))
        kind.prove = lambda self, place, piece: os.kill(os.getpid(), signal.SIGKILL)
        drill(site, DrillRequest(source=orders["source"]))


if __name__ == "__main__":
    main()
