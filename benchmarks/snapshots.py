"""The snapshot before a deployment as a pipeline sees it: from the request until the run is Completed.

On an idle worker, with a Prefect server and an S3 endpoint of their own, the databases of the demo. The goal is 15 s.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import Figure, plain
from deployments import demo_data
from deployments.api import PrefectApi
from deployments.demo import SITE_FILE
from deployments.demo_stage import Stage

ROUNDS = 5


def run(directory: Path) -> list[Figure]:
    """The median and the slowest of some snapshots, each a new one."""
    stage = Stage(directory / "demo")
    stage.databases = directory / "databases"  # not where a demo of this machine may be running
    try:
        stage.start()
        stage.mariadb_sql(demo_data.SHOP)
        stage.postgres_sql(demo_data.PLATFORM)
        env = {**os.environ, **stage.site_env(), **stage.prefect.client_env()}
        apply = [sys.executable, "-m", "deployments.cli", "apply", str(SITE_FILE)]
        subprocess.run(apply, env=env, check=True, stdout=subprocess.DEVNULL)
        api = PrefectApi(f"{stage.prefect.url}/api", stage.prefect.auth)
        _keep_schedules_off(api)
        times = [_snapshot(api, number) for number in range(ROUNDS)]
    finally:
        stage.clear()
    return [
        plain("demo.snapshot.trigger_to_completed", statistics.median(times), "s"),
        plain("demo.snapshot.trigger_to_completed_slowest", max(times), "s"),
    ]


def _keep_schedules_off(api: PrefectApi) -> None:
    """What the site's schedules start would be measured with it."""
    for each in api.call("POST", "/deployments/filter", {}):
        api.call("PATCH", f"/deployments/{each['id']}", {"paused": True})
    scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    for each in api.call("POST", "/flow_runs/filter", scheduled):
        api.call("DELETE", f"/flow_runs/{each['id']}")


def _snapshot(api: PrefectApi, number: int) -> float:
    begun = time.perf_counter()
    done = api.wait(api.start("pre-deploy-snapshot/demo", release=f"v{number}", key=f"bench-{number}"), timeout=300)
    seconds = time.perf_counter() - begun
    assert done.state == "COMPLETED", done.message
    return seconds
