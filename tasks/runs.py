"""What the Prefect server knows of a site's runs: which failed or crashed, which hang, which do not begin."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.logging import get_run_logger

from engine import names
from engine.durations import in_words
from engine.watch.findings import Finding, Level

_TAGS = frozenset({"backup", "logs", "retention", "drill", "proof"})
"""Of deployments that run by themselves. A person who restores by hand sees how it went."""
_BACK = timedelta(days=40)
_HANGS = timedelta(minutes=10)
"""Of a run that is under way something is heard every 30 seconds."""
_LATE = timedelta(minutes=15)


def stand(site: str, *, now: datetime | None = None) -> list[Finding] | None:
    """How the site's runs stand. None, and a line in the log, where the server cannot be asked.

    ``run``, one for each deployment that has run: critical while the newest run that ended did so badly. ``zombie``: a
    run that shows as under way, and nothing is heard of it; the automation that marks those Crashed did not, or there
    is none. ``late``: a run that is due and that no worker takes.
    """
    try:
        with get_client(sync_client=True) as client:
            every = _deployments(client, site)
            mine = [each for each in every if _TAGS & set(each.get("tags") or [])]
            last = [found for each in mine if (found := _last(client, each)) is not None]
            at = now or names.now()
            return [*last, *_hanging(client, every, at), *_late(client, mine, at)]
    except Exception as error:  # the watch goes on without; whatever it is, its kind says enough
        get_run_logger().warning("the server was not asked for the site's runs (%s)", type(error).__name__)
        return None


def _deployments(client: SyncPrefectClient, site: str) -> list[dict[str, Any]]:
    return list(client._client.post("/deployments/filter", json={"deployments": {"name": {"any_": [site]}}}).json())


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
        return Finding("run", about, Level.OK, f"the last run of {about} did what it should")
    reason = str((run.get("state") or {}).get("message") or "").strip().splitlines()
    how = "failed" if run["state_type"] == "FAILED" else "crashed"
    said = f"the last run of {about} ({run['name']}) {how}" + (f": {reason[0].rstrip('.')}" if reason else "")
    return Finding("run", about, Level.CRITICAL, said)


def _hanging(client: SyncPrefectClient, deployments: list[dict[str, Any]], now: datetime) -> list[Finding]:
    found = {}
    under_way = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}
    for run, deployment in _runs(client, deployments, under_way):
        since = names.noted_moment(run["state"]["timestamp"])
        if now - since < _HANGS or (run["state_type"] == "RUNNING" and _heard_of(client, run["id"], now - _HANGS)):
            continue
        about, lasts = _flow(deployment), in_words((now - since).total_seconds())
        said = (
            f"the run of {about} ({run['name']}) shows as {run['state_type'].lower()} for {lasts}, and nothing was "
            f"heard of it for {in_words(_HANGS.total_seconds())}: its process or machine is gone. While it stands, "
            "schedules leave out the runs after it"
        )
        found[about] = Finding("zombie", about, Level.CRITICAL, said)
    return list(found.values())


def _heard_of(client: SyncPrefectClient, run: str, since: datetime) -> bool:
    """Has a run sent a sign of life, or begun or ended anything, since then?"""
    wanted = {
        "filter": {
            "occurred": {"since": names.iso(since), "until": names.iso(names.now() + timedelta(days=1))},
            "any_resource": {"id": [f"prefect.flow-run.{run}"]},
        },
        "limit": 1,
    }
    answer = client._client.post("/events/filter", json=wanted)
    return bool(answer.json()["events"])


def _late(client: SyncPrefectClient, deployments: list[dict[str, Any]], now: datetime) -> list[Finding]:
    found = {}
    due = {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"before_": names.iso(now - _LATE)}}
    for run, deployment in _runs(client, deployments, due):
        since = names.noted_moment(run["next_scheduled_start_time"] or run["expected_start_time"])
        if now - since < _LATE or run["state_name"] not in ("Scheduled", "Late"):
            continue  # one that waits for its turn has been taken up
        about = _flow(deployment)
        said = f"the run of {about} that was due at {since:%Y-%m-%d %H:%M} UTC has not begun: no worker takes it"
        level = Level.CRITICAL if now - since > 2 * _LATE else Level.WARNING
        found[about] = Finding("late", about, level, said)  # the oldest is the last
    return list(found.values())


def _runs(
    client: SyncPrefectClient, deployments: list[dict[str, Any]], which: dict[str, Any]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Runs of these deployments with the deployment of each, the newest first."""
    known = {each["id"]: each for each in deployments}
    wanted = {
        "deployments": {"id": {"any_": list(known)}}, "flow_runs": which, "sort": "EXPECTED_START_TIME_DESC",
        "limit": 200,
    }  # fmt: skip
    found = client._client.post("/flow_runs/filter", json=wanted).json() if known else []
    return [(run, known[run["deployment_id"]]) for run in found]


def _flow(deployment: dict[str, Any]) -> str:
    """``daily-full``, from where its function stands."""
    return str(deployment["entrypoint"]).rpartition(":")[2].replace("_", "-")
