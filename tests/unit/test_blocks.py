"""Blocks and the engine's configuration say the same, and secrets are known as such."""

from __future__ import annotations

import re

import pytest
from prefect.blocks.core import Block
from pydantic import BaseModel

from blocks import (
    ALL,
    BucketEndpoint,
    ConfigFiles,
    DockerEngine,
    KeyRing,
    MySQLServer,
    N8nInstance,
    ObjectStore,
    PostgresServer,
    Vault,
)
from blocks.base import document_name
from deployments.apply_blocks import documents
from engine.config import (
    BucketsConfig,
    ConfigFilesConfig,
    KeyRingConfig,
    MySQLConfig,
    N8nConfig,
    ObjectStoreConfig,
    PostgresConfig,
    SiteConfig,
    VaultConfig,
    VolumesConfig,
)

PAIRS: list[tuple[type[Block], type[BaseModel]]] = [
    (KeyRing, KeyRingConfig),
    (ObjectStore, ObjectStoreConfig),
    (Vault, VaultConfig),
    (MySQLServer, MySQLConfig),
    (PostgresServer, PostgresConfig),
    (DockerEngine, VolumesConfig),
    (ConfigFiles, ConfigFilesConfig),
    (BucketEndpoint, BucketsConfig),
    (N8nInstance, N8nConfig),
]


@pytest.mark.parametrize(("block", "model"), PAIRS)
def test_a_block_has_the_fields_and_defaults_of_its_configuration(block: type[Block], model: type[BaseModel]) -> None:
    assert set(block.model_fields) == set(model.model_fields)
    for name, field in model.model_fields.items():
        if block.model_fields[name].annotation == field.annotation:
            assert block.model_fields[name].get_default(call_default_factory=True) == field.get_default(
                call_default_factory=True
            ), name


def test_the_slugs_are_fixed() -> None:
    assert [kind.get_block_type_slug() for kind in ALL] == [
        "key-ring", "object-store", "vault", "mysql-server", "postgres-server", "docker-engine", "config-files",
        "container-images", "bucket-endpoint", "n8n-instance", "site",
    ]  # fmt: skip


def test_every_secret_is_declared_as_one() -> None:
    declared = {kind.get_block_type_slug(): kind.model_json_schema()["secret_fields"] for kind in ALL}
    assert declared == {
        "key-ring": ["keys.*"],
        "object-store": ["access_key", "secret_key"],
        "vault": ["keys.keys.*"],
        "mysql-server": ["password"],
        "postgres-server": ["password"],
        "docker-engine": [],
        "config-files": [],
        "container-images": [],
        "bucket-endpoint": ["access_key", "secret_key", "scratch_access_key", "scratch_secret_key"],
        "n8n-instance": ["api_key", "encryption_key"],
        "site": ["ping", "site_file"],
    }


def test_a_document_of_another_release_still_loads() -> None:
    assert MySQLServer.model_validate({"name": "crm", "field_of_tomorrow": 1}).to_config() == MySQLConfig(name="crm")


def test_a_site_becomes_documents_whose_names_prefect_accepts() -> None:
    site = SiteConfig.model_validate({
        "site": "s", "vault": {"root": "/v", "replicas": [{"name": "Off_site", "bucket": "b"}]},
        "mysql": [{"name": "CRM db"}], "postgres": {}, "config": {"paths": ["/etc/nginx"]},
        "volumes": {"volumes": ["data"]}, "buckets": {"buckets": ["uploads"]}, "n8n": {},
    })  # fmt: skip
    names = [name for name, _ in documents(site)]
    sources = ["s-crm-db", "s-postgres", "s-volumes", "s-config", "s-buckets", "s-n8n"]
    assert names == ["s", "s-off-site", "s", *sources, "s"]
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)
    assert document_name("a", "B.c_d") == "a-b-c-d"
