"""Addresses: no password is shown, and what is none is refused when the site file is read."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from deployments import recovery
from engine.addresses import bare
from engine.config import HealthCheck, N8nConfig, SiteConfig
from engine.errors import ConfigError
from engine.n8n.instance import Instance

SECRET = "FAKE-password-in-an-address"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"http://admin:{SECRET}@127.0.0.1:9/x", "http://127.0.0.1:9/x"),
        (f"https://n8n.example/rest?token={SECRET}", "https://n8n.example/rest"),
        (f"https://a:{SECRET}%40b@n8n.example", "https://n8n.example"),
        (f"admin:{SECRET}@host", "host"),
        ("http://127.0.0.1:5678", "http://127.0.0.1:5678"),
    ],
)
def test_an_address_is_shown_without_what_is_secret_in_it(url: str, shown: str) -> None:
    assert bare(url) == shown
    if url.startswith("http"):
        assert HealthCheck.model_validate({"url": url}).shown == shown
        assert Instance(N8nConfig.model_validate({"url": url}), "shop").where() == shown


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"buckets": {"endpoint_url": f"{SECRET}@127.0.0.1:9000"}}, "endpoint_url is not of the form"),
        ({"n8n": {"url": "127.0.0.1:5678"}}, "url is not of the form"),
        ({"n8n": {"api_key": f"{SECRET}\n"}}, "api_key holds a line end"),
        ({"n8n": {"api_key": f"{SECRET}é"}}, "api_key holds a line end or a letter"),
        ({"replicas": [{"name": "a", "bucket": "b", "endpoint_url": "127.0.0.1:9000"}]}, "endpoint_url is not"),
        ({"replicas": [{"name": "a", "bucket": "s3://b"}]}, "the bucket's name alone"),
    ],
)
def test_what_is_no_address_is_refused_by_the_name_of_its_setting(wrong: dict[str, Any], told: str) -> None:
    site = {"site": "shop", "vault": {"root": "/x", "replicas": wrong.pop("replicas", [])}, **wrong}
    with pytest.raises(ValidationError) as refused:
        SiteConfig.model_validate(site)
    assert told in str(refused.value) and SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "given", [{"bucket": "s3://kept"}, {"bucket": "kept", "endpoint": "ams3.digitaloceanspaces.com"}]
)
def test_on_the_day_a_wrong_place_of_the_bucket_is_told_by_the_names_to_correct(given: dict[str, str]) -> None:
    env = {"BACKUPS_ACCESS_KEY": "FAKE", "BACKUPS_SECRET_KEY": SECRET, "BACKUP_ENCRYPTION_KEY": SECRET}
    with pytest.raises(ConfigError, match="The bucket's place is not right") as refused:
        recovery.Bucket.of(env, **given)
    assert "BACKUPS_ENDPOINT" in refused.value.remedy and SECRET not in str(refused.value)
