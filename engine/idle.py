"""What is known of the time after the newest log was shipped, where a server has written nothing since.

A run of shipping that finds its server idle ships nothing, and yet proves something: up to that moment every commit
stands in the logs that are there. One mark on the newest log says so, in every place that has that log. Unlike other
marks it is replaced by the next one, and goes when a newer log has come: a server that idles for weeks leaves one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from engine import marks
from engine.catalog import Entry
from engine.errors import BackupError, CredentialsRefused
from engine.logs import LogFile, ledger
from engine.vault import Vault

KIND = "idle"
UNTIL = "until"
_LOOKED_AT = 3
"""Of the newest logs: those before the last one may have a mark that goes now."""


def say(vault: Vault, entry: Entry, until: datetime) -> None:
    """Nothing was committed after this log up to that moment (UTC, the server's clock); instead of what was said of
    it before."""
    before = _keys(vault, entry)
    vault.mark(entry, KIND, **{UNTIL: until.isoformat()})
    _remove(vault, entry, before)


def said_of(vault: Vault, entry: Entry) -> datetime | None:
    """Up to when nothing was committed after this log, as its place has it. A mark that is damaged or forged says
    nothing."""
    store, layout = vault.store(entry.location), vault.layout(entry.location)
    good, _ = marks.judge(store, layout, vault.keys, entry, _keys(vault, entry))
    return max((datetime.fromisoformat(str(mark["facts"][UNTIL])) for mark in good), default=None)


def reaching(vault: Vault, logs: Iterable[tuple[LogFile, list[Entry]]], notes: list[str]) -> list[LogFile]:
    """The same logs, each the newest of its row with all that any of its places says of the time after it."""
    logs = list(logs)
    newest = {log.row: log.number for log, _ in sorted(logs, key=lambda each: each[0].number)}
    found = []
    for log, copies in logs:
        if log.number == newest[log.row] and log.covers_until is not None:
            known = [log.covers_until]
            for entry in copies:
                try:
                    known += [until for until in [said_of(vault, entry)] if until is not None]
                except BackupError as error:
                    notes.append(f"nobody knows if the server was idle after {log.name}: {error.message}")
            log = log.model_copy(update={"covers_until": max(known)})
        found.append(log)
    return found


def settle(vault: Vault, source: str, tier: str) -> None:
    """A newer log was shipped: what older ones say goes."""
    for entry in ledger(vault, source, tier)[-_LOOKED_AT:-1]:
        _remove(vault, entry, _keys(vault, entry))


def carry(vault: Vault, replica: str, source: str, tier: str) -> None:
    """Say at a replica what is said here, in place of what was said there. Where its key may not delete, the first
    word on a log stays the only one.

    Raises:
        What the stores raise.
    """
    here = {entry.file: entry for entry in ledger(vault, source, tier)[-_LOOKED_AT:]}
    for there in ledger(vault, source, tier, replica)[-_LOOKED_AT:]:
        until = said_of(vault, here[there.file]) if there.file in here else None
        before = _keys(vault, there)
        if until is None and not before:
            continue
        try:
            _remove(vault, there, before)  # first: what cannot be replaced must not pile up
        except CredentialsRefused:
            continue
        if until is not None:
            vault.mark(there, KIND, **{UNTIL: until.isoformat()})


def _keys(vault: Vault, entry: Entry) -> list[str]:
    named = marks.named(vault.store(entry.location), vault.layout(entry.location), entry.key)
    return [mark.key for mark in named if mark.kind == KIND]


def _remove(vault: Vault, entry: Entry, keys: list[str]) -> None:
    for key in keys:
        vault.store(entry.location).delete(key)
