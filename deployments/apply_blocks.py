"""Saves a site's blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient
from pydantic import Secret, SecretStr

from blocks import (
    BucketEndpoint,
    ConfigFiles,
    ContainerImages,
    DockerEngine,
    KeyRing,
    MySQLServer,
    N8nInstance,
    ObjectStore,
    PostgresServer,
    Site,
    Vault,
)
from blocks.alerts import block_of
from blocks.base import document_name, plain
from deployments.merge import merge
from deployments.report import ApplyReport
from engine.config import (
    BucketsConfig,
    ConfigFilesConfig,
    ImagesConfig,
    MySQLConfig,
    N8nConfig,
    PostgresConfig,
    SiteConfig,
    VolumesConfig,
)

if TYPE_CHECKING:
    from deployments.apply import Memory


_BLOCKS: dict[type, type[Block]] = {
    MySQLConfig: MySQLServer,
    PostgresConfig: PostgresServer,
    VolumesConfig: DockerEngine,
    ConfigFilesConfig: ConfigFiles,
    BucketsConfig: BucketEndpoint,
    N8nConfig: N8nInstance,
    ImagesConfig: ContainerImages,
}


def documents(site: SiteConfig, text: str = "") -> list[tuple[str, Block]]:
    """A site's blocks by document name, in the order in which they can be saved.

    Args:
        text: The site file as it was written.
    """
    vault = site.vault
    ring = KeyRing(
        current=vault.keys.current, keys={name: key.get_secret_value() for name, key in vault.keys.keys.items()}
    )
    found: list[tuple[str, Block]] = [(site.site, ring)]
    stores = []
    for replica in vault.replicas:
        name = document_name(site.site, replica.name)
        stores.append(f"object-store/{name}")
        found.append((name, ObjectStore(**_fields(replica))))
    values = _fields(vault)
    found.append((site.site, Vault(**{**values, "keys": ring, "replicas": stores})))
    sources = []
    for source in site.sources():
        kind = _BLOCKS[type(source)]
        name = document_name(site.site, source.name)
        sources.append(f"{kind.get_block_type_slug()}/{name}")
        found.append((name, kind(**_fields(source))))
    alerts = []
    for alert in site.alerts:
        block, name = block_of(alert), document_name(site.site, f"alert-{alert.name}")
        alerts.append({"block": f"{block.get_block_type_slug()}/{name}", "levels": alert.levels})
        found.append((name, block))
    drill = site.drill.model_dump(exclude_defaults=True)
    watch = site.watch.model_dump(exclude_defaults=True, exclude={"ping"})
    report = site.report.model_dump(exclude_defaults=True)
    health = [each.model_dump(exclude_defaults=True) for each in site.health]
    index = Site(
        vault=f"vault/{site.site}", sources=sources, drill=drill, watch=watch, ping=site.watch.ping, health=health,
        report=report, alerts=alerts, site_file=SecretStr(text),
    )  # fmt: skip
    found.append((site.site, index))
    return found


def apply(
    client: SyncPrefectClient, site: SiteConfig, memory: Memory, report: ApplyReport, force: bool, text: str = ""
) -> None:
    """Save every block of the site that is new or whose file changed."""
    ring: Block | None = None
    for name, block in documents(site, text):
        if isinstance(block, Vault):
            assert ring is not None
            block.keys = ring  # type: ignore[assignment]
        saved = _apply_one(name, block, memory, report, force)
        if isinstance(block, KeyRing):
            ring = saved


def _apply_one(name: str, block: Block, memory: Memory, report: ApplyReport, force: bool) -> Block:
    kind = type(block)
    thing = f"{kind.get_block_type_slug()}/{name}"
    wanted = _comparable(block)
    try:
        saved: Block | None = kind.load(name, validate=False)
    except ValueError:
        saved = None
    if saved is None:
        block.save(name, overwrite=True)
        memory.remember(thing, merge(wanted, wanted, {}, memory.salt).applied)
        report.made(thing)
        return kind.load(name)
    result = merge(wanted, _comparable(saved), memory.of(thing), memory.salt, force=force)
    report.merged(thing, result, secret=_secret_fields(kind))
    memory.remember(thing, result.applied)
    if result.changed:
        for field_name in result.changed:
            setattr(saved, field_name, getattr(block, field_name))
        saved.save(name, overwrite=True)
    return saved


def _fields(model: Any) -> dict[str, Any]:
    return {name: getattr(model, name) for name in type(model).model_fields}


def _comparable(block: Block) -> dict[str, Any]:
    """Field values as JSON can hold them, secrets bare: only ever kept as digests."""
    return {name: _bare(value) for name, value in plain(block).items()}


def _bare(value: Any) -> Any:
    if isinstance(value, Block):
        return f"{type(value).get_block_type_slug()}/{value._block_document_name}"
    if isinstance(value, SecretStr | Secret):
        return value.get_secret_value()
    return value


def _secret_fields(kind: type[Block]) -> set[str]:
    return {name.split(".")[0] for name in kind.model_json_schema()["secret_fields"]}
