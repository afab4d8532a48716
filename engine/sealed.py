"""The site file, sealed into each recovery point: bucket and key are enough to know what the machine was.

A sealed site file is one signed JSON document, ``<the site's folder>/site-file/<site>.<recovery point>.json``, in the
local root and at every replica. The text is encrypted as every backup is, and stands in it in base64:

    jq -r .sealed FILE | base64 -d | openssl enc -d -aes-256-cbc -pbkdf2 -pass env:BACKUP_ENCRYPTION_KEY | gunzip

Names of secrets (``${MYSQL_ROOT_PASSWORD}``) stay names: what the site file refers to is not in it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from engine import names
from engine.codec import Encoder, KeyRing, decode
from engine.config import SiteConfig
from engine.errors import IntegrityError, UnknownName, nearest
from engine.layout import Layout
from engine.manifest import StoredFile
from engine.signed import seal, unseal
from engine.stores.base import Store
from engine.vault import LOCAL, Vault

FOLDER = "site-file"
TYPE = "site-file"
_KEY = re.compile(
    rf"(?:^|/){FOLDER}/(?P<site>[a-z0-9][a-z0-9-]*)\.(?P<point>(?P<stamp>\d{{8}}_\d{{6}})-[0-9a-f]{{8}})\.json$"
)
_SPARED = 3
"""This many of the newest stay, whatever retention does."""
_ONE_RUN = timedelta(days=1)


@dataclass(frozen=True, order=True)
class Sealed:
    """A sealed site file as its name tells; nothing is proven by it.

    Attributes:
        at: When its recovery point began, UTC.
    """

    at: datetime
    site: str
    point: str
    key: str


@dataclass(frozen=True)
class SiteText:
    """A site file that was opened, and proven to be as it was sealed."""

    site: str
    point: str
    at: datetime
    text: str
    key_id: str


def seal_site(vault: Vault, text: str, point: str, tier: str = "") -> str:
    """Seal a site file into a recovery point, in the local root; its key. Of hourly runs only the first of a day has
    one of its own: that of the newest point before counts for the others."""
    vault.check()
    layout, store = vault.layout(LOCAL), vault.store(LOCAL)
    if tier == "hourly":
        lately = names.now() - timedelta(hours=23)
        newest = max(listed(store, folder_of(layout), vault.site), default=None)
        if newest is not None and newest.at > lately:
            return newest.key
    key = key_of(layout, point)
    if store.stat(key) is None:
        store.put(key, sealed_bytes(vault.keys, vault.site, text, point))
    return key


def sealed_bytes(keys: KeyRing, site: str, text: str, point: str) -> bytes:
    """The document, ready to store."""
    stored = bytearray()
    encoder = Encoder(stored.extend, keys)
    encoder.write(text.encode() or b"\n")
    told = encoder.stored(encoder.finish(), file=f"{site}.yaml.gz.enc", role="data")
    body = {
        "type": TYPE,
        "format": 1,
        "site": site,
        "recovery_point": point,
        "at": names.iso(names.now()),
        "stored": told.model_dump(mode="json"),
        "sealed": base64.b64encode(stored).decode(),
    }
    return seal(body, keys, keys.current)


def copy_sealed(vault: Vault, replica: str) -> list[str]:
    """Give a replica every sealed site file that it lacks; their keys there. Where the replica locks, the newest is
    locked for as long as backups of now are: it counts for them. Raises what the store does."""
    here, there = vault.layout(LOCAL), vault.layout(replica)
    store, target = vault.store(LOCAL), vault.store(replica)
    known = {each.point for each in listed(target, folder_of(there), vault.site)}
    done = []
    for each in listed(store, folder_of(here), vault.site):
        if each.point not in known:
            key = key_of(there, each.point)
            target.put(key, store.get(each.key))
            done.append(key)
    locks = vault.object_locks.get(replica)
    newest = max((*known, *(found.point for each in done if (found := of_key(each)))), default="")
    if locks is not None and newest:
        target.retain(key_of(there, newest), locks.lasting(names.now()))
    return done


def expire(vault: Vault, location: str, oldest: datetime) -> list[str]:
    """Remove the sealed site files of a place that belong to no backup any more; their keys. The newest few stay.

    Args:
        oldest: Of the backups that the place keeps.
    """
    store = vault.store(location)
    every = sorted(listed(store, folder_of(vault.layout(location)), vault.site))
    gone = [each for each in every[:-_SPARED] if each.at < oldest - _ONE_RUN]
    for each in gone:
        store.delete(each.key)
    return [each.key for each in gone]


def listed(store: Store, prefix: str = "", site: str = "") -> Iterator[Sealed]:
    """Every sealed site file below a prefix, in key order, by names alone. Without a prefix the whole store is
    listed: that is all it takes to find one."""
    for info in store.list(prefix):
        found = of_key(info.key)
        if found is not None and site in ("", found.site):
            yield found


def of_key(key: str) -> Sealed | None:
    """A sealed site file by its key, or None when it is none's."""
    found = _KEY.search(key)
    at = _moment(found["stamp"]) if found else None
    return Sealed(at, found["site"], found["point"], key) if found and at is not None else None


def choose(
    found: Iterable[Sealed], site: str = "", before: datetime | None = None, place: str = "", point: str = ""
) -> Sealed:
    """The newest, or the newest of recovery points that began by then; or the one that counts for a recovery point:
    its own, else the newest from before it (of hourly runs not each has one), else the oldest.

    Raises:
        UnknownName: There is none; or several sites' are there, and none was named.
    """
    every = sorted(found)
    sites = sorted({each.site for each in every})
    if not every:
        raise UnknownName(
            f"There is no sealed site file in {place}.",
            kept="nothing was changed",
            remedy="is it the right bucket? Where there is none, give a site file with -f",
        )
    if site and site not in sites:
        raise UnknownName(f"{place} has no site file of {site!r}.", remedy=nearest(site, sites))
    if not site and len(sites) > 1:
        raise UnknownName(
            f"{place} has the backups of several sites: {', '.join(sites)}.", remedy="say which one: --site NAME"
        )
    if point:
        return _of_point([each for each in every if each.site == (site or sites[0])], point)
    wanted = [each for each in every if each.site == (site or sites[0]) and (before is None or each.at <= before)]
    if not wanted:
        first = min(each for each in every if each.site == (site or sites[0]))
        raise UnknownName(
            f"{place} has no site file of {first.site} from then or before.",
            remedy=f"the oldest is of {names.both_zones(first.at)}",
        )
    return wanted[-1]


def _of_point(every: list[Sealed], point: str) -> Sealed:
    own = next((each for each in every if each.point == point), None)
    at = _moment(point[:15])
    before = [each for each in every if at is None or each.at <= at]
    return own or (before[-1] if before else every[0])


def key_id_of(data: bytes) -> str:
    """Which key a stored document says that it was sealed with: unproven, to build a ring for ``open_sealed``."""
    try:
        return str(json.loads(data)["signature"]["key_id"])
    except (ValueError, KeyError, TypeError):
        raise IntegrityError("The sealed site file is damaged: it is not a signed document.") from None


def open_sealed(data: bytes, keys: KeyRing, found: Sealed) -> SiteText:
    """Check a stored document, and decrypt the site file.

    Raises:
        WrongKey: It was sealed with another key. IntegrityError: altered, damaged, or of another recovery point.
    """
    what = f"The sealed site file {found.key.rsplit('/', 1)[-1]}"
    body = unseal(data, keys, what=what, needed_for=what)
    if (body.get("type"), body.get("site"), body.get("recovery_point")) != (TYPE, found.site, found.point):
        raise IntegrityError(f"{what} was written for another recovery point: it was moved there.")
    try:
        stored = StoredFile.model_validate(body["stored"])
        chunks = [base64.b64decode(body["sealed"], validate=True)]
        text = b"".join(decode(iter(chunks), stored, keys)).decode()
    except (ValidationError, KeyError, TypeError, binascii.Error, UnicodeDecodeError):
        raise IntegrityError(f"{what} is damaged.") from None
    return SiteText(found.site, found.point, found.at, text, stored.cipher.key_id)


def folder_of(layout: Layout) -> str:
    """Where a layout keeps them, with a slash at its end."""
    return "/".join(each for each in (layout.base, FOLDER) if each) + "/"


def key_of(layout: Layout, point: str) -> str:
    """Key of the site file of a recovery point."""
    return f"{folder_of(layout)}{layout.site}.{point}.json"


def written_out(config: SiteConfig) -> str:
    """A site file for a site that has none of its own: all that is not a default, secrets as ``${NAME}``."""
    return yaml.safe_dump(_plain(config, ()), sort_keys=False, allow_unicode=True)


def _plain(value: Any, path: tuple[str, ...]) -> Any:
    if isinstance(value, SecretStr):
        return "${" + re.sub(r"[^A-Z0-9]+", "_", "_".join(path).upper()) + "}"
    if isinstance(value, BaseModel):
        given = {name: getattr(value, name) for name in value.model_fields_set}
        identity = {name: getattr(value, name) for name in ("name", "site") if hasattr(value, name)}
        return {name: _plain(each, (*path, name)) for name, each in {**identity, **given}.items() if each is not None}
    if isinstance(value, dict):
        return {str(name): _plain(each, (*path, str(name))) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, (*path, str(getattr(each, "name", number)))) for number, each in enumerate(value)]
    return value


def _moment(stamp: str) -> datetime | None:
    try:
        return datetime.strptime(stamp, names.STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
