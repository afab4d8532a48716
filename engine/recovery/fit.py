"""Whether one binary log goes on where another ended. Pure.

Neighbouring numbers are not enough: a server that was reset uses its numbers again.
"""

from __future__ import annotations

from datetime import datetime

from engine.binlog import gtids
from engine.logs import LogFile


def misfit(log: LogFile, name: str, created_at: datetime | None, gtids_before: str) -> str:
    """Why a later log does not go on where ``log`` ended; empty when it does, or when nothing tells.

    The one right after it was there already when it was shipped: it must be that very one.
    """
    if _is_known(log, name) and created_at is not None:
        if (log.next_created_at, log.next_gtids) == (created_at, gtids_before):
            return ""
        return f"{name} is another log than the one that followed {log.name}"
    lacking = gtids.lacks(gtids_before, log.gtids_before, log.gtid_last)
    return f"{name} began without {lacking}, which stands in {log.name} or before it" if lacking else ""


def is_told(log: LogFile, name: str) -> bool:
    """Can ``misfit`` tell at all?"""
    return _is_known(log, name) or bool(log.gtids_before or log.gtid_last)


def _is_known(log: LogFile, name: str) -> bool:
    return log.next_created_at is not None and int(name.rpartition(".")[2]) == log.number + 1
