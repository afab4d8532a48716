"""What a site is, as plain validated data. Site files and Prefect blocks both become these.

Every field has a title for the UI's form and, outside identity, a default, so that documents saved by
an older release still load. Unknown fields are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from engine.addresses import bare, require_http
from engine.alert_config import AlertConfig as AlertConfig
from engine.drill_config import DrillConfig as DrillConfig
from engine.drill_config import DrillQuery as DrillQuery
from engine.durations import seconds_of
from engine.errors import ConfigError
from engine.files_config import BucketsConfig as BucketsConfig
from engine.files_config import ConfigFilesConfig as ConfigFilesConfig
from engine.files_config import FilesConfig as FilesConfig
from engine.files_config import ImagesConfig as ImagesConfig
from engine.files_config import N8nConfig as N8nConfig
from engine.files_config import VolumesConfig as VolumesConfig
from engine.names import BINLOGS, WAL
from engine.report_config import ReportConfig as ReportConfig
from engine.report_config import misnamed
from engine.retention import locks, policy
from engine.store_config import Model
from engine.store_config import ObjectStoreConfig as ObjectStoreConfig
from engine.watch_config import WatchConfig as WatchConfig

MIN_KEY_LENGTH = 32


class KeyRingConfig(Model):
    """Encryption keys by id, and which of them new backups use."""

    current: str = Field("main", description="Id of the key that new backups are written with.")
    keys: dict[str, SecretStr] = Field(
        default_factory=dict, description="All keys still needed to read a backup, by id."
    )


class VaultConfig(Model):
    """Where backups stand: a local root, its copies elsewhere, keys and naming."""

    root: str = Field(description="Local directory, absolute.")
    keys: KeyRingConfig = KeyRingConfig(current="main")
    path: str = Field(
        "{site}/{source}/{tier}",
        description="Folder of a backup. Fields: {site} {source} {tier} {directory} {yyyy} {mm} {dd}.",
    )
    directories: dict[str, str] = Field(
        default_factory=dict,
        description="Value of {directory} by source/tier, such as mysql/daily: database. "
        "A tier alone, or * for all, also works; the most exact entry wins.",
    )
    retention: dict[str, str] = Field(
        default_factory=dict,
        description="How long a tier is kept, by tier or source/tier: 24h, 30d, 13w, 12m, a count of backups (12), "
        "several of these (13 or 90d), forever.",
    )
    verify_within: str = Field(
        "30d", description="All that is stored, here and at every replica, is read back within this time (30d)."
    )
    replicas: list[ObjectStoreConfig] = Field(default_factory=list)
    compression: Literal["gzip", "zstd"] = Field("gzip", description="gzip opens with stock tools.")
    compression_level: int = Field(-1, description="-1: a trade of speed and size; gzip 0 to 3, zstd 1 to 22.")
    iterations: int = Field(
        10_000, ge=10_000, description="PBKDF2 rounds. Other than 10000, openssl needs -iter N when reading by hand."
    )

    @field_validator("retention")
    @classmethod
    def _rules_can_be_read(cls, value: dict[str, str]) -> dict[str, str]:
        return policy.readable(value, "vault.retention")

    @field_validator("verify_within")
    @classmethod
    def _is_at_least_a_day(cls, value: str) -> str:
        try:
            short = seconds_of(value) < 86_400
        except ValueError as error:
            raise ValueError(f"vault.verify_within {error}") from None
        if short:
            raise ValueError(f"vault.verify_within {value} is less than a day")
        return value


class ServerConfig(Model):
    """What every database server has in common."""

    name: str = Field(description="Name of this source in the site: mysql, postgres, crm...")
    host: str = Field("", description="Empty: 127.0.0.1, or the container's own address.")
    port: int = Field(0, description="0: the engine's standard port.")
    socket: str | None = Field(None, description="Unix socket (MySQL: file; PostgreSQL: directory).")
    user: str = ""
    password: SecretStr | None = None
    tls_ca: str | None = Field(None, description="CA file; setting it makes TLS required and checked.")
    databases: list[str] = Field(default_factory=list, description="Empty: every database that is not the system's.")
    container: str | None = Field(None, description="Run the client tools inside this container.")
    service: str | None = Field(None, description="... or inside the container of this compose service.")
    project: str | None = Field(None, description="Compose project of the service; empty: the site's name.")
    docker_host: str | None = Field(None, description="unix:///var/run/docker.sock when empty.")
    tools_path: str | None = Field(None, description="Directory of the client tools on this host, if not on PATH.")
    scratch_image: str = Field(
        "", description="Image of drills' and recoveries' throwaway servers, on that engine; empty: its container's."
    )
    scratch_directory: str = Field(
        "", description="Where throwaway servers on this host stand; empty: the vault's state directory, or /var/tmp."
    )
    point_in_time: bool = Field(
        True, description="Ship its logs (binary log, WAL), so that any second can be restored."
    )
    uncounted: list[str] = Field(
        default_factory=list, description="Tables too large to count at each backup (table or schema.table, * allowed)."
    )
    floor_bytes: int = Field(0, ge=0, description="A stored backup smaller than this fails verification.")
    timeout_seconds: float = Field(6 * 3600, gt=0, description="A dump or load that takes longer is stopped.")

    @field_validator("scratch_directory")
    @classmethod
    def _is_absolute(cls, text: str) -> str:
        if text and not text.startswith("/"):
            raise ValueError(f"scratch_directory {text} is not an absolute path")
        return text

    @property
    def scratch_parent(self) -> Path | None:
        """Where throwaway servers on this host stand; None: where they do by themselves."""
        return Path(self.scratch_directory) if self.scratch_directory else None


class MySQLConfig(ServerConfig):
    """A MySQL or MariaDB server; which of the two it is, the server says itself."""

    name: str = "mysql"
    user: str = "root"
    lock_wait_seconds: float = Field(
        20.0,
        gt=0,
        description="How long to keep trying for the short read lock before giving up, by name of the blocker.",
    )
    lock_try_seconds: int = Field(
        1, ge=1, le=30, description="Longest that one try may hold up the app's writes (lock_wait_timeout)."
    )


class PostgresConfig(ServerConfig):
    """A PostgreSQL server."""

    name: str = "postgres"
    user: str = "postgres"
    schemas: list[str] = Field(default_factory=list, description="Only these schemas; empty: the whole database.")
    format: Literal["plain", "custom"] = Field(
        "plain", description="plain opens with psql; custom restores in parallel."
    )
    jobs: int = Field(2, ge=1, le=32, description="Parallel jobs when restoring the custom format.")
    maintenance_database: str = Field("postgres", description="Where to connect to create, rename and drop databases.")


ServerSource = MySQLConfig | PostgresConfig
"""A database server."""
SourceConfig = (
    MySQLConfig | PostgresConfig | VolumesConfig | ConfigFilesConfig | ImagesConfig | BucketsConfig | N8nConfig
)
"""Anything that a site backs up. Each has a ``name``, ``databases`` (of a source that is no server: the names of
its archives) and ``floor_bytes``."""


class HealthCheck(Model):
    """An address that answers when the machine works; asked at the end of restoring it."""

    name: str = Field("", description="What it is called in reports; empty: the address itself.")
    url: str = Field(description="http://127.0.0.1:8080/healthz, or the like.")
    status: int = Field(0, ge=0, le=599, description="The answer must have this status; 0: any below 400.")
    contains: str = Field("", description="... and this text in it.")
    seconds: float = Field(120.0, gt=0, description="How long it is asked again until it answers so.")
    verify_tls: bool = Field(True, description="Check its certificate.")

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        return require_http(url, "url")

    @property
    def shown(self) -> str:
        return self.name or bare(self.url)


class SiteConfig(Model):
    """One machine's stack."""

    site: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    vault: VaultConfig
    drill: DrillConfig = Field(default_factory=lambda: DrillConfig.model_validate({}))
    watch: WatchConfig = Field(default_factory=lambda: WatchConfig.model_validate({}))
    report: ReportConfig = Field(default_factory=lambda: ReportConfig.model_validate({}))
    mysql: list[MySQLConfig] = Field(default_factory=list)
    postgres: list[PostgresConfig] = Field(default_factory=list)
    volumes: list[VolumesConfig] = Field(default_factory=list)
    config: list[ConfigFilesConfig] = Field(default_factory=list)
    images: list[ImagesConfig] = Field(default_factory=list)
    buckets: list[BucketsConfig] = Field(default_factory=list)
    n8n: list[N8nConfig] = Field(default_factory=list)
    health: list[HealthCheck] = Field(default_factory=list)
    alerts: list[AlertConfig] = Field(default_factory=list)

    @field_validator(
        "mysql", "postgres", "volumes", "config", "images", "buckets", "n8n", "health", "alerts", mode="before"
    )
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _names_are_unique(self) -> SiteConfig:
        names = [source.name for source in self.sources()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources are called {', '.join(twice)}; give each a name of its own")
        alerts = [alert.name for alert in self.alerts]
        if len(set(alerts)) < len(alerts):
            raise ValueError("two alerts have the same name; give each a name of its own")
        replicas = [replica.name for replica in self.vault.replicas]
        for name in replicas:
            if name in {"local", "auto"} or replicas.count(name) > 1:
                raise ValueError(f"replica name {name!r} is taken; give each replica a name of its own")
        return self

    @model_validator(mode="after")
    def _replicas_are_places_of_their_own(self) -> SiteConfig:
        seen: dict[tuple[str, ...], str] = {}
        for replica in self.vault.replicas:
            where = (
                replica.directory or "",
                replica.endpoint_url or "",
                replica.bucket,
                replica.path or self.vault.path,
            )
            if where in seen:
                raise ValueError(
                    f"the replicas {seen[where]} and {replica.name} are one place: the same bucket or directory, and "
                    "the same path; a copy counts once"
                )
            seen[where] = replica.name
        return self

    @model_validator(mode="after")
    def _retention_serves_recovery(self) -> SiteConfig:
        shipped = [
            (each.name, (WAL if isinstance(each, PostgresConfig) else BINLOGS) if _ships_logs(each) else "")
            for each in self.sources()
        ]
        refused = policy.refusals(self.vault.retention, shipped)
        for each in self.vault.replicas:
            if each.retention:
                where = f"replica {each.name}: retention"
                refused += policy.refusals(self.vault.retention, shipped, each.retention, where)
        if refused:
            raise ValueError("; ".join(refused))
        return self

    @model_validator(mode="after")
    def _locks_end_with_retention(self) -> SiteConfig:
        locked = {replica.name: replica.lock_days for replica in self.vault.replicas if replica.lock}
        there = {replica.name: replica.retention for replica in self.vault.replicas}
        refused = locks.refusals(self.vault.retention, [each.name for each in self.sources()], locked, there)
        if refused:
            raise ValueError("; ".join(refused))
        return self

    @model_validator(mode="after")
    def _watched_ages_have_a_source(self) -> SiteConfig:
        known = [each.name for each in self.sources()]
        for name in self.watch.age:
            whose = name.partition("@")[0]
            if whose != "*" and whose.partition("/")[0] not in known:
                there = ", ".join(known) or "none"
                raise ValueError(f"watch.age.{name} names no source of the site; there are: {there}")
        return self

    @model_validator(mode="after")
    def _prices_have_a_place(self) -> SiteConfig:
        wrong = misnamed(self.report.prices, ["local", *(each.name for each in self.vault.replicas)])
        if wrong:
            raise ValueError(wrong)
        return self

    @model_validator(mode="after")
    def _drills_speak_of_what_is_there(self) -> SiteConfig:
        known = [each.name for each in self.servers()]
        for name in self.drill.queries:
            if name not in known:
                there = ", ".join(known) or "none"
                raise ValueError(f"drill.queries.{name} names no database server of the site; there are: {there}")
        known = [each.name for each in self.sources()]
        for name in self.drill.targets:
            if name not in known:
                there = ", ".join(known) or "none"
                raise ValueError(f"drill.targets.{name} names no source of the site; there are: {there}")
        readable = [*(each.name for each in self.buckets), *(each.name for each in self.n8n)]
        for name in self.drill.not_restored:
            if name not in readable:
                there = ", ".join(readable) or "none"
                raise ValueError(f"drill.not_restored: {name} is no source of buckets and no n8n; there are: {there}")
        return self

    def sources(self) -> list[SourceConfig]:
        """Everything that is backed up, database servers first."""
        return [*self.servers(), *self.archives()]

    def archives(self) -> list[FilesConfig]:
        """Everything that is no database server: archives of files, containers with their images, buckets, n8n."""
        return [*self.volumes, *self.config, *self.images, *self.buckets, *self.n8n]

    def servers(self) -> list[ServerSource]:
        """Every database server."""
        return [*self.mysql, *self.postgres]

    def source(self, name: str) -> SourceConfig:
        """The source of that name.

        Raises:
            UnknownName: There is none.
        """
        from engine.errors import UnknownName, nearest

        for source in self.sources():
            if source.name == name:
                return source
        known = [source.name for source in self.sources()]
        raise UnknownName(f"Site {self.site} has no source {name!r}.", remedy=nearest(name, known))

    def retention_in(self, location: str = "local") -> policy.Policy:
        """What is kept in one place: the local root or a replica."""
        own = next((each.retention for each in self.vault.replicas if each.name == location), None)
        return policy.Policy(self.vault.retention, [each.name for each in self.config], own)

    def server(self, name: str) -> ServerSource:
        """The database server of that name.

        Raises:
            UnknownName: There is none. ConfigError: It is no database server.
        """
        source = self.source(name)
        if isinstance(source, FilesConfig):
            what, command = _OTHERS[type(source)]
            raise ConfigError(
                f"The source {name!r} holds {what}, not databases.",
                kept="nothing was changed",
                remedy=f"bring {what} back with: backups {command.format(name)}",
            )
        return source


_OTHERS: dict[type, tuple[str, str]] = {
    VolumesConfig: ("files", "restore-volume --source {}"),
    ConfigFilesConfig: ("files", "restore-config --source {}"),
    ImagesConfig: ("containers", "restore-site --only {}"),
    BucketsConfig: ("objects", "restore-bucket --source {}"),
    N8nConfig: ("workflows", "restore-n8n --source {}"),
}
"""What sources that are no servers hold, and the command that brings it back."""


def _ships_logs(source: object) -> bool:
    return isinstance(source, ServerConfig) and source.point_in_time


def check_key(key_id: str, key: str) -> str | None:
    """A warning about a weak key, or None.

    Raises:
        ConfigError: The key is empty.
    """
    if not key:
        raise ConfigError(f"Encryption key {key_id!r} is empty.", remedy="make one with: openssl rand -base64 48")
    if len(key) < MIN_KEY_LENGTH:
        return (
            f"Encryption key {key_id!r} has {len(key)} characters, fewer than {MIN_KEY_LENGTH}. "
            "Make a stronger one with: openssl rand -base64 48"
        )
    return None
