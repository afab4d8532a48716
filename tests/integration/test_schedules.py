"""A schedule is worth nothing until a run comes of it: the server plans runs, and a worker makes one of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.integration.installation import Installation, Site, until

SCHEDULED = True


def _runs(prefect: Installation, deployment: str) -> list[dict[str, Any]]:
    body = {"deployments": {"id": {"any_": [deployment]}}, "sort": "EXPECTED_START_TIME_ASC"}
    found: list[dict[str, Any]] = prefect.api.call("POST", "/flow_runs/filter", body)
    return found


def test_shipping_is_planned_every_five_minutes_and_a_planned_run_is_made(prefect: Installation, site: Site) -> None:
    deployment = prefect.api.call("GET", f"/deployments/name/binlog-ship/{site.name}")["id"]
    planned = until(lambda: _runs(prefect, deployment)[:3] or None, "runs to be planned", timeout=240)
    due = [datetime.fromisoformat(each["expected_start_time"]) for each in planned]
    assert {each.minute % 5 for each in due} == {0} and due[1] - due[0] == timedelta(minutes=5)
    soon = {"active": True, "schedule": {"interval": 60, "anchor_date": _in(timedelta(seconds=12))}}
    prefect.api.call("POST", f"/deployments/{deployment}/schedules", [soon])
    made = until(lambda: _completed(prefect, deployment), "a planned run to be made", timeout=270)
    assert made["auto_scheduled"]


def _in(time: timedelta) -> str:
    """A moment that has not come yet when the schedule is read."""
    return (datetime.now(UTC) + time).isoformat()


def _completed(prefect: Installation, deployment: str) -> dict[str, Any] | None:
    return next((each for each in _runs(prefect, deployment) if each["state_type"] == "COMPLETED"), None)
