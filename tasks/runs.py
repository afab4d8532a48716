"""What the Prefect server knows of a site's runs: which failed or crashed, which hang, which do not begin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.logging import get_run_logger

from engine import names
from engine.durations import in_words
from engine.watch.findings import Finding, Level, Setback

_TAGS = frozenset({"backup", "logs", "retention", "drill", "proof", "report", "keys"})
"""A person who restores by hand sees how it went; nobody sits by the others."""
_BACK = timedelta(days=40)
_HANGS = timedelta(minutes=10)
"""Of a run that is under way something is heard every 30 seconds."""
_LATE = timedelta(minutes=15)
_OVERLAP = timedelta(minutes=10)
"""So far before the look before this one runs are asked for again: the server hears of an end later than it was."""
_PAGE, _PAGES = 200, 5
_BAD = ("FAILED", "CRASHED")


def stand(site: str, *, since: datetime | None = None, now: datetime | None = None) -> list[Finding] | None:
    """How the site's runs stand. None, and a line in the log, where the server cannot be asked.

    ``run``, one for each deployment that has run: critical while the newest run that ended did so badly; with every run
    that did so since the look before (``since``, UTC), as another may have done well meanwhile. ``zombie``: a
    run that shows as under way, and nothing is heard of it; the automation that marks those Crashed did not, or there
    is none. ``late``: a run that is due and that no worker takes.
    """
    try:
        with get_client(sync_client=True) as client:
            every = _deployments(client, site)
            mine = [each for each in every if _TAGS & set(each.get("tags") or [])]
            at = now or names.now()
            ended = _ended_since(client, mine, (since or at) - _OVERLAP)
            last = [found for each in mine if (found := _last(client, each, ended[each["id"]])) is not None]
            return [*last, *_hanging(client, every, at), *_late(client, mine, at)]
    except Exception as error:  # the watch goes on without; whatever it is, its kind says enough
        get_run_logger().warning("the server was not asked for the site's runs (%s)", type(error).__name__)
        return None


def _deployments(client: SyncPrefectClient, site: str) -> list[dict[str, Any]]:
    return list(client._client.post("/deployments/filter", json={"deployments": {"name": {"any_": [site]}}}).json())


@dataclass
class _Ended:
    """How runs of a deployment ended lately. ``well``: when."""

    badly: list[Setback] = field(default_factory=list)
    well: list[datetime] = field(default_factory=list)

    def again(self, newest: datetime) -> datetime:
        """When one did well after the last setback."""
        last = max((each.at for each in self.badly), default=newest)
        return min((each for each in self.well if each >= last), default=newest)


def _ended_since(client: SyncPrefectClient, mine: list[dict[str, Any]], since: datetime) -> dict[str, _Ended]:
    """By deployment. A run that a person started again counts as many times as it ended badly."""
    found = {each["id"]: _Ended() for each in mine}
    for run in _newest(client, list(found), ["COMPLETED"], since):
        its = found[run["deployment_id"]]
        its.well.append(names.noted_moment(run["end_time"]))
        states = _states(client, run["id"]) if run["run_count"] > 1 else []
        its.badly += [_setback(run, each) for each in states if each["type"] in _BAD]
    for run in _newest(client, list(found), list(_BAD), since):
        found[run["deployment_id"]].badly.append(_setback(run, run["state"]))
    for its in found.values():
        its.badly.sort(key=lambda each: each.at)
    return found


def _newest(client: SyncPrefectClient, ids: list[str], types: list[str], since: datetime) -> Iterator[dict[str, Any]]:
    """Runs that ended so since then, the newest first; no more than a watch that was down for days has to know."""
    wanted: dict[str, Any] = {
        "deployments": {"id": {"any_": ids}},
        "flow_runs": {"state": {"type": {"any_": types}}, "end_time": {"after_": names.iso(since)}},
        "sort": "END_TIME_DESC",
        "limit": _PAGE,
    }
    for page in range(_PAGES if ids else 0):
        runs = client._client.post("/flow_runs/filter", json={**wanted, "offset": page * _PAGE}).json()
        yield from runs
        if len(runs) < _PAGE:
            return


def _states(client: SyncPrefectClient, run: str) -> list[dict[str, Any]]:
    return list(client._client.get("/flow_run_states/", params={"flow_run_id": run}).json())


def _setback(run: dict[str, Any], state: dict[str, Any]) -> Setback:
    return Setback(str(state["id"]), names.noted_moment(state["timestamp"]), f"{run['name']} {_badly(state)}")


def _badly(state: dict[str, Any]) -> str:
    """``failed: the disk is full``."""
    reason = str(state.get("message") or "").strip().splitlines()
    how = "failed" if state["type"] == "FAILED" else "crashed"
    return how + (f": {reason[0].rstrip('.')}" if reason else "")


def _last(client: SyncPrefectClient, deployment: dict[str, Any], ended: _Ended) -> Finding | None:
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
    setbacks = tuple(ended.badly)
    if run["state_type"] == "COMPLETED":
        again, said = ended.again(names.noted_moment(run["end_time"])), f"the last run of {about} did what it should"
        return Finding("run", about, Level.OK, said, setbacks=setbacks, again=again)
    said = f"the last run of {about} ({run['name']}) {_badly(run['state'])}"
    return Finding("run", about, Level.CRITICAL, said, setbacks=setbacks)


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
