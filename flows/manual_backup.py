"""A backup now, because a person wants one."""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State

from flows.backup_run import run_backups
from flows.outcome import outcome
from flows.parameters import Database, Keep, Label, SiteName, Source


def _run_name() -> str:
    given = runtime.flow_run.parameters
    part = "/".join(each for each in (given.get("site"), given.get("source"), given.get("database")) if each)
    return f"manual backup of {part}" + (f": {given['label']}" if given.get("label") else "")


@flow(name="manual-backup", flow_run_name=_run_name, persist_result=False)
def manual_backup(
    site: SiteName, label: Label = "", source: Source = "", database: Database = "", keep: Keep = ""
) -> State[Any]:
    """Back up a site, one of its sources, or one database, now. Kept for ever, unless it is said for how long.

    Args:
        site: Name of the site block, such as workset.
        label: Why this backup is made; stands in its manifest. Not a place for secrets.
        source: One source of the site, such as mysql or config. Empty: all of them.
        database: One database of that server. Empty: all of them.
        keep: For how long it is kept, such as 30d, 12w or 6m. Empty: for ever.
    """
    return outcome(run_backups, site, "manual", label=label, source=source, database=database, keep=keep)
