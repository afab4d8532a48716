"""Doing what a prune has planned: marks first, removal a day later, one place after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from engine import marks, names, sealed
from engine.buckets.sweeping import Swept, sweep_contents
from engine.catalog import Entry
from engine.errors import BackupError, IntegrityError, LockHeld, NotFound, Retained, WrongKey
from engine.leases import Hold
from engine.progress import Progress, silent
from engine.prune.contents import CARRIED, EXPIRED, KEEP, PINNED, REPRIEVED, WITHHELD, Contents
from engine.prune.plan import ALL, GRACE, PlacePlan, Planned, look, places
from engine.prune.record import last_runs, remember
from engine.removal import remove
from engine.retention.brakes import LastRun, group_of
from engine.retention.judge import Item
from engine.site import Site
from engine.vault import Vault

_LOCKS = {names.BINLOGS: "@binlogs", names.WAL: "wal shipping", names.BASE: "base backup"}
"""What the runs that write these hold; for any other tier the database's own name."""


def prune(
    site: Site,
    *,
    location: str = ALL,
    source: str = "",
    confirmed: bool = False,
    now: datetime | None = None,
    progress: Progress = silent,
) -> list[PlacePlan]:
    """Judge every place and carry it out; the plans say what was done, and what could not be.

    A removal that an earlier run broke off is finished first. See ``look`` for the arguments. A place that a run on
    another host prunes is left to that; its plan says so.

    Raises:
        LockHeld: Another prune of this host is at work. UnknownName. ConfigError: the vault cannot be written to.
    """
    vault = site.vault
    vault.check()
    with vault.pruning(), contextlib.ExitStack() as leases:
        vault.finish_removals()
        holds = {place: _held(vault, place, leases) for place in places(site, location)}
        plans = look(site, location=location, source=source, confirmed=confirmed, now=now)
        runs = last_runs(vault.state)
        for plan in plans:
            hold = holds[plan.location]
            if plan.contents is None or plan.error is not None:
                continue
            if isinstance(hold, BackupError):
                plan.error, plan.planned = hold, []
                continue
            try:
                _carry_out(vault, plan, plan.contents, hold, progress)
                plan.swept = _sweep(site, plan, source)
                hold.check("what this run did was noted")
            except BackupError as error:
                plan.error = error
                continue
            if not plan.brake:
                runs[plan.location] = _left(plan, runs.get(plan.location, LastRun()))
                _expire_site_files(vault, plan)
        remember(vault.state, runs)
    return plans


def _held(vault: Vault, place: str, leases: contextlib.ExitStack) -> Hold | BackupError:
    """What keeps the prunes of other hosts away from a place, or why it cannot be had."""
    try:
        return leases.enter_context(vault.pruning_in(place))
    except BackupError as error:
        return error


def _sweep(site: Site, plan: PlacePlan, source: str) -> list[Swept]:
    """The contents of buckets, of which a list may just have gone."""
    if plan.brake:
        return []
    return [
        sweep_contents(site.vault, plan.location, config.name, bucket, now=plan.now)
        for config in site.config.buckets
        if source in ("", config.name)
        for bucket in sorted({each.item.name for each in plan.planned if each.item.source == config.name})
    ]


def _carry_out(vault: Vault, plan: PlacePlan, held: Contents, hold: Hold, progress: Progress) -> None:
    todo = [each for each in plan.planned if each.action in ("expire", "reprieve", "remove")]
    groups: dict[str, list[Planned]] = {}
    for number, each in enumerate(todo):
        progress(f"prune {plan.location}", number, len(todo))
        if each.action == "remove":
            groups.setdefault(group_of(each.item), []).append(each)
        else:
            hold.check(f"{each.item.file} was marked")
            kind = EXPIRED if each.action == "expire" else REPRIEVED
            _mark(vault, plan, held.entries[each.item.key], kind, each.reason)
            if kind == EXPIRED:
                each.until = plan.now + GRACE
    for group in groups.values():
        with _locked(vault, group) as busy:
            for each in group:
                if busy:
                    each.action, each.reason = "in use", f"{each.reason}; {busy}"
                else:
                    hold.check(f"{each.item.file} was removed")
                    _remove(vault, plan, held.entries[each.item.key], each)


def _mark(vault: Vault, plan: PlacePlan, entry: Entry, kind: str, reason: str) -> None:
    layout = vault.layout(plan.location)
    marks.add(vault.store(plan.location), layout, vault.keys, entry, kind, {"reason": reason}, at=plan.now)


@contextlib.contextmanager
def _locked(vault: Vault, group: list[Planned]) -> Iterator[str]:
    """No backup and no restore of this database while its files go; gives why not, where one is under way."""
    item = group[0].item
    with contextlib.ExitStack() as held:
        busy = ""
        try:
            held.enter_context(vault.lock(str(item.source), _LOCKS.get(str(item.tier), item.name)))
        except LockHeld as error:
            busy = error.message
        yield busy


def _remove(vault: Vault, plan: PlacePlan, entry: Entry, each: Planned) -> None:
    """One backup goes, if its own signed documents agree, and nobody said since the look that it is to stay."""
    store = vault.store(plan.location)
    try:
        manifest = vault.catalog(plan.location).load(entry)
    except NotFound:
        each.reason = f"{each.reason}; it was gone already"
        return
    except (IntegrityError, WrongKey) as error:
        each.action, each.reason = "keep", f"it cannot be judged: {error.message}"
        return
    keys = [entry.beside(part.file) for part in manifest.files]
    until = max((locked for key in (entry.manifest_key, *keys) if (locked := store.retained_until(key))), default=None)
    if until is not None and until > names.now():
        each.action, each.until = "retained", until
        return
    with vault.speaking():
        try:
            words = vault.marks(entry)
            _require_marked(words, entry, plan.now)
        except NotFound:
            each.reason = f"{each.reason}; it was gone already"
            return
        except (IntegrityError, WrongKey) as error:
            each.action, each.reason = "keep", f"it cannot be judged: {error.message}"
            return
        stays = _said_since(words, each.item)
        if not stays:
            try:
                remove(vault.removals, store, vault.layout(plan.location), entry.key, keys)
            except Retained as error:
                each.action, each.reason = "retained", f"{each.reason}; {error.message}"
            return
    each.action, each.reason = "reprieve", f"kept after all: {stays}"
    _mark(vault, plan, entry, REPRIEVED, stays)


def _require_marked(said: list[dict[str, Any]], entry: Entry, now: datetime) -> None:
    """Raises IntegrityError unless a signed mark says that it expired a day ago."""
    words = [mark for mark in said if mark["kind"] in (EXPIRED, REPRIEVED)]
    if not words or words[-1]["kind"] != EXPIRED or datetime.fromisoformat(words[-1]["at"]) > now - GRACE:
        raise IntegrityError(f"no signed mark says that {entry.file} expired a day ago.")


def _said_since(said: list[dict[str, Any]], item: Item) -> str:
    """What a person has said since the look, by which the backup stays; empty where nothing was."""
    latest = {group: mark["kind"] for mark in said for group in CARRIED if mark["kind"] in group}.values()
    if PINNED in latest and not item.pinned:
        return "it was pinned while this prune was at work"
    if WITHHELD in latest and item.released:
        return "its deployment was said to have failed while this prune was at work"
    if KEEP in latest and not item.limited:
        return "until when it is to be kept was said while this prune was at work"
    return ""


def _expire_site_files(vault: Vault, plan: PlacePlan) -> None:
    """Sealed site files go with the last backup of their recovery point; that this fails is no harm."""
    staying = [each.item.taken_at for each in plan.planned if each.action != "remove"]
    every = {item.key for item in plan.contents.items} if plan.contents else set()
    if staying and every == {each.item.key for each in plan.planned}:  # not where only one source was looked at
        with contextlib.suppress(BackupError):
            sealed.expire(vault, plan.location, min(staying))


def _left(plan: PlacePlan, before: LastRun) -> LastRun:
    """How many of each group stay."""
    left: dict[str, int] = {}
    for each in plan.planned:
        if each.item.source is not None:
            group = group_of(each.item)
            left[group] = left.get(group, 0) + (each.action in ("keep", "reprieve", "held"))
    for group in plan.held:
        left[group] = before.left.get(group, left.get(group, 0))
    held = plan.contents.items if plan.contents is not None else []
    return LastRun(plan.now, {**before.left, **left}, max((each.taken_at for each in held), default=None))
