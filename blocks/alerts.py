"""Where alerts go, as Prefect's own notification blocks, so that the UI and other automations can use them too."""

from __future__ import annotations

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.blocks.notifications import (
    CustomWebhookNotificationBlock,
    MicrosoftTeamsWebhook,
    PagerDutyWebHook,
    SlackWebhook,
)
from prefect.types import SecretDict
from pydantic import SecretStr

from engine.alert_config import AlertConfig
from engine.errors import UnknownName

KINDS: dict[str, type[Block]] = {
    "webhook": CustomWebhookNotificationBlock,
    "slack": SlackWebhook,
    "teams": MicrosoftTeamsWebhook,
    "pagerduty": PagerDutyWebHook,
    "apprise": SlackWebhook,  # hands every address that is none of Slack's to Apprise as it is
}


def block_of(alert: AlertConfig) -> Block:
    """The notification block of an alert, not saved yet."""
    match alert.kind:
        case "webhook":
            url = {"url": alert.url.get_secret_value()}
            body = {"subject": "{{subject}}", "text": "{{body}}"}
            return CustomWebhookNotificationBlock(
                name=alert.name, url="{{url}}", json_data=body, secrets=SecretDict(url)
            )
        case "pagerduty":
            return PagerDutyWebHook(integration_key=alert.integration_key, api_key=alert.api_key)
        case "teams":
            return MicrosoftTeamsWebhook(url=SecretStr(alert.url.get_secret_value()))
        case _:
            return SlackWebhook(url=SecretStr(alert.url.get_secret_value()))


def load_alert(reference: str) -> NotificationBlock:
    """A notification block by ``slug/name``, read at this moment. Raises UnknownName."""
    try:
        found = Block.load(reference)
    except ValueError:
        found = None
    if not isinstance(found, NotificationBlock):
        raise UnknownName(
            f"There is no notification block {reference!r}.", remedy="set it up with: backups apply SITE.yaml"
        )
    return found
