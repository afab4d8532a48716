"""What a restore of a bucket would do, before it does anything. The list is streamed, never held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from engine import names
from engine.buckets import record, tagless, unset
from engine.buckets.disk_map import DiskMap
from engine.buckets.endpoint import Endpoint
from engine.buckets.record import Record
from engine.buckets.standing import Standing
from engine.catalog import Entry
from engine.config import BucketsConfig
from engine.config_files.source import shown
from engine.drill.told import Told, of_drills
from engine.errors import (
    ConfigError,
    ConfirmationNeeded,
    RestoreRefused,
    UnknownName,
    nearest,
)
from engine.fallback import first_whole
from engine.manifest import Manifest
from engine.progress import Progress, silent
from engine.restore_plan import find_copies
from engine.site import Site, Target

_NAMED = 200
_KEPT = "nothing was changed"
_LONGEST_BUCKET = 63
_SETTLES = timedelta(seconds=2)


@dataclass(frozen=True)
class BucketRequest:
    """What a person asked for.

    Attributes:
        bucket: As the site file calls it; may be empty where the site has one.
        source: Name of the source in the site; may be empty where the bucket's name tells.
        backup: ``latest``, a file name, or ``before 2025-01-16T02:00:00Z``.
        location: ``auto`` (local first, then the replicas), ``local`` or a replica.
        endpoint: Another source of buckets, or a replica, at whose endpoint the objects are put; empty: where they
            were.
        into: The bucket they are put into, made if it is not there. Empty: a new one named after the old one and the
            time; with ``under`` the bucket they came from.
        under: Put before every key, such as ``restored/``.
        prefix: Only objects whose keys begin so.
        objects: Only these keys.
        settings: Set versioning, CORS and policy as they were, too. Done anyway where a lost bucket is made again, and
            where a restore that made it broke off before they were set.
        safety_backup: Before objects are overwritten, take a snapshot of the bucket they are in.
    """

    bucket: str = ""
    source: str = ""
    backup: str = "latest"
    location: str = "auto"
    endpoint: str = ""
    into: str = ""
    under: str = ""
    prefix: str = ""
    objects: tuple[str, ...] = ()
    settings: bool = False
    safety_backup: bool = True

    def wants(self, key: str) -> bool:
        """Is this object restored?"""
        if self.objects and key not in self.objects:
            return False
        return key.startswith(self.prefix)


@dataclass(frozen=True)
class BucketPlan:
    """What will be done, before anything is.

    Attributes:
        into: The bucket; ``makes`` says that it is made.
        where: It, in words.
        objects, bytes: What is restored.
        new, same: How many of them are not there yet, and how many stand there as they were.
        differing: How many stand there otherwise and are overwritten; ``named`` has the first of them.
        settings: Versioning, CORS and policy are set.
        tagged: How many of the objects have tags.
    """

    request: BucketRequest
    target: Target
    copies: list[tuple[Entry, Manifest]]
    into: str
    where: str
    makes: bool
    objects: int = 0
    bytes: int = 0
    new: int = 0
    same: int = 0
    differing: int = 0
    named: list[str] = field(default_factory=list)
    settings: bool = False
    notes: list[str] = field(default_factory=list)
    tagged: int = 0
    drilled: Told = field(default_factory=Told)

    @property
    def manifest(self) -> Manifest:
        return self.copies[0][1]

    def lines(self) -> list[str]:
        """The plan in sentences, for a terminal or an approval."""
        m, asked = self.manifest, self.request
        lines = [
            f"Snapshot {m.file} of {self.target}, taken {names.both_zones(m.taken_at)}: {m.holds}, "
            f"from {self.copies[0][0].location}.",
            *self.drilled.lines(),
        ]
        only = [
            *([f"those that begin with {shown(asked.prefix)!r}"] if asked.prefix else []),
            *map(shown, asked.objects),
        ]
        if only:
            lines.append(f"Only: {', '.join(only[:20])}{f' and {len(only) - 20} more' if len(only) > 20 else ''}.")
        under = f", below {shown(asked.under)!r}" if asked.under else ""
        lines.append(
            f"{self.objects:,} objects, {self.bytes:,} bytes, go into {'the new bucket ' if self.makes else ''}"
            f"{self.where}{under}: {self.new:,} new, {self.same:,} there as they were."
        )
        if self.differing:
            safety = "First a snapshot of that bucket is taken. " if asked.safety_backup else ""
            lines.append(f"{safety}{self.differing:,} objects that are otherwise now are OVERWRITTEN:")
            lines += [f"  {name}" for name in self.named]
            if self.differing > len(self.named):
                lines.append(f"  and {self.differing - len(self.named):,} more")
        if self.settings:
            lines.append("Versioning, CORS and policy of the bucket are set as they were.")
        lines.append("What is only there stays as it is.")
        return lines + [f"Note: {note}" for note in self.notes]

    def as_dict(self) -> dict[str, Any]:
        """The plan for scripts."""
        m = self.manifest
        return {
            "source": self.target.source, "bucket": self.target.database, "backup": m.file, "tier": m.tier,
            "taken_at": names.iso(m.taken_at), "locations": [entry.location for entry, _ in self.copies],
            "into": self.into, "where": self.where, "makes": self.makes, "under": self.request.under,
            "objects": self.objects, "bytes": self.bytes, "new": self.new, "same": self.same,
            "overwrites": self.differing, "overwritten": self.named, "settings": self.settings, "notes": self.notes,
            **self.drilled.as_dict(),
        }  # fmt: skip


def make_plan(site: Site, request: BucketRequest, *, progress: Progress = silent) -> BucketPlan:
    """Find the snapshot, read its list, look at what stands where it goes. Changes nothing.

    Raises:
        UnknownName: No such source, bucket, backup, location, endpoint or object. ConfigError: several could be meant.
        RestoreRefused: It would be put among the backups. IntegrityError, WrongKey, CredentialsRefused, Unreachable.
    """
    config, bucket = find_bucket(site, request.source, request.bucket)
    target = Target(config.name, bucket)
    notes: list[str] = []
    copies = find_copies(site, target, request.backup, request.location, notes)
    into = _into(request, bucket)
    there = destination(site, request, target.source, into)
    makes = not there.exists()
    _, copies = first_whole(copies, lambda *copy: next(selected(site, copy, BucketRequest()), None), notes)
    counted = _survey(site, copies[0], request, there, makes, progress)
    manifest = copies[0][1]
    own = into == bucket and (makes or unset.is_waiting(site.vault, there))
    wanted = request.settings or own
    if not wanted and any(manifest.contents.get(each) for each in ("versioning", "policy", "cors")):
        notes.append("the bucket had versioning, a policy or CORS rules; only restore-bucket --settings sets them")
    elsewhere = manifest.contents.get("endpoint") != there.place.endpoint
    if (
        counted["tagged"] and elsewhere
        and tagless.keeps_tags(_beside(site, request, target.source, there, makes)) is False
    ):  # fmt: skip
        notes.append(tagless.told(there, counted["tagged"]))
    lacking = sorted(manifest.key_ids.difference(site.vault.keys.ids))
    if lacking:
        notes.append(f"the ring lacks {', '.join(lacking)}: what that wrote cannot be restored until it is put back")
    if manifest.incomplete:
        notes.append(f"the snapshot lacks {len(manifest.incomplete)}: {'; '.join(manifest.incomplete[:5])}")
    return BucketPlan(
        request, target, copies, into, str(there.place), makes, settings=wanted, notes=notes,
        drilled=of_drills(site, target, copies), **counted,
    )  # fmt: skip


def check_confirmation(plan: BucketPlan, confirm: str) -> bool:
    """True when ``confirm`` approves the plan, False when it is empty.

    Raises:
        ConfirmationNeeded: It names something else.
    """
    if not confirm:
        return False
    if confirm != plan.into:
        raise ConfirmationNeeded(
            f"The confirmation {confirm!r} is not the name of the bucket that is written to, {plan.into!r}.", kept=_KEPT
        )
    return True


def find_bucket(site: Site, source: str, bucket: str) -> tuple[BucketsConfig, str]:
    """Whose bucket is meant, and which.

    Raises:
        UnknownName: No such source or bucket in the site. ConfigError: it is none of buckets, or one of several.
    """
    if source:
        found = site.config.source(source)
        if not isinstance(found, BucketsConfig):
            raise ConfigError(f"The source {source!r} holds no buckets.", remedy="bring it back with its own command")
        configs = [found]
    else:
        configs = site.config.buckets
    if not configs:
        raise ConfigError(f"Site {site.name} backs up no buckets.", remedy="add a buckets: section to the site file")
    known = [(config, each) for config in configs for each in config.buckets]
    chosen = [each for each in known if each[1] == bucket] if bucket else known
    if not chosen:
        raise UnknownName(
            f"Site {site.name} backs up no bucket {bucket!r}.",
            remedy=nearest(bucket, sorted({each for _, each in known})),
        )
    if len(chosen) > 1:
        choices = ", ".join(f"--source {config.name} --bucket {each}" for config, each in chosen)
        raise ConfigError("More than one bucket could be meant.", remedy=f"say which: {choices}")
    return chosen[0]


def destination(site: Site, request: BucketRequest, source: str, into: str) -> Endpoint:
    """The bucket that is written to.

    Raises:
        UnknownName: The site has no such source or replica. RestoreRefused: backups stand there.
    """
    name = request.endpoint or source
    sources = {each.name: each for each in site.config.buckets}
    if name in sources:
        there = Endpoint.of(sources[name], into)
    else:
        replicas = {each.name: each for each in site.config.vault.replicas}
        if name not in replicas:
            raise UnknownName(
                f"Site {site.name} has no endpoint {name!r}.", kept=_KEPT, remedy=nearest(name, [*sources, *replicas])
            )
        there = Endpoint(replicas[name].model_copy(update={"bucket": into}), "replica")
    for each in site.config.vault.replicas:
        if each.bucket == into and Endpoint(each, "replica").place.endpoint == there.place.endpoint:
            raise RestoreRefused(
                f"{there.place} holds this site's backups ({each.name}).",
                kept=_KEPT,
                remedy="restore into another bucket",
            )
    return there


def _beside(site: Site, request: BucketRequest, source: str, there: Endpoint, makes: bool) -> list[Endpoint]:
    """Buckets at the endpoint that is written to, by which one can see what it is like."""
    name = request.endpoint or source
    found = [] if makes else [there]
    found += [Endpoint.of(each, bucket) for each in site.config.buckets if each.name == name for bucket in each.buckets]
    return found + [Endpoint(each, "replica") for each in site.config.vault.replicas if each.name == name]


def selected(site: Site, copy: tuple[Entry, Manifest], request: BucketRequest) -> Iterator[Record]:
    """The objects of a snapshot that are restored, in the list's order."""
    entry, manifest = copy
    with closing(site.vault.read_part(entry, manifest)) as plain:
        for each in record.records(plain, manifest.file):
            if request.wants(each.key):
                yield each


def untouched_before(there: Endpoint, manifest: Manifest, request: BucketRequest) -> str:
    """Where the objects go back to the very keys they came from: the moment before which a time of last change tells
    one version from another. Else nothing."""
    came_from = manifest.contents.get("endpoint"), manifest.database
    own = came_from == (there.place.endpoint, there.bucket) and not request.under
    return names.iso(manifest.started_at - _SETTLES) if own else ""


def _into(request: BucketRequest, bucket: str) -> str:
    if request.into or request.under:
        return request.into or bucket
    tail = f"-restored-{names.now():%Y%m%d-%H%M%S}"
    return bucket[: _LONGEST_BUCKET - len(tail)].rstrip(".-") + tail


def _survey(
    site: Site, copy: tuple[Entry, Manifest], request: BucketRequest, there: Endpoint, makes: bool, progress: Progress
) -> dict[str, Any]:
    """Count what is new, the same, and otherwise."""
    counts = {"new": 0, "same": 0, "differing": 0}
    size = tagged = 0
    named: list[str] = []
    missing = set(request.objects)
    with DiskMap() as listed:
        standing = Standing(there, listed, request.under, fill=not makes, own=untouched_before(there, copy[1], request))
        for each, how in standing.compare(selected(site, copy, request)):
            counts[how] += 1
            size += each.size
            tagged += bool(each.tags)
            missing.discard(each.key)
            if how == "differing" and len(named) < _NAMED:
                named.append(shown(request.under + each.key))
            progress(f"look at {there.bucket}", size)
    objects = sum(counts.values())
    if missing or (request.prefix and not objects):
        raise _no_object(site, copy, sorted(missing)[0] if missing else request.prefix)
    return {"objects": objects, "bytes": size, "named": named, "tagged": tagged, **counts}


def _no_object(site: Site, copy: tuple[Entry, Manifest], wanted: str) -> UnknownName:
    start = wanted[: max(1, len(wanted) // 2)]
    near: list[str] = []
    for each in selected(site, copy, BucketRequest()):
        if each.key.startswith(start) and len(near) < 5000:
            near.append(shown(each.key))
    hint = nearest(shown(wanted), near) if near else "look at what it holds: backups decrypt prints its list"
    return UnknownName(f"{copy[1].file} has no object {shown(wanted)!r}.", kept=_KEPT, remedy=hint[:500])
