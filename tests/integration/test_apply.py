"""``backups apply`` on a real server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.installation import KEY, Installation, Site, until

SCHEDULED = True


def _report(done: Any) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _everything(prefect: Installation) -> dict[str, Any]:
    """All that apply may touch, without timestamps of reading."""
    call = prefect.api.call
    return {
        "blocks": sorted(
            (b["block_type_name"], b["name"], b["id"], b["updated"])
            for b in call("POST", "/block_documents/filter", {})
        ),
        "deployments": sorted((d["name"], d["id"], d["updated"]) for d in call("POST", "/deployments/filter", {})),
        "automations": sorted((a["name"], a["id"], a["updated"]) for a in call("POST", "/automations/filter", {})),
        "pools": sorted((p["name"], p["id"], p["updated"]) for p in call("POST", "/work_pools/filter", {})),
    }


def test_applied_twice_nothing_changes(prefect: Installation, site: Site) -> None:
    before = _everything(prefect)
    done = prefect.apply(site)
    assert done.returncode == 0 and "Nothing to change" in done.stdout, done.stdout + done.stderr
    assert _everything(prefect) == before


def test_the_deployments_have_schedules_limits_tags_and_no_secrets(prefect: Installation, site: Site) -> None:
    hourly = prefect.api.call("GET", f"/deployments/name/hourly-db/{site.name}")
    daily = prefect.api.call("GET", f"/deployments/name/daily-full/{site.name}")
    manual = prefect.api.call("GET", f"/deployments/name/manual-backup/{site.name}")
    assert hourly["schedules"][0]["schedule"]["cron"] == "0 * * * *"
    assert daily["schedules"][0]["schedule"]["cron"] == "0 2 * * *"
    assert daily["schedules"][0]["schedule"]["timezone"] == "UTC"
    assert daily["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert manual["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert daily["global_concurrency_limit"]["limit"] == 1
    assert f"site:{site.name}" in daily["tags"]
    assert daily["parameters"] == {"site": site.name}
    for secret in (KEY, *site.env.values()):
        assert secret not in json.dumps([hourly, daily, manual])


@pytest.mark.sampled
def test_edits_in_the_ui_stay_without_force_and_secrets_are_only_named(prefect: Installation, site: Site) -> None:
    call = prefect.api.call
    document = call("GET", f"/block_types/slug/mysql-server/block_documents/name/{site.name}-mysql")
    call("PATCH", f"/block_documents/{document['id']}", {"data": {"uncounted": ["huge"]}})
    daily = call("GET", f"/deployments/name/daily-full/{site.name}")
    call("PATCH", f"/deployments/{daily['id']}/schedules/{daily['schedules'][0]['id']}", {"active": False})
    site.env["ITEST_MARIADB"], right = "FAKE-another-password", site.env["ITEST_MARIADB"]
    done = prefect.apply(site)
    assert "uncounted was edited in the UI and stays" in done.stdout
    assert "schedules was edited in the UI and stays" in done.stdout
    assert call("GET", f"/deployments/name/daily-full/{site.name}")["schedules"][0]["active"] is False
    assert "password changed (secret)" in done.stdout
    assert "FAKE-another-password" not in done.stdout + done.stderr and right not in done.stdout + done.stderr

    site.env["ITEST_MARIADB"] = right
    done = prefect.apply(site, "--force")
    assert "uncounted ['huge'] -> []" in done.stdout
    assert call("GET", f"/deployments/name/daily-full/{site.name}")["schedules"][0]["active"] is True
    report = _report(prefect.apply(site, "--json"))
    assert not report["created"] and not report["changed"], report
    text = json.dumps(report)
    assert f"site/{site.name}" in text and f"vault/{site.name}" in text


def test_secrets_are_obfuscated_in_the_api_and_encrypted_at_rest(prefect: Installation, site: Site) -> None:
    shown = json.dumps(prefect.api.call("POST", "/block_documents/filter", {"include_secrets": False}))
    database = b"".join(each.read_bytes() for each in (prefect.server.home / "prefect").glob("prefect.db*"))
    assert site.name.encode() in database, "the search itself must be able to find something"
    for secret in site.env.values():
        assert secret not in shown
        assert secret.encode() not in database


def test_without_the_password_the_server_answers_nothing(prefect: Installation) -> None:
    import httpx

    assert httpx.post(f"{prefect.server.url}/api/deployments/filter", json={}).status_code == 401


def _runs(prefect: Installation, deployment: str) -> list[dict[str, Any]]:
    body = {"deployments": {"id": {"any_": [deployment]}}, "sort": "EXPECTED_START_TIME_ASC"}
    found: list[dict[str, Any]] = prefect.api.call("POST", "/flow_runs/filter", body)
    return found


@pytest.mark.sampled
def test_shipping_is_planned_every_five_minutes_and_a_planned_run_is_made(prefect: Installation, site: Site) -> None:
    """A schedule is worth nothing until a run comes of it."""
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
