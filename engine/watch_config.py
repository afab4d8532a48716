"""What the watch holds a site against."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from engine import names
from engine.durations import seconds_of
from engine.store_config import Model

EVERY = "*"


class WatchConfig(Model):
    """Limits. Beyond one is a warning, beyond twice as much it is critical."""

    age: dict[str, str] = Field(
        default_factory=lambda: {EVERY: "26h"},
        description="How old the newest good backup may be: by source, source/database, or * for all others. "
        "With @TIER behind (postgres@daily) how old the newest good one of that tier may be, besides.",
    )
    logs: str = Field("75m", description="How far back the newest moment may lie that logs can restore.")
    copies: str = Field("2h", description="How long a replica may lack a backup.")
    verified: str = Field("3d", description="How long ago the last verification of each place of the vault may be.")
    drill: str = Field("35d", description="How long ago the last proof by a restore drill may be.")
    releases: str = Field("7d", description="How long a snapshot before a deployment may wait to be released.")
    disk: int = Field(80, ge=1, le=99, description="Percent of the local root's disk in use; 95 is critical.")
    full_in: str = Field("7d", description="When the disk will be full sooner than this, by its trend, is a warning.")
    ping: SecretStr = Field(
        default=SecretStr(""),
        description="An address outside that is asked after every watch that somebody could be told of: when that "
        "stays out, it tells somebody (a dead man's switch).",
    )
    metrics: str = Field(
        "", description="A file on the worker's machine that each look writes for Prometheus; empty: none."
    )
    runbooks: str = Field(
        "docs/watch.md#", description="Where the runbooks are; the name of a finding's condition is put behind."
    )

    @field_validator("age")
    @classmethod
    def _ages_are_spans(cls, ages: dict[str, str]) -> dict[str, str]:
        for name, text in ages.items():
            try:
                seconds_of(text)
            except ValueError as error:
                raise ValueError(f"watch.age.{name} {error}") from None
            tier = name.partition("@")[2]
            if "@" in name and (tier not in names.TIERS or tier in names.NEVER_LATEST):
                known = ", ".join(each for each in names.TIERS if each not in names.NEVER_LATEST)
                raise ValueError(f"watch.age.{name} names no tier of backups behind its @; there are: {known}")
        return {EVERY: "26h", **ages}

    @field_validator("logs", "copies", "verified", "drill", "releases", "full_in")
    @classmethod
    def _are_spans(cls, text: str, info: ValidationInfo) -> str:
        try:
            seconds_of(text)
        except ValueError as error:
            raise ValueError(f"watch.{info.field_name} {error}") from None
        return text

    @field_validator("metrics")
    @classmethod
    def _is_absolute(cls, path: str) -> str:
        if path and (not path.startswith("/") or path.endswith("/")):
            raise ValueError("watch.metrics is no absolute path of a file, such as /var/lib/node_exporter/backups.prom")
        return path

    @field_validator("ping")
    @classmethod
    def _is_http(cls, value: SecretStr) -> SecretStr:
        address = value.get_secret_value()
        if address and not address.startswith(("http://", "https://")):
            raise ValueError("watch.ping is no address of the form https://HOST/...")
        return value

    def age_of(self, source: str, database: str) -> float:
        """How old the newest good backup of a database may be, in seconds."""
        for name in (f"{source}/{database}", source, EVERY):
            if name in self.age:
                return seconds_of(self.age[name])
        raise AssertionError("there is one for all")

    @property
    def idle(self) -> timedelta:
        """So often a log is closed while a transaction is open and nothing else happens, that it stays within ``logs``:
        the next run of shipping and the next look have a quarter of an hour, or half of a shorter limit."""
        limit = seconds_of(self.logs)
        return timedelta(seconds=min(3600.0, max(limit - 900, limit / 2)))

    def ages_of_tiers(self, source: str, database: str) -> dict[str, float]:
        """By tier, how old the newest good backup of that tier may be, in seconds; the tiers that are named only."""
        found: dict[str, float] = {}
        for name in (EVERY, source, f"{source}/{database}"):  # the most exact last
            for key, text in self.age.items():
                whose, _, tier = key.partition("@")
                if tier and whose == name:
                    found[tier] = seconds_of(text)
        return found
