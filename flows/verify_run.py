"""The body of verifying the vault: every place by itself, so that one that is down keeps no other from its turn."""

from __future__ import annotations

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from blocks import load_site
from engine.errors import BackupError
from engine.vault_check import PlaceReport, Request
from tasks.base import SiteHandle, reason
from tasks.vault_check import publish, summary, verify
from tasks.words import plural

_NAMED = 3


def verify_places(site: str, *, location: str, request: Request) -> State[None]:
    """Verify each place, and tell what it came to.

    Raises:
        UnknownName: No such site or place.
    """
    handle = SiteHandle(load_site(site))
    reports: list[PlaceReport] = []
    failures: dict[str, BackupError] = {}
    every = ["local", *(each.name for each in handle.config.vault.replicas)]
    for place in every if location == "all" else [location]:
        try:
            report = verify(handle, place, request)
        except BackupError as error:
            failures[place] = error
            continue
        reports.append(report)
        if report.error is not None:
            failures[place] = report.error
    publish(handle.name, reports)
    return _end(handle.name, reports, failures)


def _end(site: str, reports: list[PlaceReport], failures: dict[str, BackupError]) -> State[None]:
    done = "; ".join(summary(report) for report in reports)
    wrong = [each for report in reports for each in report.open]
    if not wrong and not failures:
        return Completed(message=done)
    damage = [each for each in wrong if each.severity == "damage"]
    reasons = []
    if damage:
        named = ", ".join(f"{each.file} in {each.location} ({each.words})" for each in damage[:_NAMED])
        more = f" and {len(damage) - _NAMED} more" if len(damage) > _NAMED else ""
        reasons.append(f"{plural(len(damage), 'damaged file')} could not be healed: {named}{more}")
    unsure = [f"{each.file} in {each.location} ({each.words})" for each in wrong if each.severity == "unsure"]
    if unsure:
        reasons.append(f"could not be verified: {', '.join(unsure[:_NAMED])}")
    reasons += [f"{place} could not be verified: {reason(error)}" for place, error in failures.items()]
    lines = [
        "; ".join(reasons) + ".",
        f"Kept safe: what is damaged is not counted as good, and nothing was taken away; {done}",
    ]
    lines += [f"Next: {error.remedy}" for error in failures.values() if error.remedy]
    if wrong:
        lines.append(f"Next: look at the artifact {site}-vault; docs/verify-vault.md says what to do about each")
    text = "\n".join(lines)
    get_run_logger().error(text)
    return Failed(message=text)
