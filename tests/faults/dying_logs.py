"""Work on logs in a process of its own, to be killed at any moment: a site, what to do and to what, as JSON on its
input. Says ``begins`` when it does; a line of JSON when it has come to its end."""

from __future__ import annotations

import json
import sys

from engine import shipping
from engine.config import SiteConfig
from engine.point_in_time import bring_back, plan_past
from engine.restore_plan import RestoreRequest
from engine.site import Site


def main() -> None:
    orders = json.load(sys.stdin)
    source, database = orders["source"], orders["database"]
    with Site(SiteConfig.model_validate(orders["site"])) as site:
        site.source(source)  # imports what it takes
        print("begins", flush=True)
        if orders["work"] == "ship":
            done = [log.name for log in shipping.ship(site, source).shipped]
        else:
            site.vault.check()
            plan = plan_past(site, RestoreRequest(database, source=source), "latest")
            done = [bring_back(site, plan)[0].file]
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
