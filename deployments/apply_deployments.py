"""Makes the deployments of a site from the definitions in ``prefect.yaml``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema

from deployments.merge import merge
from deployments.report import ApplyReport
from deployments.server import ROOT
from engine.config import SiteConfig
from engine.errors import ConfigError

if TYPE_CHECKING:
    from deployments.apply import Memory

_OF_FILES = (
    "flows/restore_config.py:restore_config",
    "flows/restore_volume.py:restore_volume",
    "flows/restore_bucket.py:restore_bucket",
    "flows/restore_n8n.py:restore_n8n",
    "flows/restore_site.py:restore_site",
)
_OF_SERVERS = frozenset({"pre_deploy_snapshot", "release_snapshots"})
DEFAULT_QUEUE = "default"
TEMPLATE_SITES = ("workbench", "workset")


def definitions(config: SiteConfig, file: Path | None = None) -> list[dict[str, Any]]:
    """The entries of ``prefect.yaml`` for this site. One that is not named there gets those of the template
    sites, renamed: the logs of MySQL are shipped where it has such a server, WAL likewise.

    Raises:
        ConfigError: The file is missing or is not YAML.
    """
    file = file or ROOT / "prefect.yaml"
    try:
        entries = yaml.safe_load(file.read_text())["deployments"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(
            f"The deployments cannot be read from {file}: {error}",
            remedy="run from a checkout of backup-flows, installed with: pip install -e .",
        ) from None
    own = [entry for entry in entries if entry["name"] == config.site]
    if own:
        return [entry for entry in own if entry["entrypoint"] not in _OF_FILES or _serves(entry["entrypoint"], config)]
    chosen: dict[str, dict[str, Any]] = {}
    for template in TEMPLATE_SITES:
        for entry in (each for each in entries if each["name"] == template):
            if _serves(entry["entrypoint"], config):
                chosen.setdefault(entry["entrypoint"], _renamed(entry, config.site))
    return list(chosen.values())


def _serves(entrypoint: str, config: SiteConfig) -> bool:
    """Has the site a source of the kind that this flow is about?"""
    flow = entrypoint.partition(":")[2]
    if entrypoint in _OF_FILES:
        needs: dict[str, Any] = {
            "restore_volume": config.volumes, "restore_bucket": config.buckets, "restore_config": config.config,
            "restore_n8n": config.n8n, "restore_site": True,
        }  # fmt: skip
        return bool(needs[flow])
    if flow in _OF_SERVERS:
        return bool(config.servers())
    kinds = {
        "binlog_ship": config.mysql,
        "wal_ship": config.postgres,
        "base_backup": config.postgres,
        "restore_cluster": config.postgres,
        "find_event": [*config.mysql, *config.postgres],
    }
    return flow not in kinds or any(source.point_in_time for source in kinds[flow])


def _renamed(entry: dict[str, Any], site: str) -> dict[str, Any]:
    tags = [tag.replace(f"site:{entry['name']}", f"site:{site}") for tag in entry.get("tags", [])]
    return {**entry, "name": site, "tags": tags, "parameters": {**entry.get("parameters", {}), "site": site}}


def apply(client: SyncPrefectClient, config: SiteConfig, memory: Memory, report: ApplyReport, force: bool) -> None:
    """Make each deployment, or bring it up to date with its definition."""
    site = config.site
    for entry in definitions(config):
        flow = _flow(entry["entrypoint"])
        wanted = _wanted(entry, flow)
        thing = f"deployment {flow.name}/{site}"
        try:
            saved: DeploymentResponse | None = client.read_deployment_by_name(f"{flow.name}/{site}")
        except ObjectNotFound:
            saved = None
        if saved is None:
            _save(client, flow, site, wanted)
            memory.remember(thing, merge(wanted, wanted, {}, memory.salt).applied)
            report.made(thing)
            continue
        result = merge(wanted, _saved(saved), memory.of(thing), memory.salt, force=force)
        report.merged(thing, result)
        memory.remember(thing, result.applied)
        if result.changed:
            _save(client, flow, site, result.values)


def _flow(entrypoint: str) -> Flow[..., Any]:
    path, _, name = entrypoint.partition(":")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    flow: Flow[..., Any] = getattr(module, name)
    return flow


def _wanted(entry: dict[str, Any], flow: Flow[..., Any]) -> dict[str, Any]:
    pool = entry["work_pool"]
    limit = entry.get("concurrency_limit") or {}
    return {
        "description": entry.get("description", ""),
        "tags": sorted(entry.get("tags", [])),
        "parameters": entry.get("parameters", {}),
        "schedules": [_schedule(each) for each in entry.get("schedules", [])],
        "paused": False,
        "work_pool": pool["name"],
        "work_queue": pool.get("work_queue_name") or DEFAULT_QUEUE,
        "job_variables": {**pool.get("job_variables", {}), "working_dir": str(ROOT)},
        "concurrency_limit": limit.get("limit"),
        "collision_strategy": limit.get("collision_strategy"),
        "entrypoint": entry["entrypoint"],
        "path": str(ROOT),
        "form": parameter_schema(flow).model_dump(mode="json"),
    }


def _saved(deployment: DeploymentResponse) -> dict[str, Any]:
    options = deployment.concurrency_options
    limit = deployment.global_concurrency_limit
    return {
        "description": deployment.description or "",
        "tags": sorted(deployment.tags),
        "parameters": deployment.parameters,
        "schedules": sorted(
            (
                {
                    "slug": each.slug,
                    "cron": each.schedule.cron,
                    "timezone": each.schedule.timezone,
                    "active": each.active,
                }
                if isinstance(each.schedule, CronSchedule)
                else each.schedule.model_dump(mode="json")
                for each in deployment.schedules
            ),
            key=str,
        ),
        "paused": bool(deployment.paused),
        "work_pool": deployment.work_pool_name,
        "work_queue": deployment.work_queue_name or DEFAULT_QUEUE,
        "job_variables": deployment.job_variables,
        "concurrency_limit": limit.limit if limit else None,
        "collision_strategy": options.collision_strategy.value if options else None,
        "entrypoint": deployment.entrypoint,
        "path": deployment.path,
        "form": deployment.parameter_openapi_schema.model_dump(mode="json")
        if hasattr(deployment.parameter_openapi_schema, "model_dump")
        else deployment.parameter_openapi_schema,
    }


def _schedule(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "slug": entry.get("slug"),
        "cron": entry["cron"],
        "timezone": entry.get("timezone", "UTC"),
        "active": entry.get("active", True),
    }


def _save(client: SyncPrefectClient, flow: Flow[..., Any], name: str, values: dict[str, Any]) -> None:
    strategy = values["collision_strategy"]
    client.create_deployment(
        flow_id=client.create_flow(flow),
        name=name,
        description=values["description"],
        tags=values["tags"],
        parameters=values["parameters"],
        schedules=[
            DeploymentScheduleCreate(
                schedule=CronSchedule(cron=each["cron"], timezone=each["timezone"]),
                active=each["active"],
                slug=each["slug"],
            )
            for each in values["schedules"]
        ],
        paused=values["paused"],
        work_pool_name=values["work_pool"],
        work_queue_name=values["work_queue"],
        job_variables=values["job_variables"],
        concurrency_limit=values["concurrency_limit"],
        concurrency_options=ConcurrencyOptions(collision_strategy=strategy) if strategy else None,
        entrypoint=values["entrypoint"],
        path=values["path"],
        parameter_openapi_schema=values["form"],
        enforce_parameter_schema=True,
    )
