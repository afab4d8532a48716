"""Databases of a machine: its server awaited, its accounts loaded, each restored and compared, at any second."""

from __future__ import annotations

import time

from engine import names, stopping
from engine.config import MySQLConfig, PostgresConfig, ServerConfig
from engine.errors import BackupError, CredentialsRefused, LogGap, OutsideWindow, ToolFailed, UnknownName, Unreachable
from engine.fallback import first_whole
from engine.point_in_time import PastPlan, bring_back, plan_past
from engine.restore import run as run_restore
from engine.restore_plan import RestoreRequest, make_plan
from engine.restore_site.containers import have_running
from engine.restore_site.points import Piece
from engine.restore_site.state import Done
from engine.restore_site.work import Work
from engine.site import open_source

READY_SECONDS = 300.0
"""How long a server that was just started may take to answer: it may make its data directory first."""
_REFUSING_SECONDS = 60.0
"""... and to know its accounts."""
ROLES = {"mysql": "accounts", "postgres": "globals"}
"""By kind of server the companion of each full that holds its accounts."""


def await_server(work: Work, source: str) -> None:
    """Have a server running and answering.

    Raises:
        What it last said, when its time is over: Unreachable, CredentialsRefused. RestoreRefused: it has no container.
    """
    config = work.site.config.server(source)
    assert isinstance(config, ServerConfig)
    have_running(work, config)
    begun = time.monotonic()
    while True:
        stopping.check(f"waiting for {source}")
        server = open_source(config, work.site.name)
        try:
            server.server()
            return
        except (Unreachable, ToolFailed, CredentialsRefused, UnknownName) as error:
            limit = _REFUSING_SECONDS if isinstance(error, CredentialsRefused) else READY_SECONDS
            if time.monotonic() - begun > limit:
                raise
            time.sleep(1)
        finally:
            server.close()


def accounts(work: Work, piece: Piece, *, again: bool = False) -> Done:
    """Load users, roles and grants of the server, from beside one of its fulls. Those that exist keep their passwords.

    Args:
        again: After the databases are there: now what is granted on them can be granted.
    """
    source, manifest = piece.target.source, piece.manifest
    await_server(work, source)
    role = ROLES[manifest.kind]
    if role not in {part.role for part in manifest.files}:
        return Done(
            "the backup holds no accounts",
            left=[f"the accounts of {source} are in no backup: make them by hand"],
        )
    notes: list[str] = []
    text, _ = first_whole(
        piece.copies, lambda entry, manifest: b"".join(work.site.vault.read_part(entry, manifest, role)), notes
    )
    refused = _load(work, source, text)
    if not again:
        return Done("users, roles and their grants", notes=notes)
    return Done("grants on what was restored", notes=[*notes, *(f"refused: {each}" for each in refused)])


def _load(work: Work, source: str, text: bytes) -> list[str]:
    config = work.site.config.server(source)
    if isinstance(config, MySQLConfig):
        from engine.mysql import MySQLSource
        from engine.mysql.accounts_replay import apply_accounts

        server = work.site.source(source)
        assert isinstance(server, MySQLSource)
        return apply_accounts(server, text)
    from engine.postgres.globals_replay import apply_globals

    assert isinstance(config, PostgresConfig)
    return apply_globals(config, work.site.name, text)


def restore_database(work: Work, piece: Piece) -> Done:
    """Restore beside, compare, and put in place; what was there is kept."""
    target = piece.target
    await_server(work, target.source)
    past = past_of(work.site, work.request.location, work.request.point_in_time, piece)
    backup, location, when = piece.manifest.file, work.request.location, piece.manifest.taken_at
    said = f"as of {names.both_zones(when)}"
    notes: list[str] = []
    if isinstance(past, PastPlan):
        work.tell(f"bringing {target} back as it was at {past.plan.target}")
        _, manifest = bring_back(work.site, past, progress=work.progress)
        backup, location, said = manifest.file, "local", f"as of {past.plan.target}"
        notes += past.notes
    elif past is not None:
        notes.append(f"it cannot be had at {work.request.point_in_time} ({past.message}); it is {said}")
    before = work.site.source(target.source).state(target.database)
    request = RestoreRequest(
        target.database, target.source, backup, location, into=target.database,
        safety_backup=before.exists and before.tables > 0,
    )  # fmt: skip
    plan = make_plan(work.site, request)
    work.state.record(work.key, database=str(target))
    result = run_restore(work.site, plan, approved=True, progress=work.progress, tell=work.tell)
    counts = {"tables": len(result.comparison.found), "rows": result.rows}
    left = []
    if result.swap is not None and result.swap.kept_as and before.exists:
        what = "what was there" if before.tables else "the empty database that was there"
        left.append(f"{what} as {target} is kept as {result.swap.kept_as}: drop it once you are sure")
    if result.lacks_full is not None:
        left.append(f"{result.lacks_full.message} Next: {result.lacks_full.remedy}")
    told = f"{counts['rows']:,} rows in {counts['tables']:,} tables, {said}"
    return Done(told, counts, [*notes, *result.notes], left)


def past_of(site: object, location: str, when: str, piece: Piece) -> PastPlan | BackupError | None:
    """How a database is brought to a moment; None where that was not asked for, an error where it cannot be."""
    from engine.site import Site

    assert isinstance(site, Site)
    if not when:
        return None
    target = piece.target
    if not site.config.server(target.source).point_in_time:
        return OutsideWindow(f"no logs of {target.source} are shipped")
    try:
        return plan_past(site, RestoreRequest(target.database, target.source, location=location), when)
    except (OutsideWindow, LogGap, UnknownName) as error:
        return error
