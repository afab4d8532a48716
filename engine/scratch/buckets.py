"""Throwaway places for the objects of a bucket: a scratch S3 server, or a prefix of its own in a scratch bucket.

The server is a container of the image that the source's own server runs, empty, on a network with no way out. The
prefix is written down before the first object: whoever sweeps next removes all below it, old versions and unfinished
uploads too.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore import exceptions as boto
from pydantic import SecretStr

from engine.buckets.endpoint import Endpoint, store_config
from engine.buckets.removing import remove_below
from engine.config import BucketsConfig
from engine.errors import BackupError, ConfigError, ToolFailed, Unreachable
from engine.journal import Journal
from engine.processes.place import address_of
from engine.scratch import leftovers
from engine.scratch.boxed import ContainerServer, engine_errors
from engine.scratch.likeness import Likeness, likeness_of
from engine.site import Site
from engine.stores.s3_errors import speaking_of

JOURNAL = "bucket-drill"
"""Kind of the journal that names a prefix in a scratch bucket."""
_READY_SECONDS = 180.0
_PAIRS = (("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"), ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"))


@dataclass(frozen=True)
class ScratchBuckets:
    """A place for the objects of a source's buckets.

    Attributes:
        where: It, in words.
        config: With which it is reached.
        bucket: The one bucket for all; empty: each has its own, which is made.
        under: What every key begins with.
        free: Bytes that are free there; None where that cannot be told.
        alive: Does it still run?
    """

    where: str
    config: BucketsConfig
    bucket: str = ""
    under: str = ""
    free: int | None = None
    free_in: str = ""
    alive: Callable[[], bool] = lambda: True

    def endpoint(self, bucket: str) -> Endpoint:
        """Where a bucket's objects go."""
        return Endpoint.of(self.config, self.bucket or bucket)

    def prefix(self, bucket: str) -> str:
        """What the keys of its objects begin with."""
        return f"{self.under}{bucket}/" if self.bucket else ""


@contextlib.contextmanager
def scratch_buckets(site: Site, config: BucketsConfig) -> Iterator[ScratchBuckets | None]:
    """A place to restore a source's buckets into, gone when the block is left; None where the site names none.

    Raises:
        ConfigError, UnknownName, Unreachable, ToolFailed: It cannot be had. And what the endpoint says.
    """
    if config.scratch_bucket:
        with _prefix(site, config) as place:
            yield place
    elif config.container or config.service:
        with _server(site, config) as place:
            yield place
    else:
        yield None


def scratch_config(config: BucketsConfig) -> BucketsConfig:
    """The endpoint of a source's scratch bucket, and with which keys."""
    changed: dict[str, Any] = {}
    if config.scratch_endpoint_url:
        changed["endpoint_url"] = config.scratch_endpoint_url
    if config.scratch_region:
        changed["region"] = config.scratch_region
    if config.scratch_access_key and config.scratch_secret_key:
        changed |= {"access_key": config.scratch_access_key, "secret_key": config.scratch_secret_key}
    return config.model_copy(update=changed)


# A prefix in a bucket


@contextlib.contextmanager
def _prefix(site: Site, config: BucketsConfig) -> Iterator[ScratchBuckets]:
    reached = scratch_config(config)
    there = Endpoint.of(reached, config.scratch_bucket)
    _refuse_backups(site, there)
    there.reach()
    _refuse_locked(there)
    under = f"{config.scratch_prefix}{leftovers.new_name()}/"
    journal = Journal.create(
        site.journals, JOURNAL, source=config.name, database=config.scratch_bucket, endpoint=there.place.endpoint,
        prefix=under,
    )  # fmt: skip
    try:
        _refuse_the_same(site, there, under)
        yield ScratchBuckets(f"{there.place}, below {under}", reached, config.scratch_bucket, under)
    except BaseException:
        try:
            remove_below(there, under)
            journal.close()
        except BackupError:  # the next run's sweep removes it; what went wrong first is what matters
            journal.release()
        raise
    try:
        remove_below(there, under)
    except BaseException:
        journal.release()
        raise
    journal.close()


def clear_prefix(config: BucketsConfig, journal: Journal) -> list[str]:
    """Remove what a dead drill left in the scratch bucket, and close its journal.

    Raises:
        ConfigError: The site does not name that bucket any more. And what the endpoint says; the journal stays.
    """
    bucket, prefix = str(journal.facts["database"]), str(journal.facts["prefix"])
    there = Endpoint.of(scratch_config(config), bucket)
    if (config.scratch_bucket, there.place.endpoint) != (bucket, journal.facts["endpoint"]):
        raise ConfigError(
            f"A drill left objects in the bucket {bucket!r} at {journal.facts['endpoint']} below {prefix}, which is "
            f"the scratch bucket of {config.name} no longer.",
            remedy=f"remove them by hand, then {journal.path}; or name that bucket again",
        )
    gone = remove_below(there, prefix)
    journal.close()
    return [f"removed {gone:,} objects of a drill from {there.place}, below {prefix}"] if gone else []


def _refuse_backups(site: Site, there: Endpoint) -> None:
    """Raises ConfigError where the scratch bucket holds backups, or is itself backed up."""
    for replica in site.config.vault.replicas:
        if replica.bucket == there.bucket and Endpoint(replica, "replica").place.endpoint == there.place.endpoint:
            raise ConfigError(
                f"{there.place} holds this site's backups ({replica.name}).",
                kept="nothing was written there",
                remedy="name a bucket that holds nothing else as scratch_bucket",
            )
    for source in site.config.buckets:
        if there.bucket in source.buckets and Endpoint.of(source, there.bucket).place.endpoint == there.place.endpoint:
            raise ConfigError(
                f"{there.place} is backed up as {source.name}/{there.bucket}.",
                kept="nothing was written there",
                remedy="name a bucket that holds nothing else as scratch_bucket",
            )


def _refuse_the_same(site: Site, there: Endpoint, under: str) -> None:
    """Raises ConfigError where an object that is put into the scratch bucket shows in one that holds data or backups:
    it is the same, called otherwise (``localhost`` and ``127.0.0.1``)."""
    probe = f"{under}whose-bucket-is-this"
    with speaking_of(f"write {probe}", there.place):
        there.client.put_object(Bucket=there.bucket, Key=probe, Body=b"")
    others = [Endpoint(each, "replica") for each in site.config.vault.replicas if each.bucket == there.bucket]
    others += [Endpoint.of(each, there.bucket) for each in site.config.buckets if there.bucket in each.buckets]
    for other in others:
        try:
            other.client.head_object(Bucket=there.bucket, Key=probe)
        except (boto.ClientError, boto.BotoCoreError):
            continue
        raise ConfigError(
            f"{there.place} is {other.place}, which holds data or backups of this site.",
            kept="nothing of what it holds was touched",
            remedy="name a bucket that holds nothing else as scratch_bucket",
        )
    remove_below(there, probe)


def _refuse_locked(there: Endpoint) -> None:
    """Raises ConfigError where what is written would be locked by the bucket's own rule. An endpoint that has no
    locks, or does not tell, is taken as it is."""
    try:
        told = there.client.get_object_lock_configuration(Bucket=there.bucket)
    except (boto.ClientError, boto.BotoCoreError):
        return
    if (told.get("ObjectLockConfiguration") or {}).get("Rule"):
        raise ConfigError(
            f"{there.place} locks what is written there: a drill could not remove it again.",
            kept="nothing was written there",
            remedy="name a bucket without a rule for object locks as scratch_bucket",
        )


# A server


@contextlib.contextmanager
def _server(site: Site, config: BucketsConfig) -> Iterator[ScratchBuckets]:
    if not (config.docker_host or "unix:").startswith("unix:"):
        raise ConfigError(
            f"The container engine of {config.name} is on another host: a scratch S3 server there is out of reach.",
            remedy=f"name a scratch_bucket for {config.name}",
        )
    like = likeness_of(config, site.name)
    user, secret = f"drill{secrets.token_hex(8)}", secrets.token_urlsafe(30)
    environment, changed = _with_keys(like.environment, config, user, secret)
    keys = {"access_key": SecretStr(user), "secret_key": SecretStr(secret)} if changed else {}
    with leftovers.held(site.vault.state, config.name, "s3") as journal, contextlib.ExitStack() as held:
        box = like.again(journal, config.docker_host, environment)
        held.callback(box.close)
        with engine_errors("Looking at the scratch S3 server"):
            address = address_of(box.container)
            root = str(box.client.info().get("DockerRootDir") or "")
        reached = _answering(box, config.model_copy(update=keys), address, _port(config, like))
        free = shutil.disk_usage(root).free if root and Path(root).is_dir() else None
        where = f"a scratch S3 server, container {box.name} of the source's own image"
        yield ScratchBuckets(where, reached, free=free, free_in=root, alive=lambda: box.alive)


def _with_keys(
    environment: Mapping[str, str], config: BucketsConfig, user: str, secret: str
) -> tuple[dict[str, str], bool]:
    """The server's environment with new keys where it has those of the site or names its own; and whether it has.
    Where it has neither, the site's keys stand elsewhere, or any will do."""
    known = [each.get_secret_value() if each else "" for each in (config.access_key, config.secret_key)]
    made = dict(environment)
    for name, text in environment.items():
        if all(each and each in text for each in known) or text in filter(None, known):
            made[name] = text.replace(known[1], secret).replace(known[0], user)
    changed = made != dict(environment)
    for one, other in _PAIRS:
        if {one, other, f"{one}_FILE", f"{other}_FILE"} & set(environment):
            made |= {one: user, other: secret}
            made.pop(f"{one}_FILE", None)
            made.pop(f"{other}_FILE", None)
            changed = True
    return made, changed


def _port(config: BucketsConfig, like: Likeness) -> int:
    """Of S3 in the container."""
    if config.container_port:
        return config.container_port
    parts = urlsplit(config.endpoint_url or "")
    outside = parts.port or (443 if parts.scheme == "https" else 80)
    return like.ports.get(outside, outside)


def _answering(box: ContainerServer, config: BucketsConfig, address: str, port: int) -> BucketsConfig:
    """Wait until S3 answers; with which endpoint it does. A proxy in front of the source may be what speaks TLS."""
    schemes = dict.fromkeys([urlsplit(config.endpoint_url or "").scheme or "http", "http"])
    own = {"addressing": "path", "verify_tls": False}
    tried = [config.model_copy(update={**own, "endpoint_url": f"{each}://{address}:{port}"}) for each in schemes]
    deadline, said = time.monotonic() + _READY_SECONDS, "nothing listens there"
    while True:
        for each in tried if _listens(address, port) else ():
            try:
                there = Endpoint(store_config(each, "backup-flows"), "source")
                with speaking_of("list the buckets", there.place):
                    there.client.list_buckets()
                return each
            except BackupError as error:
                said = error.message
        if not box.alive:
            raise ToolFailed(f"The scratch S3 server ended while it started:\n{box.last_words()}")
        if time.monotonic() > deadline:
            raise Unreachable(
                f"The scratch S3 server does not answer at {address}:{port}: {said}",
                remedy="is that its port? Else set container_port of the source",
            )
        time.sleep(0.1)


def _listens(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=5):
        return True
    return False


__all__ = ["JOURNAL", "ScratchBuckets", "clear_prefix", "scratch_buckets", "scratch_config"]
