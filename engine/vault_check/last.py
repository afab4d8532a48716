"""What the verification of each place came to last, for the watch: ``verified.json`` in the vault's state directory.

A run reads a share; what an earlier one found damaged, and this one did not read again, is kept until it is known to be
right. The file can be lost: the next run writes it anew.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from engine import names
from engine.errors import BackupError, DiskFull, IntegrityError, StoreError
from engine.locks import waited_for
from engine.site import Site
from engine.vault_check.census import entry_at
from engine.vault_check.findings import Finding, PlaceReport
from engine.verdicts import verdict
from engine.whole import replace_file

FILE = "verified.json"
MOST = 200
"""So many findings are kept of a place; all are counted."""
_BY_SHARE = frozenset(("damaged", "forged", "differs", "mark", "content"))
"""Kinds that only a run which reads that very file can find again; every run looks for all others."""


@dataclass(frozen=True)
class Open:
    """Damage, or doubt, that was not put right.

    Attributes:
        what: Key of the file.
        since: When it was first found, UTC.
    """

    what: str
    kind: str
    words: str
    severity: str
    since: str


@dataclass(frozen=True)
class Last:
    """What a place came to.

    Attributes:
        at: When the verification began, UTC.
        open: What is not put right, of this run or an earlier one; at most ``MOST``.
        healed: What this run found and put right, as ``key: what was wrong``.
        error: Why the place could not be looked at, or not to the end; empty when it could.
    """

    at: datetime
    open: list[Open] = field(default_factory=list)
    healed: list[str] = field(default_factory=list)
    error: str = ""


def keep(site: Site, report: PlaceReport, *, everything: bool) -> None:
    """Write down what a place came to. A disk that does not take it is no reason to fail: the watch tells by itself
    that there is no such word.

    Args:
        everything: The run read all of the place, not a share.
    """
    with contextlib.suppress(OSError, StoreError, DiskFull), waited_for(site.vault.state / f"{FILE}.lock"):
        try:
            known = _read(site.vault.state)
        except IntegrityError:
            known = {}
        before = known.get(report.location)
        known[report.location] = _merged(site, report, before.open if before else [], everything)
        _write(site.vault.state, known)


def recall(site: Site) -> dict[str, Last]:
    """The last word of each place, without what was put right since: a backup that is gone, or was verified.

    Raises:
        IntegrityError: The file cannot be read. And what the stores raise.
    """
    found = {}
    for location, last in _read(site.vault.state).items():
        if location in site.vault.locations():
            still = [each for each in last.open if not _put_right(site, location, each)]
            found[location] = Last(last.at, still, last.healed, last.error)
    return found


def _merged(site: Site, report: PlaceReport, before: list[Open], everything: bool) -> Last:
    now = names.iso(report.now)
    since = {(each.kind, each.what): each.since for each in before}
    fresh = [_open(each, since.get((each.kind, each.what), now)) for each in report.open]
    told = {each.what for each in report.findings}
    left = [] if everything and report.error is None else before
    left = [each for each in left if each.what not in told and (report.error is not None or each.kind in _BY_SHARE)]
    left = [each for each in left if not _put_right(site, report.location, each)]
    healed = [f"{each.what}: {each.words}" for each in report.of("damage", healed=True)]
    error = report.error.message.rstrip(".") if report.error is not None else ""
    return Last(report.now, [*fresh, *left][:MOST], healed[:MOST], error)


def _open(found: Finding, since: str) -> Open:
    return Open(found.what, found.kind, found.words, found.severity, since)


def _put_right(site: Site, location: str, each: Open) -> bool:
    """Is it gone, or verified or (a content of a bucket) written anew since? What cannot be asked stays."""
    if each.kind not in _BY_SHARE:
        return False
    try:
        there = site.vault.store(location).stat(each.what)
        if there is None:
            return True
        if each.kind == "content":
            return there.modified > names.noted_moment(each.since)
        entry = entry_at(location, site.vault.layout(location), each.what)
        return entry is not None and verdict(site, entry) is True
    except BackupError:
        return False


def _read(state: Path) -> dict[str, Last]:
    path = state / FILE
    try:
        body: dict[str, Any] = json.loads(path.read_bytes())
        return {str(location): _last(each) for location, each in body.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise IntegrityError(
            f"{path} cannot be read: what the last verification found is not known.",
            remedy="the next one writes it anew: backups verify-vault",
        ) from None


def _last(body: dict[str, Any]) -> Last:
    return Last(
        names.noted_moment(body["at"]), [Open(**each) for each in body["open"]],
        [str(each) for each in body["healed"]], str(body["error"]),
    )  # fmt: skip


def _write(state: Path, known: dict[str, Last]) -> None:
    body = {location: {**asdict(last), "at": names.iso(last.at)} for location, last in sorted(known.items())}
    replace_file(state / FILE, json.dumps(body))
