"""What is backed up and is no database server, as plain validated data: files, volumes, containers, buckets, n8n."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from engine.addresses import require_http
from engine.store_config import Model


class ConfigFilesConfig(Model):
    """Files and directories of this host that say how the machine is set up."""

    name: str = Field("config", description="Name of this source in the site, and of its archives.")
    paths: list[str] = Field(
        default_factory=list, description="Absolute paths of files and directories, such as /etc/nginx."
    )
    exclude: list[str] = Field(
        default_factory=list,
        description="Left out: *.log (by a file's own name), /etc/nginx/cache (by its whole path). "
        "* stands for anything.",
    )
    floor_bytes: int = Field(0, ge=0, description="A stored backup smaller than this fails verification.")

    @field_validator("paths")
    @classmethod
    def _absolute(cls, paths: list[str]) -> list[str]:
        for path in paths:
            if not path.startswith("/") or "\0" in path:
                raise ValueError(f"the path {path!r} is not absolute; write it from the start, such as /etc/nginx")
            if not path.strip("/"):
                raise ValueError("the path '/' is the whole machine; name its parts, such as /etc/nginx")
        return paths

    @property
    def databases(self) -> list[str]:
        """What is backed up apart: one archive, called like the source."""
        return [self.name]


class VolumesConfig(Model):
    """A Docker engine: which of its volumes are backed up, and which containers write to them."""

    name: str = Field("volumes", description="Name of this source in the site.")
    volumes: list[str] = Field(
        default_factory=list,
        description="Volumes by their own name (workbench_notebooks), or as the compose file calls them (notebooks). "
        "Each is a backup of its own.",
    )
    stop: list[str] = Field(
        default_factory=list,
        description="Containers or compose services that are stopped while a volume they use is read, then started.",
    )
    pause: list[str] = Field(default_factory=list, description="... that are only paused: frozen as they are.")
    stop_seconds: int = Field(30, ge=0, description="How long a container may take to stop before it is killed.")
    project: str | None = Field(None, description="Compose project of volumes and services; empty: the site's name.")
    docker_host: str | None = Field(None, description="unix:///var/run/docker.sock when empty; or tcp://host:2376.")
    tls_ca: str | None = Field(None, description="CA file of an engine at tcp://.")
    tls_cert: str | None = Field(None, description="Our certificate's file, which that engine asks for.")
    tls_key: str | None = Field(None, description="Its key's file.")
    read: Literal["auto", "direct", "archive"] = Field(
        "auto",
        description="direct: as files, which keeps everything; needs root on the engine's own host. archive: through "
        "the engine, from anywhere; loses a few things, which the manifest names. auto: direct where it can be.",
    )
    floor_bytes: int = Field(0, ge=0, description="A stored backup smaller than this fails verification.")

    @field_validator("volumes")
    @classmethod
    def _names(cls, volumes: list[str]) -> list[str]:
        for each in volumes:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", each):
                raise ValueError(f"{each!r} is no name of a Docker volume: letters, digits, dots, dashes, underscores")
        return volumes

    @model_validator(mode="after")
    def _stopped_or_paused(self) -> VolumesConfig:
        both = sorted(set(self.stop) & set(self.pause))
        if both:
            raise ValueError(f"{', '.join(both)} cannot be both stopped and paused")
        return self

    @property
    def databases(self) -> list[str]:
        """What is backed up apart: the volumes."""
        return self.volumes


class BucketsConfig(Model):
    """An S3 endpoint whose buckets are backed up: MinIO, AWS, Spaces and others."""

    name: str = Field("buckets", description="Name of this source in the site.")
    buckets: list[str] = Field(default_factory=list, description="Buckets; each is a backup of its own.")
    endpoint_url: str | None = Field(None, description="Such as http://127.0.0.1:9000; empty for AWS itself.")
    region: str = Field("us-east-1", description="Region name; Spaces and MinIO accept any.")
    access_key: SecretStr | None = Field(None, description="Access key id.")
    secret_key: SecretStr | None = Field(None, description="Secret access key.")
    addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="Bucket in the path or in the host name."
    )
    verify_tls: bool = Field(True, description="Check the endpoint's certificate.")
    exclude: list[str] = Field(
        default_factory=list, description="Objects left out, by pattern: cache/*, *.tmp. * stands for anything."
    )
    tags: bool = Field(True, description="Keep the objects' tags; one more request for each object that is copied.")
    threads: int = Field(8, ge=1, le=64, description="Objects copied side by side.")
    floor_bytes: int = Field(0, ge=0, description="A stored list of objects smaller than this fails verification.")
    container: str | None = Field(
        None, description="Container that the S3 server runs in: drills restore into a scratch one of its image."
    )
    service: str | None = Field(None, description="... or the compose service whose container that is.")
    project: str | None = Field(None, description="Compose project of the service; empty: the site's name.")
    docker_host: str | None = Field(None, description="unix:///var/run/docker.sock when empty.")
    container_port: int = Field(0, ge=0, le=65535, description="S3's port in there; 0: as endpoint_url leads to it.")
    scratch_bucket: str = Field(
        "", description="Drills restore into this bucket, below a prefix of their own that goes again."
    )
    scratch_prefix: str = Field("", description="... which begins with this, such as drills/.")
    scratch_endpoint_url: str | None = Field(None, description="Where that bucket is; empty: at the source's endpoint.")
    scratch_region: str = Field("", description="Region of that bucket; empty: the source's.")
    scratch_access_key: SecretStr | None = Field(None, description="Access key id there; empty: the source's.")
    scratch_secret_key: SecretStr | None = Field(None, description="Secret access key there; empty: the source's.")

    @field_validator("endpoint_url", "scratch_endpoint_url")
    @classmethod
    def _is_http(cls, url: str | None, info: ValidationInfo) -> str | None:
        return require_http(url, str(info.field_name)) if url else None

    @model_validator(mode="after")
    def _scratch_is_apart(self) -> BucketsConfig:
        if not self.scratch_bucket and (self.scratch_prefix or self.scratch_endpoint_url):
            raise ValueError(f"{self.name} has a scratch place without its bucket; name it: scratch_bucket")
        elsewhere = self.scratch_endpoint_url not in (None, self.endpoint_url)
        if self.scratch_bucket in self.buckets and not elsewhere:
            raise ValueError(
                f"scratch_bucket {self.scratch_bucket} of {self.name} is one of the buckets that are backed up; "
                "name one that holds nothing else"
            )
        if elsewhere and self.access_key and not (self.scratch_access_key and self.scratch_secret_key):
            raise ValueError(
                f"scratch_endpoint_url of {self.name} is another endpoint; give its scratch_access_key and "
                "scratch_secret_key: the source's are not sent there"
            )
        return self

    @field_validator("buckets")
    @classmethod
    def _names(cls, buckets: list[str]) -> list[str]:
        for each in buckets:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", each):
                raise ValueError(f"{each!r} is no name of a bucket: letters, digits, dots and dashes")
        return buckets

    @property
    def databases(self) -> list[str]:
        """What is backed up apart: the buckets."""
        return self.buckets


class N8nConfig(Model):
    """An n8n: its workflows, credentials and tags."""

    name: str = Field("n8n", description="Name of this source in the site, and of its backups.")
    url: str = Field("http://127.0.0.1:5678", description="Where n8n answers.")
    api_key: SecretStr | None = Field(None, description="Of its public API: workflow:list, workflow:read, tag:list.")
    encryption_key: SecretStr | None = Field(
        None, description="Its N8N_ENCRYPTION_KEY; empty: as its command finds it where n8n runs."
    )
    container: str | None = Field(None, description="Run its command inside this container.")
    service: str | None = Field(None, description="... or inside the container of this compose service.")
    project: str | None = Field(None, description="Compose project of the service; empty: the site's name.")
    docker_host: str | None = Field(None, description="unix:///var/run/docker.sock when empty.")
    command: str = Field("n8n", description="Its command, there or on this host; a name or a path.")
    environment: dict[str, str] = Field(
        default_factory=dict, description="Added to the command's environment, such as N8N_USER_FOLDER. No secrets."
    )
    verify_tls: bool = Field(True, description="Check the certificate of the URL.")
    floor_bytes: int = Field(0, ge=0, description="A stored backup smaller than this fails verification.")
    timeout_seconds: float = Field(1800, gt=0, description="An export or import that takes longer is stopped.")

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        return require_http(url, "url")

    @field_validator("api_key")
    @classmethod
    def _is_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        text = key.get_secret_value() if key else ""
        if not (text.isascii() and text.isprintable()):
            raise ValueError("api_key holds a line end or a letter that no API key of n8n has")
        return key

    @property
    def databases(self) -> list[str]:
        """What is backed up apart: one backup, called like the source."""
        return [self.name]


class ImagesConfig(Model):
    """The containers of a compose project, and the images that they run on."""

    name: str = Field("images", description="Name of this source in the site, and of its records.")
    project: str | None = Field(None, description="Compose project of the containers; empty: the site's name.")
    containers: list[str] = Field(
        default_factory=list, description="Further containers by their own name, which are of no compose project."
    )
    stored: Literal["built", "all"] = Field(
        "built",
        description="Which images are stored: built: those that no registry has, made on this machine. all: every one, "
        "so that nothing has to be pulled when the machine is restored.",
    )
    docker_host: str | None = Field(None, description="unix:///var/run/docker.sock when empty; or tcp://host:2376.")
    tls_ca: str | None = Field(None, description="CA file of an engine at tcp://.")
    tls_cert: str | None = Field(None, description="Our certificate's file, which that engine asks for.")
    tls_key: str | None = Field(None, description="Its key's file.")
    floor_bytes: int = Field(0, ge=0, description="A stored record smaller than this fails verification.")

    @property
    def databases(self) -> list[str]:
        """What is backed up apart: one record, called like the source."""
        return [self.name]


FilesConfig = VolumesConfig | ConfigFilesConfig | ImagesConfig | BucketsConfig | N8nConfig
"""What is no database server: archives of files, containers with their images, buckets, n8n."""
