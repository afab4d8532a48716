"""One machine's stack: an index of the blocks that describe it."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar, cast

from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from pydantic import ConfigDict, Field, SecretStr, ValidationError

from blocks.base import LENIENT
from blocks.bucket_endpoint import BucketEndpoint
from blocks.config_files import ConfigFiles
from blocks.container_images import ContainerImages
from blocks.docker_engine import DockerEngine
from blocks.key_ring import KeyRing
from blocks.mysql_server import MySQLServer
from blocks.n8n_instance import N8nInstance
from blocks.object_store import ObjectStore
from blocks.postgres_server import PostgresServer
from blocks.vault import Vault
from engine.config import DrillConfig, HealthCheck, ReportConfig, SiteConfig, WatchConfig
from engine.errors import ConfigError, UnknownName, nearest

BlockT = TypeVar("BlockT", bound=Block)
_SOURCES = (
    MySQLServer, PostgresServer, DockerEngine, ConfigFiles, ContainerImages, BucketEndpoint, N8nInstance
)  # fmt: skip


class Site(Block):
    """The parts of one machine, by name. Every run loads them afresh, so a rotated secret shows at once."""

    model_config: ClassVar[ConfigDict] = LENIENT
    _block_type_name = "Backup site"
    _block_type_slug = "site"
    _description = "One machine's stack: its vault and the names of the sources that are backed up."

    vault: str = Field("", title="Vault", description="Name of its vault block, such as vault/workset.")
    sources: list[str] = Field(
        default_factory=list,
        title="Sources",
        description="Blocks of what is backed up, such as mysql-server/workset-mysql, "
        "postgres-server/workbench-postgres, docker-engine/workbench-volumes, config-files/workbench-config, "
        "container-images/workbench-images, bucket-endpoint/workbench-buckets or n8n-instance/workbench-n8n.",
    )

    drill: dict[str, Any] = Field(
        default_factory=dict,
        title="Restore drills",
        description="Targets and queries that drills hold the site against: rto, rpo, targets, sample, queries, also, "
        "not_restored.",
    )

    watch: dict[str, Any] = Field(
        default_factory=dict,
        title="Watch",
        description="Limits that the watch holds the site against: age, logs, copies, drill, releases, disk, full_in, "
        "metrics, runbooks.",
    )
    ping: SecretStr = Field(
        default=SecretStr(""),
        title="Dead man's switch",
        description="An address outside that the watch asks while it can tell somebody; when that stays out, it tells.",
    )

    report: dict[str, Any] = Field(
        default_factory=dict,
        title="Weekly report",
        description="Where its pages go (directory), and what a GB costs a month by place or storage class (prices, "
        "currency).",
    )
    alerts: list[dict[str, Any]] = Field(
        default_factory=list,
        title="Alerts",
        description="Whom the watch tells: notification blocks (block: slack-webhook/workset-alert-ops) and the levels "
        "that go there (levels: [warning, critical]).",
    )
    health: list[dict[str, Any]] = Field(
        default_factory=list,
        title="Health checks",
        description="Addresses that answer when the machine works: url, status, contains, seconds.",
    )
    site_file: SecretStr = Field(
        default=SecretStr(""),
        title="Site file",
        description="The file these blocks were made from, as it was written. Sealed into every recovery point.",
    )

    def to_config(self, name: str) -> SiteConfig:
        """The whole site as the engine takes it, with every block it names loaded now.

        Raises:
            UnknownName: A block it names does not exist. ConfigError: The parts do not fit together.
        """
        vault = _load(Vault, self.vault or f"vault/{name}")
        stores = [_load(ObjectStore, each).to_config() for each in vault.replicas]
        mysql = [_load(MySQLServer, each).to_config() for each in self._of(MySQLServer)]
        postgres = [_load(PostgresServer, each).to_config() for each in self._of(PostgresServer)]
        volumes = [_load(DockerEngine, each).to_config() for each in self._of(DockerEngine)]
        config = [_load(ConfigFiles, each).to_config() for each in self._of(ConfigFiles)]
        buckets = [_load(BucketEndpoint, each).to_config() for each in self._of(BucketEndpoint)]
        n8n = [_load(N8nInstance, each).to_config() for each in self._of(N8nInstance)]
        images = [_load(ContainerImages, each).to_config() for each in self._of(ContainerImages)]
        try:
            drill = DrillConfig.model_validate(self.drill)
            watch = WatchConfig.model_validate({**self.watch, "ping": self.ping})
            report = ReportConfig.model_validate(self.report)
            health = [HealthCheck.model_validate(each) for each in self.health]
            return SiteConfig(
                site=name,
                vault=vault.to_config(stores),
                drill=drill,
                watch=watch,
                report=report,
                mysql=mysql,
                postgres=postgres,
                volumes=volumes,
                config=config,
                buckets=buckets,
                n8n=n8n,
                images=images,
                health=health,
            )
        except ValidationError as error:
            raise ConfigError(
                f"The blocks of site {name!r} do not fit together: {error.errors(include_input=False)[0]['msg']}.",
                remedy="correct them in the UI under Blocks, or run: backups apply SITE.yaml --force",
            ) from None

    def _of(self, kind: type[Block]) -> list[str]:
        slug = kind.get_block_type_slug()
        for each in self.sources:
            if each.split("/")[0] not in {kind.get_block_type_slug() for kind in _SOURCES}:
                raise ConfigError(
                    f"The site names a source {each!r}, which is no block of a source.",
                    remedy="write it as mysql-server/<name>, postgres-server/<name>, docker-engine/<name>, "
                    "config-files/<name>, container-images/<name>, bucket-endpoint/<name> or n8n-instance/<name>",
                )
        return [each for each in self.sources if each.split("/")[0] == slug]


def load_site(name: str) -> SiteConfig:
    """The site of that name, read from its blocks at this moment.

    Raises:
        UnknownName: There is no such site; says which there are.
        ConfigError: A part of it is missing or wrong.
    """
    return _load(Site, f"site/{name}").to_config(name)


def set_current_key(name: str, key_id: str) -> bool:
    """Make another key of a site's ring the current one, in its key-ring block; False when it was already.

    Raises:
        UnknownName: There is no such site, or its ring has no such key.
    """
    site = _load(Site, f"site/{name}")
    vault = _load(Vault, site.vault or f"vault/{name}")
    document = vault.keys._block_document_name
    ring = _load(KeyRing, document or name)
    if key_id not in ring.keys.get_secret_value():
        raise UnknownName(
            f"The key ring of {name} has no key {key_id!r}.",
            remedy=nearest(key_id, sorted(ring.keys.get_secret_value())),
        )
    if ring.current == key_id:
        return False
    ring.current = key_id
    ring.save(document or name, overwrite=True)
    return True


def load_alerts(name: str) -> list[tuple[str, list[str]]]:
    """Notification blocks of a site by reference, and the levels that go to each. Raises UnknownName."""
    alerts = _load(Site, f"site/{name}").alerts
    return [(str(each.get("block", "")), [str(level) for level in each.get("levels", [])]) for each in alerts]


def load_text(name: str) -> str:
    """The site file that the site's blocks were made from; empty where they were made by hand. Raises UnknownName."""
    return _load(Site, f"site/{name}").site_file.get_secret_value()


def _load(kind: type[BlockT], reference: str) -> BlockT:
    """A block by ``slug/name``."""
    slug = kind.get_block_type_slug()
    name = reference.removeprefix(f"{slug}/")
    try:
        return cast(BlockT, kind.load(name, validate=False))
    except ValueError:
        known = _names(slug)
        if name in known:
            raise ConfigError(
                f"The block {slug}/{name} cannot be read by this release.",
                remedy=f"open and save {slug}/{name} in the UI under Blocks",
            ) from None
        raise UnknownName(
            f"There is no {slug} called {name!r}.",
            remedy=nearest(name, known) + " Set one up with: backups apply SITE.yaml",
        ) from None


def _names(slug: str) -> list[str]:
    with get_client(sync_client=True) as client:
        response: Any = client._client.get(f"/block_types/slug/{slug}/block_documents")
    return [each["name"] for each in response.json()] if response.status_code == 200 else []
