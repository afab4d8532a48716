"""Before production is touched: the very statements that will make its code there, run in the side database.

The side copy was made from the dump's statements; production's objects are made from what the server shows
of the copy. What the server would refuse then, it refuses here first, while nothing is exchanged.
"""

from __future__ import annotations

from engine.errors import BackupError, RestoreRefused
from engine.mysql.connection import Connection
from engine.mysql.definitions import NEUTRAL, Definition, create, drop, read_definitions
from engine.mysql.schema import list_tables
from engine.mysql.sessions import run, using
from engine.mysql.view_text import lacks_rights


def rehearse(session: Connection, side: str, whole: bool) -> None:
    """Make everything in the side database once more; triggers only where tables were chosen.

    Raises:
        RestoreRefused: The server does not take one of its own definitions.
    """
    tables = None if whole else [table.name for table in list_tables(session, side)]
    there = read_definitions(session, side, tables=tables)
    run(session, using(side))
    for each in (*there.routines, *there.views, *there.triggers, *there.events):
        _again(session, each)


def _again(session: Connection, definition: Definition) -> None:
    away = [] if definition.kind == "view" else [drop(definition)]
    try:
        run(session, *away, *create(definition))
    except BackupError as error:
        run(session, NEUTRAL)
        if definition.kind == "view" and lacks_rights(error.message):
            return  # its definer may have them in production; there it is a note
        raise RestoreRefused(
            f"The {definition.kind} {definition.name} could not be made again as the server shows it: {error.message}",
            kept="production is unchanged",
            remedy="remove the cause named above, then restore again; or restore beside and take it over by hand",
        ) from None
