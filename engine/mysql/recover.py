"""Finish or undo what a dead restore left in the server, by its journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.journal import Journal
from engine.mysql.connection import Connection
from engine.mysql.load import drop_side, own_sides
from engine.mysql.plan import SwapPlan, exchanged
from engine.mysql.sessions import Sessions, end_sessions
from engine.mysql.swap import finish, undo

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource


def recover(source: MySQLSource, journal: Journal) -> list[str]:
    """See ``engine.source.DatabaseSource.recover``. Forward once the tables changed places, back before that."""
    with Sessions(source, journal) as sessions:
        session = sessions.open()
        ended = end_sessions(session, journal)
        done = [f"ended {ended} sessions of the earlier run"] if ended else []
        entry = journal.reached("swap-plan")
        if entry is not None and not journal.reached("swap-done") and not journal.reached("undone"):
            done += _resolve(session, SwapPlan.from_document(entry["plan"]), journal)
        for side in own_sides(journal):
            drop_side(source, side, journal)
            done.append(f"removed the unfinished copy {side}")
    journal.close()
    return done


def _resolve(session: Connection, plan: SwapPlan, journal: Journal) -> list[str]:
    moved = exchanged(session, plan)
    if moved is None:  # there was no table to move: whoever got as far as the exchange goes on
        moved = journal.reached("exchange") is not None
    if moved:
        return [f"finished the replacement of {plan.database}", *finish(session, plan, journal)]
    return undo(session, plan, journal)
