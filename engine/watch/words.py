"""What changed since the last look, as a message to a person. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from engine.durations import in_words
from engine.watch.findings import Level, worst
from engine.watch.remember import Change

SILENT = timedelta(minutes=45)
"""After so long without a look the watch was silent: three did not come."""
_TOLD = 20


def concerns(change: Change, levels: Collection[str]) -> bool:
    """Is a change told where these levels are told? Yes if it has had one of them since it came, so that what was told
    to begin there is told to end there. What cannot be asked counts as a warning."""
    had = {"warning" if level is Level.UNKNOWN else level.word for level in change.had}
    return not had.isdisjoint(levels)


def message(site: str, changes: Sequence[Change], now: datetime, runbooks: str) -> tuple[str, str]:
    """Subject and text about these changes, of which there is one at least."""
    over = [each for each in changes if each.turn == "resolved"]
    wrong = [each for each in changes if each.turn != "resolved"]
    level = worst(each.finding.level for each in wrong)
    first = (wrong or over)[0]
    more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
    head = level.word if wrong else "resolved"
    lines = [_line(each, now, runbooks) for each in [*wrong, *over][:_TOLD]]
    if len(changes) > _TOLD:
        lines.append(f"... and {len(changes) - _TOLD} more")
    return f"[{head}] {site}: {first.finding.id}{more}", "\n".join(lines)


def _line(change: Change, now: datetime, runbooks: str) -> str:
    finding = change.finding
    lasted = in_words(max((now - change.since).total_seconds(), 0.0))
    if change.turn == "resolved":
        return f"resolved after {lasted}: {finding.id}: {finding.said}"
    since = "" if change.turn == "raised" else f", since {lasted}"
    return f"{finding.level.word}{since}: {finding.id}: {finding.said}. What to do: {runbooks}{finding.condition}"


def silence(site: str, before: datetime | None, now: datetime) -> tuple[str, str] | None:
    """That the watch is back after it was silent; None when it was not."""
    if before is None or now - before <= SILENT:
        return None
    lasted = in_words((now - before).total_seconds())
    return f"[resolved] {site}: the watch is back", f"resolved after {lasted}: nobody looked at {site} meanwhile"
