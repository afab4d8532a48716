"""``backups snapshot``, ``snapshots`` and ``release``: the databases as they were before a deployment."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli import exits
from deployments.cli.making import _copy, _copy_facts, _made_facts, _show
from deployments.cli.options import Database, Source
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import age, moment
from engine import names
from engine.errors import BackupError, NotFound

if TYPE_CHECKING:
    from engine.backup import BackupResult
    from engine.drill.record import Proofs
    from engine.drill.told import Told
    from engine.releases import Outcome as Released
    from engine.site import Site, Target
    from engine.snapshots import Deploy, Snapshot


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    command(
        app,
        "snapshot",
        stopped="every published backup; a dump that was under way leaves nothing behind",
        example="""backups snapshot -f workset --release v1.4.2 --commit 3f9a1c2 --actor alice
                   backups snapshot -f workset --release v1.4.2 --key deploy-4711 --json""",
    )(snapshot)
    command(app, "snapshots", example="backups snapshots -f workset")(listed)
    command(
        app,
        "release",
        stopped="nothing was removed; run it again to tell the places that are left",
        example="""backups release -f workset v1.4.2
                   backups release -f workset v1.4.2 --failed""",
    )(release)


def snapshot(
    run: Run,
    release: Annotated[str, typer.Option(help="What is deployed, as people call it: v1.4.2.")] = "",
    commit: Annotated[str, typer.Option(help="The commit that is deployed.")] = "",
    actor: Annotated[str, typer.Option(help="Who deploys.")] = "",
    key: Annotated[str, typer.Option(help="A second snapshot with the same key is the same one, not another.")] = "",
    source: Source = None,
    database: Database = None,
    copy: Annotated[bool, typer.Option("--copy", help="Also bring every replica up to date before it ends.")] = False,
) -> Outcome:
    """Take a snapshot of the databases right before a deployment, verified: servers side by side.

    It is kept until `backups release` says that the deployment succeeded. Only a run that works on the same database
    is waited for. The next backup of any kind copies it to the replicas; with --copy this one does.
    """
    from engine.snapshots import Deploy, snapshot_targets, standing

    deploy = Deploy(release, commit, actor, key)
    with run.site() as site, _one_at_a_time(run, site):
        run.sweep(site, replicas=copy)
        targets = snapshot_targets(site, source or "", database or "")
        known = standing(site, deploy.key, targets)
        if known is not None:
            run.out.say(f"Snapshot {known.title} stands already, taken {moment(known.taken_at)}.", style="bold green")
            return Outcome({"snapshot": _facts(known, "waiting"), "same": True, "backups": [], "failed": []})
        work = _Snapshots(run, site, deploy)
        work.do(targets)
        copies = _copy(run, site, {each.entry.file for each in work.made}) if copy else []
    if not work.errors:
        run.out.say(f"Snapshot {work.id} ({deploy.label}): when it succeeded: backups release {work.id}", "bold green")
    facts = {
        "snapshot": {"id": work.id, **deploy.facts()},
        "same": False,
        "backups": [_made_facts(each) for each in work.made],
        "failed": work.failed,
        "copies": [_copy_facts(each) for each in copies],
    }
    partial = [each.error for each in copies if each.error is not None]
    return Outcome(facts, exits.PARTIAL if partial and not work.errors else exits.OK, work.errors + partial)


def _one_at_a_time(run: Run, site: Site) -> Any:
    from engine.locks import patiently
    from engine.snapshots import WAIT_SECONDS

    return patiently(site.vault.snapshotting, WAIT_SECONDS, run.out.tell)


class _Snapshots:
    """The backups of one snapshot."""

    def __init__(self, run: Run, site: Site, deploy: Deploy) -> None:
        self.id = names.recovery_point()
        self.made: list[BackupResult] = []
        self.errors: list[BackupError] = []
        self.failed: list[dict[str, Any]] = []
        self._run, self._site, self._deploy = run, site, deploy
        self._targets: list[Target] = []
        self._speaking = threading.Lock()

    def do(self, targets: list[Target]) -> None:
        """Databases side by side, each with a site of its own; one that fails does not stop the others."""
        from engine.abreast import abreast

        self._targets = targets
        with self._run.out.progress() as progress:
            self._progress = progress
            abreast([[each] for each in targets], self._one)

    def _one(self, target: Target) -> None:
        from engine.site import Site
        from engine.snapshots import take

        def told(step: str, done: int, total: int | None = None) -> None:
            self._progress(f"{target}: {step}", done, total)

        try:
            with Site(self._site.config) as site:
                result = take(
                    site, target, self._deploy, self.id, parts=self._targets, progress=told, tell=self._run.out.tell
                )
        except Exception as failure:
            with self._speaking:
                error = self._run.foresee(failure, f"The snapshot of {target}")
                self.errors.append(self._run.refuse(error, about=f"{target}: "))
                told_error = exits.describe(error)
                self.failed.append({"source": target.source, "database": target.database, "error": told_error})
            return
        with self._speaking:
            self.made.append(result)
            _show(self._run, target, result)


def listed(run: Run) -> Outcome:
    """Every snapshot from before a deployment, newest first, and how its deployment went."""
    from engine.drill.record import Proofs, proofs
    from engine.snapshots import snapshots, state_of

    with run.site() as site:
        found = [(each, state_of(site.vault, each)) for each in snapshots(site.vault)]
        known = proofs(site.vault) if found else Proofs()
        drills = {each.id: _drilled(site, each, known) for each, _ in found}
    if found:
        columns = ["snapshot", "deployment", "taken", "release", "commit", "actor", "databases", "drills"]
        run.out.table(columns, [_row(each, state, drills[each.id]) for each, state in found])
    else:
        run.out.say("There are none.")
    return Outcome({"snapshots": [{**_facts(each, state), **drills[each.id].as_dict()} for each, state in found]})


def _row(snapshot: Snapshot, state: str, drilled: Told) -> list[str]:
    deploy = snapshot.deploy
    held = [str(target) for target in snapshot.targets if target not in snapshot.lacking]
    databases = ", ".join([*held, *(f"no {target}" for target in snapshot.lacking)])
    return [
        snapshot.id,
        f"half, {state}" if snapshot.lacking else state,
        moment(snapshot.taken_at),
        deploy.release,
        deploy.commit[:12],
        deploy.actor,
        databases,
        "FAILED its last drill" if drilled.failed else drilled.said(),
    ]


def _drilled(site: Site, snapshot: Snapshot, known: Proofs) -> Told:
    """Proven once each of its backups is, at the oldest proof; failed where one is."""
    from engine.drill.told import Told, of_drills
    from engine.site import Target

    its = [of_drills(site, Target(part[1].source, part[1].database), [part], known) for part in snapshot.parts]
    proven = [each.proven for each in its if each.proven is not None]
    doubts = sorted((each.doubt for each in its if each.doubt is not None), key=lambda each: not each.failed)
    return Told(min(proven) if proven and len(proven) == len(its) else None, doubts[0] if doubts else None)


def release(
    run: Run,
    snapshot: Annotated[
        str, typer.Argument(metavar="SNAPSHOT", help="latest, its id, its key, its release, or one of its files.")
    ],
    failed: Annotated[
        bool, typer.Option("--failed", help="The deployment failed: keep its snapshot, and say how to go back.")
    ] = False,
) -> Outcome:
    """Say that a deployment succeeded: its snapshot is kept as the newest good one, and older ones may go.

    With --failed its snapshot stays until a later deployment succeeds, and the one command that goes back is printed.
    Nothing is removed here; prune does that. Exit code 3 when a replica could not be told; run it again then.
    """
    from engine.releases import release as let_go
    from engine.releases import withhold

    with run.site() as site:
        outcome = withhold(site, snapshot) if failed else let_go(site, snapshot)
    chosen = outcome.snapshot
    lost = failed and any(isinstance(error, NotFound) for error in outcome.errors.values())
    facts: dict[str, Any] = {
        "snapshot": _facts(chosen, "failed" if failed else "released"),
        "older": [_facts(each, "released") for each in outcome.older],
        "marked": outcome.marked,
        "warnings": outcome.warnings,
    }
    if failed:
        facts["way_back"] = chosen.way_back(str(run.site_path()))
        if not lost:
            run.out.say(f"Snapshot {chosen.title} stays: its deployment failed.", style="bold")
        run.out.say(f"To go back to {moment(chosen.taken_at)}:")
        run.out.say(f"  {facts['way_back']}", style="cyan")
    else:
        _tell_released(run, outcome)
    for warning in outcome.warnings:
        run.warn(warning)
    errors = [run.refuse(error, about=f"{place} was not told: ") for place, error in outcome.errors.items()]
    return Outcome(facts, exits.FAILED if lost else exits.PARTIAL if errors else exits.OK, errors)


def _tell_released(run: Run, outcome: Released) -> None:
    chosen, older = outcome.snapshot, outcome.older
    if not any(outcome.marked.values()):
        run.out.say(f"Snapshot {chosen.title} had been released before; nothing changed.", style="bold green")
        return
    run.out.say(f"Snapshot {chosen.title} is released: the newest whose deployment succeeded.", style="bold green")
    for each in older:
        taken = (chosen.taken_at - each.taken_at).total_seconds()
        run.out.say(f"  {each.title} may go now: it is {age(taken)} older")


def _facts(snapshot: Snapshot, state: str) -> dict[str, Any]:
    return {
        "id": snapshot.id,
        **snapshot.deploy.facts(),
        "state": state,
        "taken_at": names.iso(snapshot.taken_at),
        "lacking": [str(target) for target in snapshot.lacking],
        "files": [
            {"source": manifest.source, "database": manifest.database, "file": manifest.file}
            for _, manifest in snapshot.parts
        ],
    }
