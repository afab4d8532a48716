"""Ending what a dead run began: forward where its exchange had happened, back where it had not."""

from __future__ import annotations

from collections.abc import Callable

from engine.journal import Journal
from engine.postgres import sides
from engine.postgres.connection import Connection, Connector, translated
from engine.postgres.load import remove_spool
from engine.postgres.swap import reopen
from engine.postgres.tools import Tools


def recover(connector: Connector, tools: Callable[[], Tools], journal: Journal) -> list[str]:
    """Finish or undo, close the journal, and say what was done.

    Raises:
        Unreachable...: The server does not answer; the journal stays for the next run.
    """
    swap = journal.reached("swap-begin") or {}
    names = [
        str(entry[key]) for entry in journal.steps for key in ("side", "database", "keep_as", "made") if entry.get(key)
    ]
    said = []
    with connector.open(connector.maintenance_for(*names)) as connection:
        if ended := sides.terminate_run(connection, connector.session_name(sides.token_of(journal))):
            said.append(f"ended {ended} sessions of the run that died")
        if (spool := journal.reached("load-spool")) is not None:
            remove_spool(tools(), spool["path"])
        if swap:
            said += _swap(connector, connection, journal, swap)
        else:
            said += _exchange(connector, journal)
            said += sides.remove(connector, connection, journal)
    journal.close()
    return said or ["nothing was left to undo"]


def _swap(connector: Connector, connection: Connection, journal: Journal, entry: dict[str, object]) -> list[str]:
    database, old_oid = str(entry["database"]), entry["old_oid"]
    swapped = reopen(
        connection,
        int(str(entry["side_oid"])),
        int(str(old_oid)) if old_oid is not None else None,
        database,
        bool(entry["old_allowed"]),
    )
    if swapped:
        kept = f"; the previous data is {entry['keep_as']}" if old_oid is not None else ""
        return [f"{database} is the restored one and open{kept}"]
    was = "is the previous one and open" if old_oid is not None else "is still missing"
    return [f"{database} {was}; its replacement was undone", *sides.remove(connector, connection, journal)]


def _exchange(connector: Connector, journal: Journal) -> list[str]:
    entry = journal.reached("exchange-begin")
    if entry is None:
        return []
    kept: dict[str, str] = entry["kept"]
    with connector.open(entry["database"]) as production, translated("looking at the schemas"):
        known = {row[0] for row in production.execute("SELECT nspname FROM pg_namespace")}
    if kept and all(name in known for name in kept.values()):
        return [
            f"the schemas of {entry['database']} are the restored ones; the previous are {', '.join(kept.values())}"
        ]
    return [f"the schemas of {entry['database']} are the previous ones; their exchange was undone"]
