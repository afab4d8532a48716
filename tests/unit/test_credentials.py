"""What a stolen key could do, told from the rights that were tried; replicas and rules that are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from engine.config import SiteConfig
from engine.credentials import BYPASS, DELETE, DELETE_VERSION, LIFECYCLE, OVERWRITE, POLICY, VERSIONING, Right, Rights
from engine.errors import ConfigError
from engine.pins import parse_keep
from engine.retention.policy import parse

DESTROYS = "can destroy everything"
HIDES = "can hide what is there"


def verdict(*no: str, over: dict[str, Any] | None = None, **facts: bool) -> str:
    """Of a key that may do all but these; ``over``: rights over the bucket, as far as they were asked."""
    rights = [Right(what, "no" if what in no else "yes") for what in (OVERWRITE, DELETE, DELETE_VERSION, BYPASS)]
    return Rights("copy", [*rights, *(Right(what, answer) for what, answer in (over or {}).items())], **facts).verdict()


SAFE = dict.fromkeys((LIFECYCLE, POLICY, VERSIONING), "no")


@pytest.mark.parametrize("right", [LIFECYCLE, POLICY, VERSIONING])
def test_old_versions_stay_only_where_the_key_may_change_nothing_of_the_bucket(right: str) -> None:
    assert HIDES in verdict(DELETE_VERSION, over=SAFE, versioned=True)
    assert "Unless" not in verdict(DELETE_VERSION, over=SAFE, versioned=True)
    told = verdict(DELETE_VERSION, over={**SAFE, right: "yes"}, versioned=True)
    assert DESTROYS in told and right in told
    assert DESTROYS in verdict(DELETE, OVERWRITE, DELETE_VERSION, over={**SAFE, right: "yes"}, versioned=True)
    unknown = verdict(DELETE_VERSION, over={**SAFE, right: "unknown"}, versioned=True)
    assert HIDES in unknown and f"Unless it may {right}, which is not known" in unknown
    assert "ask with --settings" in verdict(DELETE_VERSION, versioned=True)


def test_a_lock_saves_unless_it_can_be_lifted_or_the_policy_that_forbids_it_changed() -> None:
    assert "before its lock ends" in verdict(BYPASS, over=SAFE, versioned=True, locked=True)
    assert DESTROYS in verdict(over=SAFE, versioned=True, locked=True)
    assert DESTROYS in verdict(BYPASS, over={**SAFE, POLICY: "yes"}, versioned=True, locked=True)
    everything = dict.fromkeys(SAFE, "yes")
    assert "before its lock ends" in verdict(over=everything, versioned=True, locked=True, compliance=True)


@pytest.mark.parametrize("text", ["9999y", "999999y", "101y", "40000d"])
def test_a_rule_beyond_a_century_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="at most 100 years"):
        parse(text)
    with pytest.raises(ConfigError, match="at most 100 years"):
        parse_keep(text, "manual")
    assert parse("100y").age is not None


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ({"bucket": "b"}, {"bucket": "b"}, True),
        ({"bucket": "b", "path": "x/{tier}"}, {"bucket": "b"}, False),
        ({"bucket": "b", "endpoint_url": "http://127.0.0.1:1"}, {"bucket": "b"}, False),
        ({"directory": "/mnt/a"}, {"directory": "/mnt/a"}, True),
        ({"directory": "/mnt/a"}, {"directory": "/mnt/b"}, False),
    ],
)
def test_two_replicas_in_one_place_are_refused(one: dict[str, str], two: dict[str, str], same: bool) -> None:
    vault = {"root": "/x", "replicas": [{"name": "a", **one}, {"name": "b", **two}]}
    site = {"site": "shop", "vault": vault, "mysql": {"databases": ["app"]}}
    if not same:
        assert SiteConfig.model_validate(site)
        return
    with pytest.raises(ValidationError, match="replicas a and b are one place"):
        SiteConfig.model_validate(site)
