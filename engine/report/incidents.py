"""What went wrong in a period, as the vault's own records tell it (marks, records of drills, logs, missed backups), and
what the watch found that is over."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from engine import marks, names
from engine.drill.verdict import FAILED, PROVEN
from engine.errors import BackupError
from engine.prune.contents import BROKEN, COPIED, VERIFIED
from engine.report.history import History
from engine.report.reach import Reach
from engine.report.words import moment
from engine.site import Site
from engine.vault_check import last
from engine.vault_check.census import entry_at
from engine.watch.remember import Over

Kind = Literal["damage", "drill", "incomplete", "missed", "log gap", "watch"]
_IN_RECORDS = frozenset({"drill", "vault-damage", "backup-damage"})
"""Findings of the watch that the vault's own records tell of, and better."""
_FAILED_DRILL = "drill-failed"
_MOST = 200
"""So many incidents are told one by one, the newest."""


@dataclass(frozen=True)
class Incident:
    """One thing that went wrong.

    Attributes:
        at: When it was seen, UTC; None where that is not known.
        about: A backup's file, a database, a drill.
        over: How it ended; empty where it is not over, or nobody knows.
    """

    kind: Kind
    at: datetime | None
    about: str
    said: str
    over: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "at": names.iso(self.at) if self.at else None, "about": self.about, "said": self.said,
            "over": self.over,
        }  # fmt: skip


def incidents(
    site: Site,
    places: Sequence[str],
    since: datetime,
    past: History,
    drills: Sequence[Mapping[str, Any]],
    reached: Sequence[Reach],
    notes: list[str],
    over: Sequence[Over] = (),
) -> list[Incident]:
    """Everything since then, the newest first.

    Args:
        places: Those that could be asked.
        drills: The records of drills.
        over: What the watch found, and is over.
    """
    found = [*_of_drills(drills, since), *_of_backups(past, since), *_of_logs(reached), *_of_watch(over, since)]
    for place in places:
        try:
            found += _damage(site, place, since, notes)
        except BackupError as error:
            notes.append(f"{place} could not be asked for what was found damaged: {error.message}")
    found += _verified(site, since, {each.about for each in found if each.kind == "damage"}, notes)
    dated = sorted((each for each in found if each.at), key=lambda each: (each.at, each.about), reverse=True)
    return [*dated, *(each for each in found if each.at is None)][:_MOST]


def _damage(site: Site, place: str, since: datetime, notes: list[str]) -> Iterator[Incident]:
    """What was found broken there, by its marks; a mark that does not hold itself is a note."""
    store, layout = site.vault.store(place), site.vault.layout(place)
    verdicts: dict[str, tuple[datetime, str]] = {}
    found: list[marks.Named] = []
    for mark in marks.named(store, layout):
        if mark.kind in (VERIFIED, BROKEN, COPIED):
            rank = (mark.at, mark.kind == BROKEN)
            last = verdicts.get(mark.of)
            if last is None or rank >= (last[0], last[1] == BROKEN):
                verdicts[mark.of] = (mark.at, mark.kind)
        if mark.kind == BROKEN and mark.at >= since:
            found.append(mark)
    for mark in sorted(found, key=lambda each: each.at)[-_MOST:]:
        entry = entry_at(place, layout, mark.of)
        if entry is None:
            continue
        good, bad = marks.judge(store, layout, site.vault.keys, entry, [mark.key])
        notes += [error.message for _, error in bad]
        for word in good:
            at, latest = verdicts[mark.of]
            over = f"found whole again on {moment(at)}" if latest != BROKEN else ""
            by = " by the verification of the vault" if word["facts"].get("by") else ""
            reason = str(word["facts"].get("reason") or "no reason is noted").rstrip(".")
            yield Incident("damage", mark.at, entry.file, f"found broken in {place}{by}: {reason}", over)


def _verified(site: Site, since: datetime, known: Collection[str], notes: list[str]) -> Iterator[Incident]:
    """What the last verification of each place found, healed or not, and no mark tells of: a manifest that is gone, a
    content of a bucket."""
    try:
        places = last.recall(site)
    except BackupError as error:
        notes.append(error.message)
        return
    for place, its in places.items():
        for healed in its.healed if its.at >= since else ():
            key, _, words = healed.partition(": ")
            over = "healed by the verification of the vault"
            yield Incident("damage", its.at, _file(key), f"found damaged in {place}: {words.rstrip('.')}", over)
        for each in its.open:
            at = names.noted_moment(each.since)
            if each.severity == "damage" and at >= since and _file(each.what) not in known:
                yield Incident("damage", at, _file(each.what), f"found damaged in {place}: {each.words.rstrip('.')}")


def _file(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def _of_drills(drills: Sequence[Mapping[str, Any]], since: datetime) -> Iterator[Incident]:
    for number, record in enumerate(drills):
        at = datetime.fromisoformat(record["finished_at"])
        if record["verdict"] == PROVEN or at < since:
            continue
        later = next(
            (each for each in drills[number + 1 :] if each["verdict"] == PROVEN and _covers(each, record)), None
        )
        over = f"a drill on {moment(datetime.fromisoformat(later['finished_at']))} proved it" if later else ""
        what = "failed" if record["verdict"] == FAILED else "could not verify everything"
        yield Incident("drill", at, str(record["id"]), f"a drill {what}: {str(record['said']).rstrip('.')}", over)


def _covers(later: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Did the later drill look at every database that the other one looked at?"""
    return _databases(later) >= _databases(record)


def _databases(record: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(str(each["source"]), str(each["database"])) for one in record["sources"] for each in one["databases"]}


def _of_backups(past: History, since: datetime) -> Iterator[Incident]:
    for each in past.points:
        if each.incomplete and each.at >= since:
            more = f" and {len(each.incomplete) - 1} more" if len(each.incomplete) > 1 else ""
            later = next((one for one in past.of(each.target) if one.at > each.at and not one.incomplete), None)
            over = f"the backup of {moment(later.at)} is complete" if later else ""
            yield Incident("incomplete", each.at, each.file, f"lacks {each.incomplete[0]}{more}", over)
    for target, tier, one, two in past.missed:
        said = f"no {tier} backup between {moment(one)} and {moment(two)}"
        yield Incident("missed", two, str(target), said, f"there is one of {moment(two)}")


def _of_watch(over: Sequence[Over], since: datetime) -> Iterator[Incident]:
    """Runs that failed or crashed, silences, and whatever else was over in the period; what still is wrong is told as
    the watch finds it now."""
    for each in over:
        condition, _, about = each.id.partition("/")
        if each.until >= since and condition not in _IN_RECORDS:
            yield Incident("watch", each.since, about, f"{condition}: {each.said}", f"over on {moment(each.until)}")


def _of_logs(reached: Sequence[Reach]) -> Iterator[Incident]:
    """Holes in the logs that are kept: moments that cannot be had, whenever they came about."""
    for each in reached:
        for at, hole in each.holes:
            yield Incident("log gap", at, each.name, f"{hole}: moments between cannot be restored")
