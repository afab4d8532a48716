"""Automations, made by name: Prefect itself would make a second one each time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from deployments.report import ApplyReport

CRASHED = "backups: a run that went silent is marked crashed"
SILENT_SECONDS = 95


def wanted() -> list[AutomationCore]:
    """Every automation that the sites share.

    A worker or machine that dies leaves its run Running for ever. Runs send a heartbeat every 30
    seconds; when neither another one nor an end follows within 95 seconds, the run is Crashed.
    """
    return [
        AutomationCore(
            name=CRASHED,
            description="A run sends a heartbeat every 30 seconds; after three missed ones its machine is gone.",
            trigger=EventTrigger(
                after={"prefect.flow-run.heartbeat"},
                expect={"prefect.flow-run.*"},
                match={"prefect.resource.id": "prefect.flow-run.*"},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=SILENT_SECONDS),
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED,
                    message=f"No sign of life for {SILENT_SECONDS} seconds: the process or its machine went away. "
                    "What it had not finished does not count as a backup; the next run clears it up.",
                )
            ],
        )
    ]


def apply(client: SyncPrefectClient, report: ApplyReport) -> None:
    """Make each automation, or bring it up to date."""
    for automation in wanted():
        thing = f"automation {automation.name!r}"
        found = client.read_automations_by_name(automation.name)
        if not found:
            client.create_automation(automation)
            report.made(thing)
        elif _comparable(found[0]) != _comparable(automation):
            client.update_automation(found[0].id, automation)
            report.changed.append(thing)
            report.echo(f"~ {thing}: updated")
        else:
            report.same(thing)
        for double in found[1:]:
            client.delete_automation(double.id)


def _comparable(automation: AutomationCore | Automation) -> Any:
    shown = automation.model_dump(mode="json", include={"name", "description", "trigger", "actions"})
    trigger = shown["trigger"]
    for name in ("after", "expect", "for_each"):
        trigger[name] = sorted(trigger[name])
    trigger.pop("id", None)
    return shown
