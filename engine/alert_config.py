"""To whom the watch tells what it found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, model_validator

from engine.store_config import Model

AlertLevel = Literal["warning", "critical"]


class AlertConfig(Model):
    """One way to a person: an address, and how bad a thing must be to be told there."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="What it is called in logs and in the UI.")
    kind: Literal["webhook", "slack", "teams", "pagerduty", "apprise"] = Field(
        "webhook",
        description="webhook: a JSON document with subject and text is posted. apprise: any address that the library "
        "Apprise knows, such as mailtos://user:password@host?to=...",
    )
    url: SecretStr = Field(default=SecretStr(""), description="The address; it holds a secret mostly.")
    integration_key: SecretStr = Field(default=SecretStr(""), description="PagerDuty: the integration key.")
    api_key: SecretStr = Field(default=SecretStr(""), description="PagerDuty: the API key.")
    levels: list[AlertLevel] = Field(
        default=["warning", "critical"],
        min_length=1,
        description="What is told there. That a thing is over is told where it was told that it began.",
    )

    @model_validator(mode="after")
    def _has_an_address(self) -> AlertConfig:
        needs = ("integration_key", "api_key") if self.kind == "pagerduty" else ("url",)
        lacking = [name for name in needs if not getattr(self, name).get_secret_value()]
        if lacking:
            raise ValueError(f"the alert {self.name!r} of kind {self.kind} lacks {' and '.join(lacking)}")
        url = self.url.get_secret_value()
        if self.kind in ("webhook", "slack", "teams") and not url.startswith(("http://", "https://")):
            raise ValueError(f"the url of the alert {self.name!r} is not of the form https://HOST/...")
        return self
