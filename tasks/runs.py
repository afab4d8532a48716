"""What the Prefect server knows of a site's runs: which flows failed or crashed when they last ran."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.logging import get_run_logger

from engine import names
from engine.watch.findings import Finding, Level

_TAGS = frozenset({"backup", "logs", "retention", "drill", "proof"})
"""Of deployments that run by themselves. A person who restores by hand sees how it went."""
_BACK = timedelta(days=40)


CONDITION = "run"


def failed(site: str) -> list[Finding] | None:
    """One finding for each deployment that has run: critical while the newest run that ended did so badly. None, and a
    line in the log, where the server cannot be asked."""
    try:
        with get_client(sync_client=True) as client:
            return [found for each in _deployments(client, site) if (found := _last(client, each)) is not None]
    except Exception as error:  # the watch goes on without; whatever it is, its kind says enough
        get_run_logger().warning("the server was not asked for the site's runs (%s)", type(error).__name__)
        return None


def _deployments(client: SyncPrefectClient, site: str) -> list[dict[str, Any]]:
    found = client._client.post("/deployments/filter", json={"deployments": {"name": {"any_": [site]}}}).json()
    return [each for each in found if _TAGS & set(each.get("tags") or [])]


def _last(client: SyncPrefectClient, deployment: dict[str, Any]) -> Finding | None:
    wanted = {
        "deployments": {"id": {"any_": [deployment["id"]]}},
        "flow_runs": {
            "state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}},
            "end_time": {"after_": names.iso(names.now() - _BACK)},
        },
        "sort": "END_TIME_DESC",
        "limit": 1,
    }
    runs = client._client.post("/flow_runs/filter", json=wanted).json()
    if not runs:
        return None
    run = runs[0]
    about = _flow(deployment)
    if run["state_type"] == "COMPLETED":
        return Finding(CONDITION, about, Level.OK, f"the last run of {about} did what it should")
    reason = str((run.get("state") or {}).get("message") or "").strip().splitlines()
    how = "failed" if run["state_type"] == "FAILED" else "crashed"
    said = f"the last run of {about} ({run['name']}) {how}" + (f": {reason[0].rstrip('.')}" if reason else "")
    return Finding(CONDITION, about, Level.CRITICAL, said)


def _flow(deployment: dict[str, Any]) -> str:
    """``daily-full``, from where its function stands."""
    return str(deployment["entrypoint"]).rpartition(":")[2].replace("_", "-")
