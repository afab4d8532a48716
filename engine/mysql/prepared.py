"""Transactions of two phases that a replay left between them."""

from __future__ import annotations

from engine.mysql.connection import Connection, query


def roll_back_prepared(session: Connection) -> list[str]:
    """Transactions that were prepared and neither committed nor rolled back by then hold locks: they go."""
    notes = []
    for form, global_length, branch_length, data in query(session, "XA RECOVER"):
        raw = data.encode("latin-1") if isinstance(data, str) else bytes(data)
        name, branch = raw[:global_length], raw[global_length : global_length + branch_length]
        query(session, f"XA ROLLBACK x'{name.hex()}', x'{branch.hex()}', {form}")
        notes.append(f"rolled back a transaction that was prepared and not yet committed (XA {name!r})")
    return notes
