"""Another key of the ring becomes the current one, once it is proven."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from blocks import load_site, set_current_key
from engine.keyring.proof import Proof
from engine.keyring.reencrypt import Report
from flows.outcome import outcome
from flows.parameters import Count, KeyId, SiteName
from tasks import keys
from tasks.base import SiteHandle, reason
from tasks.vault import sweep
from tasks.words import plural, size


@flow(name="rotate-key", flow_run_name="rotate the key of {site}", persist_result=False)
def rotate_key(
    site: SiteName, key: KeyId = "", re_encrypt: bool = False, count: Count = 20, gigabytes: int = 0,
    dry_run: bool = False,
) -> State[Any]:  # fmt: skip
    """Prove a key and make it the one that new backups are written with. It has to be in the ring already: a key is
    no parameter, since these are stored in clear; add it to the key-ring block, or to the site file and apply that.

    Proven: it writes and opens a probe, and the ring still opens the newest backup of everything. Else nothing is
    changed. Old backups stay readable by the key that each of them names.

    Args:
        site: Name of the site block, such as workset.
        key: Id of the key. Empty: the current one is proven, and used for re-encryption.
        re_encrypt: Then write anew what older keys wrote, newest first; the old ones go by retention once the new ones
            stand everywhere. Run it again until nothing is left.
        count: Re-encrypt so many backups at most.
        gigabytes: And so much at most; 0: any.
        dry_run: Prove and count, change nothing.
    """
    return outcome(_rotate, site, key.strip(), re_encrypt, count, gigabytes * 10**9, dry_run)


def _rotate(site: str, key: str, re_encrypt: bool, count: int, most: int, dry_run: bool) -> State[None]:
    handle = SiteHandle(load_site(site))
    before = handle.config.vault.keys.current
    wanted = key or before
    if not dry_run:
        sweep(handle)
    proof = keys.prove(handle, wanted)
    changed = not dry_run and set_current_key(site, wanted)
    if changed:
        get_run_logger().info("%s is the current key now; before: %s", wanted, before)
    report = None
    if re_encrypt:
        handle.config.vault.keys.current = wanted
        report = keys.re_encrypt(handle, count, most, dry_run)
    _publish(site, before, wanted, changed, proof, report)
    text = _told(before, wanted, changed, proof, report)
    return Failed(message=text) if report is not None and report.problems else Completed(message=text)


def _told(before: str, wanted: str, changed: bool, proof: Proof, report: Report | None) -> str:
    opened = f"the ring opens the newest {plural(len(proof.opened), 'backup')}"
    first = f"{wanted} is the current key now, before {before}" if changed else f"{wanted} is proven"
    text = f"{first}; {opened}"
    if report is not None:
        text += f"; {plural(len(report.done), 'backup')} re-encrypted, {report.left} left ({size(report.left_bytes)})"
        if report.standing:
            text += f"; {report.standing}"
        text = "; ".join([*(f"{what}: {reason(error)}" for what, error in report.problems.items()), text])
    if changed:
        text += f"\nNext: write current: {wanted} below vault.keys into the site file, then: backups key escrow"
    return text


def _publish(site: str, before: str, wanted: str, changed: bool, proof: Proof, report: Report | None) -> None:
    lines = [f"# Keys of {site}", "", f"Current: `{wanted if changed else before}`. Proven: `{wanted}`.", ""]
    lines += [f"- opens `{each.file}` in {each.location}, written with `{each.key_id}`" for each in proof.opened]
    lines += [f"- {location} could not be asked: {reason(error)}" for location, error in proof.unseen.items()]
    if report is not None:
        lines += ["", f"Left to re-encrypt: {report.left} ({size(report.left_bytes)})", ""]
        lines += [f"- `{each.old}` is now `{each.new}` in {', '.join(each.locations)}" for each in report.done]
        lines += [f"- `{what}`: {reason(error)}" for what, error in report.problems.items()]
    create_markdown_artifact(key=f"{site}-keys", markdown="\n".join(lines), description=f"The last rotation on {site}")
