"""A restore in a process of its own that kills itself with SIGKILL: at the n-th line of its journal, or a
given time after the exchange has begun. Reads its orders as a pickle on standard input."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config import MySQLConfig
from engine.journal import Journal
from engine.mysql.server import MySQLSource
from engine.progress import silent
from engine.source import Selection
from tests.functional.mysql.restoring import Backup

FINISHED = 7


@dataclass(frozen=True)
class Orders:
    """``at`` counts journal lines after the first; ``after`` are seconds from the exchange on."""

    config: MySQLConfig
    backup: Backup
    journals: Path
    side: str
    database: str
    keep_as: str
    at: int = 0
    after: float = -1.0


def obey(orders: Orders) -> None:
    journal = Journal.create(orders.journals, "mysql-restore", database=orders.database)
    _arm(orders)
    source = MySQLSource(orders.config, site="test")
    everything = Selection()
    source.load_beside(orders.backup.manifest, orders.backup.part, orders.side, everything, journal, silent)
    source.swap(orders.backup.manifest, orders.backup.part, orders.side, orders.database, orders.keep_as, everything,
                journal, silent)  # fmt: skip
    journal.close()
    os._exit(FINISHED)


def _arm(orders: Orders) -> None:
    real = Journal.record
    seen = 0

    def record(self: Journal, step: str, **facts: Any) -> None:
        nonlocal seen
        real(self, step, **facts)
        seen += 1
        if seen == orders.at:
            _die()
        if step == "exchange" and orders.after >= 0:
            threading.Thread(target=lambda: (time.sleep(orders.after), _die()), daemon=True).start()

    Journal.record = record  # type: ignore[method-assign]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    obey(pickle.load(sys.stdin.buffer))
