"""A run of shipping in a process of its own, to be killed: the site's root, the server's port and password as
arguments and input."""

from __future__ import annotations

import sys

from engine.binlog.ship import ship
from engine.config import SiteConfig
from engine.site import Site

if __name__ == "__main__":
    config = SiteConfig.model_validate_json(sys.stdin.read())
    print("begins", flush=True)
    with Site(config) as site:
        site.sweep()
        for log in ship(site, "mysql").shipped:
            print(log.name, flush=True)
