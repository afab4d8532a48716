"""The settings of a scratch S3 server and of a scratch bucket, without either."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from engine.buckets.endpoint import Endpoint
from engine.buckets.removing import remove_below
from engine.config import BucketsConfig
from engine.errors import RestoreRefused
from engine.scratch.buckets import _with_keys, scratch_config

KEYS = {"access_key": "FAKE-access", "secret_key": "FAKE-secret"}


def config(**more: Any) -> BucketsConfig:
    return BucketsConfig.model_validate({"buckets": ["media"], "endpoint_url": "http://s3:9000", **KEYS, **more})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RCLONE_AUTH_KEY": '"FAKE-access,FAKE-secret"'}, {"RCLONE_AUTH_KEY": '"new,hidden"'}),
        ({"ROOT": "FAKE-access", "PASS": "FAKE-secret"}, {"ROOT": "new", "PASS": "hidden"}),
        (
            {"MINIO_ROOT_USER": "admin", "MINIO_ROOT_PASSWORD_FILE": "/run/secrets/x", "MINIO_REGION": "eu"},
            {"MINIO_ROOT_USER": "new", "MINIO_ROOT_PASSWORD": "hidden", "MINIO_REGION": "eu"},
        ),
        ({"PATH": "/bin", "NOTE": "not FAKE-access alone"}, None),
    ],
)
def test_a_scratch_server_gets_keys_of_its_own_wherever_its_environment_has_some(
    environment: dict[str, str], expected: dict[str, str] | None
) -> None:
    found, changed = _with_keys(environment, config(), "new", "hidden")
    assert (found, changed) == (expected or environment, expected is not None)


def test_a_source_without_keys_leaves_an_environment_with_empty_values_alone() -> None:
    bare = config(access_key=None, secret_key=None)
    assert _with_keys({"A": "", "B": "b"}, bare, "new", "hidden") == ({"A": "", "B": "b"}, False)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"scratch_prefix": "drills/"}, "without its bucket"),
        ({"scratch_bucket": "media"}, "is one of the buckets that are backed up"),
        ({"scratch_bucket": "x", "scratch_endpoint_url": "https://s3.example.org"}, "the source's are not sent there"),
        ({"scratch_bucket": "x", "scratch_endpoint_url": "s3.example.org"}, "scratch_endpoint_url"),
    ],
)
def test_a_scratch_place_that_could_do_harm_is_refused(settings: dict[str, str], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        config(**settings)


def test_the_source_s_endpoint_and_keys_are_used_where_no_others_are_named() -> None:
    assert scratch_config(config(scratch_bucket="x")) == config(scratch_bucket="x")
    other = {"scratch_endpoint_url": "https://s3.example.org", "scratch_region": "eu",
             "scratch_access_key": "FAKE-other", "scratch_secret_key": "FAKE-others"}  # fmt: skip
    found = scratch_config(config(scratch_bucket="media", **other))
    assert (found.endpoint_url, found.region) == ("https://s3.example.org", "eu")
    assert found.access_key and found.access_key.get_secret_value() == "FAKE-other"


@pytest.mark.parametrize("prefix", ["", "drills/", "somebody/else/"])
def test_nothing_is_ever_removed_below_a_prefix_that_no_drill_made(prefix: str) -> None:
    with pytest.raises(RestoreRefused, match="is no prefix of a drill"):
        remove_below(Endpoint.of(config(), "media"), prefix)
