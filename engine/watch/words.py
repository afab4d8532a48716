"""What changed since the last look, as a message to a person. Pure.

It is read on a telephone at night: what, since when, what is safe, the command to type, and where it says more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from engine.durations import in_words
from engine.watch.advice import advice
from engine.watch.findings import Level, worst
from engine.watch.remember import SILENT, Change

_TOLD = 20
_KEPT = 50
"""So many messages are kept for an address that does not answer; the oldest go."""


def concerns(change: Change, levels: Collection[str]) -> bool:
    """Is a change told where these levels are told? Yes if it has had one of them since it came, so that what was told
    to begin there is told to end there. What cannot be asked counts as a warning."""
    had = {"warning" if level is Level.UNKNOWN else level.word for level in change.had}
    return not had.isdisjoint(levels)


def heard(
    level: Level,
    addresses: Sequence[tuple[str, Collection[str]]],
    waiting: Collection[str],
    failed: Collection[str],
) -> bool:
    """Could somebody be told of a look? Else the silence of the address outside has to tell it.

    Args:
        level: The worst that it found: what is critical must be heard where critical things are told, now or before.
        addresses: Each with the levels that are told there.
        waiting: Those for which there was something.
        failed: Those of them that did not take all of it.
    """
    if level is Level.CRITICAL:
        return any(address not in failed for address, levels in addresses if "critical" in levels)
    return not waiting or any(address not in failed for address in waiting)


def message(site: str, changes: Sequence[Change], now: datetime, runbooks: str) -> tuple[str, str]:
    """Subject and text about these changes, of which there is one at least."""
    over = [each for each in changes if each.turn == "resolved"]
    passed = [each for each in changes if each.turn == "passed"]
    wrong = [each for each in changes if each.turn not in ("resolved", "passed")]
    level = worst(each.finding.level for each in [*wrong, *passed])
    first = (wrong or passed or over)[0]
    more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
    head = "resolved" if level is Level.OK else level.word
    told = [_wrong(site, each, now, runbooks) for each in wrong]
    told = [*told, *(_passed(each, runbooks) for each in passed), *(_over(each, now) for each in over)][:_TOLD]
    if len(changes) > _TOLD:
        told.append(f"... and {len(changes) - _TOLD} more: backups status -f {site} --check")
    return f"[{head}] {site}: {first.finding.id}{more}", "\n\n".join(told)


def _wrong(site: str, change: Change, now: datetime, runbooks: str) -> str:
    finding, to_do = change.finding, advice(site, change.finding)
    turn = "" if change.turn == "raised" else f" ({change.turn} than before)"
    return "\n".join(
        [
            f"{finding.level.word.upper()} {finding.id}{turn}: {finding.said}.",
            f"Since: {_since(change, now)}",
            f"Safe: {to_do.safe}",
            f"Type: {to_do.command}",
            f"More: {runbooks}{finding.condition}",
        ]
    )


def _passed(change: Change, runbooks: str) -> str:
    finding = change.finding
    said = f"{finding.level.word.upper()} {finding.id} (over already): {finding.said}."
    return f"{said}\nMore: {runbooks}{finding.condition}"


def _over(change: Change, now: datetime) -> str:
    return f"RESOLVED {change.finding.id}: {change.finding.said}.\nIt lasted: {_since(change, now)}"


def _since(change: Change, now: datetime) -> str:
    lasted = max((now - change.since).total_seconds(), 0.0)
    return f"{change.since:%Y-%m-%d %H:%M} UTC" + (f" ({in_words(lasted)})" if lasted >= 60 else ", this look")


def silence(site: str, before: datetime | None, now: datetime) -> tuple[str, str] | None:
    """That the watch is back after it was silent; None when it was not."""
    if before is None or now - before <= SILENT:
        return None
    lasted = in_words((now - before).total_seconds())
    return (
        f"[resolved] {site}: the watch is back",
        f"RESOLVED silence: the watch of {site} looks again.\nIt lasted: {lasted}; nobody looked at {site} meanwhile",
    )


def silent(site: str, minutes: float, runbooks: str) -> tuple[str, str]:
    """What the server itself says when no look comes."""
    return (
        f"[critical] {site}: nobody watches the backups",
        f"CRITICAL silence: the watch of {site} has not looked for {minutes:.0f} minutes. No worker is at work, or the "
        "runs of watch-backups fail; then no backups are made either.\n"
        "Safe: every backup that was made stays\n"
        f"Type: backups status -f {site} --check\n"
        f"More: {runbooks}silence",
    )


def post(
    untold: dict[str, list[tuple[str, str]]],
    site: str,
    changes: Sequence[Change],
    before: datetime | None,
    now: datetime,
    runbooks: str,
    addresses: Sequence[tuple[str, Collection[str]]],
) -> None:
    """Put what is to be told behind what each address did not take yet: one message for all that changed, and that the
    watch is back. What waits for an address that the site has no more goes.

    Args:
        untold: By address, the oldest first.
        before: When the look before this one was taken, UTC.
        addresses: Each with the levels that are told there.
    """
    known = dict(addresses)
    for gone in untold.keys() - known.keys():
        del untold[gone]
    for address, levels in known.items():
        concerned = [each for each in changes if concerns(each, levels)]
        back = silence(site, before, now) if "critical" in levels else None
        told = [back] if back is not None else []
        if concerned:
            told.append(message(site, concerned, now, runbooks))
        if told:
            untold[address] = [*untold.get(address, []), *told][-_KEPT:]
