"""How a deployment went: it succeeded, so its snapshot is the newest good one and older ones may go; or it failed.

A signed mark says so at every place that holds the snapshot; retention does the rest. The latest word counts: a
snapshot that a later release let go is kept again once its own deployment is said to have failed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.errors import BackupError, NotFound
from engine.pins import say
from engine.prune.contents import RELEASED, WITHHELD, claims_of
from engine.site import Site
from engine.snapshots import Known, Snapshot, choose, grouped, parts_at, passed_over
from engine.vault import LOCAL


@dataclass
class Outcome:
    """What was said of a deployment.

    Attributes:
        older: Snapshots that may go now.
        marked: How many backups heard of it, by place.
        errors: Places that could not be told; a copy there stays until they are.
        passed_over: Newer halves of snapshots that the name could have meant.
    """

    snapshot: Snapshot
    older: list[Snapshot] = field(default_factory=list)
    marked: dict[str, int] = field(default_factory=dict)
    errors: dict[str, BackupError] = field(default_factory=dict)
    passed_over: list[Snapshot] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """What a person should know of it, each a sentence."""
        told = [f"Snapshot {each.title} is newer, and half of one: {each.lacks}." for each in self.passed_over]
        if self.snapshot.lacking:
            told.append(
                f"Snapshot {self.snapshot.title} is half of one: {self.snapshot.lacks}. Gone back with it, the "
                "databases are of different times."
            )
        return told


def release(site: Site, which: str) -> Outcome:
    """The deployment succeeded: its snapshot is the one to keep, older ones may go. Doing it again changes nothing.

    Args:
        which: ``latest`` (the newest whole one), an id, a key, a release, or a file of it.

    Raises:
        UnknownName: No such snapshot. And what the local root raises.
    """
    found = _everywhere(site)
    known = found.snapshots()
    chosen = choose(site.name, which, known)

    def is_over(snapshot: Snapshot) -> bool:
        return snapshot.id == chosen.id or (snapshot.taken_at, snapshot.id) < (chosen.taken_at, chosen.id)

    outcome = Outcome(chosen, errors=found.errors, passed_over=passed_over(which, chosen, known))
    older: dict[str, Snapshot] = {}
    for location, parts in found.there.items():
        for snapshot in filter(is_over, grouped(parts)):
            newly = _mark(site, outcome, location, snapshot, RELEASED, {"by": chosen.id})
            if newly and snapshot.id != chosen.id:
                older.setdefault(snapshot.id, snapshot)
    outcome.older = list(older.values())
    return outcome


def withhold(site: Site, which: str) -> Outcome:
    """The deployment failed: its snapshot stays. Doing it again changes nothing.

    Raises:
        UnknownName: No such snapshot. And what the local root raises.
    """
    found = _everywhere(site)
    known = found.snapshots()
    chosen = choose(site.name, which, known)
    outcome = Outcome(chosen, errors=found.errors, passed_over=passed_over(which, chosen, known))
    for location, parts in found.there.items():
        for snapshot in grouped(parts):
            if snapshot.id == chosen.id:
                _mark(site, outcome, location, snapshot, WITHHELD, {})
    return outcome


@dataclass
class _Found:
    """What each place holds of snapshots, the local root first; and which could not be looked at."""

    there: dict[str, list[Known]] = field(default_factory=dict)
    errors: dict[str, BackupError] = field(default_factory=dict)

    def snapshots(self) -> list[Snapshot]:
        return grouped(part for parts in self.there.values() for part in parts)


def _everywhere(site: Site) -> _Found:
    """Raises what the local root raises; a replica that cannot be asked is only noted."""
    found = _Found()
    for location in site.vault.locations():
        try:
            found.there[location] = list(parts_at(site.vault, location))
        except BackupError as error:
            if location == LOCAL:
                raise
            found.errors[location] = error
    return found


def _mark(site: Site, outcome: Outcome, location: str, snapshot: Snapshot, kind: str, facts: dict[str, object]) -> int:
    """Mark every part at one place that does not say so yet; how many there were. A place that fails is noted."""
    newly = 0
    try:
        for entry, _ in (*snapshot.parts, *snapshot.others):
            said = claims_of(site.vault, entry)
            if said.release == kind:
                continue
            try:
                say(site.vault, entry, kind, {"snapshot": snapshot.id, **facts}, said.release_at)
                newly += 1
            except NotFound as error:  # the others of the snapshot are to hear of it all the same
                if snapshot.id == outcome.snapshot.id:
                    outcome.errors.setdefault(location, error)
    except BackupError as error:
        outcome.errors.setdefault(location, error)
    outcome.marked[location] = outcome.marked.get(location, 0) + newly
    return newly
