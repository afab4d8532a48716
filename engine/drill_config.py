"""What restore drills hold a site against."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from engine.durations import seconds_of
from engine.queries import refusal
from engine.store_config import Model


class DrillQuery(Model):
    """A question to a restored database, and what its answer must be: the first column of the one row it gives."""

    name: str = Field("", description="What it is called in reports; empty: the query itself.")
    query: str = Field(description="One statement that only reads: SELECT, WITH, SHOW, TABLE or VALUES.")
    database: str = Field("", description="Asked in this database; empty: the only one of its source.")
    at_least: float | None = Field(None, description="The answer is a number, and not smaller.")
    at_most: float | None = Field(None, description="The answer is a number, and not larger.")
    equals: str | None = Field(None, description="The answer is exactly this, as text.")
    timeout_seconds: float = Field(300, gt=0, description="One that takes longer is stopped, and not answered.")

    @field_validator("query")
    @classmethod
    def _only_reads(cls, query: str) -> str:
        reason = refusal(query)
        if reason:
            raise ValueError(f"the drill query {reason}")
        return query

    @model_validator(mode="after")
    def _expects_something(self) -> DrillQuery:
        if self.at_least is None and self.at_most is None and self.equals is None:
            raise ValueError("the drill query expects nothing; say what: at_least, at_most (numbers) or equals")
        return self


class DrillTargets(Model):
    """What one source is held against."""

    rto: str = Field("", description="It must be back within this time (1h); longer fails the drill.")
    rpo: str = Field("", description="No more than this (15m) may be lost of it; more fails the drill.")

    @field_validator("rto", "rpo")
    @classmethod
    def _are_spans(cls, text: str, info: ValidationInfo) -> str:
        return _span(text, f"drill.targets: {info.field_name}")


class DrillConfig(Model):
    """What restore drills hold a site against."""

    rto: str = Field("", description="The whole site must be back within this time (1h); longer fails the drill.")
    rpo: str = Field("", description="No more than this (15m) may be lost of a database; more fails the drill.")
    targets: dict[str, DrillTargets] = Field(
        default_factory=dict, description="Targets of single sources, by name; their rpo goes before the site's."
    )
    sample: int = Field(5, ge=1, description="Tables of each database whose rows are compared one by one.")
    queries: dict[str, list[DrillQuery]] = Field(
        default_factory=dict, description="Questions to the restored databases, by the name of their source."
    )
    also: list[Literal["oldest", "cold"]] = Field(
        default_factory=list, description="Older backups that the monthly drill tries as well, in turn."
    )
    not_restored: list[str] = Field(
        default_factory=list,
        description="Sources of buckets and n8n that drills only read, as there is nowhere to restore them to.",
    )

    @field_validator("rto", "rpo")
    @classmethod
    def _are_spans(cls, text: str, info: ValidationInfo) -> str:
        return _span(text, f"drill.{info.field_name}")


def _span(text: str, what: str) -> str:
    try:
        if text:
            seconds_of(text)
    except ValueError as error:
        raise ValueError(f"{what} {error}") from None
    return text
