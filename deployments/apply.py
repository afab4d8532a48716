"""Sets a site up on a Prefect server: blocks, work pool, deployments, automations.

Run twice, the second changes nothing. What a person edited in the UI stays, unless ``force``: every
field that was applied is remembered as a salted digest, in a Secret block (encrypted at rest), so that an
edit in the UI and a change in the file can be told apart.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

import prefect.blocks.system
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound

from blocks import ALL
from deployments import apply_automations, apply_blocks, apply_deployments
from deployments.merge import Digests
from deployments.report import ApplyReport, Echo, _quiet
from deployments.server import FIRST_QUEUE, WORK_POOL
from engine.config import SiteConfig


class Memory:
    """Digests of what was last applied, by thing, and the salt they are made with."""

    def __init__(self, site: str) -> None:
        self._name = f"{site}-applied"
        self._stored: dict[str, Any] = self._read()
        self.salt = bytes.fromhex(self._stored.get("salt") or secrets.token_hex(32))
        self._applied: dict[str, Digests] = dict(self._stored.get("applied", {}))

    def of(self, thing: str) -> Digests:
        """What was last applied to it; empty when it never was."""
        return self._applied.get(thing, {})

    def remember(self, thing: str, digests: Digests) -> None:
        """What is now applied to it."""
        self._applied[thing] = digests

    def save(self) -> None:
        """Write it down if it changed."""
        value = {"salt": self.salt.hex(), "applied": self._applied}
        if value != self._stored:
            block = prefect.blocks.system.Secret(value=json.dumps(value))
            block.save(self._name, overwrite=True)

    def _read(self) -> dict[str, Any]:
        try:
            block = prefect.blocks.system.Secret.load(self._name)
        except ValueError:
            return {}
        value = block.get()
        loaded: dict[str, Any] = json.loads(value) if isinstance(value, str) else dict(value)
        return loaded


def apply_site(site: SiteConfig, *, text: str = "", force: bool = False, echo: Echo = _quiet) -> ApplyReport:
    """Make the server's blocks, pool, deployments and automations those of this site.

    Args:
        text: The site file as it was written: the flows seal it into every recovery point.

    Raises:
        ConfigError: No deployments are defined, or a definition is wrong.
    """
    report = ApplyReport(echo=echo)
    with get_client(sync_client=True) as client:
        for kind in ALL:
            kind.register_type_and_schema()
        memory = Memory(site.site)
        apply_blocks.apply(client, site, memory, report, force, text)
        _work_pool(client, report)
        apply_deployments.apply(client, site, memory, report, force)
        apply_automations.apply(client, site, report)
        memory.save()
    return report


def _work_pool(client: SyncPrefectClient, report: ApplyReport) -> None:
    try:
        client.read_work_pool(WORK_POOL)
        report.same(f"work pool {WORK_POOL}")
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(name=WORK_POOL, type="process", description="Runs the backup flows on the worker's machine.")
        )
        report.made(f"work pool {WORK_POOL}")
    _first_queue(client, report)


def _first_queue(client: SyncPrefectClient, report: ApplyReport) -> None:
    """Where a worker takes only so many runs at a time, those of a deployment go first."""
    thing = f"work queue {WORK_POOL}/{FIRST_QUEUE}"
    try:
        client.read_work_queue_by_name(FIRST_QUEUE, WORK_POOL)
        report.same(thing)
    except ObjectNotFound:
        client.create_work_queue(
            FIRST_QUEUE, description="Snapshots before a deployment.", priority=1, work_pool_name=WORK_POOL
        )
        report.made(thing)
