"""Automations, made by name: Prefect itself would make a second one each time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events import Event, Resource
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from blocks import Site
from deployments.report import ApplyReport
from engine.config import SiteConfig
from engine.watch import words
from engine.watch.remember import SILENT
from tasks.watch import LOOKED

CRASHED = "backups: a run that went silent is marked crashed"
SILENT_SECONDS = 95
EXPECTED = "backup-flows.watch.expected"
"""Sent by each ``apply``: from then on looks must come, also when there never was one."""


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


def _silence(client: SyncPrefectClient, site: SiteConfig) -> list[AutomationCore]:
    """One for each address that hears of what is critical: the watch did not look for 45 minutes.

    The worker or the scheduler is dead then, so the server itself has to tell; it does so once for each silence. That
    the server is dead, too, only an address outside can tell: ``watch.ping``.
    """
    index = Site.load(site.site, validate=False)
    found = []
    for each in index.alerts:
        if "critical" not in each.get("levels", []):
            continue
        slug, _, name = str(each["block"]).partition("/")
        block = client.read_block_document_by_name(name, slug, include_secrets=False)
        resource = f"backup-flows.{site.site}.watch"
        subject, body = words.silent(site.site, SILENT.total_seconds() / 60, site.watch.runbooks)
        found.append(
            AutomationCore(
                name=f"{PREFIX.format(site.site)}{name}",
                description="The watch did not look for 45 minutes: no worker is at work, or its runs fail.",
                trigger=EventTrigger(
                    after={LOOKED, EXPECTED}, expect={LOOKED}, match={"prefect.resource.id": resource},
                    posture=Posture.Proactive, threshold=1, within=SILENT,
                ),
                actions=[
                    SendNotification(
                        block_document_id=block.id,
                        subject=subject,
                        body=body,
                    )
                ],
            )
        )  # fmt: skip
    return found


PREFIX = "backups: {}: nobody watches, told to "


def apply(client: SyncPrefectClient, site: SiteConfig, report: ApplyReport) -> None:
    """Make each automation, or bring it up to date; those of alerts that the site has no more go."""
    mine = _silence(client, site)
    for each in client.read_automations():
        if each.name.startswith(PREFIX.format(site.site)) and each.name not in {one.name for one in mine}:
            client.delete_automation(each.id)
            report.echo(f"- automation {each.name!r}: gone, as its alert is")
    for automation in [*wanted(), *mine]:
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
    _expect(client, site)


def _expect(client: SyncPrefectClient, site: SiteConfig) -> None:
    resource = {"prefect.resource.id": f"backup-flows.{site.site}.watch", "prefect.resource.name": site.site}
    event = Event(event=EXPECTED, resource=Resource.model_validate(resource))
    client._client.post("/events", json=[event.model_dump(mode="json")])


def _comparable(automation: AutomationCore | Automation) -> Any:
    shown = automation.model_dump(mode="json", include={"name", "description", "trigger", "actions"})
    trigger = shown["trigger"]
    for name in ("after", "expect", "for_each"):
        trigger[name] = sorted(trigger[name])
    trigger.pop("id", None)
    return shown
