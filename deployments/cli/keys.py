"""``backups key``: new keys, which key opens what, rotation, re-encryption and the copy for offline keeping."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli import exits
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import size
from engine import names
from engine.errors import BackupError, ConfigError, ConfirmationNeeded

if TYPE_CHECKING:
    from engine.keyring.reencrypt import Report
    from engine.keyring.uses import Use
    from engine.site import Site

PASSPHRASE_FROM = "BACKUPS_ESCROW_PASSPHRASE"
_UNITS = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    keys = typer.Typer(no_args_is_help=True, help="Encryption keys: new, list, rotate, escrow.")
    command(keys, "new", group="key", example="backups key new")(new)
    command(keys, "list", group="key", example="backups key list -f workset")(list_)
    command(
        keys, "rotate", group="key",
        stopped="whatever was written is whole; run it again to go on",
        example="""backups key rotate -f workset --to k20261122
                   backups key rotate -f workset --to k20261122 --re-encrypt --count 50
                   backups key rotate -f workset --re-encrypt --bytes 20GB""",
    )(rotate)  # fmt: skip
    command(
        keys, "escrow", group="key",
        example="""backups key escrow -f workset --output /media/stick/workset-keys-20261122.enc
                   backups key escrow -f workset --check /media/stick/workset-keys-20261122.enc""",
    )(escrow)  # fmt: skip
    app.add_typer(keys, name="key", rich_help_panel="Straight on the engine")


def new(run: Run) -> Outcome:
    """Make a good key, and say where it goes and what to keep offline. Nothing is written anywhere.

    With a site file its name is one that the ring does not have yet.
    """
    from engine.keyring.births import new_key

    taken: tuple[str, ...] = ()
    if run.file is not None:
        taken = tuple(run.config().vault.keys.keys)
    made = new_key(names.now(), taken)
    name = f"BACKUP_ENCRYPTION_KEY_{made.id.upper()}"
    lines = [
        f"A new key, {made.id}:",
        "",
        f"  {made.passphrase}",
        "",
        "1. Keep it offline first, on paper or in a password manager, apart from the machine: without it",
        "   nothing that is written with it opens. The ring as a whole: backups key escrow",
        "2. Put it into the .env beside the site file (mode 0600):",
        f"     {name}={made.passphrase}",
        "3. Name it in the site file, beside the keys that are there; these stay until their last backup is gone:",
        "     vault:",
        "       keys:",
        f'         {made.id}: "${{{name}}}"',
        "4. Make it current, which proves it first:",
        f"     backups key rotate --to {made.id}",
    ]
    for line in lines:
        run.out.say(line)
    return Outcome({"id": made.id, "key": made.passphrase, "environment": name})


def list_(run: Run) -> Outcome:
    """Which keys the ring has, since when, and what each of them still opens. Reads every manifest."""
    from engine.keyring.births import date_in, reminder
    from engine.keyring.uses import Use, uses

    with run.site() as site:
        ring = site.vault.keys
        with run.out.progress() as progress:
            found = uses(site.vault, progress)
        warning = reminder(site.vault.state, ring)
    rows, facts = [], []
    for key_id in sorted({*ring.ids, *found.by_key}):
        use, since = found.by_key.get(key_id, Use()), date_in(key_id)
        state = "current" if key_id == ring.current else "kept" if key_id in ring.ids else "NOT IN THE RING"
        rows.append(
            [key_id, state, f"{since:%Y-%m-%d}" if since else "", _needed(use), ", ".join(sorted(use.locations))]
        )
        facts.append(
            {"id": key_id, "state": state, "since": f"{since:%Y-%m-%d}" if since else None, "backups": use.count,
             "bytes": use.bytes, "leaning": use.leaning, "site_files": use.site_files,
             "locations": sorted(use.locations)}
        )  # fmt: skip
    run.out.table(["key", "is", "made", "opens", "in"], rows)
    if warning:
        run.warn(warning)
    if found.strangers:
        run.warn(
            f"{len(found.strangers):,} of these are of sources that the site file does not name, or under a path that "
            f"it does not lead to ({', '.join(sorted(set(found.strangers.values())))}): nothing lists, re-encrypts or "
            "removes them, but they need their keys"
        )
    errors = [run.refuse(error, about=f"{where} could not be asked: ") for where, error in found.unseen.items()]
    broken = [run.refuse(error, about=f"{key}: ") for key, error in found.unreadable.items()]
    code = exits.INTEGRITY if broken else exits.PARTIAL if errors else exits.OK
    return Outcome({"keys": facts, "strangers": found.strangers}, code, [*broken, *errors])


def _needed(use: Use) -> str:
    parts = [f"{use.count:,} backups, {size(use.bytes)}"] if use.count else []
    parts += [f"objects of {use.leaning:,} snapshots of buckets"] if use.leaning else []
    parts += [f"{use.site_files:,} sealed site files"] if use.site_files else []
    return ", and ".join(parts) or "nothing"


def rotate(
    run: Run,
    to: Annotated[
        str | None, typer.Option(metavar="ID", help="The key of the ring to make current.", show_default=False)
    ] = None,
    re_encrypt: Annotated[
        bool, typer.Option("--re-encrypt", help="Then write anew what older keys wrote, newest first.")
    ] = False,
    count: Annotated[int, typer.Option(min=1, help="Re-encrypt so many backups at most.")] = 20,
    limit: Annotated[
        str | None, typer.Option("--bytes", metavar="SIZE", help="... and so much, such as 20GB.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Prove and count, change nothing.")] = False,
) -> Outcome:
    """Prove a key and make it the current one in the site file; without --to, prove the current one.

    Proven: the key writes and opens a probe, and the ring still opens the newest backup of everything. Else nothing
    is changed. Old backups stay readable by the key that each of them names.

    --re-encrypt writes anew, verifies, copies to the replicas, and only then marks the old ones as superseded;
    they are removed by the next prunes. Run it again until nothing is left; killed, the next run goes on.
    Logs are left as they are. Exit code 3 when a backup could not be done, does not hold, or a place could not be
    asked; those do not count for --count and --bytes.
    """
    from engine.keyring.proof import prove

    most = parse_size(limit)
    path = run.site_path()
    with run.site(sweep=not dry_run) as site:
        before = site.vault.keys.current
        wanted = to or before
        proof = prove(site.vault, wanted)
    for each in proof.opened:
        run.out.say(f"opens {each.file} in {each.location} (key {each.key_id})")
    errors = [run.refuse(error, about=f"{where} could not be asked: ") for where, error in proof.unseen.items()]
    changed = False
    if wanted != before and not dry_run:
        from deployments.ring_file import set_current

        changed = set_current(path, wanted)
    _say_rotated(run, path, before, wanted, changed)
    facts: dict[str, Any] = {
        "before": before, "current": wanted if changed else before, "proven": wanted, "opened": len(proof.opened),
    }  # fmt: skip
    if re_encrypt:
        report = _re_encrypt(run, wanted, count, most, dry_run)
        facts["re_encryption"] = _told(report)
        errors += [run.refuse(error, about=f"{what}: ") for what, error in report.problems.items()]
    return Outcome(facts, exits.PARTIAL if errors else exits.OK, errors)


def _say_rotated(run: Run, path: Path, before: str, wanted: str, changed: bool) -> None:
    if changed:
        run.out.say(f"{wanted} is the current key now ({path}); before: {before}", style="bold green")
        run.out.say("  on a Prefect server: backups apply. Keep the ring offline: backups key escrow")
    else:
        run.out.say(f"{wanted} writes and opens; {before} is the current key.", style="green")


def _re_encrypt(run: Run, wanted: str, count: int, most: int, dry_run: bool) -> Report:
    from engine.keyring.reencrypt import re_encrypt as write_anew
    from engine.site import Site

    config = run.config()
    config.vault.keys.current = wanted  # in a dry run the file still names the old one
    with Site(config) as site, run.out.progress() as progress:
        report = write_anew(site, count=count, most_bytes=most, dry_run=dry_run, progress=progress)
    for each in report.done:
        run.out.say(f"{each.old} is now {each.new} in {', '.join(each.locations)} ({size(each.bytes)})")
    left = f"{report.left:,} left ({size(report.left_bytes)})" if report.left else "nothing is left to re-encrypt"
    if report.standing:
        left = f"{left}; {report.standing}" if report.left else f"nothing else is left to do; {report.standing}"
    run.out.say(f"{len(report.done):,} re-encrypted, {left}")
    return report


def _told(report: Report) -> dict[str, Any]:
    return {
        "done": [{"old": each.old, "new": each.new, "locations": each.locations} for each in report.done],
        "left": report.left,
        "left_bytes": report.left_bytes,
        "failed": {file: exits.describe(error) for file, error in report.failed.items()},
        "passed_over": {key: exits.describe(error) for key, error in report.passed.items()},
        "unseen": {location: exits.describe(error) for location, error in report.unseen.items()},
        "logs": report.logs,
    }


def escrow(
    run: Run,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it here.", show_default=False)
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Open one that was written before; does it hold the ring?", show_default=False
        ),
    ] = None,
) -> Outcome:
    """Seal the whole key ring with a passphrase, for offline keeping; openssl alone opens the file.

    The passphrase is asked for, or taken from $BACKUPS_ESCROW_PASSPHRASE. Keep it apart from the file, and neither
    on the machine nor beside the backups. --check tells by exit code 5 when a key of the ring is not in the file.
    """
    from engine.keyring.escrow import OPEN_COMMAND, missing, open_ring, seal_ring

    if (output is None) == (check is None):
        raise ConfigError("Say what to do with the ring.", remedy="--output FILE writes it, --check FILE opens one")
    with run.site() as site:
        keys = site.vault.keys
        if output is not None:
            _refuse_beside(site, output)
            found = seal_ring(output, site.name, keys, _passphrase(twice=True))
        else:
            assert check is not None
            found = open_ring(check, _passphrase(twice=False))
        lacking = missing(found, keys)
    path = output or check
    facts = {"file": str(path), "site": found.site, "keys": found.keys.ids, "lacking": lacking}
    if lacking:
        error = BackupError(
            f"{path} does not hold {', '.join(lacking)} as this site has {'it' if len(lacking) == 1 else 'them'}.",
            remedy="write a new one: backups key escrow --output FILE",
        )
        return Outcome(facts, exits.INTEGRITY, [run.refuse(error)])
    run.out.say(f"{path} holds {', '.join(found.keys.ids)} of site {found.site}.", style="bold green")
    run.out.say(f"  it opens anywhere with: {OPEN_COMMAND} {path}")
    return Outcome(facts)


def _refuse_beside(site: Site, path: Path) -> None:
    places = {"the vault": site.vault.root}
    places |= {
        f"the replica {each.name}": Path(each.directory) for each in site.config.vault.replicas if each.directory
    }
    inside = next((what for what, root in places.items() if path.resolve().is_relative_to(root.resolve())), None)
    if inside is not None:
        raise ConfigError(
            f"{path} is inside of {inside}: whoever has the backups would have their keys beside them.",
            kept="nothing was written",
            remedy="write it to a medium that is taken away",
        )


def _passphrase(*, twice: bool) -> str:
    given = os.environ.get(PASSPHRASE_FROM, "")
    if given:
        return given
    if not sys.stdin.isatty():
        raise ConfirmationNeeded(
            "There is no terminal to ask for the passphrase on.",
            kept="nothing was written",
            remedy=f"export {PASSPHRASE_FROM}, or run it on a terminal",
        )
    return str(typer.prompt("Passphrase of the escrow file", hide_input=True, confirmation_prompt=twice, err=True))


def parse_size(text: str | None) -> int:
    """``20GB`` in bytes (powers of ten); 0 for none. Raises ConfigError."""
    found = re.fullmatch(r"(\d+)\s*(kB|MB|GB|TB|)", (text or "0").strip())
    if not found:
        raise ConfigError(f"{text!r} is no size.", remedy="write it as 500MB or 20GB")
    return int(found[1]) * _UNITS[found[2]]
