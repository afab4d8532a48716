"""``backups backup``."""

from __future__ import annotations

import threading
from collections.abc import Container
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli import exits
from deployments.cli.options import Database, Source, check_tier
from deployments.cli.run import Outcome, Run, command
from deployments.cli.terminal import age, moment, size
from engine import names
from engine.errors import BackupError, ConfigError, UnknownName, nearest

if TYPE_CHECKING:
    from engine.backup import BackupResult, CopyResult
    from engine.progress import Progress
    from engine.site import Site, Target


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "backup",
        stopped="every published backup; a dump that was under way leaves nothing behind",
        example="""backups backup -f workset
                   backups backup -f workbench --database workbench --label before-upgrade --json""",
    )(backup)


def backup(
    run: Run,
    source: Source = None,
    database: Database = None,
    tier: Annotated[str, typer.Option(help="hourly, daily, weekly, monthly, pre-deployment or manual.")] = "manual",
    label: Annotated[str, typer.Option(help="A few words kept in the manifest.")] = "",
    keep: Annotated[str, typer.Option(help="Of a manual backup: for how long, such as 30d; else for ever.")] = "",
) -> Outcome:
    """Back up, verify, then bring every replica up to date.

    Every source of the site unless one is named: sources side by side, the databases of one after each other. A
    replica that fails, or a file that cannot be read, costs nothing else: the exit code is then 3.
    """
    from engine.keyring import births
    from engine.keyring.changed import changed_keys
    from engine.pins import parse_keep

    check_tier(tier)
    how_long = parse_keep(keep, tier)
    with run.site(sweep=True) as site:
        targets, errors, failed = _targets(run, site, source, database)
        work = _Work(run, site, tier, label, names.recovery_point(), how_long)
        work.do(targets)
        if work.made:
            _seal(run, site, work)
        errors, failed = errors + work.errors, failed + work.failed
        copies = _copy(run, site, {each.entry.file for each in work.made})
        births.note(site.vault.state, site.vault.keys)
        aged = births.reminder(site.vault.state, site.vault.keys)
        unreadable: list[BackupError] = [
            run.refuse(error, about="older backups: ") for error in changed_keys(site.vault)
        ]
    if aged:
        run.warn(aged)
    facts = {
        "recovery_point": work.recovery_point,
        "backups": [_made_facts(each) for each in work.made],
        "failed": failed,
        "copies": [_copy_facts(each) for each in copies],
    }
    partial = [copy.error for copy in copies if copy.error is not None] + work.incomplete + unreadable
    code = exits.PARTIAL if partial and not errors else exits.OK
    return Outcome(facts, code, errors + partial)


def _targets(
    run: Run, site: Site, source: str | None, database: str | None
) -> tuple[list[Target], list[BackupError], list[dict[str, Any]]]:
    """What to back up. A server that is down costs only its own databases.

    Raises:
        UnknownName: No such source or database. ConfigError: the site has none.
    """
    if source is not None or len(site.config.sources()) == 1:
        return site.targets(source, database), [], []
    targets, errors, failed = [], [], []
    for name in [each.name for each in site.config.sources() if _may_hold(each.databases, database)]:
        try:
            targets += site.targets(name, database)
        except UnknownName:
            if database is None:
                raise
        except Exception as failure:
            error = run.refuse(run.foresee(failure, f"Looking at {name}"), about=f"{name}: ")
            errors.append(error)
            failed.append({"source": name, "database": database, "error": exits.describe(error)})
    if targets or errors:
        return targets, errors, failed
    if database is not None:
        known = [each for config in site.config.sources() for each in config.databases]
        raise UnknownName(f"Site {site.name} backs up no database {database!r}.", remedy=nearest(database, known))
    raise ConfigError(
        f"Site {site.name} has nothing to back up.",
        remedy="add a mysql:, postgres:, volumes:, buckets:, n8n: or config: section to the site file",
    )


def _may_hold(configured: list[str], database: str | None) -> bool:
    return database is None or not configured or database in configured


class _Work:
    """The backups of one run: what was made, what failed, what is incomplete."""

    def __init__(
        self, run: Run, site: Site, tier: str, label: str, recovery_point: str, keep: timedelta | None = None
    ) -> None:
        self.recovery_point = recovery_point
        self.made: list[BackupResult] = []
        self.errors: list[BackupError] = []
        self.incomplete: list[BackupError] = []
        self.failed: list[dict[str, Any]] = []
        self._run, self._site, self.tier, self._label, self._keep = run, site, tier, label, keep
        self._speaking = threading.Lock()

    def do(self, targets: list[Target]) -> None:
        """Sources side by side, each with a site of its own; one that fails does not stop the others."""
        from engine.abreast import abreast

        sources = dict.fromkeys(target.source for target in targets)
        groups = [[target for target in targets if target.source == name] for name in sources]
        with self._run.out.progress() as progress:
            abreast(groups, lambda target: self._one(target, progress))
        self.made.sort(key=lambda each: [str(target) for target in targets].index(_whose(each)))

    def _one(self, target: Target, progress: Progress) -> None:
        from engine.backup import backup_one
        from engine.site import Site

        def told(step: str, done: int, total: int | None = None) -> None:
            progress(f"{target}: {step}", done, total)

        try:
            with Site(self._site.config) as site:
                result = backup_one(
                    site, target, tier=self.tier, label=self._label, recovery_point=self.recovery_point,
                    progress=told, keep=self._keep,
                )  # fmt: skip
        except Exception as failure:
            with self._speaking:
                self._failed(target, self._run.foresee(failure, f"The backup of {target}"))
            return
        with self._speaking:
            self._made(target, result)

    def _failed(self, target: Target, error: BackupError) -> None:
        self.errors.append(self._run.refuse(error, about=f"{target}: "))
        self.failed.append({"source": target.source, "database": target.database, "error": exits.describe(error)})

    def _made(self, target: Target, result: BackupResult) -> None:
        self.made.append(result)
        _show(self._run, target, result)
        if result.manifest.incomplete:
            self.incomplete.append(self._run.refuse(_incomplete(target, result), about=f"{target}: "))


def _whose(result: BackupResult) -> str:
    return f"{result.manifest.source}/{result.manifest.database}"


def _incomplete(target: Target, result: BackupResult) -> BackupError:
    missing = result.manifest.incomplete
    return BackupError(
        f"{result.manifest.file} is incomplete: {'; '.join(missing[:20])}"
        + (f"; and {len(missing) - 20} more" if len(missing) > 20 else ""),
        kept="all that could be read is in it, verified; the last complete backup still counts as the newest good one",
        remedy=f"mend this, or take it out of {target.source} in the site file, and back up again",
    )


def _copy(run: Run, site: Site, own: Container[str] = ()) -> list[CopyResult]:
    from engine.backup import replicate_all

    if len(site.vault.locations()) == 1:
        return []
    with run.out.progress() as progress:
        copies = replicate_all(site, own=own, progress=progress)
    lost = {copy.replica for copy in copies if copy.error is not None}
    copies += [each for name in site.vault.locations()[1:] if name not in lost for each in _site_files(run, site, name)]
    for copy in copies:
        if copy.error is None:
            run.out.say(f"  copied {copy.file} to {copy.replica}" + (f" ({copy.stored.proof})" if copy.stored else ""))
        else:
            run.refuse(copy.error, about=f"{copy.replica} lacks {copy.file or 'backups'}: ")
    return copies


def _seal(run: Run, site: Site, work: _Work) -> None:
    """The site file goes into the recovery point, too."""
    from engine.sealed import seal_site

    try:
        seal_site(site.vault, run.site_path().read_text(encoding="utf-8"), work.recovery_point, work.tier)
    except Exception as failure:
        error = run.foresee(failure, "Sealing the site file")
        work.errors.append(run.refuse(error, about="the site file: "))


def _site_files(run: Run, site: Site, replica: str) -> list[CopyResult]:
    """Nothing where the replica has every sealed site file now; else why not."""
    from engine.backup import CopyResult
    from engine.sealed import copy_sealed

    try:
        copy_sealed(site.vault, replica)
    except Exception as failure:
        return [CopyResult(replica, "site files", None, run.foresee(failure, f"Copying site files to {replica}"))]
    return []


def _show(run: Run, target: Target, result: BackupResult) -> None:
    manifest, rate = result.manifest, result.manifest.data.plain_size / max(result.seconds, 0.001)
    run.out.say(f"{target}: {manifest.file}", style="bold green")
    run.out.say(f"  taken {moment(manifest.taken_at)}")
    run.out.say(
        f"  {manifest.holds}, {size(manifest.data.plain_size)} "
        f"({size(manifest.stored_bytes)} stored) in {age(result.seconds)}, {size(int(rate))}/s, verified"
    )
    for warning in manifest.warnings:
        run.warn(f"{target}: {warning}")


def _made_facts(result: BackupResult) -> dict[str, Any]:
    m = result.manifest
    return {
        "source": m.source,
        "database": m.database,
        "tier": m.tier,
        "label": m.label,
        "file": m.file,
        "key": result.entry.key,
        "taken_at": m.taken_at.isoformat().replace("+00:00", "Z"),
        "bytes": m.data.plain_size,
        "stored_bytes": m.stored_bytes,
        "sha256": m.data.sha256,
        "rows": m.rows,
        "total_rows": m.total_rows,
        "verified": True,
        "holds": m.holds,
        "incomplete": m.incomplete,
        "seconds": round(result.seconds, 3),
        "warnings": m.warnings,
    }


def _copy_facts(copy: CopyResult) -> dict[str, Any]:
    return {
        "replica": copy.replica,
        "file": copy.file,
        "ok": copy.error is None,
        "proof": copy.stored.proof if copy.stored else None,
        "error": exits.describe(copy.error) if copy.error else None,
    }
