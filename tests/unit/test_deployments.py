"""Which deployments a site gets."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.apply_deployments import definitions
from engine.config import SiteConfig

EVERYTHING: dict[str, Any] = {
    "volumes": {"volumes": ["uploads"]},
    "images": {},
    "config": {"paths": ["/etc/nginx"]},
    "buckets": {"buckets": ["uploads"]},
    "n8n": {"service": "n8n"},
}


def _restores(site: str, **sources: Any) -> set[str]:
    vault = {"root": "/var/backups", "keys": {"keys": {"main": "fake-key-of-a-test-0123456789"}}}
    config = SiteConfig.model_validate({"site": site, "vault": vault, "mysql": {"databases": ["shop"]}, **sources})
    flows = {each["entrypoint"].partition(":")[2] for each in definitions(config)}
    return {each for each in flows if each.startswith("restore_")}


@pytest.mark.parametrize("site", ["workset", "workbench", "another"])
def test_a_site_has_a_restore_for_each_kind_of_source_that_it_names_and_one_for_the_machine(site: str) -> None:
    files = {"restore_volume", "restore_bucket", "restore_config", "restore_n8n"}
    assert _restores(site) & files == set() and "restore_site" in _restores(site)
    assert files | {"restore_site", "restore_database"} <= _restores(site, **EVERYTHING)
