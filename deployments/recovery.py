"""A site from nothing but a bucket and a key: its site file found there, and what it refers to filled in.

    place = Bucket.of(environment, bucket="workset-backups")
    found = recover(place, passphrase)
    site = resolve(found, place, passphrase, environment)

Names that the environment does not have are looked for in the backups themselves: in the ``.env`` files among the
config files, and in the recorded environments of the containers.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deployments import site_file, yaml_lines
from deployments.environment import fill, read_dotenv_text
from engine import sealed
from engine.codec import KeyRing
from engine.config import ObjectStoreConfig, SiteConfig
from engine.errors import BackupError, ConfigError
from engine.sealed import Sealed, SiteText
from engine.stores import S3Store

KEY_NAMES = ("BACKUP_ENCRYPTION_KEY",)
_NAMES = {
    "bucket": ("BACKUPS_BUCKET", "DO_SPACES_BUCKET", "AWS_S3_BUCKET"),
    "endpoint_url": ("BACKUPS_ENDPOINT",),
    "region": ("BACKUPS_REGION", "DO_SPACES_REGION", "AWS_REGION"),
    "access_key": ("BACKUPS_ACCESS_KEY", "DO_SPACES_KEY", "DO_SPACES_ACCESS_KEY", "AWS_ACCESS_KEY"),
    "secret_key": ("BACKUPS_SECRET_KEY", "DO_SPACES_SECRET", "DO_SPACES_SECRET_KEY", "AWS_SECRET_KEY"),
}
"""Where each is taken from, the first that is set; those of the ready sites among them."""
_REFERENCE = re.compile(r"^\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-[^}]*)?\}$")
_ANY = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}")
_STAND_IN = "1"
"""For a value that is not known yet: text, a number and a key all take it. Nothing is connected to with it."""


@dataclass(frozen=True)
class Bucket:
    """Where the backups are.

    Attributes:
        prefix: Only keys that begin so are listed, where the site file is looked for.
    """

    config: ObjectStoreConfig
    prefix: str = ""

    @classmethod
    def of(
        cls, env: Mapping[str, str], *, bucket: str = "", endpoint: str = "", region: str = "", prefix: str = "",
        addressing: str = "auto",
    ) -> Bucket:  # fmt: skip
        """From what was given, and the environment. Credentials come from there alone.

        Raises:
            ConfigError: Something is not there; names all that is missing.
        """
        given = {"bucket": bucket, "endpoint_url": endpoint, "region": region}
        values = {name: given.get(name) or _first(env, names) for name, names in _NAMES.items()}
        if not values["endpoint_url"] and values["region"] and any(env.get(each) for each in _NAMES["bucket"][1:2]):
            values["endpoint_url"] = f"https://{values['region']}.digitaloceanspaces.com"
        lacking = [names[0] for name, names in _NAMES.items() if name in _NEEDED and not values[name]]
        lacking += [] if passphrase_of(env) else list(KEY_NAMES)
        if lacking:
            raise ConfigError(
                f"To find the backups these are needed, and are not set: {', '.join(lacking)}.",
                kept="nothing was changed",
                remedy="export them (BACKUPS_ENDPOINT and BACKUPS_REGION, too, where it is not AWS); or give a site "
                "file with -f",
            )
        filled = {name: value for name, value in values.items() if value}
        try:
            config = ObjectStoreConfig.model_validate({"name": "recovered", "addressing": addressing, **filled})
        except ValidationError as error:
            wrong = error.errors(include_input=False, include_url=False)[0]
            raise ConfigError(
                f"The bucket's place is not right: {wrong['msg'].removeprefix('Value error, ')}.",
                kept="nothing was changed",
                remedy="correct BACKUPS_BUCKET, BACKUPS_ENDPOINT or BACKUPS_REGION, or --bucket, --endpoint, --region",
            ) from None
        return cls(config, prefix)


_NEEDED = ("bucket", "access_key", "secret_key")


def passphrase_of(env: Mapping[str, str]) -> str:
    """The key, from the environment; empty where it is not there."""
    return _first(env, KEY_NAMES)


def _first(env: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((env[name] for name in names if env.get(name)), "")


@dataclass
class Recovered:
    """A site that was put together from its backups.

    Attributes:
        found: Where the site file stood; site_text: what it says.
        notes: What was left out of it, for a person.
        sources: Where each name came from that the environment did not have, in words; no values.
    """

    found: Sealed
    site_text: SiteText
    notes: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)


def recover(
    place: Bucket, passphrase: str, *, site: str = "", before: datetime | None = None, point: str = ""
) -> Recovered:
    """Find the newest site file in a bucket, or that of a recovery point, and open it. See ``sealed.choose``.

    Raises:
        UnknownName: There is none. WrongKey, IntegrityError. And what the store raises.
    """
    store = S3Store(place.config)
    found = sealed.choose(sealed.listed(store, place.prefix), site, before, store.describe(), point)
    data = store.get(found.key)
    key_id = sealed.key_id_of(data)
    text = sealed.open_sealed(data, KeyRing({key_id: passphrase}, key_id), found)
    return Recovered(found, text)


def names_in(text: str) -> list[str]:
    """The names that a site file refers to, sorted."""
    return sorted({found[1] for line in _without_comments(text) for found in _ANY.finditer(line)})


def _without_comments(text: str) -> Iterator[str]:
    yield from (re.sub(r"(^|\s)#.*$", "", line) for line in text.splitlines())


def resolve(recovered: Recovered, place: Bucket, passphrase: str, env: Mapping[str, str], file: Path) -> SiteConfig:
    """The site as it can be worked with now: its copy in this bucket first of all.

    Args:
        file: Where the site file was written to; named in messages, and a ``.env`` beside it counts.

    Raises:
        ConfigError: Names are not set that no backup tells, or the file is wrong.
    """
    document = yaml_lines.parse(recovered.site_text.text, str(file))
    values = site_file.environment(file, env)
    replica = _own_replica(document.data, place, values, recovered)
    _drop_others(document.data, replica, values, recovered)
    values |= _given(document.data, replica, place, passphrase, recovered.site_text.key_id, values)
    unset = fill(document.data, values).unset
    if unset:
        values |= _from_backups(document.data, sorted(unset), replica, place, values, recovered)
    return _with_place(site_file.validated(document, file, values), replica, place)


def _own_replica(data: Any, place: Bucket, values: Mapping[str, str], recovered: Recovered) -> int:
    """Which of the site's replicas is this bucket: by its name, else by the folder the site file stood in."""
    replicas = _replicas(data)
    if not replicas:
        raise ConfigError(
            "The site file in the bucket names no replicas, so it does not say how files are called there.",
            remedy="write a site file with this bucket as a replica, and give it with -f",
        )
    for number, each in enumerate(replicas):
        if fill(each.get("bucket"), values).data == place.config.bucket:
            return number
    for number, each in enumerate(replicas):
        base = str(each.get("path") or "").split("{")[0].strip("/")
        if recovered.found.key.startswith(f"{base}/{sealed.FOLDER}/" if base else f"{sealed.FOLDER}/"):
            return number
    return 0


def _replicas(data: Any) -> list[dict[str, Any]]:
    vault = data.get("vault") if isinstance(data, dict) else None
    found = vault.get("replicas") if isinstance(vault, dict) else None
    return [each for each in found or [] if isinstance(each, dict)]


def _drop_others(data: Any, replica: int, values: Mapping[str, str], recovered: Recovered) -> None:
    """Other copies whose credentials nobody gave are left out, and keys of old backups that are not there."""
    replicas = _replicas(data)
    kept = []
    for number, each in enumerate(replicas):
        if number != replica and fill(each, values).unset:
            recovered.notes.append(f"the replica {each.get('name')!r} is left out: its names are not set")
        else:
            kept.append((number, each))
    data["vault"]["replicas"] = [each for _, each in sorted(kept, key=lambda pair: pair[0] != replica)]


def _given(
    data: Any, replica: int, place: Bucket, passphrase: str, key_id: str, values: Mapping[str, str]
) -> dict[str, str]:
    """Names of the site file whose values were given for finding it: credentials, bucket, region, key."""
    config = place.config
    told = {
        "bucket": config.bucket, "region": config.region, "endpoint_url": config.endpoint_url or "",
        "access_key": config.access_key.get_secret_value() if config.access_key else "",
        "secret_key": config.secret_key.get_secret_value() if config.secret_key else "",
    }  # fmt: skip
    found: dict[str, str] = {}
    own = data["vault"]["replicas"][0]
    for name, value in told.items():
        _take(own.get(name), value, values, found)
    ring = data["vault"].get("keys")
    keys = ring.get("keys", ring) if isinstance(ring, dict) else {}
    if isinstance(keys, dict):
        _take(keys.get(key_id), passphrase, values, found)
        for other in [each for each in keys if each not in ("current", key_id)]:
            if fill(keys[other], {**values, **found}).unset:
                del keys[other]
    return found


def _take(written: Any, value: str, values: Mapping[str, str], found: dict[str, str]) -> None:
    reference = _REFERENCE.match(written) if isinstance(written, str) else None
    if reference and value and not values.get(reference[1]):
        found[reference[1]] = value


def _with_place(config: SiteConfig, replica: int, place: Bucket) -> SiteConfig:
    """The site with this bucket as it was given: it may be reached otherwise than from the machine that was lost."""
    given = place.config
    own = config.vault.replicas[0].model_copy(
        update={
            "bucket": given.bucket, "endpoint_url": given.endpoint_url, "region": given.region,
            "access_key": given.access_key, "secret_key": given.secret_key, "addressing": given.addressing,
        }
    )  # fmt: skip
    vault = config.vault.model_copy(update={"replicas": [own, *config.vault.replicas[1:]]})
    return config.model_copy(update={"vault": vault})


def _from_backups(
    data: Any, unset: list[str], replica: int, place: Bucket, values: Mapping[str, str], recovered: Recovered
) -> dict[str, str]:
    """Values of names that the environment lacks, from the backups; recovered.sources says where from."""
    stand_ins = dict.fromkeys(unset, _STAND_IN)
    document = yaml_lines.Document(data, {})
    try:
        config = site_file.validated(document, Path(recovered.found.key), {**values, **stand_ins})
    except ConfigError:
        return {}
    found: dict[str, str] = {}
    from engine.site import Site

    with contextlib.suppress(ConfigError), Site(_with_place(config, replica, place)) as site:
        for where, known in _told_by_backups(site):
            for name in unset:
                if name not in found and known.get(name):
                    found[name], recovered.sources[name] = known[name], where
    return found


def _told_by_backups(site: Any) -> Iterator[tuple[str, dict[str, str]]]:
    from engine.config_files.peek import dotenv_files
    from engine.images.load import open_record
    from engine.restore_plan import find_copies
    from engine.site import Target

    for files in site.config.config:
        with contextlib.suppress(BackupError):
            for path, text in dotenv_files(site, files.name):
                with contextlib.suppress(ConfigError):
                    yield f"{path} in the backup of {files.name}", read_dotenv_text(text, path)
    for images in site.config.images:
        with contextlib.suppress(BackupError):
            entry, manifest = find_copies(site, Target(images.name, images.name), "latest", "auto", [])[0]
            for container in open_record(site, entry, manifest).containers:
                yield f"the environment of the container {container.name}", container.environment


__all__ = ["Bucket", "Recovered", "names_in", "passphrase_of", "recover", "resolve"]
