"""What a restore of n8n would do, before it does anything."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from engine import names
from engine.catalog import Entry
from engine.config import N8nConfig
from engine.drill.told import Told, of_drills
from engine.errors import (
    ConfigError,
    ConfirmationNeeded,
    RestoreRefused,
    UnknownName,
    WrongKey,
    nearest,
)
from engine.fallback import first_whole
from engine.manifest import Manifest
from engine.n8n.instance import Instance
from engine.n8n.parts import Item, Parts, opened, prove_key, read_parts, same_workflow, unused_tags, version_of
from engine.restore_plan import find_copies
from engine.site import Site, Target

_KEPT = "nothing was changed"
_NAMED = 50


@dataclass(frozen=True)
class N8nRequest:
    """What a person asked for.

    Attributes:
        source: Name of the source in the site; may be empty where the site has one n8n.
        backup: ``latest``, a file name, or ``before 2025-01-16T02:00:00Z``.
        location: ``auto`` (local first, then the replicas), ``local`` or a replica.
        into: Another n8n of the site, by the name of its source; empty: the one that was backed up.
        workflows: Only these, by id or name; credentials come along in any case. Empty: all.
        activate: Make those active again that were. Only where they were: never elsewhere.
        safety_backup: Before something is overwritten, back up what is there.
    """

    source: str = ""
    backup: str = "latest"
    location: str = "auto"
    into: str = ""
    workflows: tuple[str, ...] = ()
    activate: bool = False
    safety_backup: bool = True


@dataclass
class Lot:
    """What becomes of the things of one kind."""

    new: list[Item] = field(default_factory=list)
    same: list[Item] = field(default_factory=list)
    differing: list[Item] = field(default_factory=list)

    @property
    def wanted(self) -> list[Item]:
        """What is imported."""
        return [*self.new, *self.differing]


@dataclass(frozen=True)
class N8nPlan:
    """What will be done, before anything is.

    Attributes:
        into: Name of the source that is restored into.
        tags: Names of those that no workflow has; the others come with their workflows.
        activated: Ids of the workflows that are made active in the end.
        halted: Of those that are active now and are overwritten, the version, by id: an import makes them inactive.
    """

    request: N8nRequest
    target: Target
    copies: list[tuple[Entry, Manifest]]
    into: str
    where: str
    workflows: Lot
    credentials: Lot
    tags: list[str] = field(default_factory=list)
    activated: list[str] = field(default_factory=list)
    halted: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    drilled: Told = field(default_factory=Told)

    @property
    def manifest(self) -> Manifest:
        return self.copies[0][1]

    @property
    def differing(self) -> int:
        """How many living things are overwritten."""
        return len(self.workflows.differing) + len(self.credentials.differing)

    @property
    def named(self) -> list[str]:
        """What is overwritten, in words."""
        told = [f"workflow {each.get('name')} ({each['id']})" for each in self.workflows.differing]
        return told + [f"credential {each.get('name')} ({each['id']})" for each in self.credentials.differing]

    def lines(self) -> list[str]:
        """The plan in sentences, for a terminal or an approval."""
        m = self.manifest
        lines = [
            f"Backup {m.file} of {self.target}, taken {names.both_zones(m.taken_at)}: {m.holds}, of n8n "
            f"{m.contents.get('version')}, from {self.copies[0][0].location}.",
            *self.drilled.lines(),
            f"Into {self.into} at {self.where}: {_counted('workflow', self.workflows)}; "
            f"{_counted('credential', self.credentials)}.",
        ]
        if self.differing:
            safety = "First what is there is backed up. " if self.request.safety_backup else ""
            lines.append(f"{safety}These are otherwise now and are OVERWRITTEN:")
            lines += [f"  {each}" for each in self.named[:_NAMED]]
            if self.differing > _NAMED:
                lines.append(f"  and {self.differing - _NAMED:,} more")
        lines.append(
            f"Then {len(self.activated)} that were active are made active again."
            if self.activated
            else "Nothing is made active."
        )
        lines.append("What is only there stays as it is.")
        return lines + [f"Note: {note}" for note in self.notes]

    def as_dict(self) -> dict[str, Any]:
        """The plan for scripts: ids and names, never contents."""
        m = self.manifest
        return {
            "source": self.target.source, "backup": m.file, "tier": m.tier, "taken_at": names.iso(m.taken_at),
            "locations": [entry.location for entry, _ in self.copies], "into": self.into, "where": self.where,
            "workflows": _facts(self.workflows), "credentials": _facts(self.credentials),
            "overwrites": self.differing, "overwritten": self.named, "activated": self.activated, "notes": self.notes,
            **self.drilled.as_dict(),
        }  # fmt: skip


def make_plan(site: Site, request: N8nRequest) -> N8nPlan:
    """Find the backup, read it, and ask the n8n it goes into. Changes nothing.

    Raises:
        UnknownName: No such source, backup, location or workflow. RestoreRefused: that n8n is older, or would be made
            active elsewhere. WrongKey: its encryption key does not open the credentials. And what n8n says.
    """
    config = find_n8n(site, request.source)
    target = Target(config.name, config.name)
    into = find_n8n(site, request.into) if request.into else config
    if request.activate and into.name != config.name:
        raise RestoreRefused(
            f"Workflows of {config.name} are never made active in {into.name}.",
            kept=_KEPT,
            remedy="leave --activate out; make active by hand what shall run twice",
        )
    notes: list[str] = []
    found = find_copies(site, target, request.backup, request.location, notes)
    parts, copies = first_whole(found, lambda entry, manifest: parts_of(site, entry, manifest), notes)
    manifest = copies[0][1]
    instance = Instance(into, site.name)
    refuse_older(instance.version(), manifest, into.name)
    key = instance.key()
    prove_key(parts.credentials, key)
    chosen = _chosen(parts, request, manifest)
    there = instance.export("workflow")
    workflows = _lot(chosen, there, same_workflow)
    overwritten = {str(each["id"]) for each in workflows.differing}
    credentials = _lot(parts.credentials, instance.export("credentials"), partial(_same_credential, key))
    active = {str(each["id"]) for each in chosen if each.get("active")}
    if active and not request.activate:
        notes.append(f"{len(active)} of the workflows were active; they come in inactive (--activate)")
    return N8nPlan(
        request, target, copies, into.name, instance.where(), workflows, credentials,
        [] if request.workflows else unused_tags(parts), sorted(active) if request.activate else [],
        {str(each["id"]): version_of(each) for each in there if each.get("active") and str(each["id"]) in overwritten},
        notes, of_drills(site, target, copies),
    )  # fmt: skip


def check_confirmation(plan: N8nPlan, confirm: str) -> bool:
    """True when ``confirm`` approves the plan, False when it is empty.

    Raises:
        ConfirmationNeeded: It names something else.
    """
    if not confirm:
        return False
    if confirm != plan.into:
        raise ConfirmationNeeded(
            f"The confirmation {confirm!r} is not the name of the n8n that is written to, {plan.into!r}.", kept=_KEPT
        )
    return True


def find_n8n(site: Site, name: str) -> N8nConfig:
    """The n8n that is meant. Raises UnknownName; ConfigError where it is none, or one of several."""
    if name:
        found = site.config.source(name)
        if isinstance(found, N8nConfig):
            return found
        raise ConfigError(f"The source {name!r} is no n8n.", remedy="bring it back with its own command")
    if len(site.config.n8n) == 1:
        return site.config.n8n[0]
    if site.config.n8n:
        known = ", ".join(each.name for each in site.config.n8n)
        raise ConfigError(f"Site {site.name} has several n8n.", remedy=f"say which with --source: {known}")
    raise ConfigError(f"Site {site.name} backs up no n8n.", remedy="add an n8n: section to the site file")


def parts_of(site: Site, entry: Entry, manifest: Manifest) -> Parts:
    """A backup's parts, each proven. Raises IntegrityError, WrongKey, NotFound."""
    return read_parts(manifest, lambda role: site.vault.read_part(entry, manifest, role))


def _chosen(parts: Parts, request: N8nRequest, manifest: Manifest) -> list[Item]:
    if not request.workflows:
        return parts.workflows
    known = {str(each[name]): None for each in parts.workflows for name in ("id", "name")}
    missing = [each for each in request.workflows if each not in known]
    if missing:
        raise UnknownName(
            f"{manifest.file} has no workflow {missing[0]!r}.", kept=_KEPT, remedy=nearest(missing[0], list(known))
        )
    return [each for each in parts.workflows if {str(each["id"]), str(each.get("name"))} & set(request.workflows)]


def _lot(wanted: list[Item], there: list[Item], same: Any) -> Lot:
    known = {str(each["id"]): each for each in there}
    lot = Lot()
    for each in wanted:
        other = known.get(str(each["id"]))
        (lot.new if other is None else lot.same if same(each, other) else lot.differing).append(each)
    return lot


def _same_credential(key: str, one: Item, other: Item) -> bool:
    """Sealed anew at each save, so what is inside is compared. What does not open there is not the same."""
    if (one.get("name"), one.get("type")) != (other.get("name"), other.get("type")):
        return False
    try:
        return bool(opened(one, key) == opened(other, key))
    except WrongKey:
        return False


def refuse_older(version: str, manifest: Manifest, into: str) -> None:
    """Raises RestoreRefused where that version of n8n is older than the one of the backup."""
    made = str(manifest.contents.get("version") or "")
    if _numbers(version) < _numbers(made):
        raise RestoreRefused(
            f"{into} is n8n {version}, older than the {made} that {manifest.file} was made of.",
            kept=_KEPT,
            remedy=f"upgrade it to n8n {made} or newer, then restore",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in re.findall(r"\d+", version)[:3])


def _counted(what: str, lot: Lot) -> str:
    return f"{len(lot.new)} new {what}s, {len(lot.same)} there as they were, {len(lot.differing)} overwritten"


def _facts(lot: Lot) -> dict[str, list[str]]:
    return {name: [str(each["id"]) for each in getattr(lot, name)] for name in ("new", "same", "differing")}
