"""Replace a production database by a checked copy. Every step is in the journal before it is taken.

    plan       look, refuse, write down all old definitions          nothing is touched
    prepare    make the names, put events to sleep                   ``undo`` takes it back
    exchange   the tables change places in one step                  before it: undo, after it: finish
    finish     routines, views, events; the old copy made complete   repeated until all is as planned

``finish`` and ``undo`` look at what is there, so either may be run again at any point.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from engine.errors import BackupError, IntegrityError, ToolFailed
from engine.journal import Journal
from engine.manifest import Manifest
from engine.mysql import sequences
from engine.mysql.connection import Connection, quoted
from engine.mysql.definitions import (
    NEUTRAL,
    CollationSteps,
    Definition,
    Definitions,
    Wanted,
    code_changes,
    create,
    drop,
    read_definitions,
    set_charset,
    set_event_status,
)
from engine.mysql.exchange import blockers_named, exchange
from engine.mysql.load import exists, own_sides
from engine.mysql.plan import SwapPlan, make_plan, put_away
from engine.mysql.queued import CANNOT_LOCK, drop_gate, make_gate
from engine.mysql.rehearsal import rehearse
from engine.mysql.schema import list_tables
from engine.mysql.sessions import Sessions, packet, run, run_patiently, using
from engine.mysql.view_text import for_lack_of_rights
from engine.progress import Progress
from engine.source import OpenPart, Selection, SwapReport

if TYPE_CHECKING:
    from engine.mysql.server import MySQLSource

_PASSES = 10


def swap(
    source: MySQLSource,
    manifest: Manifest,
    part: OpenPart,
    side: str,
    database: str,
    keep_as: str,
    selection: Selection,
    journal: Journal,
    progress: Progress,
) -> SwapReport:
    """See ``engine.source.DatabaseSource.swap``."""
    with Sessions(source, journal) as sessions:
        session = sessions.open()
        progress("planning the exchange", 0)
        plan = make_plan(source, session, manifest, part, side, database, keep_as, selection, journal)
        journal.record("swap-plan", plan=plan.document())
        with blockers_named(source):
            prepare(source, session, plan, journal)
        progress("exchanging the tables", 0)
        journal.record("exchange")
        paused = exchange(source, sessions, plan, _code_for_packet(plan))
        journal.record("exchanged", paused_seconds=paused)
        progress("routines, views, events", 0)
        notes = finish(session, plan, journal)
    return SwapReport(plan.keep_as if plan.existed else "", paused, [*plan.notes, *notes])


def prepare(source: MySQLSource, session: Connection, plan: SwapPlan, journal: Journal) -> None:
    """All that can be done while production goes on."""
    journal.record("make-databases")
    if not plan.existed:
        _make_database(session, plan.database, plan.new)
    else:
        _make_database(session, plan.keep_as, plan.old)
    journal.record("rehearse")
    rehearse(session, plan.side, plan.whole)
    journal.record("side-triggers-off")
    run(session, using(plan.side), *(drop(each) for each in plan.new.triggers))
    if source.flavour == "mariadb":
        journal.record("make-gate", database=plan.gate)
        make_gate(session, plan.gate)
        journal.record("point-sequences")
        run(session, *(_sequence("CREATE SEQUENCE IF NOT EXISTS", plan, name) for name in plan.placeholders))
        run(session, *sequences.retarget(session, plan.side, plan.side, plan.database))
    run(session, using(plan.database))
    if plan.existed and plan.whole:
        journal.record("events-off")
        run_patiently(session, *_events_off(plan), patience=source.config.lock_wait_seconds)
    if plan.trigger_collation and plan.trigger_collation != _charset(plan).collation:
        journal.record("trigger-collation")
        alter = f"ALTER DATABASE {quoted(plan.database)} COLLATE {plan.trigger_collation}".encode()
        run_patiently(session, alter, patience=source.config.lock_wait_seconds)


def _sequence(verb: str, plan: SwapPlan, name: str) -> bytes:
    return f"{verb} {quoted(plan.database)}.{quoted(name)}".encode()


def _events_off(plan: SwapPlan) -> list[bytes]:
    steps = CollationSteps(plan.database, plan.old.charset, plan.old.collation)
    awake = [each for each in plan.old.events if each.status == "ENABLE"]
    statements = [s for each in awake for s in (*steps.before(each), *set_event_status(each, "DISABLE"))]
    return [*statements, *steps.finally_()]


def _charset(plan: SwapPlan) -> Definitions:
    """Whose character set the production database has before the exchange."""
    return plan.old if plan.existed else plan.new


def _code_for_packet(plan: SwapPlan) -> list[bytes]:
    if not plan.whole:
        return []
    disabled = tuple(replace(each, status="DISABLE" if each.status == "ENABLE" else each.status)
                     for each in plan.old.events)  # fmt: skip
    present = replace(plan.old, events=disabled)
    if plan.trigger_collation:
        present = replace(present, collation=plan.trigger_collation)
    return [statement for group in code_changes(present, plan.wanted, plan.database) for statement in group]


# -- forward ---------------------------------------------------------------------------------------


def finish(session: Connection, plan: SwapPlan, journal: Journal) -> list[str]:
    """From wherever it stands after the exchange, bring production and the old copy to their end.

    Returns:
        Notes for a person.

    Raises:
        IntegrityError: Something of the plan cannot be made; the journal stays and holds it.
    """
    notes: list[str] = []
    ensure_triggers(session, plan.database, plan.new.triggers)
    if plan.whole:
        problems, later = _ensure_code(session, plan.database, plan.wanted)
        notes += later
        if problems:
            raise IntegrityError(
                f"The tables of {plan.database} are exchanged, but: {'; '.join(problems)}",
                kept=f"the journal holds every definition, {plan.keep_as} the old data",
                remedy="remove the cause named above, then run again: the rest is finished then",
            )
        notes += _ensure_grants(session, plan)
    elif plan.existed:
        _ensure_charset(session, plan.database, plan.old)
    if plan.existed:
        journal.record("complete-old-copy")
        notes += complete_old_copy(session, plan)
    journal.record("clear")
    drop_gate(session, plan.gate)
    notes += _drop_emptied_side(session, plan, journal)
    journal.record("swap-done")
    return notes


def ensure_triggers(session: Connection, database: str, wanted: Iterable[Definition]) -> None:
    """Make the triggers that are missing or different. Each is made under a lock of its table, so that no
    write misses it, and all of a table again where one differs, so that they keep their order."""
    goals = list(wanted)
    tables = [table.name for table in list_tables(session, database)]
    present = {each.key: each for each in read_definitions(session, database, tables=tables).triggers}
    for table, group in groupby(goals, key=lambda each: each.table):
        triggers = list(group)
        if table not in tables or all(each.same_as(present.get(each.key)) for each in triggers):
            continue
        for each in triggers:
            _make_trigger(session, database, each)


def _make_trigger(session: Connection, database: str, trigger: Definition) -> None:
    if _present(session, database).collation != trigger.database_collation:
        run_patiently(session, f"ALTER DATABASE {quoted(database)} COLLATE {trigger.database_collation}".encode())
    *making, after = drop(trigger), *create(trigger)
    lock = f"LOCK TABLES {quoted(database)}.{quoted(trigger.table)} WRITE".encode()
    try:
        # CREATE TRIGGER stands last: MySQL takes a ';' that follows it into the trigger's text
        run_patiently(session, packet([lock, *making]))
    except ToolFailed as error:
        if not any(number in error.message for number in CANNOT_LOCK):
            raise
        run(session, b"UNLOCK TABLES", *making)
    finally:
        run(session, b"UNLOCK TABLES", after)  # after a failure too: the settings are those of the trigger


def _ensure_code(session: Connection, database: str, wanted: Wanted) -> tuple[list[str], list[str]]:
    """Until nothing differs; a view may have to wait for another.

    Returns:
        What cannot be made, in words; notes on views whose definers are missing or have no rights.
    """
    problems: list[_Problem] = []
    run(session, using(database), b"SET SESSION foreign_key_checks = 0")
    for _ in range(_PASSES):
        groups = code_changes(read_definitions(session, database), wanted, database)
        if not groups:
            return [], []
        before, problems = problems, _run_groups(session, groups)
        if problems and problems == before:
            break
    return _sorted_out(database, problems, wanted.definitions.views)


_Problem = tuple[str, list[bytes]]
"""What the server said, and the statements that should make the one object."""


def _sorted_out(database: str, problems: list[_Problem], views: Iterable[Definition]) -> tuple[list[str], list[str]]:
    """A view that its definer's rights do not allow is a note, with the statement: all data is in place."""
    made = {create(view)[1]: view.name for view in views}
    failed = {made[text]: (text, reason) for reason, group in problems for text in group if text in made}
    later = for_lack_of_rights({name: text for name, (text, _) in failed.items()},
                               {name: reason for name, (_, reason) in failed.items()})  # fmt: skip
    notes = [
        f"view {name} could not be made ({failed[name][1]}); once its definer exists and has its rights, "
        f"USE {quoted(database)}; {failed[name][0].decode('utf-8', 'replace')}"
        for name in sorted(later)
    ]
    excused = {failed[name][0] for name in later}
    return [reason for reason, group in problems if not excused & set(group)], notes


def _run_groups(session: Connection, groups: list[list[bytes]]) -> list[_Problem]:
    problems: list[_Problem] = []
    for group in groups:
        try:
            run_patiently(session, *group)
        except BackupError as error:
            problems.append((error.message, group))
            run(session, NEUTRAL)
    return problems


def _ensure_grants(session: Connection, plan: SwapPlan) -> list[str]:
    notes = []
    for grant in plan.grants:
        try:
            run(session, grant.encode())
        except BackupError as error:
            notes.append(f"could not be granted again: {grant} ({error.message})")
    return notes


def complete_old_copy(session: Connection, plan: SwapPlan) -> list[str]:
    """Give the old tables their triggers, routines, views and (disabled) events back, under their new name."""
    database, old = plan.keep_as, plan.old
    _make_database(session, database, old)
    run(session, *sequences.retarget(session, database, plan.database, database))
    ensure_triggers(session, database, old.triggers)
    present = read_definitions(session, database)
    steps = CollationSteps(database, old.charset, present.collation)
    there = {each.key for kind in (present.routines, present.views, present.events) for each in kind}
    missing = [each for each in (*old.routines, *old.views, *old.events) if each.key not in there]
    groups = [[*steps.before(each), *create(replace(each.moved(plan.database, database), status=(
        "DISABLE" if each.kind == "event" else "")))] for each in missing]  # fmt: skip
    problems = _run_groups(session, groups)
    run(session, set_charset(database, old.charset, old.collation))
    return [f"in the old copy {database}: {problem}" for problem, _ in problems]


def _drop_emptied_side(session: Connection, plan: SwapPlan, journal: Journal) -> list[str]:
    if plan.side not in own_sides(journal) or not exists(session, plan.side):
        return []
    away = {put_away(name) for name in plan.placeholders}
    left = [table.name for table in list_tables(session, plan.side) if table.name not in away]
    if left:
        return [f"{plan.side} still holds {', '.join(left)} and was left"]
    run(session, f"DROP DATABASE {quoted(plan.side)}".encode())
    journal.record("side-dropped", database=plan.side)
    return []


# -- back ------------------------------------------------------------------------------------------


def undo(session: Connection, plan: SwapPlan, journal: Journal) -> list[str]:
    """The tables were not exchanged: take back what ``prepare`` did, and triggers that were dropped."""
    journal.record("undo")
    if exists(session, plan.database):
        run(session, *(_sequence("DROP SEQUENCE IF EXISTS", plan, name) for name in plan.placeholders))
    if not plan.existed:
        if exists(session, plan.database) and not list_tables(session, plan.database):
            run(session, f"DROP DATABASE {quoted(plan.database)}".encode())
    else:
        ensure_triggers(session, plan.database, plan.old.triggers)
        problems = _ensure_code(session, plan.database, Wanted(plan.old))[0] if plan.whole else []
        if problems:
            raise IntegrityError(
                f"{plan.database} could not be put back as it was: {'; '.join(problems)}",
                kept="all tables are in place; the journal holds every definition",
                remedy="remove the cause named above, then run again",
            )
        _ensure_charset(session, plan.database, plan.old)
        if exists(session, plan.keep_as) and not list_tables(session, plan.keep_as):
            run(session, f"DROP DATABASE {quoted(plan.keep_as)}".encode())
    drop_gate(session, plan.gate)
    journal.record("undone")
    return [f"{plan.database} was not replaced and is as before"]


def _ensure_charset(session: Connection, database: str, like: Definitions) -> None:
    """Only where it differs: on MySQL the statement locks every table of the database, one after another."""
    if _present(session, database).collation != like.collation:
        run_patiently(session, set_charset(database, like.charset, like.collation))


def _make_database(session: Connection, database: str, like: Definitions) -> None:
    run(session, f"CREATE DATABASE IF NOT EXISTS {quoted(database)} "
                 f"CHARACTER SET {like.charset} COLLATE {like.collation}".encode())  # fmt: skip


def _present(session: Connection, database: str) -> Definitions:
    """Only the character set, quickly."""
    return read_definitions(session, database, tables=())
