"""What a person who is woken by a finding needs besides it: what is safe, and the command to type. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from engine.watch.findings import Finding

_STAYS = "every backup that was made stays; the last good one is never removed"
_REACH = "every backup can be restored as before; only the newest moments are at stake"
_TOLD: dict[str, tuple[str, str]] = {
    "backup-age": (_STAYS, "backups backup -f {site}{target}"),
    "backup-damage": (
        "restores and retention pass the broken one over; those before it stand",
        "backups list -f {site}{target}",
    ),
    "backup-size": ("the backups before it stand as they were", "backups list -f {site}{target}"),
    "vault-damage": (
        "what is damaged is not counted as good, and nothing was taken away",
        "backups verify-vault -f {site} --location {about} --all",
    ),
    "verification": (_STAYS, "backups verify-vault -f {site} --location {about}"),
    "copies": ("what the local root holds is not touched", "backups check-credentials -f {site}"),
    "recovery-point": (_REACH, "backups ship -f {site}{source}"),
    "log-shipping": (_REACH, "backups ship -f {site}{source}"),
    "slot": ("what was shipped stays; the server keeps the rest while it has room", "backups ship -f {site}{source}"),
    "vault": ("replicas hold copies, and can be restored from", "backups status -f {site}"),
    "disk": ("a full disk fails new backups and harms no earlier one", "backups prune -f {site} --dry-run"),
    "disk-trend": ("a full disk fails new backups and harms no earlier one", "backups prune -f {site} --dry-run"),
    "drill": ("a drill touches neither production nor the backups", "backups drill -f {site}{drilled}"),
    "run": ("what it had not finished counts as no backup; those before it stand", "prefect deployment run {run}"),
    "zombie": ("what it had not finished counts as no backup; those before it stand", "backups up"),
    "late": (_STAYS, "backups up"),
    "key-age": ("backups made with the old key stay readable with it", "backups key new"),
    "release": ("the snapshots stay until then", "backups snapshots -f {site}"),
}


@dataclass(frozen=True)
class Advice:
    """``safe``: what is not lost. ``command``: what to type first."""

    safe: str
    command: str


def advice(site: str, finding: Finding) -> Advice:
    """For one finding of a site. What stands in the command is quoted for a shell."""
    safe, command = _TOLD[finding.condition]
    target, _, _ = finding.about.partition("@")
    source, _, database = target.partition("/")
    whole = f" --source {shlex.quote(source)}" + (f" --database {shlex.quote(database)}" if database else "")
    filled = command.format(
        site=site,
        about=shlex.quote(finding.about),
        source=f" --source {shlex.quote(source)}",
        target=whole,
        drilled="" if finding.about == "last" else whole,
        run=shlex.quote(f"{finding.about}/{site}"),
    )
    return Advice(safe, filled)
