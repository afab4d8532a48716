"""Prefect blocks: the configuration of a site, as documents that are edited in the UI.

A block describes and ``to_config`` gives the plain model the engine works with. Field names, titles and
defaults are inherited from ``engine.config``, so a site file and a block can never drift apart.
Slugs are fixed for good: documents and site files refer to them.
"""

from blocks.bucket_endpoint import BucketEndpoint
from blocks.config_files import ConfigFiles
from blocks.container_images import ContainerImages
from blocks.docker_engine import DockerEngine
from blocks.key_ring import KeyRing
from blocks.mysql_server import MySQLServer
from blocks.n8n_instance import N8nInstance
from blocks.object_store import ObjectStore
from blocks.postgres_server import PostgresServer
from blocks.site import Site, load_alerts, load_site, load_text, set_current_key
from blocks.vault import Vault

ALL = (
    KeyRing, ObjectStore, Vault, MySQLServer, PostgresServer, DockerEngine, ConfigFiles, ContainerImages,
    BucketEndpoint, N8nInstance, Site,
)  # fmt: skip
"""Every block type, in the order in which they can be registered and saved."""

__all__ = [
    "ALL",
    "BucketEndpoint",
    "ConfigFiles",
    "ContainerImages",
    "DockerEngine",
    "KeyRing",
    "MySQLServer",
    "N8nInstance",
    "ObjectStore",
    "PostgresServer",
    "Site",
    "Vault",
    "load_alerts",
    "load_site",
    "load_text",
    "set_current_key",
]
