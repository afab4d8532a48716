"""Tasks of keys: prove one, re-encrypt with it, and the reminder that the current one is old."""

from __future__ import annotations

from prefect.events import emit_event
from prefect.logging import get_run_logger

from engine.errors import WrongKey
from engine.keyring.births import note, reminder
from engine.keyring.changed import changed_keys
from engine.keyring.proof import Proof
from engine.keyring.proof import prove as try_out
from engine.keyring.reencrypt import Report
from engine.keyring.reencrypt import re_encrypt as write_anew
from tasks.base import SiteHandle, step
from tasks.progress import told
from tasks.words import plural, size

AGED = "backup-flows.key.aged"
"""Event by which a person is told that the current key is over a year old."""


@step(name="prove key", run_name="prove the key {key_id} of {site.name}")
def prove(site: SiteHandle, key_id: str) -> Proof:
    """The key writes and opens, and the ring opens the newest backup of everything. Changes nothing."""
    with site.open() as opened:
        proof = try_out(opened.vault, key_id)
    for each in proof.opened:
        get_run_logger().info("opens %s in %s (key %s)", each.file, each.location, each.key_id)
    for location, error in proof.unseen.items():
        get_run_logger().warning("%s could not be asked: %s", location, error.message)
    return proof


@step(name="re-encrypt", run_name="re-encrypt {site.name} with its current key", retries=0)
def re_encrypt(site: SiteHandle, count: int, most_bytes: int, dry_run: bool) -> Report:
    """Write anew what older keys wrote, newest first, within limits."""
    with site.open() as opened, told("re-encrypt") as progress:
        report = write_anew(opened, count=count, most_bytes=most_bytes, dry_run=dry_run, progress=progress)
    log = get_run_logger()
    for each in report.done:
        log.info("%s is now %s in %s (%s)", each.old, each.new, ", ".join(each.locations), size(each.bytes))
    for what, error in report.problems.items():
        log.error("%s: %s", what, error)
    log.info("%s left (%s)", plural(report.left, "backup"), size(report.left_bytes))
    if report.standing:
        log.info("%s", report.standing)
    return report


def unreadable(site: SiteHandle) -> list[WrongKey]:
    """What shows that an id of the ring stands for another key than it did, in the log."""
    with site.open() as opened:
        found = changed_keys(opened.vault)
    for error in found:
        get_run_logger().error(error.message)
    return found


def remind_of_its_age(site: SiteHandle) -> None:
    """Tell of a current key over a year old, in the log and as an event that an automation can act on."""
    with site.open() as opened:
        note(opened.vault.state, opened.vault.keys)
        text = reminder(opened.vault.state, opened.vault.keys)
    if not text:
        return
    get_run_logger().warning(text)
    emit_event(
        event=AGED,
        resource={"prefect.resource.id": f"backup-flows.{site.name}.keys", "prefect.resource.name": site.name},
        payload={"message": text, "key": site.config.vault.keys.current},
    )
