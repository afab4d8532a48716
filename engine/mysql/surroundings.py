"""What a replay of logs leans on and no log says: the zone of the server's system and some of its settings.

A capture writes them into the manifest (``contents["surroundings"]``); a scratch server takes them over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from engine import names
from engine.errors import BackupError
from engine.mysql.connection import Connection, literal, query
from engine.mysql.foreign_triggers import triggers_elsewhere
from engine.mysql.posix_zone import find_rule

if TYPE_CHECKING:
    from engine.manifest import Manifest
    from engine.scratch.mysql import Scratch, Settings
    from engine.site import Site

KEY = "surroundings"
ZONE = "system_time_zone"
TRIGGERS = "triggers_elsewhere"
"""Triggers of other databases that name this one."""
_NAMES = "lower_case_table_names"
_APPLIED = (
    "block_encryption_mode", "character_set_server", "collation_server", "default_storage_engine",
    "default_week_format", "div_precision_increment", "explicit_defaults_for_timestamp", "group_concat_max_len",
    "innodb_default_row_format", "innodb_strict_mode", "old_mode", "time_zone",
)  # fmt: skip
"""In this order: a character set brings its own collation. Each is what statements of a log mean where their
sessions said nothing else, and no event carries it."""
_RECORDED = (*_APPLIED, _NAMES, "innodb_native_foreign_keys")


def surroundings(connection: Connection, database: str) -> tuple[dict[str, Any], list[str]]:
    """What the manifest keeps, and warnings. ``system_time_zone`` is a rule as TZ takes it, or absent.

    The session's time zone is UTC afterwards, as it was.
    """
    wanted = ", ".join(literal(name) for name in _RECORDED)
    found = query(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({wanted})")
    settings = {str(name).lower(): str(text) for name, text in found}
    known = {"settings": settings, TRIGGERS: triggers_elsewhere(connection, database)}
    with contextlib.suppress(BackupError):
        query(connection, "SET SESSION time_zone = 'SYSTEM'")
        try:
            rule = find_rule(lambda instants: _offsets(connection, instants), names.now())
        finally:
            query(connection, "SET SESSION time_zone = '+00:00'")
        if rule is not None:
            return {**known, ZONE: rule}, []
    return known, [
        "The time zone of the server's system could not be found out: in a recovery to a moment, statements that were "
        "logged as text and use the local time (NOW(), FROM_UNIXTIME()) may give other values than here. Set the "
        "server's time_zone to a name or an offset, or its TZ to a zone."
    ]  # fmt: skip


def _offsets(connection: Connection, instants: Sequence[int]) -> dict[int, int]:
    """By the server's own reckoning, in the session's zone. Nothing but whole minutes is told apart."""
    found: dict[int, int] = {}
    for at in range(0, len(instants), 500):
        some = instants[at : at + 500]
        asked = ", ".join(f"DATE_FORMAT(FROM_UNIXTIME({each}), '%Y-%m-%dT%H:%i:%s+00:00')" for each in some)
        row = query(connection, f"SELECT {asked}")[0]
        found |= {each: int(datetime.fromisoformat(_text(shown)).timestamp()) - each
                  for each, shown in zip(some, row, strict=True)}  # fmt: skip
    return found


def fitted(
    site: Site, source: str, manifest: Manifest, settings: Settings
) -> tuple[Settings, dict[str, Any], list[str]]:
    """How a scratch server for a full backup is to be started, what it is to take over, and notes.

    A full of before these things were recorded has none of them: its source is asked as it is now.
    """
    known = manifest.contents.get(KEY)
    notes = []
    if not isinstance(known, dict):
        known = _asked(site, source, manifest.database)
        if known.get("settings"):
            notes.append(f"{manifest.file} does not say the time zone and the settings of its server: those that "
                         f"{source} has now were taken")  # fmt: skip
    zone, told = known.get(ZONE), settings_of(known)
    if zone is None:
        notes.append(
            f"WARNING: the time zone of {source}'s system is not known: statements that were logged as text and use "
            "the local time (NOW(), FROM_UNIXTIME()), and ALTER TABLE that adds or turns columns into DATETIME, may "
            "have given values that are off by hours; compare such columns"
        )
    if settings.time_zone is None and zone is not None:
        settings = replace(settings, time_zone=str(zone))
    if settings.lower_case_table_names is None and str(told.get(_NAMES, "")).isdigit():
        settings = replace(settings, lower_case_table_names=int(told[_NAMES]))
    return settings, known, notes


def recorded(manifest: Manifest) -> dict[str, Any]:
    """What a full backup says of its server; nothing where it is older."""
    return dict(manifest.contents.get(KEY, {}))


def settings_of(known: Mapping[str, Any]) -> dict[str, str]:
    """The settings among that."""
    return dict(known.get("settings", {}))


def _asked(site: Site, source: str, database: str) -> dict[str, Any]:
    """Of the source, if it answers."""
    from engine.mysql.server import MySQLSource

    with contextlib.suppress(BackupError):
        asked = site.source(source)
        assert isinstance(asked, MySQLSource)
        with contextlib.closing(asked.connect(patience=30)) as session:
            return surroundings(session, database)[0]
    return {}


def take_over(scratch: Scratch, told: Mapping[str, str]) -> list[str]:
    """Give a scratch server the source's settings, before its applier starts; notes on what it does not take."""
    notes = []
    with contextlib.closing(scratch.source.connect()) as session:
        for name in _APPLIED:
            if name not in told or _now(session, name) in (None, told[name]):
                continue
            try:
                if name == "time_zone" and any(map(str.isalpha, told[name])) and told[name] != "SYSTEM":
                    scratch.load_time_zones()
                query(session, f"SET GLOBAL {name} = {_literal(told[name])}")
            except BackupError as error:
                notes.append(f"WARNING: the scratch server does not take the source's {name} = {told[name]!r}, which "
                             f"statements that were logged as text may lean on: {error.message}")  # fmt: skip
    return notes


def _now(session: Connection, name: str) -> str | None:
    found = query(session, f"SHOW GLOBAL VARIABLES LIKE {literal(name)}")
    return str(found[0][1]) if found else None


def _literal(text: str) -> str:
    return text if text.isdigit() else literal(text)


def _text(shown: object) -> str:
    return shown.decode() if isinstance(shown, bytes) else str(shown)
