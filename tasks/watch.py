"""Tasks of the watch: look, tell what changed as events that automations act on, and ask the address outside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from prefect.artifacts import create_table_artifact
from prefect.events import emit_event
from prefect.logging import get_run_logger

from engine import names
from engine.durations import in_words
from engine.errors import BackupError, Unreachable
from engine.watch import look as looking
from engine.watch import metrics, words
from engine.watch.findings import OF_RUNS, Finding, Level, Look, ordered
from engine.watch.remember import Change, memory, recall
from engine.watch_config import WatchConfig
from tasks.base import SiteHandle, reason, step
from tasks.limited import within

EVENT = "backup-flows.watch.{}"
"""``raised``, ``worse``, ``better``, ``resolved`` or ``passed``: the turn that a finding took."""
LOOKED = "backup-flows.watch.looked"
"""Each look; an automation waits for the next one."""
_PING_SECONDS = 20.0


@dataclass(frozen=True)
class Watched:
    """One look. ``untold``: by address, the messages that are to be sent there, the oldest first."""

    look: Look
    untold: dict[str, list[tuple[str, str]]]


def runs_seen(site: SiteHandle) -> datetime | None:
    """Up to when the server was asked for the site's runs, UTC; None where it never was."""
    with site.open() as opened:
        return recall(opened.vault.state).runs_seen


@step(name="look", run_name="look at {site.name}", retries=0)
def look(site: SiteHandle, of_runs: list[Finding] | None, addresses: list[tuple[str, list[str]]]) -> Watched:
    """Ask every place and server, remember what was found, and tell once what is new or over.

    Args:
        of_runs: What the server knows of the site's runs; see ``tasks.runs``.
        addresses: Notification blocks, and the levels that are told there. What is to be told is remembered in the same
            moment as what was found: a watch that dies before it has told leaves it to the next one.
    """
    log = get_run_logger()
    with site.open() as opened, memory(opened.vault.state) as known:
        now, before = names.now(), known.looked_at
        found = looking.look(opened, disk=known.disk, now=now)
        unasked = found.unasked | (OF_RUNS if of_runs is None else frozenset())
        every = replace(found, findings=ordered([*found.findings, *(of_runs or [])]), unasked=unasked)
        found = known.hardened(every, now)
        changes = known.take_in(found, now, looking.disk_now(opened, now))
        words.post(known.untold, site.name, changes, before, now, site.config.watch.runbooks, addresses)
        untold = {address: list(waiting) for address, waiting in known.untold.items()}
    for each in found.trouble:
        (log.error if each.level is Level.CRITICAL else log.warning)("%s: %s", each.level.word, each.said)
    for change in changes:
        _tell(site, change)
    emit_event(
        event=LOOKED,
        resource={"prefect.resource.id": f"backup-flows.{site.name}.watch", "prefect.resource.name": site.name},
        payload={"message": found.sentence(), "level": found.level.word},
    )
    return Watched(found, untold)


def _tell(site: SiteHandle, change: Change) -> None:
    finding = change.finding
    since = in_words((names.now() - change.since).total_seconds())
    get_run_logger().info("%s %s: %s", finding.id, change.turn, finding.said)
    emit_event(
        event=EVENT.format(change.turn),
        resource={
            "prefect.resource.id": f"backup-flows.{site.name}.{finding.id}",
            "prefect.resource.name": f"{site.name}: {finding.id}",
            "backup-flows.site": site.name,
            "backup-flows.condition": finding.condition,
            "backup-flows.level": finding.level.word,
        },
        payload={
            "message": finding.said, "condition": finding.condition, "about": finding.about,
            "level": finding.level.word, "since": names.iso(change.since), "for": since,
            "runbook": runbook(site.config.watch, finding),
        },
    )  # fmt: skip


@step(name="ping", run_name="tell the address outside that {site.name} is watched")
def ping(site: SiteHandle) -> None:
    """Ask the dead man's switch. Its address is a secret, and stands in no message.

    Raises:
        Unreachable: It does not answer, or refuses.
    """
    address = site.config.watch.ping.get_secret_value()
    try:
        ask = partial(httpx.get, address, timeout=_PING_SECONDS, follow_redirects=True)
        answer = within(2 * _PING_SECONDS, ask)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        kind = type(error).__name__
        raise Unreachable(f"The address of watch.ping does not answer ({kind}).", remedy=_PING) from None
    if answer.is_error:
        raise Unreachable(f"The address of watch.ping answers {answer.status_code}.", remedy=_PING)


_PING = "is the address right, and may this host reach it? Until it answers, whoever listens there tells of silence"


def runbook(limits: WatchConfig, finding: Finding) -> str:
    """Where it says what to do about it."""
    return f"{limits.runbooks}{finding.condition}"


def publish(site: SiteHandle, found: Look) -> str:
    """The tables to glance at, findings and what can be recovered; their history is in the UI. A server that does not
    take them keeps nothing from being told: gives why, empty when it did."""
    now = names.now()
    try:
        create_table_artifact(
            key=f"{site.name}-recovery",
            table=[each.cells(now) for each in found.reached],
            description=f"From when to when each source of {site.name} can be brought back, {now:%Y-%m-%d %H:%M} UTC",
        )
        create_table_artifact(
            key=f"{site.name}-watch",
            table=[_row(site.config.watch, each) for each in found.findings],
            description=f"The watch of {site.name}, {now:%Y-%m-%d %H:%M} UTC: {found.sentence()}",
        )
    except Exception as error:
        get_run_logger().error("the server did not take the table (%s)", type(error).__name__)
        return f"the server did not take the table ({type(error).__name__})"
    return ""


def write_metrics(site: SiteHandle, found: Look) -> str:
    """The file for Prometheus, where the site wants one: gives why it could not be written, empty when it was."""
    path = site.config.watch.metrics
    if not path:
        return ""
    try:
        metrics.write(Path(path), found, names.now())
    except BackupError as error:
        get_run_logger().error(str(error))
        return reason(error)
    return ""


def _row(limits: WatchConfig, finding: Finding) -> dict[str, Any]:
    bad = finding.level is not Level.OK
    return {
        "level": finding.level.word.upper() if bad else finding.level.word,
        "condition": finding.condition,
        "about": finding.about,
        "what": finding.said,
        "what to do": runbook(limits, finding) if bad else "",
    }
